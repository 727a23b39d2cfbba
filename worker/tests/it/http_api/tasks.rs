//! Tasks: start, submit, query, control.

use axum::{body::Body, http::StatusCode};
use glyph_worker::settings::Tokens;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Server, assert_problem, work};

#[tokio::test]
async fn a_task_goes_from_start_through_a_tie_to_its_output() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    let started = server.start(task).await;
    assert_eq!(started.status, StatusCode::CREATED);
    assert_eq!(started.json["current_steps"], json!(["annotate"]));
    assert_eq!(started.headers["etag"], "\"2\"");

    let first = server.verb(task, "submit", &work(1, "positive", &[])).await;
    assert_eq!(first.json["status"], "waiting");
    let second = server.verb(task, "submit", &work(2, "negative", &[])).await;
    assert_eq!(
        (&second.json["status"], &second.json["next_step"]),
        (&json!("advanced"), &json!("adjudicate"))
    );
    assert_eq!(second.json["next_steps"], json!(["adjudicate"]));
    let waits = server.get(&format!("/api/v1/tasks/{task}/explain")).await;
    assert_eq!(waits.json["waiting"][0]["step_id"], "adjudicate");
    assert_eq!(waits.json["decisions"][0]["consensus"]["agreement"], 0.0);

    let outsider = server.verb(task, "submit", &work(3, "positive", &[])).await;
    assert_problem(&outsider, 409, "role_required");
    let own = server
        .verb(task, "submit", &work(1, "positive", &["adjudicator"]))
        .await;
    assert_problem(&own, 409, "self_review");
    let decided = server
        .verb(task, "submit", &work(3, "positive", &["adjudicator"]))
        .await;
    assert_eq!(decided.json["status"], "completed");
    assert_eq!(decided.json["output"]["result"], "positive");
    let late = server
        .verb(task, "submit", &work(4, "positive", &["adjudicator"]))
        .await;
    assert_eq!(late.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_another_content_is_refused() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    let path = format!("/api/v1/tasks/{task}/submit");
    let key = Uuid::from_u128(77).to_string();
    let headers = [("idempotency-key", key.as_str())];
    let first = server
        .post(&path, work(1, "positive", &[]).to_string(), &headers)
        .await;
    let again = server
        .post(&path, work(1, "positive", &[]).to_string(), &headers)
        .await;
    assert_eq!((first.status, &first.json), (again.status, &again.json));
    assert_eq!(again.headers["idempotency-key"], key.as_str());
    let other = server
        .post(&path, work(1, "negative", &[]).to_string(), &headers)
        .await;
    assert_problem(&other, 422, "command_id_reused");
    let bad = [("idempotency-key", "seven")];
    assert_problem(
        &server.post(&path, String::new(), &bad).await,
        400,
        "malformed",
    );
    let made = server.verb(task, "submit", &work(2, "positive", &[])).await;
    assert!(Uuid::parse_str(made.headers["idempotency-key"].to_str().unwrap()).is_ok());
}

#[tokio::test]
async fn starting_again_under_another_key_is_refused() {
    let server = Server::with_dual().await;
    server.start(Uuid::from_u128(1)).await;
    assert_problem(
        &server.start(Uuid::from_u128(1)).await,
        409,
        "already_started",
    );
}

#[tokio::test]
async fn states_have_a_tag_and_a_past() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    server.verb(task, "submit", &work(1, "positive", &[])).await;
    let path = format!("/api/v1/tasks/{task}/state");
    let now = server.get(&path).await;
    assert_eq!(
        (&now.headers["etag"], &now.json["version"]),
        (&"\"3\"".parse().unwrap(), &json!(3))
    );
    for tags in ["\"3\"", "\"2\", W/\"3\"", "*"] {
        let same = server.request("GET", &path, &[("if-none-match", tags)], Body::empty());
        let answer = server.send(same).await;
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{tags}");
    }
    let past = server.get(&format!("{path}?at_version=2")).await;
    assert_eq!(past.json["version"], 2);
    assert_problem(
        &server.get(&format!("{path}?at_version=4")).await,
        404,
        "version_not_found",
    );
    assert_problem(
        &server.get(&format!("{path}?at_version=0")).await,
        400,
        "malformed",
    );
}

#[tokio::test]
async fn histories_and_searches_come_in_pages() {
    let server = Server::with_dual().await;
    for n in 1..=3 {
        server.start(Uuid::from_u128(n)).await;
    }
    let page = server
        .get("/api/v1/tasks?workflow=sentiment-dual&status=running&step=annotate&label.p=1&limit=2")
        .await;
    assert_eq!(page.json["tasks"].as_array().unwrap().len(), 2);
    let after = page.json["next_after"].as_str().unwrap();
    let rest = server
        .get(&format!("/api/v1/tasks?limit=2&after={after}"))
        .await;
    assert_eq!(rest.json["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(rest.json["next_after"], Value::Null);
    assert_eq!(
        server.get("/api/v1/tasks?label.p=2").await.json["tasks"],
        json!([])
    );

    let events = server
        .get(&format!(
            "/api/v1/tasks/{}/events?limit=1",
            Uuid::from_u128(1)
        ))
        .await;
    assert_eq!(events.json["events"][0]["event_type"], "workflow_started");
    assert_eq!(events.json["next_after"], 1);
}

#[tokio::test]
async fn the_control_verbs_answer_where_the_task_is() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    let user = json!({"user_id": Uuid::from_u128(5)});
    for (verb, body) in [
        ("assign", user.clone()),
        ("activity", user.clone()),
        ("release", user),
        ("pause", json!({"reason": "holidays"})),
    ] {
        let answer = server.verb(task, verb, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{verb}: {}", answer.json);
    }
    assert_problem(
        &server.verb(task, "submit", &work(1, "a", &[])).await,
        409,
        "task_paused",
    );
    for verb in ["resume", "cancel"] {
        let answer = server.verb(task, verb, &json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "{verb}: {}", answer.json);
    }
    let state = server.get(&format!("/api/v1/tasks/{task}/state")).await;
    assert_eq!(state.json["status"], "cancelled");
    assert_problem(
        &server.verb(task, "retry", &json!({})).await,
        409,
        "task_finished",
    );
}

#[tokio::test]
async fn advance_names_the_next_step_or_the_end() {
    let server = Server::new(Tokens::default());
    let source = "
workflow:
  id: signed
  steps:
    - { id: wait, type: annotation, completion: { type: manual } }
    - { id: annotate, type: annotation }
  transitions:
    - { from: wait, to: annotate }
";
    let created = server
        .post("/api/v1/workflows", source.to_owned(), &[])
        .await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
    let task = Uuid::from_u128(1);
    server
        .verb(task, "start", &json!({"workflow": "signed"}))
        .await;
    let next = server.verb(task, "advance", &json!({})).await;
    assert_eq!(next.json["next_step"], "annotate", "{}", next.json);
    assert_problem(
        &server.verb(task, "advance", &json!({})).await,
        409,
        "not_waiting",
    );
}

#[tokio::test]
async fn a_page_of_large_events_ends_early() {
    let server = Server::new(Tokens::default());
    let yaml = "
workflow:
  id: large
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 20 } }
";
    server.post("/api/v1/workflows", yaml.to_owned(), &[]).await;
    let task = Uuid::from_u128(1);
    server
        .verb(task, "start", &json!({"workflow": "large"}))
        .await;
    let text = "x".repeat(1_000_000);
    let state = format!("/api/v1/tasks/{task}/state");
    for user in 0..17 {
        let submitted = server.verb(task, "submit", &work(user, &text, &[])).await;
        assert_eq!(submitted.status, StatusCode::OK);
        if user == 11 {
            let whole = server.get(&state).await;
            assert_eq!(whole.status, StatusCode::OK);
            assert_eq!(whole.headers["content-type"], "application/json");
            assert!(whole.headers.contains_key("etag"));
        }
    }
    // A state has no pages; one beyond its bound is read as its history.
    assert_problem(&server.get(&state).await, 422, "state_too_large");
    let (mut after, mut versions, mut pages) = (0, Vec::new(), 0);
    loop {
        let path = format!("/api/v1/tasks/{task}/events?limit=1000&after={after}");
        let page = server.get(&path).await;
        assert!(page.text.len() < 10 << 20, "{} bytes", page.text.len());
        let events = page.json["events"].as_array().unwrap();
        versions.extend(
            events
                .iter()
                .map(|event| event["version"].as_u64().unwrap()),
        );
        pages += 1;
        match page.json["next_after"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(
        versions,
        (1..=versions.last().copied().unwrap()).collect::<Vec<_>>()
    );
    assert!(
        pages > 1 && versions.len() >= 14,
        "{pages} pages, {versions:?}"
    );
}
