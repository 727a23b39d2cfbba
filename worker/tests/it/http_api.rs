//! The HTTP API through its router: no socket, no broker, a store in memory.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use glyph_worker::{
    http::{Api, CommandSink, Health, NotTaken, PartState, openapi_document, router},
    projections::{GoalProjector, StepOutcome},
    settings::Tokens,
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    assignment::is_for_gold,
    command::{CommandEnvelope, Outcome},
    ids::CommandId,
    store::MemoryStore,
};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use crate::support::openapi::Document;

const DUAL: &str = include_str!("../../../examples/sentiment-dual.yaml");

/// Carries commands out at once, as a pipeline of one would.
struct Direct(Arc<WorkflowOrchestrator>);

#[async_trait]
impl CommandSink for Direct {
    async fn submit(&self, command: CommandEnvelope) -> Result<Outcome, NotTaken> {
        let batch = self.0.process_batch(vec![command], None).await;
        let outcome = batch.ok().and_then(|mut report| report.outcomes.pop());
        outcome.ok_or_else(|| NotTaken {
            reason: "no outcome".to_owned(),
        })
    }
}

struct Server {
    router: Router,
    health: Health,
    token: Option<&'static str>,
    /// What every answer is held against.
    document: &'static Document,
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document(openapi_document()));

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    json: Value,
    text: String,
}

impl Server {
    fn new(tokens: Tokens) -> Self {
        Self::with_store(tokens).0
    }

    /// One whose store can be looked at.
    fn with_store(tokens: Tokens) -> (Self, Arc<MemoryStore>) {
        let store = Arc::new(MemoryStore::new());
        let orchestrator = Arc::new(WorkflowOrchestrator::new(
            Arc::clone(&store) as _,
            Arc::clone(&store) as _,
        ));
        let health = Health::default();
        let api = Api {
            store: Arc::clone(&store) as _,
            commands: Arc::new(Direct(Arc::clone(&orchestrator))),
            orchestrator,
            tokens,
            health: health.clone(),
            metrics: Arc::new(|| "glyph_up 1\n".to_owned()),
        };
        let server = Self {
            router: router(api),
            health,
            token: None,
            document: &DOCUMENT,
        };
        (server, store)
    }

    async fn with_dual() -> Self {
        let server = Self::new(Tokens::default());
        let created = server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
        server
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let sent: Option<Value> = serde_json::from_slice(&body).ok();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let request = Request::from_parts(parts, Body::from(body));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let media_type = parts.headers.get("content-type");
        let media_type = media_type.map(|value| value.to_str().unwrap());
        self.document.assert_describes(
            (&method, &uri, sent.as_ref()),
            (parts.status, media_type, &json),
        );
        Answer {
            status: parts.status,
            headers: parts.headers,
            json,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(body).unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path, &[], Body::empty()))
            .await
    }

    async fn post(&self, path: &str, body: String, headers: &[(&str, &str)]) -> Answer {
        self.send(self.request("POST", path, headers, Body::from(body)))
            .await
    }

    async fn verb(&self, task: Uuid, verb: &str, body: &Value) -> Answer {
        self.post(
            &format!("/api/v1/tasks/{task}/{verb}"),
            body.to_string(),
            &[],
        )
        .await
    }

    async fn start(&self, task: Uuid) -> Answer {
        let body =
            json!({"workflow": "sentiment-dual", "input": {"text": "…"}, "labels": {"p": "1"}});
        self.verb(task, "start", &body).await
    }
}

fn work(user: u128, label: &str, roles: &[&str]) -> Value {
    json!({"annotation": {"user_id": Uuid::from_u128(user), "data": {"label": label}, "roles": roles}})
}

fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.json);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.json["code"], code, "{}", answer.json);
    assert_eq!(answer.json["status"], status);
    assert!(
        answer.json["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty())
    );
}

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
async fn unreadable_and_unknown_things_have_documents() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(9);
    assert_problem(&server.get("/api/v1/nothing").await, 404, "not_found");
    assert_problem(&server.get("/api/v1/tasks/9/state").await, 400, "malformed");
    assert_problem(
        &server.get(&format!("/api/v1/tasks/{task}/state")).await,
        404,
        "task_not_found",
    );
    assert_problem(
        &server.get(&format!("/api/v1/tasks/{task}/events")).await,
        404,
        "task_not_found",
    );
    assert_problem(
        &server.get("/api/v1/tasks?colour=red").await,
        400,
        "malformed",
    );
    assert_problem(
        &server.get("/api/v1/tasks?status=lost").await,
        400,
        "malformed",
    );
    assert_problem(&server.get("/api/v1/tasks?limit=0").await, 400, "malformed");
    assert_problem(
        &server.post("/api/v1/goals", String::new(), &[]).await,
        405,
        "method_not_allowed",
    );
    let submit = format!("/api/v1/tasks/{task}/submit");
    assert_problem(
        &server.post(&submit, "{".to_owned(), &[]).await,
        400,
        "malformed",
    );
    assert_problem(
        &server
            .post(&submit, work(1, "a", &[]).to_string(), &[])
            .await,
        404,
        "task_not_found",
    );
    assert_problem(
        &server.post(&submit, " ".repeat((1 << 20) + 1), &[]).await,
        413,
        "too_large",
    );
    // What no database keeps is refused beforehand.
    let nul = server.get("/api/v1/tasks?label.a=%00").await;
    assert_problem(&nul, 400, "malformed");
    let nul = DUAL.replacen("name: ", "name: \"\\0\" #", 1);
    let nul = server.post("/api/v1/workflows", nul, &[]).await;
    assert_problem(&nul, 422, "invalid_workflow");
    let unknown = json!({"workflow": "nope"});
    assert_problem(
        &server.verb(task, "start", &unknown).await,
        404,
        "workflow_not_found",
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

/// The tokens `viewer`, `producer` (who is `user`) and `operator`.
/// The producer's token stands for `user`, if one is named.
fn one_token_for_each_role(user: Option<Uuid>) -> Tokens {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let hash = |token: &str| {
        use sha2::{Digest, Sha256};
        let bytes = Sha256::digest(token);
        bytes
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    let of_user = user.map_or_else(String::new, |user| format!(":{user}"));
    let lines = [
        format!("viewer:{}", hash("viewer")),
        format!("producer:{}{of_user}", hash("producer")),
        format!("operator:{}", hash("operator")),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    Tokens::from_file(&file).unwrap()
}

#[tokio::test]
async fn tokens_decide_who_may_do_what() {
    let user = Uuid::from_u128(7);
    let mut server = Server::new(one_token_for_each_role(Some(user)));

    for path in ["/api/v1/tasks", "/metrics"] {
        let answer = server.get(path).await;
        assert_problem(&answer, 401, "unauthenticated");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
    server.token = Some("viewer");
    assert_eq!(server.get("/api/v1/tasks").await.status, StatusCode::OK);
    assert_problem(
        &server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await,
        403,
        "forbidden",
    );
    server.token = Some("operator");
    assert_eq!(
        server
            .post("/api/v1/workflows", DUAL.to_owned(), &[])
            .await
            .status,
        StatusCode::CREATED
    );
    server.token = Some("producer");
    let task = Uuid::from_u128(1);
    assert_eq!(server.start(task).await.status, StatusCode::CREATED);
    assert_problem(
        &server.verb(task, "pause", &json!({})).await,
        403,
        "forbidden",
    );
    assert_problem(
        &server.verb(task, "submit", &work(8, "a", &[])).await,
        403,
        "forbidden",
    );
    let own = server
        .verb(
            task,
            "submit",
            &json!({"annotation": {"data": {"label": "a"}}}),
        )
        .await;
    assert_eq!(own.json["status"], "waiting", "{}", own.json);
    let state = server.get(&format!("/api/v1/tasks/{task}/state")).await;
    let annotation = &state.json["steps"]["annotate"]["visits"][0]["annotations"][0];
    assert_eq!(annotation["user_id"], user.to_string());

    // What tells gold from other tasks is kept from people.
    let gold = Uuid::from_u128(3);
    let body = json!({"workflow": "sentiment-dual", "expected": {"label": "a"}});
    server.verb(gold, "start", &body).await;
    let own = json!({"annotation": {"data": {"label": "a"}}});
    server.verb(gold, "submit", &own).await;
    for (token, sees) in [("producer", false), ("operator", true)] {
        server.token = Some(token);
        for part in ["state", "events"] {
            let answer = server.get(&format!("/api/v1/tasks/{gold}/{part}")).await;
            assert_eq!(answer.status, StatusCode::OK);
            let tells =
                answer.text.contains("\"expected\":{") || answer.text.contains("\"gold\":true");
            assert_eq!(tells, sees, "{token} {part}: {}", answer.text);
        }
        let judged = server.get("/api/v1/annotators").await;
        assert_eq!(judged.status == StatusCode::OK, sees);
    }
    server.token = Some("producer");

    // Who claims is who the token stands for.
    let other = Uuid::from_u128(2);
    server.start(other).await;
    let next = "/api/v1/assignments/next";
    let claimed = server.post(next, String::new(), &[]).await;
    assert_eq!(
        claimed.json["user_id"],
        user.to_string(),
        "{}",
        claimed.json
    );
    let body = json!({"user_id": Uuid::from_u128(8)}).to_string();
    assert_problem(&server.post(next, body, &[]).await, 403, "forbidden");
}

#[tokio::test]
async fn without_tokens_pages_of_other_origins_are_refused() {
    let server = Server::new(Tokens::default());
    let request =
        |headers: &[(&str, &str)]| server.request("GET", "/api/v1/tasks", headers, Body::empty());
    let foreign = server
        .send(request(&[("origin", "https://example.org")]))
        .await;
    assert_problem(&foreign, 403, "forbidden");
    let rebound = server.send(request(&[("host", "example.org")])).await;
    assert_problem(&rebound, 403, "forbidden");
    let local = server.send(request(&[("host", "localhost:8080")])).await;
    assert_eq!(local.status, StatusCode::OK);
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let server = Server::new(Tokens::default());
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
    let starting = server.get("/readyz").await;
    assert_eq!(starting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        starting.json["not_ready"],
        json!(["database", "migrations", "broker"])
    );
    server.health.update(|readiness| {
        readiness.database = PartState::ready();
        readiness.migrations = PartState::ready();
        readiness.broker = PartState::not_ready("gone");
    });
    let waiting = server.get("/readyz").await;
    assert_eq!(waiting.json["not_ready"], json!(["broker"]));
    assert_eq!(waiting.json["parts"]["broker"]["reason"], "gone");
    server
        .health
        .update(|readiness| readiness.broker = PartState::ready());
    assert_eq!(server.get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn tasks_move_to_another_revision_in_pages_and_are_told_what_would_become_of_them() {
    let server = Server::with_dual().await;
    let tasks: Vec<Uuid> = (1..=5).map(Uuid::from_u128).collect();
    for task in &tasks {
        server.start(*task).await;
    }
    server
        .verb(tasks[0], "submit", &work(0xA1, "positive", &[]))
        .await;
    server.verb(tasks[4], "cancel", &json!({})).await;
    let one = DUAL
        .replace("count: 2", "count: 1")
        .replace("id: adjudicate", "id: judge");
    let one = one
        .replace("adjudicate,", "judge,")
        .replace("to: adjudicate", "to: judge");
    let created = server.post("/api/v1/workflows", one, &[]).await;
    assert_eq!(created.json["revision"], 2, "{}", created.json);
    let path = "/api/v1/workflows/sentiment-dual/migrate";
    let page = async |body: Value, key: &str| {
        let key = [("idempotency-key", key)];
        server.post(path, body.to_string(), &key).await
    };
    let key = Uuid::from_u128(0x51).to_string();

    let dry = page(json!({"to": "sentiment-dual@2", "dry_run": true}), &key)
        .await
        .json;
    let outcomes = |page: &Value| -> Vec<String> {
        let tasks = page["tasks"].as_array().unwrap().iter();
        tasks
            .map(|task| task["outcome"].as_str().unwrap().to_owned())
            .collect()
    };
    // What has ended is not asked.
    assert_eq!(outcomes(&dry), ["would_move"; 4]);
    assert_eq!(dry["tasks"][0]["then"][0], "consensus_calculated annotate");
    assert_eq!(dry["tasks"][0]["stands_at"], json!([]));
    assert_eq!(dry["tasks"][1]["stands_at"], json!(["annotate"]));
    let state = async |task: Uuid| {
        server
            .get(&format!("/api/v1/tasks/{task}/state"))
            .await
            .json
    };
    assert_eq!(state(tasks[0]).await["revision"], 1);

    let looked = json!({"to": "sentiment-dual@2", "dry_run": true});
    let looked = server.verb(tasks[1], "migrate", &looked).await;
    assert_eq!(looked.json["outcome"], "would_move", "{}", looked.json);
    let unclear = json!({"to": "sentiment-dual@2", "dry_run": "yes"});
    let unclear = server.verb(tasks[1], "migrate", &unclear).await;
    assert_problem(&unclear, 400, "malformed");
    assert_eq!(state(tasks[1]).await["revision"], 1);

    let first = page(json!({"to": "sentiment-dual", "limit": 3}), &key)
        .await
        .json;
    assert_eq!(outcomes(&first), ["moved"; 3]);
    assert_eq!(first["tasks"][0]["result"]["status"], "completed");
    let rest = json!({"to": "sentiment-dual", "limit": 3, "after": first["next_after"]});
    let second = page(rest, &key).await.json;
    assert_eq!(outcomes(&second), ["moved"]);
    assert_eq!(second["next_after"], Value::Null);
    // Again, under this key or another, there is nothing left to do.
    for key in [key.as_str(), &Uuid::from_u128(0x52).to_string()] {
        let again = page(json!({"to": "sentiment-dual"}), key).await.json;
        assert_eq!(outcomes(&again), ["already_there"; 3]);
    }
    assert_eq!(state(tasks[3]).await["version"], 3);

    // Nor for one of them alone.
    let there = json!({"to": "sentiment-dual@2"});
    let again = server.verb(tasks[3], "migrate", &there).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.json);
    assert_eq!(state(tasks[3]).await["version"], 3);
    let there = json!({"to": "sentiment-dual@2", "dry_run": true});
    let again = server.verb(tasks[3], "migrate", &there).await;
    assert_eq!(again.json["outcome"], "already_there", "{}", again.json);

    let back = page(json!({"to": "sentiment-dual@1", "from": 1}), &key)
        .await
        .json;
    assert_eq!(outcomes(&back), [""; 0]);
    let renamed =
        json!({"to": "sentiment-dual@1", "steps": {"annotate": "nowhere"}, "dry_run": true});
    let refused = page(renamed, &key).await.json;
    assert_eq!(outcomes(&refused), ["would_be_rejected"; 3]);
    assert_eq!(refused["tasks"][0]["reason"], "migration_unmapped");

    for (body, status, code) in [
        (json!({"to": "other"}), 404, "workflow_not_found"),
        (
            json!({"to": "sentiment-dual", "status": "completed"}),
            400,
            "malformed",
        ),
        (json!({"to": "sentiment-dual", "from": 3}), 400, "malformed"),
        (
            json!({"to": "sentiment-dual", "step": "annotat"}),
            400,
            "malformed",
        ),
        (
            json!({"to": "sentiment-dual", "lables": {}}),
            400,
            "malformed",
        ),
        (json!({}), 400, "malformed"),
    ] {
        assert_problem(&page(body, &key).await, status, code);
    }
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
async fn the_document_is_served_and_its_page_tells_of_every_operation() {
    let server = Server::new(Tokens::default());
    let document = server.get("/openapi.json").await;
    assert_eq!(document.status, StatusCode::OK);
    assert_eq!(document.json, DOCUMENT.0);
    let page = server.get("/docs").await;
    assert_eq!(page.status, StatusCode::OK);
    for (path, method, operation) in DOCUMENT.operations() {
        let heading = format!(
            "<section id={}><h3><code>{method} {path}</code>",
            operation["operationId"]
        );
        assert!(page.text.contains(&heading), "the page lacks {heading}");
        assert_ne!(operation["summary"], "", "{method} {path} has no summary");
    }
    for link in page.text.split("href=\"#").skip(1) {
        let anchor = format!("id=\"{}\"", link.split('"').next().unwrap());
        assert!(page.text.contains(&anchor), "nothing has {anchor}");
    }
    assert!(page.text.contains("<code>annotation.user_id</code>"));
    assert!(!page.text.contains("://"), "the page names another place");
}

#[tokio::test]
async fn every_operation_but_health_needs_a_token_of_its_role() {
    let roles = ["viewer", "producer", "operator"];
    let mut server = Server::new(one_token_for_each_role(None));
    for (path, method, operation) in DOCUMENT.operations() {
        let needed = operation["x-role"].as_str();
        let health = ["/livez", "/readyz"].contains(&path);
        assert_eq!(needed.is_none(), health, "{method} {path}");
        let path = path
            .replace("{task_id}", &Uuid::from_u128(1).to_string())
            .replace(['{', '}'], "");
        for (rank, role) in [None, Some("viewer"), Some("producer"), Some("operator")]
            .into_iter()
            .enumerate()
        {
            server.token = role;
            let request = server.request(method.as_str(), &path, &[], Body::empty());
            let status = server.send(request).await.status;
            let enough = needed.is_none_or(|needed| roles.iter().take(rank).any(|r| *r == needed));
            let refused = match status {
                StatusCode::UNAUTHORIZED => role.is_none(),
                StatusCode::FORBIDDEN => role.is_some(),
                _ => false,
            };
            assert_eq!(refused, !enough, "{method} {path} as {role:?}: {status}");
        }
    }
}

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
    // The same key again answers the same place, also with the draft that was left since.
    let draft = json!({"user_id": person(1), "draft": {"label": "pos"}});
    server.verb(first, "activity", &draft).await;
    let again = next(ask, Some(KEY)).await;
    assert_eq!(again.json["task_id"], json!(first));
    assert_eq!(again.json["draft"], json!({"label": "pos"}));
    let other = next(json!({"user_id": person(2)}), Some(KEY)).await;
    assert_problem(&other, 422, "command_id_reused");

    // A fresh task comes before one that somebody is at; nobody gets a task twice.
    let ask = |n| json!({"user_id": person(n)});
    assert_eq!(next(ask(2), None).await.json["task_id"], json!(second));
    assert_eq!(next(ask(1), None).await.json["task_id"], json!(second));
    assert_eq!(next(ask(1), None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(next(ask(3), None).await.json["task_id"], json!(first));
    assert_eq!(next(ask(4), None).await.status, StatusCode::NO_CONTENT);

    // Two disagree: an adjudicator is asked, and sees what is to be judged.
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
        claimed.json["judged"][0]["data"],
        json!({"label": "positive"})
    );
    assert!(claimed.json["judged"][0].get("user_id").is_none());

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
async fn skills_are_all_needed_to_be_offered_a_place() {
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
        // Drawn by the key, so that whoever repeats the request gets the same.
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
    while let StepOutcome::Read(_) = projector.step().await.unwrap() {}
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
        let ask = json!({"user_id": user, "workflow": workflow}).to_string();
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
async fn an_archived_workflow_leaves_the_list_until_it_is_restored() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(1);
    server.start(task).await;
    let act = async |verb: &str| {
        let path = format!("/api/v1/workflows/sentiment-dual/{verb}");
        server
            .post(&path, json!({"reason": "over"}).to_string(), &[])
            .await
    };
    let listed = async |query: &str| {
        let listed = server.get(&format!("/api/v1/workflows{query}")).await;
        listed.json["workflows"].as_array().unwrap().len()
    };
    assert_problem(&act("restore").await, 409, "not_waiting");
    let archived = act("archive").await;
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
    assert_problem(&act("resume").await, 409, "not_waiting");
    assert_problem(&act("pause").await, 409, "not_waiting");
    assert_problem(
        &server.verb(task, "submit", &work(1, "positive", &[])).await,
        409,
        "task_paused",
    );
    let next = json!({"user_id": Uuid::from_u128(2)}).to_string();
    let next = server.post("/api/v1/assignments/next", next, &[]).await;
    assert_eq!(next.status, StatusCode::NO_CONTENT);

    let restored = act("restore").await;
    assert_eq!(restored.json["paused"], Value::Null, "{}", restored.json);
    assert_eq!(listed("").await, 1);
    let submitted = server.verb(task, "submit", &work(1, "positive", &[])).await;
    assert_eq!(submitted.status, StatusCode::OK, "{}", submitted.json);
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
    let count = async || while let StepOutcome::Read(_) = projector.step().await.unwrap() {};
    count().await;
    let complete = async |user: u128, key: u128| {
        let body = json!({"user_id": Uuid::from_u128(user)}).to_string();
        let key = Uuid::from_u128(key).to_string();
        let path = "/api/v1/goals/signed/sign-off/complete";
        server.post(path, body, &[("idempotency-key", &key)]).await
    };
    let first = complete(1, 0xA).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.json);
    // Before it is counted, and after.
    assert_problem(&complete(2, 0xB).await, 409, "not_waiting");
    count().await;
    assert_problem(&complete(2, 0xC).await, 409, "not_waiting");
    assert_eq!(complete(1, 0xA).await.json, first.json, "the same again");
}
