//! What is served for those who write clients: schemas, the page for annotators, what was ignored.

use axum::http::StatusCode;
use glyph_worker::{
    settings::Tokens,
    wire::{MessageType, schema::schema_files},
};
use serde_json::json;
use uuid::Uuid;

use super::{DUAL, Server, assert_problem, work};

#[tokio::test]
async fn every_schema_is_served_and_refers_to_itself() {
    let server = Server::new(Tokens::default());
    let list = server.get("/schemas").await;
    let files = list.json["files"].as_array().unwrap();
    let files: Vec<&str> = files.iter().map(|file| file.as_str().unwrap()).collect();
    assert_eq!(files.len(), schema_files().len() + 1);
    for file in files.iter().filter(|file| **file != "asyncapi.yaml") {
        let path = format!("/schemas/{file}");
        let schema = server.get(&path).await;
        assert_eq!(schema.status, StatusCode::OK, "{path}");
        assert_eq!(schema.json["$id"], json!(path));
        assert_ne!(schema.json["title"], json!(null), "{path}");
    }
    for kind in MessageType::ALL {
        assert!(files.contains(&kind.schema_path()), "{kind}");
    }
    let asyncapi = server.get("/schemas/asyncapi.yaml").await;
    assert_eq!(asyncapi.headers["content-type"], "application/yaml");
    assert!(asyncapi.text.contains("asyncapi: 3."));
    for path in ["/schemas/start.v1.json", "/schemas/commands/stop.v1.json"] {
        assert_problem(&server.get(path).await, 404, "not_found");
    }
}

#[tokio::test]
async fn links_are_under_the_public_url() {
    let server = Server::at("https://example.org/glyph/");
    let file = MessageType::WorkflowStarted.schema_path();
    let address = format!("https://example.org/glyph/schemas/{file}");
    let schema = server.get(&format!("/schemas/{file}")).await;
    assert_eq!(schema.json["$id"], address);
    let document = server.get("/openapi.json").await;
    let servers = &document.json["servers"];
    assert_eq!(servers, &json!([{"url": "https://example.org/glyph"}]));
    server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
    server.start(Uuid::from_u128(1)).await;
    let path = "/api/v1/events?as=messages&type=workflow_started";
    let feed = server.get(path).await;
    let message = &feed.json["items"][0]["message"];
    assert_eq!(message["dataschema"], address);
}

#[tokio::test]
async fn the_page_for_annotators_runs_its_own_script_and_no_other() {
    let server = Server::new(Tokens::default());
    let page = server.get("/annotate").await;
    assert_eq!(page.status, StatusCode::OK);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"));
    assert_eq!(page.text.matches("<script").count(), 1);
    // It fetches nothing but the API, and handlers stand in the script.
    for forbidden in ["<link", "src=\"http", "@import", " onclick=", "innerHTML"] {
        assert!(!page.text.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn what_a_step_asks_comes_with_what_its_author_says() {
    let server = Server::new(Tokens::default());
    let yaml = "workflow: { id: guided, name: Guided, steps: [{ id: a, name: First, type: annotation, description: Look closely. }] }";
    server.post("/api/v1/workflows", yaml.to_owned(), &[]).await;
    let answers = server.get("/api/v1/workflows/guided/answers").await;
    assert_eq!(answers.json["name"], "Guided");
    let step = &answers.json["steps"]["a"];
    assert_eq!(
        (&step["name"], &step["description"]),
        (&json!("First"), &json!("Look closely."))
    );
}

#[tokio::test]
async fn unknown_fields_are_told_of() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    let body = json!({"workflow": "sentiment-dual", "lables": {"p": "1"}});
    let started = server.verb(task, "start", &body).await;
    assert_eq!(started.status, StatusCode::CREATED, "{}", started.json);
    assert_eq!(started.headers["x-glyph-ignored"], "lables");
    let mut body = work(1, "positive", &[]);
    body["annotation"]["confidense"] = json!(0.9);
    let submitted = server.verb(task, "submit", &body).await;
    assert_eq!(submitted.json["ignored"], json!(["annotation.confidense"]));
    assert_eq!(submitted.json["status"], "waiting");
    let plain = server.verb(task, "submit", &work(2, "positive", &[])).await;
    assert!(plain.json.get("ignored").is_none(), "{}", plain.json);
    let ask = json!({"user_id": Uuid::from_u128(3), "workflows": "sentiment-dual"});
    let next = async || {
        let path = "/api/v1/assignments/next";
        server.post(path, ask.to_string(), &[]).await
    };
    let nothing = next().await;
    assert_eq!(nothing.status, StatusCode::NO_CONTENT);
    assert_eq!(nothing.headers["x-glyph-ignored"], "workflows");
    let paused = server
        .verb(task, "pause", &json!({"untill": "2100-01-01T00:00:00Z"}))
        .await;
    assert_problem(&paused, 409, "task_finished");
    let other = Uuid::from_u128(2);
    server.start(other).await;
    let paused = server
        .verb(other, "pause", &json!({"untill": "2100-01-01T00:00:00Z"}))
        .await;
    assert_eq!(paused.json["ignored"], json!(["untill"]));
    server.start(Uuid::from_u128(4)).await;
    assert_eq!(next().await.json["ignored"], json!(["workflows"]));
}
