//! The HTTP API through its router: no socket, no broker, an in-memory store.

mod access;
mod annotators;
mod archived;
mod backtests;
mod browsers;
mod claims;
mod clients;
mod console;
mod explain;
mod feed;
mod gold;
mod labels;
mod log;
mod migration;
mod service;
mod tasks;
mod verbs;
mod workflows;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use glyph_worker::{
    http::{Api, BrokerSlot, CommandSink, Health, NotTaken, openapi_document, router},
    settings::Tokens,
    wire::{CloudEventMessages, Links},
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{CommandEnvelope, Outcome},
    store::MemoryStore,
};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use crate::support::openapi::Document;

const DUAL: &str = include_str!("../../../examples/sentiment-dual.yaml");

/// Executes commands at once, like a pipeline with batches of one.
pub(crate) struct Direct(pub(crate) Arc<WorkflowOrchestrator>);

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

pub(crate) struct Server {
    router: Router,
    health: Health,
    token: Option<&'static str>,
    /// Every response is checked against this document.
    document: &'static Document,
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document(openapi_document()));

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Server {
    pub(crate) fn new(tokens: Tokens) -> Self {
        Self::with_store(tokens).0
    }

    /// A server whose store the test can read.
    fn with_store(tokens: Tokens) -> (Self, Arc<MemoryStore>) {
        let store = Arc::new(MemoryStore::new());
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        (Self::on(tokens, Arc::clone(&store), orchestrator), store)
    }

    /// A server whose decisions lead to messages.
    fn with_messages() -> (Self, Arc<MemoryStore>) {
        let store = Arc::new(MemoryStore::new());
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _)
                .with_messages(Arc::new(CloudEventMessages::default()));
        let server = Self::on(Tokens::default(), Arc::clone(&store), orchestrator);
        (server, store)
    }

    /// A server that others reach at `public_url`.
    fn at(public_url: &str) -> Self {
        let store = Arc::new(MemoryStore::new());
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        let links = public_url.parse().unwrap();
        Self::linking(links, Tokens::default(), store, orchestrator)
    }

    fn on(tokens: Tokens, store: Arc<MemoryStore>, orchestrator: WorkflowOrchestrator) -> Self {
        Self::linking(Links::default(), tokens, store, orchestrator)
    }

    fn linking(
        links: Links,
        tokens: Tokens,
        store: Arc<MemoryStore>,
        orchestrator: WorkflowOrchestrator,
    ) -> Self {
        let orchestrator = Arc::new(orchestrator);
        let health = Health::default();
        let api = Api {
            store,
            commands: Arc::new(Direct(Arc::clone(&orchestrator))),
            orchestrator,
            messages: CloudEventMessages::default().with_links(links.clone()),
            links,
            tokens,
            cors_origins: ["https://app.example.org".parse().unwrap()].into(),
            health: health.clone(),
            broker: BrokerSlot::default(),
            metrics: Arc::new(|| "glyph_up 1\n".to_owned()),
        };
        Self {
            router: router(api),
            health,
            token: None,
            document: &DOCUMENT,
        }
    }

    async fn with_dual() -> Self {
        let server = Self::new(Tokens::default());
        let created = server.post("/api/v1/workflows", DUAL.to_owned(), &[]).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
        server
    }

    /// Sends a request; it and its answer must be as the document says.
    async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let sent: Option<Value> = serde_json::from_slice(&body).ok();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let request = Request::from_parts(parts, Body::from(body));
        let answer = self.send_any(request).await;
        if answer.status.is_success() {
            self.document
                .assert_takes(&method, &uri, sent.as_ref(), &answer.json);
        }
        answer
    }

    /// Sends a request that need not be as the document says; its answer must be.
    pub(crate) async fn send_any(&self, request: Request<Body>) -> Answer {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let media_type = parts.headers.get("content-type");
        let media_type = media_type.map(|value| value.to_str().unwrap());
        self.document
            .assert_answers(&method, &uri, (parts.status, media_type, &json));
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

    pub(crate) async fn post(&self, path: &str, body: String, headers: &[(&str, &str)]) -> Answer {
        let media_type = if path.ends_with("/workflows") {
            "application/yaml"
        } else {
            "application/json"
        };
        let mut headers = headers.to_vec();
        if headers.iter().all(|(name, _)| *name != "content-type") {
            headers.push(("content-type", media_type));
        }
        self.send(self.request("POST", path, &headers, Body::from(body)))
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

    pub(crate) async fn start(&self, task: Uuid) -> Answer {
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
