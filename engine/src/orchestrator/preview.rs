//! Previews: decisions that are not committed.

use super::{OrchestrationError, WorkflowOrchestrator};
use crate::{
    command::{CommandEnvelope, Outcome},
    events::StoredEvent,
    state::WorkflowSnapshot,
};

/// The decision that a command would get.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Its outcome.
    pub outcome: Outcome,
    /// Its events; empty unless it would be applied.
    pub events: Vec<StoredEvent>,
    /// The state after it; none if there is no such task.
    pub state: Option<WorkflowSnapshot>,
}

impl WorkflowOrchestrator {
    /// Decides commands on their tasks as they are now, and writes nothing. The decision is the
    /// same as for running them, under the same locks. One command a task: of several, only the
    /// first is decided.
    ///
    /// # Errors
    ///
    /// As [`process_batch`](Self::process_batch).
    pub async fn preview(
        &self,
        mut commands: Vec<CommandEnvelope>,
    ) -> Result<Vec<Preview>, OrchestrationError> {
        let mut seen = std::collections::HashSet::new();
        commands.retain(|envelope| seen.insert(envelope.command.task_id()));
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let decided = self.decide_batch(&commands, None, false).await?;
        let outcomes = decided.run.outcomes.into_iter().flatten();
        let ends = decided.ends.into_iter().map(|(_, end)| end);
        let previews = outcomes.zip(ends).map(|(outcome, end)| Preview {
            outcome,
            events: end.write.map(|write| write.events).unwrap_or_default(),
            state: end.state,
        });
        Ok(previews.collect())
    }
}
