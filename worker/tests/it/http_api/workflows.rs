//! Workflows: create, show, list, pause, archive.

use axum::http::StatusCode;
use glyph_worker::settings::Tokens;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{DUAL, Server, assert_problem, work};

#[tokio::test]
async fn a_workflow_is_stored_once_for_each_content() {
    let server = Server::with_dual().await;
    let again = server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
    assert_eq!(
        (again.status, &again.json["revision"]),
        (StatusCode::OK, &json!(1))
    );
    let changed = server
        .post("/api/v1/workflows", DUAL.replace("800", "900"), &[])
        .await;
    assert_eq!(
        (changed.status, &changed.json["revision"]),
        (StatusCode::CREATED, &json!(2))
    );
    assert_eq!(changed.json["warnings"], json!([]));

    for name in [
        "sentiment-dual",
        "sentiment-dual@2",
        changed.json["id"].as_str().unwrap(),
    ] {
        let shown = server.get(&format!("/api/v1/workflows/{name}")).await;
        assert_eq!(shown.json["id"], changed.json["id"], "{name}");
    }
    let listed = server.get("/api/v1/workflows").await;
    assert_eq!(listed.json["workflows"].as_array().unwrap().len(), 2);
    assert_problem(
        &server.get("/api/v1/workflows/other").await,
        404,
        "workflow_not_found",
    );
}

#[tokio::test]
async fn a_faulty_workflow_is_refused_with_every_fault() {
    let server = Server::new(Tokens::default());
    let source = DUAL
        .replace("to: adjudicate", "to: adjudicat")
        .replace("count: 2", "cout: 2");
    let refused = server.post("/api/v1/workflows", source, &[]).await;
    assert_problem(&refused, 422, "invalid_workflow");
    let diagnostics = refused.json["diagnostics"].as_array().unwrap();
    assert!(diagnostics.len() >= 2, "{diagnostics:?}");
    assert!(
        diagnostics
            .iter()
            .all(|fault| fault["line"].is_u64() && fault["code"].is_string())
    );
}

#[tokio::test]
async fn a_whole_workflow_is_paused_and_resumed_once_for_each_key() {
    const KEY: &str = "0190a6e0-0000-7000-8000-000000000001";
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    let pause = |key: &'static str, body: Value| {
        let server = &server;
        async move {
            let path = "/api/v1/workflows/sentiment-dual/pause";
            server
                .post(path, body.to_string(), &[("idempotency-key", key)])
                .await
        }
    };
    let paused = pause(KEY, json!({"reason": "audit"})).await;
    assert_eq!(paused.status, StatusCode::OK, "{}", paused.json);
    assert_eq!(paused.headers["idempotency-key"], KEY);
    assert_eq!(paused.json["paused"]["reason"], "audit");
    let again = pause(KEY, json!({"reason": "audit"})).await;
    assert_eq!(again.json, paused.json);
    assert_problem(
        &pause(KEY, json!({"reason": "other"})).await,
        422,
        "command_id_reused",
    );

    assert_problem(
        &server.verb(task, "submit", &work(1, "positive", &[])).await,
        409,
        "task_paused",
    );
    let listed = server.get("/api/v1/workflows").await;
    assert_eq!(listed.json["workflows"][0]["paused"]["reason"], "audit");
    let shown = server.get("/api/v1/workflows/sentiment-dual").await;
    assert_eq!(shown.json["paused"]["reason"], "audit");
    let explained = server.get(&format!("/api/v1/tasks/{task}/explain")).await;
    assert_eq!(explained.json["workflow_pause"]["reason"], "audit");
    let summary = explained.json["summary"].as_str().unwrap();
    assert!(summary.contains("workflow is paused (audit)"), "{summary}");

    let resume = "/api/v1/workflows/sentiment-dual/resume";
    let resumed = server.post(resume, String::new(), &[]).await;
    assert_eq!(
        (resumed.status, &resumed.json["paused"]),
        (StatusCode::OK, &Value::Null)
    );
    assert_problem(
        &server.post(resume, String::new(), &[]).await,
        409,
        "not_waiting",
    );
    let submitted = server.verb(task, "submit", &work(1, "positive", &[])).await;
    assert_eq!(submitted.status, StatusCode::OK, "{}", submitted.json);

    let past = pause(
        "0190a6e0-0000-7000-8000-000000000002",
        json!({"until": "2000-01-01T00:00:00Z"}),
    );
    assert_problem(&past.await, 409, "not_waiting");
    let unknown = server
        .post("/api/v1/workflows/none/pause", String::new(), &[])
        .await;
    assert_problem(&unknown, 404, "workflow_not_found");
    let unreadable = pause(
        "0190a6e0-0000-7000-8000-000000000003",
        json!({"until": "soon"}),
    );
    assert_problem(&unreadable.await, 400, "malformed");
}

#[tokio::test]
async fn an_archived_workflow_leaves_the_list_until_it_is_restored() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    let operator_command = async |verb: &str| {
        let path = format!("/api/v1/workflows/sentiment-dual/{verb}");
        server
            .post(&path, json!({"reason": "over"}).to_string(), &[])
            .await
    };
    let listed = async |query: &str| {
        let listed = server.get(&format!("/api/v1/workflows{query}")).await;
        listed.json["workflows"].as_array().unwrap().len()
    };
    assert_problem(&operator_command("restore").await, 409, "not_waiting");
    let archived = operator_command("archive").await;
    assert_eq!(archived.status, StatusCode::OK, "{}", archived.json);
    assert_eq!(archived.json["paused"]["archived"], true);
    assert_eq!(listed("").await, 0);
    assert_eq!(listed("?archived=false").await, 0);
    assert_eq!(listed("?archived=true").await, 1);
    assert_eq!(listed("?workflow=sentiment-dual").await, 1);
    let bad = server.get("/api/v1/workflows?archived=maybe").await;
    assert_problem(&bad, 400, "malformed");
    let shown = server.get("/api/v1/workflows/sentiment-dual").await;
    assert_eq!(shown.json["paused"]["archived"], true);
    let explained = server.get(&format!("/api/v1/tasks/{task}/explain")).await;
    let summary = explained.json["summary"].as_str().unwrap();
    assert!(summary.contains("workflow is archived (over)"), "{summary}");
    assert_problem(&operator_command("resume").await, 409, "not_waiting");
    assert_problem(&operator_command("pause").await, 409, "not_waiting");
    assert_problem(
        &server.verb(task, "submit", &work(1, "positive", &[])).await,
        409,
        "task_paused",
    );
    let next = json!({"user_id": Uuid::from_u128(2)}).to_string();
    let next = server.post("/api/v1/assignments/next", next, &[]).await;
    assert_eq!(next.status, StatusCode::NO_CONTENT);

    let restored = operator_command("restore").await;
    assert_eq!(restored.json["paused"], Value::Null, "{}", restored.json);
    assert_eq!(listed("").await, 1);
    let submitted = server.verb(task, "submit", &work(1, "positive", &[])).await;
    assert_eq!(submitted.status, StatusCode::OK, "{}", submitted.json);
}
