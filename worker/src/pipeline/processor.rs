//! What a lane asks of the engine.

use async_trait::async_trait;
use glyph_workflow_engine::{
    BatchReport, OrchestrationError, WorkflowOrchestrator, command::CommandEnvelope,
    store::PublisherId,
};

/// Runs batches of commands. A trait, so that the road can be tested with commands that panic,
/// hang or meet a store that is away, none of which the orchestrator does at will.
#[async_trait]
pub trait CommandProcessor: Send + Sync {
    /// Runs a batch; one outcome for each command, in order. `Err` means that nothing of it is
    /// known to be written: the same batch may be run again.
    async fn process_batch(
        &self,
        batch: Vec<CommandEnvelope>,
        publisher: Option<PublisherId>,
    ) -> Result<BatchReport, OrchestrationError>;
}

#[async_trait]
impl CommandProcessor for WorkflowOrchestrator {
    async fn process_batch(
        &self,
        batch: Vec<CommandEnvelope>,
        publisher: Option<PublisherId>,
    ) -> Result<BatchReport, OrchestrationError> {
        Self::process_batch(self, batch, publisher).await
    }
}
