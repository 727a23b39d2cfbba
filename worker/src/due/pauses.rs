//! Ends pauses of workflows that have run out.
//!
//! The clock alone ends a pause: from its `until` on, commands are taken and due work is claimed,
//! whether or not anybody has noticed. What is left to do is to record the end and to tell of it,
//! under an id derived from the pause, so that any number of processes do it once.

use std::{sync::Arc, time::Duration};

use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator, command::ActEnvelope, store::Store,
};
use tokio_util::sync::CancellationToken;

use crate::{backoff::Backoff, telemetry};

/// How late the end of a pause may be told of.
const POLL: Duration = Duration::from_secs(1);

/// Looks for pauses that have run out.
pub struct PauseKeeper {
    store: Arc<dyn Store>,
    orchestrator: Arc<WorkflowOrchestrator>,
}

impl PauseKeeper {
    /// A keeper; several processes may each have one.
    pub fn new(store: Arc<dyn Store>, orchestrator: Arc<WorkflowOrchestrator>) -> Self {
        Self {
            store,
            orchestrator,
        }
    }

    /// Runs until stopped.
    pub async fn run(self, stopping: CancellationToken) {
        let mut backoff = Backoff::new(POLL, Duration::from_secs(10));
        while !stopping.is_cancelled() {
            let wait = match self.step().await {
                Ok(()) => {
                    backoff.reset();
                    POLL
                }
                Err(error) => {
                    let error = telemetry::chain(&error);
                    tracing::debug!(error, "pauses that have run out could not be ended");
                    backoff.next()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Ends what has run out.
    pub async fn step(&self) -> Result<(), OrchestrationError> {
        let (_, over) = self.store.workflow_pauses().await?;
        for lapsed in over.iter().filter_map(ActEnvelope::of_lapsed) {
            // Refused where somebody else was faster or the pause was prolonged: both are fine.
            self.orchestrator.act(&*self.store, lapsed).await?;
        }
        Ok(())
    }
}
