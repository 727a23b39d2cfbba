//! Builds the OpenAPI document of the API from its operations and their types.

use std::sync::Arc;

use axum::{
    Extension, Json,
    http::header,
    response::{Html, IntoResponse, Response},
};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    Problem,
    docs::page,
    operation::{Answer, Body, Operation, QueryParameter},
};
use crate::{settings::Role, wire::Links};

const DESCRIPTION: &str = "Moves annotation tasks through workflows. Whatever changes a task is a \
    command: it goes the same road as commands from the queue, and its `Idempotency-Key` names it: \
    the same key again changes nothing and gets the first answer back. Lists come in pages: give \
    `next_after` of the answer as `after`. What goes wrong is a problem document (RFC 9457), whose \
    `code` is what programs branch on.";
const BEARER: &str = "A token of the file `GLYPH_API_TOKENS_FILE`. Its role is `viewer`, \
    `annotator`, `producer` or `operator`; each operation says which roles may call it. Without that \
    file the API serves its own machine alone and asks for no token.";
const OTHER_PROBLEM: &str = "500: a fault of the worker, described in its log. 503: a service is away; \
    ask again after `Retry-After`. 504: no answer in time; a command may still be carried out.";

/// The document of the API, as JSON and as a page. It is built once, with the router, and shared by
/// the two operations that serve it.
pub(super) struct ApiDocument {
    /// OpenAPI 3.1.
    pub(super) json: Value,
    /// The same as an HTML page.
    page: String,
}

impl ApiDocument {
    /// The document of `operations`, with the address that `links` have.
    pub(super) fn of(operations: &[Operation], links: &Links) -> Self {
        let json = document(operations, links);
        let page = page(&json);
        Self { json, page }
    }
}

/// Serves the document.
pub(super) async fn openapi(Extension(document): Extension<Arc<ApiDocument>>) -> Response {
    Json(&document.json).into_response()
}

/// Serves the document as an HTML page without external resources.
pub(super) async fn docs(Extension(document): Extension<Arc<ApiDocument>>) -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    (
        [(header::CONTENT_SECURITY_POLICY, policy)],
        Html(document.page.clone()),
    )
}

/// The OpenAPI 3.1 document of `operations`.
fn document(operations: &[Operation], links: &Links) -> Value {
    // Written types have more required fields than read ones, so there are two generators. Request
    // bodies are small and inlined, so that a type which responses also use has a single entry
    // among the components.
    let mut answers = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator();
    let mut requests = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let problem = answers.subschema_for::<Problem>();
    let mut paths = Map::new();
    for operation in operations.iter().filter(|operation| operation.listed) {
        let described = describe(operation, &mut answers, &mut requests);
        let method = operation.method.as_str().to_lowercase();
        paths.entry(operation.path).or_insert_with(|| json!({}))[method] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Glyph worker",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        // Relative to where this document was fetched from, if there is no public URL.
        "servers": [{"url": links.root()}],
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "schemas": answers.take_definitions(true),
            "responses": {
                "Problem": {
                    "description": "A problem document.",
                    "content": {"application/problem+json": {"schema": problem}},
                },
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": BEARER},
            },
        },
    })
}

fn describe(
    operation: &Operation,
    answers: &mut SchemaGenerator,
    requests: &mut SchemaGenerator,
) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag(operation.path)],
        "parameters": parameters(operation),
        "responses": responses(operation, answers),
    });
    if let Some(body) = &operation.body {
        described["requestBody"] = request_body(operation, body, requests);
    }
    match operation.access {
        Some(access) => {
            let roles = access.roles();
            let own = access
                .sight(Role::Annotator)
                .map_or("", |_| " An annotator acts and sees as its user alone.");
            let listed = roles.join("`, `");
            described["description"] = format!("For the roles `{listed}`.{own}").into();
            described["x-roles"] = roles.into();
        }
        None => described["security"] = json!([]),
    }
    described
}

/// The tag of an operation: the resource that it is about.
fn tag(path: &str) -> &str {
    path.strip_prefix("/api/v1/")
        .and_then(|rest| rest.split('/').next())
        .unwrap_or("worker")
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let mut all: Vec<Value> = path_parameters(operation.path)
        .map(path_parameter)
        .collect();
    all.extend(operation.query.iter().map(query_parameter));
    if operation.command {
        let header = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "header", "description": description, "schema": schema});
        let text = json!({"type": "string"});
        all.push(header(
            "Idempotency-Key",
            "The command's id; the server makes one when it is left out.",
            json!({"type": "string", "format": "uuid"}),
        ));
        all.push(header(
            "X-Correlation-Id",
            "Stands in every message that the command leads to.",
            text.clone(),
        ));
        all.push(header(
            "traceparent",
            "W3C trace context, carried on.",
            text,
        ));
    }
    all
}

/// The names between braces in a path.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    let (description, schema) = match name {
        "task_id" => ("The task.", json!({"type": "string", "format": "uuid"})),
        "id" => (
            "A workflow id, `id@revision`, or a revision's UUID.",
            json!({"type": "string"}),
        ),
        "folder" => (
            "A folder in the list of schemas.",
            json!({"type": "string"}),
        ),
        // What ends otherwise in that list has an operation of its own.
        "file" => (
            "A file in the list of schemas.",
            json!({"type": "string", "pattern": r"\.json$"}),
        ),
        _ => ("", json!({"type": "string"})),
    };
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema})
}

fn query_parameter(parameter: &QueryParameter) -> Value {
    let QueryParameter {
        name,
        description,
        schema,
    } = parameter;
    let Some(prefix) = name.strip_suffix('*') else {
        return json!({
            "name": name,
            "in": "query",
            "description": description,
            // An empty value counts as not given.
            "allowEmptyValue": true,
            "schema": schema,
        });
    };
    // An open set of names is an exploded object, whose own name does not appear in the query.
    json!({
        "name": prefix.trim_end_matches('.'),
        "in": "query",
        "description": description,
        "style": "form",
        "explode": true,
        "schema": {
            "type": "object",
            "patternProperties": {format!("^{}.", prefix.replace('.', "\\.")): schema},
        },
    })
}

fn request_body(operation: &Operation, body: &Body, requests: &mut SchemaGenerator) -> Value {
    let mut schema = (body.schema)(requests).to_value();
    // Path parameters are not repeated in the body.
    for name in path_parameters(operation.path) {
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.remove(name);
        }
        not_required(&mut schema, name);
    }
    if operation.person_from_token {
        person_from_token(&mut schema);
        if let Some(annotation) = schema.pointer_mut("/properties/annotation") {
            person_from_token(annotation);
        }
    }
    let required = schema.get("required").is_some() || schema["type"] == "string";
    json!({
        "description": body.description,
        "required": required,
        "content": {body.media_type: {"schema": schema}},
    })
}

/// Notes on `user_id`, if the schema has one, that the token may supply it.
fn person_from_token(schema: &mut Value) {
    not_required(schema, "user_id");
    if let Some(description) = schema.pointer_mut("/properties/user_id/description") {
        let described = description.as_str().unwrap_or_default();
        *description =
            format!("{described} May be left out where the token names a person.").into();
    }
}

fn not_required(schema: &mut Value, name: &str) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(required)) = fields.get_mut("required") {
        required.retain(|required| required != name);
        if required.is_empty() {
            fields.remove("required");
        }
    }
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for Answer {
        status,
        description,
        content,
    } in &operation.answers
    {
        // The same status again is the same answer as another media type.
        let response = responses.entry(status.to_string());
        let response = response.or_insert_with(|| json!({"description": description}));
        if let Some(content) = content {
            let schema = (content.schema)(generator);
            response["content"][content.media_type] = json!({"schema": schema});
        }
        if operation.command {
            response["headers"] = json!({"Idempotency-Key": {
                "description": "The command's id.",
                "schema": {"type": "string", "format": "uuid"},
            }});
        }
    }
    for status in operation.refusals() {
        let problem =
            json!({"$ref": "#/components/responses/Problem", "description": meaning(status)});
        responses.insert(status.to_string(), problem);
    }
    if operation.access.is_some() {
        let other = json!({"$ref": "#/components/responses/Problem", "description": OTHER_PROBLEM});
        responses.insert("default".to_owned(), other);
    }
    responses.into()
}

/// What a refusal means for the caller.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "Something in the request cannot be read.",
        401 => "No token, or one that is unknown or expired.",
        403 => "The token does not permit it.",
        404 => "Not found.",
        409 => "The state or the rules of the task forbid it; `code` says which.",
        413 => "The body is too large.",
        415 => "The body is not of the documented type.",
        422 => "It is well-formed, but not accepted: `code`, `detail` and `diagnostics` say why.",
        _ => "The request is refused.",
    }
}
