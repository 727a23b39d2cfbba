//! Ends pauses of workflows that have run out.
//!
//! The clock alone ends a pause: from its `until` on, commands are accepted and timers are claimed,
//! even if no process has noticed yet. This task only records the end and publishes it, under an id
//! derived from the pause, so that any number of processes do it once.

use std::{sync::Arc, time::Duration};

use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator, command::OperatorEnvelope, store::Store,
};
use tokio_util::sync::CancellationToken;

use crate::{
    poll::{Every, Found, poll},
    telemetry,
};

/// How late the end of a pause may be recorded.
const EVERY: Every = Every {
    idle: Duration::from_secs(1),
    longest: Duration::from_secs(10),
};

/// Looks for pauses that have run out.
pub struct PauseExpirer {
    store: Arc<dyn Store>,
    orchestrator: Arc<WorkflowOrchestrator>,
}

impl PauseExpirer {
    /// An expirer; several processes may each run one.
    pub fn new(store: Arc<dyn Store>, orchestrator: Arc<WorkflowOrchestrator>) -> Self {
        Self {
            store,
            orchestrator,
        }
    }

    /// Runs until stopped.
    pub async fn run(self, stopping: CancellationToken) {
        let look = || async { self.step().await.map(|()| Found::Nothing) };
        poll(EVERY, &stopping, look, |error: OrchestrationError| {
            let error = telemetry::chain(&error);
            tracing::debug!(error, "pauses that have run out could not be ended");
        })
        .await;
    }

    /// Ends the pauses that have run out.
    pub async fn step(&self) -> Result<(), OrchestrationError> {
        let pauses = self.store.workflow_pauses().await?;
        for lapsed in pauses
            .expired
            .iter()
            .filter_map(OperatorEnvelope::of_lapsed)
        {
            // Refused if another process was faster or the pause was extended: both are fine.
            self.orchestrator
                .operator_command(&*self.store, lapsed)
                .await?;
        }
        Ok(())
    }
}
