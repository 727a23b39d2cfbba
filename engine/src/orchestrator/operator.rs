//! Operators' acts: decided and recorded under their own lock.

use std::sync::Arc;

use super::{MessageBuilder, OrchestrationError, WorkflowOrchestrator};
use crate::{
    command::{
        ActEnvelope, Dead,
        operator::{Effect, decide},
    },
    ids::WorkflowSelector,
    store::{ActFacts, ActLog, ActWrite, CommandRecord, Pauses, PlannedAct, RecordedOutcome},
};

impl WorkflowOrchestrator {
    /// Carries out an operator's act and records it in `log`, which is the same store as this
    /// orchestrator's. The same id again changes nothing and gets the first outcome back.
    ///
    /// A batch that was open when a workflow is paused counts as before it.
    ///
    /// # Errors
    ///
    /// [`Dead::WorkflowNotFound`] where there is no such workflow, [`Dead::CommandIdReused`] where
    /// the id stands for something else, and what the store fails with.
    pub async fn act(
        &self,
        log: &dyn ActLog,
        mut envelope: ActEnvelope,
    ) -> Result<RecordedOutcome, OrchestrationError> {
        envelope.act = envelope.act.rounded();
        let workflow = envelope.act.workflow().clone();
        let selector = WorkflowSelector::Latest(workflow.clone());
        let found = self.config_store.resolve(&[selector]).await?;
        if found.is_empty() {
            let dead = Dead::WorkflowNotFound(workflow.to_string());
            return Err(OrchestrationError::Dead(dead));
        }
        let hash = envelope.act.content_hash();
        let row = log.act(plan_act(envelope, &self.messages)).await?;
        if row.content_hash == hash {
            Ok(row.outcome)
        } else {
            Err(OrchestrationError::Dead(Dead::CommandIdReused))
        }
    }
}

/// An act that decides itself once it is told the facts, with the messages that it causes. Its
/// workflow is one that is stored.
pub fn plan_act(mut envelope: ActEnvelope, messages: &Arc<dyn MessageBuilder>) -> PlannedAct {
    envelope.act = envelope.act.rounded();
    let messages = Arc::clone(messages);
    PlannedAct {
        id: envelope.command_id,
        subject: envelope.act.subject(),
        decide: Box::new(move |facts| decided(&envelope, facts, &*messages)),
    }
}

fn decided(envelope: &ActEnvelope, facts: ActFacts, messages: &dyn MessageBuilder) -> ActWrite {
    let now = facts.now;
    let (outcome, pauses) = match decide(&envelope.act, envelope.command_id, facts) {
        Ok(Effect { pauses, result }) => (RecordedOutcome::Applied { result }, pauses),
        Err(rejection) => {
            let reason = rejection.code.as_str().to_owned();
            let detail = rejection.detail;
            (
                RecordedOutcome::Rejected { reason, detail },
                Pauses::default(),
            )
        }
    };
    let applied = matches!(outcome, RecordedOutcome::Applied { .. });
    let message = applied.then(|| messages.for_act(envelope, now));
    ActWrite {
        record: CommandRecord {
            command_id: envelope.command_id,
            task_id: None,
            command_type: envelope.act.type_name(),
            content_hash: envelope.act.content_hash(),
            outcome,
            payload: Some(envelope.act.payload()),
            decided_at: now,
        },
        pauses,
        messages: message.flatten().into_iter().collect(),
    }
}
