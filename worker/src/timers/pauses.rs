//! Ends pauses of workflows that have run out.
//!
//! The clock alone ends a pause: from its `until` on, commands are taken and timers is claimed,
//! whether or not anybody has noticed. What is left to do is to record the end and to tell of it,
//! under an id derived from the pause, so that any number of processes do it once.

use std::{sync::Arc, time::Duration};

use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator, command::OperatorEnvelope, store::Store,
};
use tokio_util::sync::CancellationToken;

use crate::{
    poll::{Every, Found, poll},
    telemetry,
};

/// How late the end of a pause may be told of.
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
    /// A keeper; several processes may each have one.
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

    /// Ends what has run out.
    pub async fn step(&self) -> Result<(), OrchestrationError> {
        let pauses = self.store.workflow_pauses().await?;
        for lapsed in pauses
            .expired
            .iter()
            .filter_map(OperatorEnvelope::of_lapsed)
        {
            // Refused where somebody else was faster or the pause was prolonged: both are fine.
            self.orchestrator
                .operator_command(&*self.store, lapsed)
                .await?;
        }
        Ok(())
    }
}
