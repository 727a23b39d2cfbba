//! The shared state of all handlers.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use axum::{extract::FromRef, http::HeaderValue};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{CommandEnvelope, Outcome},
    store::Store,
};

use super::Health;
use crate::{
    broker::MessagePublisher,
    dead_letters::DeadLetters,
    settings::Tokens,
    wire::{CloudEventMessages, Links},
};

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

/// The broker, for those who look at it; empty until the process has one. Clones share it.
#[derive(Clone, Default)]
pub struct BrokerSlot(Arc<OnceLock<BrokerParts>>);

/// What the API asks of the broker.
pub(super) struct BrokerParts {
    /// Knows how full the queues are.
    pub(super) publisher: Arc<dyn MessagePublisher>,
    /// The dead queue. One looks at a time: messages that one holds are hidden from others.
    pub(super) letters: tokio::sync::Mutex<Arc<dyn DeadLetters>>,
}

impl BrokerSlot {
    /// Sets the broker.
    pub fn fill(&self, publisher: Arc<dyn MessagePublisher>, letters: Arc<dyn DeadLetters>) {
        let letters = tokio::sync::Mutex::new(letters);
        let _ = self.0.set(BrokerParts { publisher, letters });
    }

    /// The broker, once there is one.
    pub(super) fn get(&self) -> Option<&BrokerParts> {
        self.0.get()
    }
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
    /// Makes links to this API.
    pub links: Links,
    /// Who may call.
    pub tokens: Tokens,
    /// Origins whose pages may call: `https://app.example.org`.
    pub cors_origins: Arc<[HeaderValue]>,
    /// The readiness of the parts.
    pub health: Health,
    /// The broker.
    pub broker: BrokerSlot,
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
