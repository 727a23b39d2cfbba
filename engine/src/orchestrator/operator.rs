//! Operator commands: decided and recorded under their own lock.

use std::sync::Arc;

use super::{MessageBuilder, OrchestrationError, WorkflowOrchestrator};
use crate::{
    command::{
        Dead, OperatorEnvelope,
        operator::{Effect, decide},
    },
    ids::WorkflowSelector,
    store::{
        CommandRecord, OperatorFacts, OperatorLog, OperatorWrite, Pauses, PlannedOperatorCommand,
        RecordedOutcome,
    },
};

impl WorkflowOrchestrator {
    /// Carries out an operator command and records it in `log`, which is the same store as this
    /// orchestrator's. The same id again changes nothing and gets the first outcome back.
    ///
    /// A batch that is open while a workflow is paused counts as before the pause.
    ///
    /// # Errors
    ///
    /// [`Dead::WorkflowNotFound`] if there is no such workflow, [`Dead::CommandIdReused`] if the id
    /// was used for something else, and errors of the store.
    pub async fn operator_command(
        &self,
        log: &dyn OperatorLog,
        mut envelope: OperatorEnvelope,
    ) -> Result<RecordedOutcome, OrchestrationError> {
        envelope.operator_command = envelope.operator_command.rounded();
        let workflow = envelope.operator_command.workflow().clone();
        let selector = WorkflowSelector::Latest(workflow.clone());
        let found = self.config_store.resolve(&[selector]).await?;
        if found.is_empty() {
            let dead = Dead::WorkflowNotFound(workflow.to_string());
            return Err(OrchestrationError::Dead(dead));
        }
        let hash = envelope.operator_command.content_hash();
        let row = log
            .operator_command(plan_operator_command(envelope, &self.messages))
            .await?;
        if row.content_hash == hash {
            Ok(row.outcome)
        } else {
            Err(OrchestrationError::Dead(Dead::CommandIdReused))
        }
    }
}

/// An operator command that is decided when the store supplies the facts, together with its
/// messages. Its workflow must be stored.
pub fn plan_operator_command(
    mut envelope: OperatorEnvelope,
    messages: &Arc<dyn MessageBuilder>,
) -> PlannedOperatorCommand {
    envelope.operator_command = envelope.operator_command.rounded();
    let messages = Arc::clone(messages);
    PlannedOperatorCommand {
        id: envelope.command_id,
        subject: envelope.operator_command.subject(),
        decide: Box::new(move |facts| decided(&envelope, facts, &*messages)),
    }
}

fn decided(
    envelope: &OperatorEnvelope,
    facts: OperatorFacts,
    messages: &dyn MessageBuilder,
) -> OperatorWrite {
    let now = facts.now;
    let (outcome, pauses) = match decide(&envelope.operator_command, envelope.command_id, facts) {
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
    let message = applied.then(|| messages.for_operator_command(envelope, now));
    OperatorWrite {
        record: CommandRecord {
            command_id: envelope.command_id,
            task_id: None,
            command_type: envelope.operator_command.type_name(),
            content_hash: envelope.operator_command.content_hash(),
            outcome,
            payload: Some(envelope.payload()),
            decided_at: now,
        },
        pauses,
        messages: message.flatten().into_iter().collect(),
    }
}
