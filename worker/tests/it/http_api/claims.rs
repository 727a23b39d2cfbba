//! Claims the next task for a person.

use axum::http::StatusCode;
use glyph_worker::settings::Tokens;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Server, assert_problem, work};

#[tokio::test]
async fn a_person_claims_the_next_task() {
    const KEY: &str = "0190a6e0-0000-7000-8000-00000000000a";
    let server = Server::with_dual().await;
    let next = |body: Value, key: Option<&'static str>| {
        let server = &server;
        async move {
            let headers: Vec<_> = key
                .map(|key| ("idempotency-key", key))
                .into_iter()
                .collect();
            let path = "/api/v1/assignments/next";
            server.post(path, body.to_string(), &headers).await
        }
    };
    let person = |n: u128| Uuid::from_u128(0xA000 + n);
    let nothing = next(json!({"user_id": person(1)}), None).await;
    assert_eq!(nothing.status, StatusCode::NO_CONTENT, "{}", nothing.json);
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    server.start(first).await;
    server.start(second).await;

    let ask = json!({"user_id": person(1), "workflow": "sentiment-dual", "step": "annotate"});
    let claimed = next(ask.clone(), Some(KEY)).await;
    assert_eq!(claimed.status, StatusCode::OK, "{}", claimed.json);
    assert_eq!(claimed.headers["idempotency-key"], KEY);
    assert_eq!(claimed.json["task_id"], json!(first), "the oldest first");
    assert_eq!(claimed.json["step_id"], "annotate");
    assert_eq!(claimed.json["visit"], 1);
    assert_eq!(claimed.json["input"], json!({"text": "…"}));
    assert!(claimed.json["expires_at"].is_string());
    // The same key again returns the same slot, with the draft that was saved meanwhile.
    let draft = json!({"user_id": person(1), "draft": {"label": "pos"}});
    server.verb(first, "activity", &draft).await;
    let again = next(ask, Some(KEY)).await;
    assert_eq!(again.json["task_id"], json!(first));
    assert_eq!(again.json["draft"], json!({"label": "pos"}));
    let other = next(json!({"user_id": person(2)}), Some(KEY)).await;
    assert_problem(&other, 422, "command_id_reused");

    // A fresh task comes before one that somebody works on; nobody gets a task twice.
    let ask = |n| json!({"user_id": person(n)});
    assert_eq!(next(ask(2), None).await.json["task_id"], json!(second));
    assert_eq!(next(ask(1), None).await.json["task_id"], json!(second));
    assert_eq!(next(ask(1), None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(next(ask(3), None).await.json["task_id"], json!(first));
    assert_eq!(next(ask(4), None).await.status, StatusCode::NO_CONTENT);

    // Two disagree: an adjudicator is asked, and sees the subject.
    server
        .verb(first, "submit", &work(0xA001, "positive", &[]))
        .await;
    server
        .verb(first, "submit", &work(0xA003, "negative", &[]))
        .await;
    assert_eq!(next(ask(5), None).await.status, StatusCode::NO_CONTENT);
    let judge = |n: u128| json!({"user_id": person(n), "roles": ["adjudicator"]});
    assert_eq!(
        next(judge(1), None).await.status,
        StatusCode::NO_CONTENT,
        "their own work"
    );
    let claimed = next(judge(5), None).await;
    assert_eq!(claimed.json["step_id"], "adjudicate", "{}", claimed.json);
    assert_eq!(
        claimed.json["subject"]["steps"][0]["annotations"][0]["data"],
        json!({"label": "positive"})
    );
    assert!(!claimed.json["subject"].to_string().contains("user_id"));

    let unknown = next(json!({"user_id": person(1), "workflow": "none"}), None).await;
    assert_problem(&unknown, 404, "workflow_not_found");
    let ask = json!({"user_id": person(1), "workflow": "sentiment-dual", "step": "none"});
    assert_problem(&next(ask, None).await, 409, "unknown_step");
    assert_problem(
        &next(json!({"workflow": "none"}), None).await,
        400,
        "malformed",
    );
}

#[tokio::test]
async fn skills_are_all_needed_to_be_offered_a_slot() {
    let server = Server::new(Tokens::default());
    let yaml = "
workflow:
  id: skilled
  steps:
    - { id: annotate, type: annotation, assignment: { required_skills: [icd, latin] } }
";
    server.post("/api/v1/workflows", yaml.to_owned(), &[]).await;
    let task = Uuid::from_u128(1);
    server
        .verb(task, "start", &json!({"workflow": "skilled"}))
        .await;
    for (skills, status) in [(vec!["icd"], 204), (vec!["icd", "latin", "greek"], 200)] {
        let ask = json!({"user_id": Uuid::from_u128(9), "skills": skills}).to_string();
        let answer = server.post("/api/v1/assignments/next", ask, &[]).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.json);
    }
}
