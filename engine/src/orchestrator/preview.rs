//! Previews: decisions that are not committed.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{OrchestrationError, WorkflowOrchestrator, live_models::ModelsInUse};
use crate::{
    command::{CommandEnvelope, Outcome},
    config::Sampling,
    decide::{DecideContext, OfferedVerb, offered_verbs},
    events::StoredEvent,
    executor::annotators::Annotators,
    ids::LogId,
    state::{WorkflowPause, WorkflowSnapshot},
    store::OnLocked,
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
        let commands: Vec<_> = commands.into_iter().map(Arc::new).collect();
        let batch = self.batch(&commands, None, OnLocked::Wait).await?;
        let decided = self.decide_batch(&batch, false).await?;
        let outcomes = decided.run.outcomes.into_iter().flatten();
        let ends = decided.ends.into_iter().map(|(_, end)| end);
        let previews = outcomes.zip(ends).map(|(outcome, end)| Preview {
            outcome,
            events: end.write.map(|write| write.events).unwrap_or_default(),
            state: end.state,
        });
        Ok(previews.collect())
    }

    /// The verbs that an operator has for a task in this state at `now`, and what each would be
    /// answered. Takes no lock: whoever uses one of them is decided anew. `pauses` are those of
    /// workflows that are in force.
    ///
    /// # Errors
    ///
    /// The revision or the annotator models that a decision uses cannot be read.
    pub async fn verbs(
        &self,
        state: &WorkflowSnapshot,
        pauses: &[WorkflowPause],
        now: DateTime<Utc>,
    ) -> Result<Vec<OfferedVerb>, OrchestrationError> {
        let workflow = self.compiled(state.workflow.revision_id.0).await?;
        let questions = self.models.questions(workflow.config()).to_vec();
        let mut models = ModelsInUse::default();
        self.models.prepare(&mut models, questions).await?;
        Ok(models.look(|looked| {
            let context = DecideContext {
                workflow: Some(&workflow),
                named: None,
                handlers: &self.handler_registry,
                annotators: Annotators::new(looked),
                // Settled when the task started.
                sampling: Sampling::default(),
                now,
                log: LogId::default(),
                pauses,
            };
            offered_verbs(state, &context)
        }))
    }
}
