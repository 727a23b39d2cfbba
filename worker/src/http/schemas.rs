//! The schemas of commands, messages and files, as files below `/schemas/`.
//!
//! Messages name the schema of their data (`dataschema`): what follows `/schemas/` in that name is
//! the path here. An `$id` is relative to this server, so a schema that is fetched refers to
//! itself.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    Json,
    http::header,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    Problem,
    access::Access,
    operation::Operation,
    request::{Parameters, Path},
};
use crate::wire::schema::{SCHEMA_FOLDER, schema_files};

/// The AsyncAPI document as committed; a test compares it with the declarations and the schemas.
const ASYNCAPI: &str = include_str!("../../../schemas/asyncapi.yaml");

static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let files = schema_files().into_iter();
    files
        .filter_map(|(path, text)| {
            let mut schema: Value = serde_json::from_str(&text).ok()?;
            schema["$id"] = format!("/{SCHEMA_FOLDER}/{path}").into();
            Some((path, schema))
        })
        .collect()
});

/// The files that there are.
#[derive(Serialize, JsonSchema)]
pub(super) struct SchemaList {
    /// Their paths below `/schemas/`.
    files: Vec<&'static str>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/schemas", "list_schemas", list)
            .access(Access::ANYBODY)
            .summary("The schemas of commands, messages and files")
            .answers::<SchemaList>(200, "Their paths"),
        Operation::get("/schemas/asyncapi.yaml", "show_asyncapi", asyncapi)
            .access(Access::ANYBODY)
            .summary("What is read from RabbitMQ and sent there, AsyncAPI 3")
            .answers_yaml("The document"),
        Operation::get("/schemas/{file}", "show_schema", of_file)
            .access(Access::ANYBODY)
            .summary("The JSON Schema of workflow files, scripts or diagnostics")
            .answers::<Value>(200, "The schema")
            .problems(&[404]),
        Operation::get("/schemas/{folder}/{file}", "show_message_schema", in_folder)
            .access(Access::ANYBODY)
            .summary("The JSON Schema of a command, or of a message's data")
            .answers::<Value>(200, "The schema")
            .problems(&[404]),
    ]
}

async fn list(parameters: Parameters) -> Result<Json<SchemaList>, Problem> {
    parameters.finish()?;
    let schemas = SCHEMAS.keys().map(String::as_str);
    let files = ["asyncapi.yaml"].into_iter().chain(schemas).collect();
    Ok(Json(SchemaList { files }))
}

async fn asyncapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/yaml")], ASYNCAPI)
}

async fn of_file(Path(file): Path<String>) -> Result<Response, Problem> {
    found(&file)
}

async fn in_folder(Path((folder, file)): Path<(String, String)>) -> Result<Response, Problem> {
    found(&format!("{folder}/{file}"))
}

fn found(path: &str) -> Result<Response, Problem> {
    let schema = SCHEMAS.get(path).ok_or_else(Problem::no_route)?;
    Ok(Json(schema).into_response())
}
