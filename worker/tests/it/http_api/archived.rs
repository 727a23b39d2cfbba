//! Archived tasks over HTTP.

use axum::http::StatusCode;
use glyph_workflow_engine::{
    ids::TaskId,
    store::{Retention, ToArchive},
};
use serde_json::json;
use uuid::Uuid;

use super::{DUAL, Server, assert_problem, work};

#[tokio::test]
async fn an_archived_task_is_told_wherever_it_is_missed() {
    let (server, store) = Server::with_store(glyph_worker::settings::Tokens::default());
    let created = server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let task = Uuid::from_u128(1);
    server.start(task).await;
    for user in 1..=3 {
        server
            .verb(task, "submit", &work(user, "positive", &[]))
            .await;
    }
    let path = |what: &str| format!("/api/v1/tasks/{task}/{what}");
    let before = server.get(&path("state")).await;
    assert_eq!(before.json["status"], "completed");
    let feed = server.get("/api/v1/events?after=start").await;
    assert!(feed.json.get("archived").is_none());
    let whole = store.whole_task(TaskId(task)).await.unwrap().unwrap();
    let state = whole.last_state().unwrap();
    assert_eq!(
        store
            .archive(&[ToArchive { whole, state }])
            .await
            .unwrap()
            .len(),
        1
    );

    let state = server.get(&path("state")).await;
    assert_eq!(state.status, StatusCode::OK);
    assert_eq!(state.json["status"], "archived");
    assert_eq!(state.json["archived"]["ended"], "completed");
    assert_eq!(state.json["output"], before.json["output"]);
    assert_eq!(state.headers["etag"], before.headers["etag"]);
    assert_problem(
        &server.get(&path("state?at_version=2")).await,
        410,
        "task_archived",
    );
    let events = server.get(&path("events")).await;
    assert!(events.json["archived"].is_string(), "{}", events.json);
    let explained = server.get(&path("explain")).await;
    let summary = explained.json["summary"].as_str().unwrap();
    assert!(summary.contains("was archived on"), "{summary}");
    let listed = server.get("/api/v1/tasks?status=archived").await;
    assert_eq!(listed.json["tasks"][0]["task_id"], json!(task));

    for query in ["", "&as=messages", "&type=transition_occurred"] {
        let page = server
            .get(&format!("/api/v1/events?after=start{query}"))
            .await;
        assert_eq!(page.json["archived"][0]["task_id"], json!(task), "{query}");
    }
    let other = server
        .get("/api/v1/events?after=start&workflow=another")
        .await;
    assert!(other.json.get("archived").is_none(), "{}", other.json);

    let refused = server.verb(task, "submit", &work(9, "positive", &[])).await;
    assert_problem(&refused, 409, "task_finished");
    assert_problem(&server.start(task).await, 409, "task_finished");
    assert_problem(
        &server.verb(task, "cancel", &json!({})).await,
        409,
        "task_finished",
    );
}
