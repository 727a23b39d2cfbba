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
    let ask = |n| json!({"user_id": person(n), "fresh": true});
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
    let judge = |n: u128| json!({"user_id": person(n), "roles": ["adjudicator"], "fresh": true});
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

async fn next(server: &Server, ask: Value) -> super::Answer {
    let path = "/api/v1/assignments/next";
    server.post(path, ask.to_string(), &[]).await
}

#[tokio::test]
async fn a_person_finds_what_they_hold() {
    let server = Server::with_dual().await;
    let (ann, bob) = (Uuid::from_u128(0xA001), Uuid::from_u128(0xA002));
    let tasks: Vec<Uuid> = (1..=3).map(Uuid::from_u128).collect();
    for task in &tasks {
        server.start(*task).await;
        let claimed = next(&server, json!({"user_id": ann, "fresh": true})).await;
        assert_eq!(claimed.status, StatusCode::OK);
    }
    next(&server, json!({"user_id": bob})).await;
    let draft = json!({"user_id": ann, "draft": {"label": "pos"}});
    server.verb(tasks[1], "activity", &draft).await;

    let list = async |query: &str| server.get(&format!("/api/v1/assignments{query}")).await;
    let held = list(&format!("?user_id={ann}")).await;
    let slots = held.json["assignments"].as_array().unwrap();
    let ids: Vec<&Value> = slots.iter().map(|slot| &slot["task_id"]).collect();
    assert_eq!(json!(ids), json!(tasks));
    assert_eq!(held.json["next_after"], Value::Null);
    let slot = &slots[1];
    assert_eq!(
        (&slot["step_id"], &slot["visit"]),
        (&json!("annotate"), &json!(1))
    );
    assert_eq!(slot["workflow"], "sentiment-dual");
    assert_eq!(slot["draft"], json!({"label": "pos"}));
    assert!(slots[0].get("draft").is_none());
    assert!(slot["since"].as_str().unwrap() < slot["expires_at"].as_str().unwrap());

    // In pages.
    let first = list(&format!("?user_id={ann}&limit=2")).await;
    assert_eq!(first.json["assignments"].as_array().unwrap().len(), 2);
    assert_eq!(first.json["next_after"], json!(tasks[1]));
    let rest = list(&format!("?user_id={ann}&limit=2&after={}", tasks[1])).await;
    assert_eq!(rest.json["assignments"][0]["task_id"], json!(tasks[2]));
    assert_eq!(rest.json["next_after"], Value::Null);

    // What is released, submitted or another's is not listed.
    let release = json!({"user_id": ann, "step_id": "annotate", "reason": "too hard"});
    server.verb(tasks[0], "release", &release).await;
    server
        .verb(tasks[1], "submit", &work(0xA001, "positive", &[]))
        .await;
    let left = list(&format!("?user_id={ann}")).await;
    assert_eq!(left.json["assignments"].as_array().unwrap().len(), 1);
    let nothing = list(&format!("?user_id={}", Uuid::from_u128(9))).await;
    assert_eq!(nothing.json["assignments"], json!([]));
    assert_problem(&list("").await, 400, "malformed");
    assert_problem(&list("?user_id=ann").await, 400, "malformed");
}

#[tokio::test]
async fn what_a_person_holds_is_given_back_first() {
    const KEY: &str = "0190a6e0-0000-7000-8000-00000000000b";
    let server = Server::with_dual().await;
    let ann = Uuid::from_u128(0xA001);
    let ask = |more: Value| {
        let mut ask = json!({"user_id": ann});
        ask.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        ask
    };
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    server.start(first).await;
    server.start(second).await;
    let claimed = next(&server, ask(json!({}))).await;
    assert_eq!(claimed.json["task_id"], json!(first));
    assert!(claimed.json.get("resumed").is_none(), "{}", claimed.json);
    let draft = json!({"user_id": ann, "draft": {"label": "pos"}});
    server.verb(first, "activity", &draft).await;

    let path = "/api/v1/assignments/next";
    let resume = || {
        server.post(
            path,
            ask(json!({})).to_string(),
            &[("idempotency-key", KEY)],
        )
    };
    let resumed = resume().await;
    assert_eq!(resumed.json["task_id"], json!(first));
    assert_eq!(resumed.json["resumed"], true);
    assert_eq!(resumed.json["draft"], json!({"label": "pos"}));
    assert!(resumed.json["expires_at"].as_str() >= claimed.json["expires_at"].as_str());
    assert_eq!(resume().await.json, resumed.json, "the same key again");
    // What is asked for is looked at, and `fresh` claims another one.
    let elsewhere = next(&server, ask(json!({"step": "review"}))).await;
    assert_eq!(elsewhere.status, StatusCode::NO_CONTENT);
    let fresh = next(&server, ask(json!({"fresh": true}))).await;
    assert_eq!(fresh.json["task_id"], json!(second));
    // A paused task is not worked on; the other one is given back.
    server.verb(first, "pause", &json!({})).await;
    let other = next(&server, ask(json!({}))).await;
    assert_eq!(
        (&other.json["task_id"], &other.json["resumed"]),
        (&json!(second), &json!(true))
    );
}

#[tokio::test]
async fn all_that_a_person_holds_is_released_at_once() {
    let server = Server::with_dual().await;
    let (ann, bob) = (Uuid::from_u128(0xA001), Uuid::from_u128(0xA002));
    for n in 1..=3 {
        server.start(Uuid::from_u128(n)).await;
    }
    for user in [ann, ann, bob] {
        next(&server, json!({"user_id": user, "fresh": true})).await;
    }
    let path = format!("/api/v1/assignments/release?user_id={ann}");
    let reason = json!({"reason": "on leave"}).to_string();
    let released = server.post(&path, reason, &[]).await;
    assert_eq!(released.status, StatusCode::OK, "{}", released.json);
    assert_eq!(released.json["released"].as_array().unwrap().len(), 2);
    let held = async |user: Uuid| {
        let held = server
            .get(&format!("/api/v1/assignments?user_id={user}"))
            .await;
        held.json["assignments"].as_array().unwrap().len()
    };
    assert_eq!((held(ann).await, held(bob).await), (0, 1));
    let events = server
        .get(&format!("/api/v1/tasks/{}/events", Uuid::from_u128(1)))
        .await;
    let last = events.json["events"].as_array().unwrap().last().unwrap();
    assert_eq!(last["event_data"]["reason"], "on leave", "{last}");
    assert_eq!(last["metadata"]["actor"], "http:local");
    let again = server.post(&path, String::new(), &[]).await;
    assert_eq!(again.json["released"], json!([]));
    let nobody = server
        .post("/api/v1/assignments/release", String::new(), &[])
        .await;
    assert_problem(&nobody, 400, "malformed");
}

#[tokio::test]
async fn who_holds_as_much_as_allowed_is_told_so() {
    let server = Server::new(Tokens::default());
    let yaml = |id: &str, most: &str| {
        format!(
            "workflow: {{ id: {id}, steps: [{{ id: annotate, type: annotation, assignment: {{ {most} }} }}] }}"
        )
    };
    for (id, most) in [("one-each", "max_concurrent: 1"), ("any-number", "")] {
        server.post("/api/v1/workflows", yaml(id, most), &[]).await;
    }
    let begin = async |n: u128, workflow: &str| {
        let body = json!({"workflow": workflow});
        let started = server.verb(Uuid::from_u128(n), "start", &body).await;
        assert_eq!(started.status, StatusCode::CREATED, "{}", started.json);
    };
    let ask = async |who: u128, workflow: &str| {
        let ask = json!({"user_id": Uuid::from_u128(who), "workflow": workflow, "fresh": true});
        let answer = next(&server, ask).await;
        let reason = answer.headers.get("x-glyph-reason");
        let reason = reason.map(|reason| reason.to_str().unwrap().to_owned());
        (answer.status.as_u16(), reason)
    };
    let at_limit = (204, Some("max_concurrent".to_owned()));
    begin(1, "one-each").await;
    assert_eq!(ask(9, "any-number").await, (204, None));
    assert_eq!(ask(9, "one-each").await.0, 200);
    // Nothing else is open, and something else is.
    assert_eq!(ask(9, "one-each").await, at_limit);
    begin(2, "one-each").await;
    assert_eq!(ask(9, "one-each").await, at_limit);
    // There, the number is not limited, and others are not concerned.
    assert_eq!(ask(9, "any-number").await, (204, None));
    assert_eq!(ask(8, "one-each").await.0, 200);
    let path = format!("/api/v1/assignments?user_id={}", Uuid::from_u128(9));
    let held = server.get(&path).await;
    assert_eq!(held.json["assignments"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn why_there_is_nothing_is_told_from_settings_alone() {
    let server = Server::new(Tokens::default());
    let yaml = "workflow:
  id: judged
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 }, assignment: { required_skills: [german] } }
    - { id: adjudicate, type: adjudication, assignment: { required_roles: [lead] } }
  transitions:
    - { from: annotate, to: adjudicate }
    - { from: adjudicate, to: _complete }
";
    server.post("/api/v1/workflows", yaml.to_owned(), &[]).await;
    let ask = async |who: &Value| {
        let mut ask = json!({"user_id": Uuid::from_u128(9), "workflow": "judged"});
        ask.as_object_mut()
            .unwrap()
            .extend(who.as_object().unwrap().clone());
        let answer = next(&server, ask).await;
        let reason = answer.headers.get("x-glyph-reason");
        (
            answer.status.as_u16(),
            reason.map(|reason| reason.to_str().unwrap().to_owned()),
        )
    };
    let because = |reason: &str| (204, Some(reason.to_owned()));
    let (nobody, german) = (json!({}), json!({"skills": ["german"]}));
    assert_eq!(ask(&nobody).await, because("not_qualified"));
    assert_eq!(ask(&german).await, (204, None));
    let lead_only = json!({"skills": ["german"], "step": "adjudicate"});
    assert_eq!(ask(&lead_only).await, because("not_qualified"));
    // With a task that waits for a lead, the answer is the same: others' answers are not told.
    let task = Uuid::from_u128(1);
    server
        .verb(task, "start", &json!({"workflow": "judged"}))
        .await;
    server.verb(task, "submit", &work(1, "a", &[])).await;
    server.verb(task, "submit", &work(2, "b", &[])).await;
    assert_eq!(ask(&german).await, (204, None));
    assert_eq!(
        ask(&json!({"roles": ["lead"], "user_id": Uuid::from_u128(8)}))
            .await
            .0,
        200
    );
    let paused = server
        .post("/api/v1/workflows/judged/pause", "{}".to_owned(), &[])
        .await;
    assert_eq!(paused.status, StatusCode::OK, "{}", paused.json);
    assert_eq!(ask(&german).await, because("workflow_paused"));
}

#[tokio::test]
async fn who_skips_a_task_gets_others_first() {
    let server = Server::with_dual().await;
    let ann = Uuid::from_u128(0xA001);
    let mut offered = std::collections::BTreeSet::new();
    for n in 1..=3 {
        server.start(Uuid::from_u128(n)).await;
    }
    for _ in 0..3 {
        let claimed = next(&server, json!({"user_id": ann})).await;
        let task: Uuid = claimed.json["task_id"].as_str().unwrap().parse().unwrap();
        offered.insert(task);
        let release = json!({"user_id": ann, "step_id": "annotate", "reason": "cannot tell"});
        server.verb(task, "release", &release).await;
    }
    assert_eq!(offered.len(), 3);
    let again = next(&server, json!({"user_id": ann})).await;
    assert_eq!(again.status, StatusCode::OK, "nobody is locked out");
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
