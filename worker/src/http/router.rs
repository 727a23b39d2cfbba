//! Routes.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{FromRef, Request, State},
    http::header,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{CommandEnvelope, Outcome},
    store::Store,
};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    Problem, Tokens,
    auth::authenticate,
    commands, goals,
    health::{Health, livez, readyz},
    tasks, workflows,
};

/// How long any request may take; beyond it the answer is 504.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Where commands go to be decided.
#[async_trait]
pub trait CommandSink: Send + Sync {
    /// Carries a command out and says what became of it.
    async fn submit(&self, command: CommandEnvelope) -> Result<Outcome, NotTaken>;
}

/// The process takes no commands at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotTaken {
    /// Why, and what to do.
    pub reason: String,
}

/// What the API stands on; clones share it.
#[derive(Clone)]
pub struct Api {
    /// Where everything is looked up.
    pub store: Arc<dyn Store>,
    /// Rebuilds states.
    pub orchestrator: Arc<WorkflowOrchestrator>,
    /// Carries commands out.
    pub commands: Arc<dyn CommandSink>,
    /// Who may call.
    pub tokens: Tokens,
    /// What is ready.
    pub health: Health,
    /// The metrics in the Prometheus text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl FromRef<Api> for Health {
    fn from_ref(api: &Api) -> Self {
        api.health.clone()
    }
}

/// The whole API: `/api/v1`, metrics and health.
pub fn router(api: Api) -> Router {
    let authentication = middleware::from_fn_with_state(api.tokens.clone(), authenticate);
    let private = Router::new()
        .nest("/api/v1", routes())
        .route("/metrics", get(metrics))
        .route_layer(authentication);
    guarded(private.merge(health_routes()), api)
}

/// Metrics and health alone, for a listener of their own that needs no token.
pub fn operations_router(api: Api) -> Router {
    guarded(
        Router::new()
            .route("/metrics", get(metrics))
            .merge(health_routes()),
        api,
    )
}

fn routes() -> Router<Api> {
    Router::new()
        .route("/workflows", get(workflows::list).post(workflows::create))
        .route("/workflows/{id}", get(workflows::show))
        .route("/workflows/{id}/pause", post(workflows::pause))
        .route("/workflows/{id}/resume", post(workflows::resume))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{task_id}/state", get(tasks::state))
        .route("/tasks/{task_id}/events", get(tasks::events))
        .route("/tasks/{task_id}/explain", get(tasks::explain))
        .route("/tasks/{task_id}/start", post(commands::start))
        .route("/tasks/{task_id}/submit", post(commands::submit))
        .route("/tasks/{task_id}/advance", post(commands::advance))
        .route("/tasks/{task_id}/assign", post(commands::assign))
        .route("/tasks/{task_id}/release", post(commands::release))
        .route("/tasks/{task_id}/activity", post(commands::activity))
        .route("/tasks/{task_id}/pause", post(commands::pause))
        .route("/tasks/{task_id}/resume", post(commands::resume))
        .route("/tasks/{task_id}/cancel", post(commands::cancel))
        .route("/tasks/{task_id}/retry", post(commands::retry))
        .route("/tasks/{task_id}/migrate", post(commands::migrate))
        .route("/goals", get(goals::list))
}

fn health_routes() -> Router<Api> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
}

/// What holds on every route: unknown paths and methods, panics and slowness have documents too.
fn guarded(routes: Router<Api>, api: Api) -> Router {
    routes
        .fallback(async || Problem::no_route())
        .method_not_allowed_fallback(async || Problem::no_method())
        .layer(middleware::from_fn(bounded))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(api)
}

async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout().into_response(),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the layer asks for"
)]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(message, "a request panicked");
    Problem::internal().into_response()
}

async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        (api.metrics)(),
    )
}
