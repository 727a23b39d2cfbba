//! The feed of the log.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use glyph_workflow_engine::{
    ids::TaskId,
    store::{MemoryStore, NewMessage, Outbox},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{DUAL, Server};

async fn with_work() -> (Server, Arc<MemoryStore>) {
    let (server, store) = Server::with_messages();
    let created = server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
    assert_eq!(created.status, StatusCode::CREATED);
    for n in 1..=3 {
        server.start(Uuid::from_u128(n)).await;
    }
    // Rejected: nobody has this slot.
    let nobody = json!({"user_id": Uuid::from_u128(9)});
    server.verb(Uuid::from_u128(1), "release", &nobody).await;
    (server, store)
}

/// All items, page by page.
async fn follow(server: &Server, query: &str, limit: u32) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), "start".to_owned());
    loop {
        let path = format!("/api/v1/events?after={after}&limit={limit}{query}");
        let page = server.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.json);
        let found = page.json["items"].as_array().unwrap();
        assert!(found.len() <= limit as usize);
        items.extend(found.iter().cloned());
        let next = page.json["next_after"].as_str().unwrap();
        if next == after {
            return items;
        }
        next.clone_into(&mut after);
    }
}

#[tokio::test]
async fn the_log_is_followed_in_pages_without_a_gap() {
    let (server, _) = with_work().await;
    let events = follow(&server, "", 100).await;
    assert_eq!(follow(&server, "", 2).await, events);
    let of_tasks: Vec<_> = events.iter().filter_map(|item| item.get("event")).collect();
    assert_eq!(of_tasks.len(), 3 * 2, "{events:?}");
    assert!(of_tasks.iter().all(|event| event["event_id"].is_string()));
    // A rejection has no event, and is in the log all the same.
    let said: Vec<_> = events
        .iter()
        .filter_map(|item| item.get("message"))
        .collect();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0]["type"], "dev.glyph.command.rejected.v1");
}

#[tokio::test]
async fn the_messages_of_the_log_are_those_that_were_sent() {
    let (server, _) = with_work().await;
    let events = follow(&server, "", 100).await;
    let messages = follow(&server, "&as=messages", 2).await;
    let kinds: Vec<&str> = messages
        .iter()
        .map(|item| item["message"]["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.len(), 3 * 2 + 1, "{kinds:?}");
    for item in &messages {
        let (message, key) = (&item["message"], item["routing_key"].as_str().unwrap());
        assert!(message["id"].is_string() && key.contains('.'), "{item}");
        let same = events
            .iter()
            .find(|event| event["position"] == item["position"])
            .unwrap();
        match same.get("event") {
            Some(event) => assert_eq!(event["event_id"], message["id"]),
            None => assert_eq!(same["message"], *message),
        }
    }
}

#[tokio::test]
async fn the_feed_is_filtered_by_workflow_and_type() {
    let (server, store) = with_work().await;
    let told = NewMessage {
        message_id: Uuid::from_u128(77),
        task_id: None::<TaskId>,
        version: None,
        routing_key: "goal.completed.other".to_owned(),
        message_type: "goal.completed",
        body: r#"{"id":"x","type":"dev.glyph.goal.completed.v1"}"#.into(),
    };
    store.enqueue(vec![told]).await.unwrap();
    assert_eq!(follow(&server, "&workflow=other", 100).await.len(), 1);
    let typed = |kind: &str| format!("&workflow=sentiment-dual&type={kind}");
    let started = follow(&server, &typed("workflow_started,step_completed"), 1).await;
    assert_eq!(started.len(), 3);
    // The same types name messages.
    let messages = follow(&server, "&as=messages&type=workflow.started", 100).await;
    assert_eq!(messages.len(), 3);
    for wrong in [
        "after=1", "as=rows", "wait=21", "limit=0", "type=,", "else=1",
    ] {
        let refused = server.get(&format!("/api/v1/events?{wrong}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn a_position_beyond_the_log_is_told() {
    let (server, _) = with_work().await;
    let page = server.get("/api/v1/events?after=end").await;
    assert!(page.json["log"].is_string());
    let refused = server.get("/api/v1/events?after=999.1").await;
    assert_eq!(refused.status, StatusCode::GONE);
    assert_eq!(refused.json["code"], "beyond_the_log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_at_the_end_is_told_of_what_comes() {
    let (server, _) = with_work().await;
    let waiting = server.get("/api/v1/events?after=end&wait=20&type=workflow_started");
    let (told, _) = tokio::join!(waiting, server.start(Uuid::from_u128(4)));
    assert_eq!(
        told.json["items"].as_array().unwrap().len(),
        1,
        "{}",
        told.json
    );
    // A worker that ends answers at once.
    server.health.drain();
    let answer = server.get("/api/v1/events?after=end&wait=20");
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
    assert_eq!(answer.expect("at once").json["items"], json!([]));
}
