//! Gold tasks, annotators who fail them, and goals.

use axum::http::StatusCode;
use glyph_worker::{
    projections::{AgreementProjector, GoalProjector, PageOutcome},
    settings::Tokens,
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{assignment::is_for_gold, ids::CommandId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Server, assert_problem, work};

const GOLD: &str = "
workflow:
  id: golden
  gold: { share: 0.1, min_accuracy: 0.6, on_fall: pause }
  steps:
    - { id: annotate, type: annotation, consensus: { field: label } }
goals:
  - { id: volume, type: volume, target: 1000, unit: tasks }
";

#[tokio::test]
async fn gold_tasks_keep_their_share_of_claims_and_are_no_output() {
    const CLAIMS: u128 = 100;
    let (server, store) = Server::with_store(Tokens::default());
    let created = server.post("/api/v1/workflows", GOLD.to_owned(), &[]).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
    let gold = |n: u128| Uuid::from_u128(0x601D_0000 + n);
    for n in 0..CLAIMS {
        let body = json!({"workflow": "golden"});
        server.verb(Uuid::from_u128(1 + n), "start", &body).await;
        if n < CLAIMS / 4 {
            let body = json!({"workflow": "golden", "expected": "cat"});
            server.verb(gold(n), "start", &body).await;
        }
    }
    let person = Uuid::from_u128(0xA001);
    let ask = json!({"user_id": person, "workflow": "golden"}).to_string();
    let mut claimed_gold = 0;
    for n in 0..CLAIMS {
        let key = Uuid::from_u128(0xC1A1_0000 + n);
        let headers = [("idempotency-key", &*key.to_string())];
        let claimed = server
            .post("/api/v1/assignments/next", ask.clone(), &headers)
            .await;
        assert_eq!(claimed.status, StatusCode::OK, "{}", claimed.json);
        assert!(!claimed.text.contains("cat"), "nobody is told the answer");
        let task: Uuid = claimed.json["task_id"].as_str().unwrap().parse().unwrap();
        let is_gold = (0..CLAIMS / 4).any(|n| gold(n) == task);
        // Drawn from the key, so that a repeated request gets the same result.
        assert_eq!(is_gold, is_for_gold(CommandId(key), 0.1), "claim {n}");
        if n % 10 == 0 {
            let again = server
                .post("/api/v1/assignments/next", ask.clone(), &headers)
                .await;
            assert_eq!(again.json["task_id"], claimed.json["task_id"]);
        }
        claimed_gold += u128::from(is_gold);
        server.verb(task, "submit", &work(0xA001, "cat", &[])).await;
    }
    assert!(
        (5..20).contains(&claimed_gold),
        "{claimed_gold} of {CLAIMS}"
    );
    let projector = GoalProjector::new(store, CloudEventMessages::default());
    while let PageOutcome::Read { .. } = projector.step().await.unwrap() {}
    let goals = server.get("/api/v1/goals").await;
    assert_eq!(
        goals.json["goals"][0]["current"],
        json!((CLAIMS - claimed_gold) as f64)
    );
}

#[tokio::test]
async fn an_annotator_is_paused_and_let_go_on() {
    let (server, _) = Server::with_store(Tokens::default());
    let created = server.post("/api/v1/workflows", GOLD.to_owned(), &[]).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
    server
        .verb(Uuid::from_u128(1), "start", &json!({"workflow": "golden"}))
        .await;
    let (ann, bob) = (Uuid::from_u128(0xA001), Uuid::from_u128(0xA002));
    let next = async |user: Uuid, workflow: Option<&str>| {
        let ask = json!({"user_id": user, "workflow": workflow, "fresh": true}).to_string();
        let answer = server.post("/api/v1/assignments/next", ask, &[]).await;
        let reason = answer.headers.get("x-glyph-reason");
        let reason = reason.map(|reason| reason.to_str().unwrap().to_owned());
        (answer.status.as_u16(), reason)
    };
    let of = |verb: &str| format!("/api/v1/workflows/golden/annotators/{ann}/{verb}");
    let reason = json!({"reason": "training"}).to_string();
    let paused = server.post(&of("pause"), reason, &[]).await;
    assert_eq!(paused.status, StatusCode::OK, "{}", paused.json);
    assert_eq!(paused.json["paused"]["reason"], "training");
    assert_eq!(paused.json["paused"]["by_rule"], false);

    let listed = server
        .get(&format!("/api/v1/annotators?user_id={ann}"))
        .await;
    let one = &listed.json["annotators"][0];
    assert_eq!(
        (&one["workflow"], &one["answers"]),
        (&json!("golden"), &json!(0))
    );
    assert_eq!(one["paused"], paused.json["paused"]);
    let others = server
        .get(&format!("/api/v1/annotators?user_id={bob}"))
        .await;
    assert_eq!(others.json["annotators"], json!([]));

    let why = Some("annotator_paused".to_owned());
    assert_eq!(next(ann, None).await, (204, why.clone()));
    assert_eq!(next(ann, Some("golden")).await, (204, why));
    assert_eq!(next(bob, None).await, (200, None));
    assert_eq!(
        next(bob, None).await,
        (204, None),
        "nothing is free, which is all"
    );
    server
        .verb(Uuid::from_u128(2), "start", &json!({"workflow": "golden"}))
        .await;

    let resumed = server.post(&of("resume"), String::new(), &[]).await;
    assert_eq!(resumed.json["paused"], Value::Null, "{}", resumed.json);
    assert_eq!(next(ann, None).await, (200, None));
    let again = server.post(&of("resume"), String::new(), &[]).await;
    assert_problem(&again, 409, "not_waiting");
    let unknown = "/api/v1/workflows/golden/annotators/ann/pause";
    let unknown = server.post(unknown, String::new(), &[]).await;
    assert_problem(&unknown, 400, "malformed");
}

#[tokio::test]
async fn a_goal_is_completed_by_hand_once_however_soon_somebody_else_says_so() {
    let (server, store) = Server::with_store(Tokens::default());
    let yaml = "
workflow:
  id: signed
  steps: [{ id: a, type: annotation }]
goals: [{ id: sign-off, type: manual }]
";
    server.post("/api/v1/workflows", yaml.to_owned(), &[]).await;
    let start = json!({"workflow": "signed"});
    server.verb(Uuid::from_u128(1), "start", &start).await;
    let projector = GoalProjector::new(store, CloudEventMessages::default());
    let count = async || while let PageOutcome::Read { .. } = projector.step().await.unwrap() {};
    count().await;
    let complete = async |user: u128, key: u128| {
        let body = json!({"user_id": Uuid::from_u128(user)}).to_string();
        let key = Uuid::from_u128(key).to_string();
        let path = "/api/v1/goals/signed/sign-off/complete";
        server.post(path, body, &[("idempotency-key", &key)]).await
    };
    let first = complete(1, 0xA).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.json);
    // Before the goal is counted, and after.
    assert_problem(&complete(2, 0xB).await, 409, "not_waiting");
    count().await;
    assert_problem(&complete(2, 0xC).await, 409, "not_waiting");
    assert_eq!(complete(1, 0xA).await.json, first.json, "the same again");
}

#[tokio::test]
async fn agreement_is_shown_by_question_and_by_class() {
    let (server, store) = Server::with_store(Tokens::default());
    let yaml = "
workflow:
  id: pairs
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { field: label }
";
    server.post("/api/v1/workflows", yaml.to_owned(), &[]).await;
    for (n, labels) in [(1, ["cat", "cat"]), (2, ["cat", "dog"])] {
        let task = Uuid::from_u128(n);
        server
            .verb(task, "start", &json!({"workflow": "pairs"}))
            .await;
        for (user, label) in (0xA001..).zip(labels) {
            server.verb(task, "submit", &work(user, label, &[])).await;
        }
    }
    let projector = AgreementProjector::new(store, CloudEventMessages::default(), 100);
    while let PageOutcome::Read { .. } = projector.step().await.unwrap() {}
    let all = server.get("/api/v1/agreement?workflow=pairs").await;
    let one = &all.json["agreement"][0];
    assert_eq!((&one["items"], &one["agreement"]), (&json!(2), &json!(0.5)));
    assert_eq!(one["kappa_of"], "two_people");
    assert!(one["agreement_interval"]["lower"].as_f64().unwrap() < 0.2);
    assert_eq!(one["classes"].as_array().unwrap().len(), 2);
    let cats = server
        .get("/api/v1/agreement?step=annotate&class=cat")
        .await;
    let classes = &cats.json["agreement"][0]["classes"];
    assert_eq!(classes.as_array().unwrap().len(), 1);
    assert_eq!(
        (&classes[0]["value"], &classes[0]["given"]),
        (&json!("cat"), &json!(3))
    );
    assert!((classes[0]["agreement"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    for nothing in ["workflow=other", "class=cow"] {
        let found = server.get(&format!("/api/v1/agreement?{nothing}")).await;
        assert_eq!(found.json["agreement"], json!([]), "{nothing}");
    }
    let wrong = server.get("/api/v1/agreement?clas=cat").await;
    assert_problem(&wrong, 400, "malformed");
}
