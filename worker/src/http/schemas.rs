//! The schemas of commands, messages and files, as files below `/schemas/`.
//!
//! Messages name the schema of their data (`dataschema`): what follows `/schemas/` in that name is
//! the path here. An `$id` is the address here, so a schema that is fetched refers to itself.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{Json, extract::State, http::header, response::IntoResponse};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    Api, Problem,
    access::Access,
    operation::Operation,
    request::{Parameters, Path},
};
use crate::wire::{Links, schema::schema_files};

/// The AsyncAPI document as committed; a test compares it with the declarations and the schemas.
const ASYNCAPI: &str = include_str!("../../../schemas/asyncapi.yaml");

static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let files = schema_files().into_iter();
    files
        .filter_map(|(path, text)| Some((path, serde_json::from_str(&text).ok()?)))
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

async fn of_file(State(api): State<Api>, Path(file): Path<String>) -> Result<Json<Value>, Problem> {
    found(&file, &api.links)
}

async fn in_folder(
    State(api): State<Api>,
    Path((folder, file)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    found(&format!("{folder}/{file}"), &api.links)
}

fn found(file: &str, links: &Links) -> Result<Json<Value>, Problem> {
    let schema = SCHEMAS.get(file).ok_or_else(Problem::no_route)?;
    let mut schema = schema.clone();
    schema["$id"] = links.to_schema(file).into();
    Ok(Json(schema))
}
