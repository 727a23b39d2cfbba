//! What operators read and do over HTTP as on the command line.

use std::time::Duration;

use axum::http::StatusCode;
use glyph_worker::settings::Tokens;
use glyph_workflow_engine::{
    parse_workflow,
    store::{Outbox, PublisherId, ReleasedRow},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{DUAL, Server, access::one_token_for_each_role, assert_problem, work};
use crate::support::engine::HELD;

#[tokio::test]
async fn a_refused_message_is_listed_and_given_up() {
    let (server, store) = Server::with_messages();
    server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    let relay = PublisherId(Uuid::from_u128(9));
    let refuse = async || {
        let rows = store
            .claim(relay, Duration::from_mins(1), 10)
            .await
            .unwrap();
        let rows: Vec<ReleasedRow> = rows
            .iter()
            .map(|row| ReleasedRow {
                position: row.position,
                from_version: None,
            })
            .collect();
        let failed = Some(("returned: NO_ROUTE".to_owned(), Duration::from_mins(1)));
        store.release(&rows, failed).await.unwrap();
    };
    let empty = server.get("/api/v1/outbox").await.json;
    assert_eq!(
        (&empty["pending"], &empty["refused"]),
        (&json!(1), &json!([]))
    );
    refuse().await;
    let list = server.get("/api/v1/outbox?limit=5").await.json;
    let first = &list["refused"][0];
    assert_eq!(first["task_id"], json!(task));
    assert_eq!(first["error"], "returned: NO_ROUTE");
    assert_eq!(first["routing_key"], "workflow.started.sentiment-dual");
    let drop = async |id: &str| {
        let path = format!("/api/v1/outbox/{id}/drop");
        server.post(&path, String::new(), &[]).await
    };
    assert_problem(&drop("x").await, 400, "malformed");
    let unknown = drop(&Uuid::from_u128(8).to_string()).await;
    assert_problem(&unknown, 404, "refused_message_not_found");
    let id = first["message_id"].as_str().unwrap();
    let dropped = drop(id).await;
    assert_eq!(dropped.status, StatusCode::OK, "{}", dropped.json);
    let consequence = dropped.json["consequence"].as_str().unwrap();
    assert!(
        consequence.contains("no consumer gets it") && consequence.contains(&task.to_string()),
        "{consequence}"
    );
    assert_problem(&drop(id).await, 404, "refused_message_not_found");

    // The one behind it goes out next; one that is being sent is left alone.
    store.claim(relay, Duration::ZERO, 10).await.unwrap();
    refuse().await;
    let behind = server.get("/api/v1/outbox").await.json["refused"][0].clone();
    assert_eq!(
        behind["routing_key"],
        "step.activated.sentiment-dual.annotate"
    );
    let log = server.get("/api/v1/events?as=messages").await;
    assert!(log.text.contains(id), "the log still has it");
}

#[tokio::test]
async fn tasks_are_found_by_incident_by_holder_and_by_age() {
    let server = Server::with_dual().await;
    server.post("/api/v1/workflows", HELD.to_owned(), &[]).await;
    let [stands, waits, other] = [1, 2, 3].map(Uuid::from_u128);
    let person = Uuid::from_u128(7);
    for task in [other, stands, waits] {
        let start = json!({"workflow": "held"});
        server.verb(task, "start", &start).await;
    }
    server.verb(stands, "submit", &work(1, "no", &[])).await;
    let claim = json!({"user_id": person});
    server.verb(waits, "assign", &claim).await;
    let found = async |query: &str| {
        let page = server.get(&format!("/api/v1/tasks?{query}")).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.json);
        let tasks = page.json["tasks"].as_array().unwrap().iter();
        tasks
            .map(|task| task["task_id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("incident=no_transition").await, [json!(stands)]);
    assert_eq!(
        found("incident=no_transition&oldest=true").await,
        [json!(stands)]
    );
    assert!(found("incident=handler_failed").await.is_empty());
    assert!(
        found("incident=no_transition&workflow=sentiment-dual")
            .await
            .is_empty()
    );
    assert_eq!(found(&format!("held_by={person}")).await, [json!(waits)]);
    assert_eq!(
        found("oldest=true").await,
        [other, stands, waits].map(|id| json!(id))
    );
    assert_eq!(found("oldest=true&limit=1").await, [json!(other)]);
    for wrong in [
        "incident=bogus".to_owned(),
        "held_by=x".to_owned(),
        format!("oldest=true&after={stands}"),
    ] {
        let refused = server.get(&format!("/api/v1/tasks?{wrong}")).await;
        assert_problem(&refused, 400, "malformed");
    }

    let incidents = server.get("/api/v1/incidents").await.json;
    assert_eq!(incidents["next_after"], Value::Null);
    let group = &incidents["groups"][0];
    assert_eq!(group["code"], "no_transition");
    assert_eq!(group["incidents"][0]["task_id"], json!(stands));
    assert_eq!(group["incidents"][0]["step_id"], "label");
    for none in ["code=child_failed", "workflow=sentiment-dual"] {
        let none = server.get(&format!("/api/v1/incidents?{none}")).await.json;
        assert_eq!(none["groups"], json!([]));
    }
    server.verb(stands, "cancel", &json!({})).await;
    assert_eq!(
        server.get("/api/v1/incidents").await.json["groups"],
        json!([])
    );
}

#[tokio::test]
async fn a_revision_is_shown_as_a_file_and_compared_with_another() {
    let mut server = Server::new(one_token_for_each_role());
    server.token = Some("operator");
    let with_secret = |token: &str, count: u32| {
        format!(
            "workflow:\n  id: calling\n  steps:\n    - {{ id: label, type: annotation, field: label, completion: {{ type: annotation_count, count: {count} }} }}\n    \
             - {{ id: enrich, type: auto_process, handler: queue, config: {{ url: 'https://example.org/{token}', headers: {{ X.Key: {token} }} }} }}\n  \
             transitions:\n    - {{ from: label, to: enrich }}\n"
        )
    };
    for (token, count) in [("TOKEN1", 1), ("TOKEN2", 2)] {
        let yaml = with_secret(token, count);
        let created = server.post("/api/v1/workflows", yaml, &[]).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
    }
    let file = server.get("/api/v1/workflows/calling@2/yaml").await;
    assert_eq!(file.headers["content-type"], "application/yaml");
    parse_workflow(&file.text).unwrap();
    let again = server.post("/api/v1/workflows", file.text, &[]).await;
    assert_eq!(
        again.status,
        StatusCode::OK,
        "the same revision: {}",
        again.json
    );
    assert_eq!(again.json["revision"], 2);

    let diff = "/api/v1/workflows/calling@1/diff";
    assert_problem(&server.get(diff).await, 400, "malformed");
    let unknown = server.get(&format!("{diff}?to=nobody")).await;
    assert_problem(&unknown, 404, "workflow_not_found");
    let diff = format!("{diff}?to=calling");
    let seen = server.get(&diff).await;
    let paths: Vec<&str> = seen.json["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "workflow.steps[label].completion.count",
            "workflow.steps[enrich].config.headers.X.Key",
            "workflow.steps[enrich].config.url",
        ]
    );
    assert_eq!(
        (&seen.json["from"], &seen.json["to"]),
        (&json!("calling@1"), &json!("calling@2"))
    );
    assert_eq!(seen.json["changes"][0]["from"], 1);
    assert!(seen.text.contains("TOKEN2"));
    // Others are told that a secret differs, and not what it is.
    server.token = Some("viewer");
    let seen = server.get(&diff).await;
    assert_eq!(seen.json["changes"].as_array().unwrap().len(), 3);
    assert!(!seen.text.contains("TOKEN"), "{}", seen.text);
    let file = server.get("/api/v1/workflows/calling/yaml").await;
    assert!(!file.text.contains("TOKEN"), "{}", file.text);
}

#[tokio::test]
async fn one_rejected_command_is_shown_and_one_goal() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    let pair = work(1, "a", &[]);
    server.verb(task, "submit", &pair).await;
    let key = Uuid::from_u128(0xA).to_string();
    let path = format!("/api/v1/tasks/{task}/submit");
    let headers = [("idempotency-key", key.as_str())];
    let rejected = server.post(&path, pair.to_string(), &headers).await;
    assert_problem(&rejected, 409, "duplicate_annotator");
    let shown = server.get(&format!("/api/v1/rejected/{key}")).await;
    assert_eq!(shown.json["command_id"], json!(key));
    assert_eq!(shown.json["payload"]["type"], "submission");
    let unknown = server
        .get(&format!("/api/v1/rejected/{}", Uuid::from_u128(0xB)))
        .await;
    assert_problem(&unknown, 404, "command_not_found");
    assert_problem(&server.get("/api/v1/rejected/x").await, 400, "malformed");

    let goal = server.get("/api/v1/goals/sentiment-dual/none").await;
    assert_problem(&goal, 404, "goal_not_found");
}

#[tokio::test]
async fn labels_are_exported_as_lines_whole() {
    const TASKS: u128 = 45;
    let mut server = Server::new(one_token_for_each_role());
    server.token = Some("operator");
    server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
    for n in 0..TASKS {
        let task = Uuid::from_u128(1 + n);
        let mut start = json!({"workflow": "sentiment-dual"});
        if n == 0 {
            start["expected"] = json!({"label": "KNOWN"});
        }
        server.verb(task, "start", &start).await;
        for user in [1, 2] {
            server
                .verb(task, "submit", &work(user, "positive", &[]))
                .await;
        }
    }
    let export = "/api/v1/labels/export?workflow=sentiment-dual";
    // More tasks than are read at once.
    let lines = server.get(export).await;
    assert_eq!(lines.headers["content-type"], "application/jsonl");
    let labels: Vec<Value> = lines
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(labels.len() as u128, TASKS);
    let listed = "/api/v1/labels?workflow=sentiment-dual&limit=1000";
    assert_eq!(json!(labels), server.get(listed).await.json["labels"]);
    let csv = server.get(&format!("{export}&format=csv")).await;
    assert_eq!(csv.headers["content-type"], "text/csv");
    assert_eq!(csv.text.matches("\r\n").count() as u128, TASKS + 1);
    let rest = server
        .get(&format!("{export}&after={}", Uuid::from_u128(TASKS - 1)))
        .await;
    assert_eq!(rest.text.lines().count(), 1);
    let people = server.get(&format!("{export}&with_annotators=true")).await;
    assert!(people.text.contains(&Uuid::from_u128(2).to_string()));

    assert_problem(&server.get("/api/v1/labels/export").await, 400, "malformed");
    let wrong = server.get(&format!("{export}&format=xml")).await;
    assert_problem(&wrong, 400, "malformed");
    let unknown = server.get("/api/v1/labels/export?workflow=nobody").await;
    assert_problem(&unknown, 404, "workflow_not_found");
    // Known answers are for those who see everything.
    assert!(lines.text.contains("KNOWN"));
    server.token = Some("viewer");
    assert!(!server.get(export).await.text.contains("KNOWN"));

    // A worker that ends breaks the answer off.
    server.token = Some("operator");
    server.health.drain();
    let request = server.request("GET", export, &[], axum::body::Body::empty());
    let answer = tower::ServiceExt::oneshot(server.router.clone(), request);
    let body = answer.await.unwrap().into_body();
    assert!(axum::body::to_bytes(body, usize::MAX).await.is_err());
}

#[tokio::test]
async fn a_goal_is_shown_by_its_name() {
    let (server, store) = Server::with_store(Tokens::default());
    server.post("/api/v1/workflows", HELD.to_owned(), &[]).await;
    let start = json!({"workflow": "held"});
    server.verb(Uuid::from_u128(1), "start", &start).await;
    let messages = glyph_worker::wire::CloudEventMessages::default();
    let projector = glyph_worker::projections::GoalProjector::new(store, messages);
    while let glyph_worker::projections::PageOutcome::Read { .. } = projector.step().await.unwrap()
    {
    }
    let goal = server.get("/api/v1/goals/held/sign-off").await;
    assert_eq!(goal.json["goal"], "sign-off", "{}", goal.json);
    assert_eq!(
        goal.json,
        server.get("/api/v1/goals").await.json["goals"][0]
    );
}
