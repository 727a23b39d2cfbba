//! The interface of the engine that a lane uses.

use std::sync::Arc;

use async_trait::async_trait;
use glyph_workflow_engine::{
    BatchReport, MessageBuilder, OrchestrationError, WorkflowOrchestrator,
    command::CommandEnvelope,
    store::{OnLocked, PublisherId},
};

/// Runs batches of commands. A trait, so that the pipeline can be tested with commands that panic,
/// hang or meet a store that is away: the orchestrator does none of these on demand.
#[async_trait]
pub trait CommandProcessor: Send + Sync {
    /// Runs a batch; one outcome for each command, in order. After `Err` it is not known whether
    /// anything was written: the same batch may be run again.
    async fn process_batch(
        &self,
        batch: Vec<Arc<CommandEnvelope>>,
        publisher: Option<PublisherId>,
        on_locked: OnLocked,
    ) -> Result<BatchReport, OrchestrationError>;

    /// Whether the store answers on another connection than those at work.
    async fn store_answers(&self) -> bool;

    /// Builds the messages of events, in its batches and for rows that others left.
    fn messages(&self) -> Arc<dyn MessageBuilder>;
}

#[async_trait]
impl CommandProcessor for WorkflowOrchestrator {
    async fn process_batch(
        &self,
        batch: Vec<Arc<CommandEnvelope>>,
        publisher: Option<PublisherId>,
        on_locked: OnLocked,
    ) -> Result<BatchReport, OrchestrationError> {
        self.process_batch_with(batch, publisher, on_locked).await
    }

    async fn store_answers(&self) -> bool {
        self.event_store.ping().await.is_ok()
    }

    fn messages(&self) -> Arc<dyn MessageBuilder> {
        Self::messages(self)
    }
}
