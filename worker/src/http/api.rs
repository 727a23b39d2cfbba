//! The shared state of all handlers.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{extract::FromRef, http::HeaderValue};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{CommandEnvelope, Outcome},
    store::Store,
};

use super::Health;
use crate::{settings::Tokens, wire::CloudEventMessages};

/// Timeout of any request; after it the answer is 504.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Executes commands.
#[async_trait]
pub trait CommandSink: Send + Sync {
    /// Executes a command and returns its outcome.
    async fn submit(&self, command: CommandEnvelope) -> Result<Outcome, NotTaken>;
}

/// The process takes no commands at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotTaken {
    /// Why, and what to do.
    pub reason: String,
}

/// The shared state of all handlers; clones share it.
#[derive(Clone)]
pub struct Api {
    /// The store for all queries.
    pub store: Arc<dyn Store>,
    /// Rebuilds states.
    pub orchestrator: Arc<WorkflowOrchestrator>,
    /// Executes commands.
    pub commands: Arc<dyn CommandSink>,
    /// Builds the messages of what belongs to no command.
    pub messages: CloudEventMessages,
    /// Who may call.
    pub tokens: Tokens,
    /// Origins whose pages may call: `https://app.example.org`.
    pub cors_origins: Arc<[HeaderValue]>,
    /// The readiness of the parts.
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
