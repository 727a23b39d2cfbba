//! Annotators with a token of their own: they act as themselves and see their own work.

use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Server, access::tokens_of, assert_problem};

const ANN: Uuid = Uuid::from_u128(0xA001);
const BOB: Uuid = Uuid::from_u128(0xA002);
const RAY: Uuid = Uuid::from_u128(0xA003);

/// Two annotators label, and a reviewer looks at what they say.
const REVIEWED: &str = "
workflow:
  id: reviewed
  gold: { share: 0.1, min_accuracy: 0.6 }
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      assignment: { required_skills: [icd] }
      consensus: { field: label }
    - id: review
      type: review
      assignment: { required_roles: [reviewer] }
  transitions: [{ from: annotate, to: review }]
";

async fn scene() -> Server {
    let tokens = tokens_of(&[
        format!("annotator:{{ann}}:{ANN} skills=icd name=ann"),
        format!("annotator:{{bob}}:{BOB} skills=icd"),
        format!("annotator:{{ray}}:{RAY} roles=reviewer skills=latin"),
        "producer:{producer} name=feeder".to_owned(),
        "operator:{operator} name=olga".to_owned(),
    ]);
    let mut server = Server::new(tokens);
    server.token = Some("operator");
    let created = server
        .post("/api/v1/workflows", REVIEWED.to_owned(), &[])
        .await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
    server
}

async fn start(server: &mut Server, task: Uuid, expected: &Value) {
    server.token = Some("producer");
    let body = json!({"workflow": "reviewed", "input": {"text": "…"}, "expected": expected});
    let started = server.verb(task, "start", &body).await;
    assert_eq!(started.status, StatusCode::CREATED, "{}", started.json);
}

async fn claim(server: &mut Server, token: &'static str, ask: Value) -> Answer {
    server.token = Some(token);
    server
        .post("/api/v1/assignments/next", ask.to_string(), &[])
        .await
}

async fn submit(server: &mut Server, token: &'static str, task: Uuid, label: &str) -> Answer {
    server.token = Some(token);
    let annotation = json!({"data": {"label": label}});
    server
        .verb(task, "submit", &json!({"annotation": annotation}))
        .await
}

#[tokio::test]
async fn an_annotator_acts_as_its_user_with_the_roles_and_skills_of_the_file() {
    let mut server = scene().await;
    let task = Uuid::from_u128(1);
    start(&mut server, task, &Value::Null).await;
    // Skills in the body do not count, and the answer says so.
    let claimed = claim(&mut server, "ray", json!({"skills": ["icd"]})).await;
    assert_eq!(claimed.status, StatusCode::NO_CONTENT, "{}", claimed.json);
    assert_eq!(claimed.headers["x-glyph-ignored"], "skills");
    let refused = submit(&mut server, "ray", task, "a").await;
    assert_problem(&refused, 409, "role_required");
    let claimed = claim(&mut server, "ann", json!({"roles": ["boss"]})).await;
    assert_eq!(claimed.json["user_id"], json!(ANN), "{}", claimed.json);
    assert_eq!(claimed.json["ignored"], json!(["roles"]));
    let foreign = claim(&mut server, "ann", json!({"user_id": BOB})).await;
    assert_problem(&foreign, 403, "forbidden");
    server.token = Some("ann");
    let draft = server
        .verb(task, "activity", &json!({"draft": {"label": "a"}}))
        .await;
    assert_eq!(draft.status, StatusCode::OK, "{}", draft.json);
    let held = server.get("/api/v1/assignments").await;
    assert_eq!(held.json["assignments"][0]["draft"], json!({"label": "a"}));
    let others = server
        .get(&format!("/api/v1/assignments?user_id={BOB}"))
        .await;
    assert_problem(&others, 403, "forbidden");
    let others = format!("/api/v1/assignments/release?user_id={BOB}");
    assert_problem(
        &server.post(&others, String::new(), &[]).await,
        403,
        "forbidden",
    );
    let body = json!({"annotation": {"data": {"label": "a"}, "roles": ["boss"]}});
    let own = server.verb(task, "submit", &body).await;
    assert_eq!(own.status, StatusCode::OK, "{}", own.json);
    assert_eq!(own.json["ignored"], json!(["annotation.roles"]));
    assert_eq!(own.json["step_id"], "annotate");
    submit(&mut server, "bob", task, "a").await;
    // A reviewer's role is in the file.
    server.token = Some("ann");
    let approve = json!({"annotation": {"decision": "approve", "roles": ["reviewer"]}});
    let refused = server.verb(task, "submit", &approve).await;
    assert_problem(&refused, 409, "role_required");
    server.token = Some("ray");
    let approved = server.verb(task, "submit", &approve).await;
    assert_eq!(approved.status, StatusCode::OK, "{}", approved.json);
    server.token = Some("operator");
    let state = server.get(&format!("/api/v1/tasks/{task}/state")).await;
    assert_eq!(state.json["status"], "completed", "{}", state.json);
    let given = &state.json["steps"]["annotate"]["visits"][0]["annotations"][0];
    assert!(given.get("roles").is_none(), "{given}");
    // What each sender is called stands in the events.
    let events = server.get(&format!("/api/v1/tasks/{task}/events")).await;
    let actors = events.json["events"].as_array().unwrap().iter();
    let actors: Vec<&str> = actors
        .map(|e| e["metadata"]["actor"].as_str().unwrap())
        .collect();
    assert_eq!(actors[0], "feeder");
    assert!(actors.contains(&"ann"));
    assert!(
        actors.iter().any(|actor| actor.starts_with("annotator-")),
        "{actors:?}"
    );
}

#[tokio::test]
async fn an_annotator_starts_and_moves_nothing() {
    let mut server = scene().await;
    let task = Uuid::from_u128(1);
    server.token = Some("ann");
    let body = json!({"workflow": "reviewed", "annotation": {"data": {"label": "a"}}});
    assert_problem(&server.verb(task, "submit", &body).await, 403, "forbidden");
    let body = json!({"annotation": {"data": {"label": "a"}}});
    assert_problem(
        &server.verb(task, "submit", &body).await,
        404,
        "task_not_found",
    );
    server.token = Some("operator");
    let tasks = server.get("/api/v1/tasks").await;
    assert_eq!(tasks.json["tasks"], json!([]), "nothing is started");
    start(&mut server, task, &Value::Null).await;
    server.token = Some("ann");
    for verb in [
        "start", "advance", "pause", "resume", "cancel", "retry", "migrate",
    ] {
        let answer = server
            .verb(task, verb, &json!({"workflow": "reviewed"}))
            .await;
        assert_problem(&answer, 403, "forbidden");
    }
    // A started task may be named with its workflow.
    let body = json!({"workflow": "reviewed", "annotation": {"data": {"label": "a"}}});
    assert_eq!(
        server.verb(task, "submit", &body).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_paused_annotator_takes_no_work_and_ends_what_it_holds() {
    let mut server = scene().await;
    let (held, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    start(&mut server, held, &Value::Null).await;
    start(&mut server, other, &Value::Null).await;
    let claimed = claim(&mut server, "ann", json!({})).await;
    assert_eq!(claimed.json["task_id"], json!(held));
    server.token = Some("operator");
    let pause = format!("/api/v1/workflows/reviewed/annotators/{ANN}/pause");
    server.post(&pause, String::new(), &[]).await;
    assert_problem(
        &submit(&mut server, "ann", other, "a").await,
        403,
        "forbidden",
    );
    assert_problem(
        &server.verb(other, "assign", &json!({})).await,
        403,
        "forbidden",
    );
    assert_eq!(
        submit(&mut server, "ann", held, "a").await.status,
        StatusCode::OK
    );
    // An act of an operator that belongs to no task keeps who it was.
    server.token = Some("operator");
    let listed = server
        .get(&format!("/api/v1/annotators?user_id={ANN}"))
        .await;
    assert!(
        listed.json["annotators"][0]["paused"].is_object(),
        "{}",
        listed.json
    );
}

/// Everything that two annotators can read of a gold task and of another one, while both go the
/// same way, is the same but for ids, times and what the person did.
#[tokio::test]
async fn gold_tasks_and_the_answers_of_others_cannot_be_seen() {
    let mut server = scene().await;
    let (plain, gold) = (Uuid::from_u128(1), Uuid::from_u128(2));
    start(&mut server, plain, &Value::Null).await;
    start(&mut server, gold, &json!({"label": "golden"})).await;
    let mut seen = Vec::new();
    for task in [plain, gold] {
        let mut all = Vec::new();
        for (token, label) in [("ann", "ann-says"), ("bob", "bob-says")] {
            server.token = Some(token);
            let assigned = server.verb(task, "assign", &json!({})).await;
            assert_eq!(assigned.status, StatusCode::OK, "{}", assigned.json);
            all.push(assigned.text);
            all.push(submit(&mut server, token, task, label).await.text);
        }
        for (token, own, other) in [
            ("ann", "ann-says", "bob-says"),
            ("bob", "bob-says", "ann-says"),
        ] {
            server.token = Some(token);
            for part in ["state", "events"] {
                let answer = server.get(&format!("/api/v1/tasks/{task}/{part}")).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
                assert!(!answer.headers.contains_key("etag"));
                assert!(answer.text.contains(own), "{}", answer.text);
                for hidden in [other, "golden", "gold", "expected", "correct"] {
                    assert!(!answer.text.contains(hidden), "{hidden}: {}", answer.text);
                }
                all.push(blank(answer.json).to_string());
            }
            let at = server
                .get(&format!("/api/v1/tasks/{task}/state?at_version=1"))
                .await;
            assert_problem(&at, 403, "forbidden");
        }
        seen.push(all);
    }
    assert_eq!(seen[0], seen[1]);
    // Their events are numbered without a gap.
    server.token = Some("bob");
    let events = server
        .get(&format!("/api/v1/tasks/{gold}/events?limit=1"))
        .await;
    assert_eq!(events.json["events"][0]["version"], 1);
    assert_eq!(events.json["next_after"], 1);
    let rest = server
        .get(&format!("/api/v1/tasks/{gold}/events?after=1"))
        .await;
    assert_eq!(rest.json["events"][0]["version"], 2, "{}", rest.json);
    assert_eq!(rest.json["next_after"], Value::Null);
    // Who judges a task sees what it is about, without names, and nobody else does.
    let claimed = claim(&mut server, "ray", json!({})).await;
    assert_eq!(claimed.json["step_id"], "review", "{}", claimed.json);
    let task = claimed.json["task_id"].as_str().unwrap();
    let state = server.get(&format!("/api/v1/tasks/{task}/state")).await;
    let subject = &state.json["steps"]["review"]["visits"][0]["subject"];
    assert!(subject.to_string().contains("bob-says"), "{}", state.json);
    assert!(!state.text.contains(&BOB.to_string()));
    server.token = Some("ann");
    let state = server.get(&format!("/api/v1/tasks/{task}/state")).await;
    assert!(!state.text.contains("bob-says"), "{}", state.text);
}

/// A document without what differs between any two tasks: ids and times.
fn blank(document: Value) -> Value {
    match document {
        Value::String(text) if Uuid::parse_str(&text).is_ok() => "id".into(),
        Value::String(text) if text.len() > 15 && text.ends_with('Z') => "time".into(),
        Value::Array(items) => items.into_iter().map(blank).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, of)| (key, blank(of)))
            .collect(),
        other => other,
    }
}

#[tokio::test]
async fn a_task_with_submissions_becomes_gold_by_an_operator_only() {
    let mut server = scene().await;
    let task = Uuid::from_u128(1);
    server.token = Some("producer");
    let work = json!({"user_id": ANN, "data": {"label": "a"}});
    let body = json!({"workflow": "reviewed", "annotation": work});
    let first = server.verb(task, "submit", &body).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.json);
    let details = json!({"workflow": "reviewed", "expected": {"label": "b"}});
    let late = server.verb(task, "start", &details).await;
    assert_problem(&late, 409, "role_required");
    server.token = Some("operator");
    let late = server.verb(task, "start", &details).await;
    assert_eq!(late.status, StatusCode::CREATED, "{}", late.json);
    assert_eq!(late.json["expected"], json!({"label": "b"}));
}
