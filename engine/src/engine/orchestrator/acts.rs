//! Operators' acts: decided and recorded under their own lock.

use std::sync::Arc;

use super::WorkflowOrchestrator;
use crate::{
    engine::{
        OrchestrationError,
        act::{ActEnvelope, Effect, decide},
        outcome::Dead,
    },
    ids::WorkflowSelector,
    store::{ActFacts, ActLog, ActWrite, CommandRecord, RecordedOutcome},
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
        let (id, hash) = (envelope.command_id, envelope.act.content_hash());
        let messages = Arc::clone(&self.messages);
        let decision = Box::new(move |facts: ActFacts| {
            let decided = decide(&envelope.act, id, facts.pause, facts.now);
            let (outcome, pauses) = match decided {
                Ok(Effect { pauses, result }) => (RecordedOutcome::Applied { result }, pauses),
                Err(rejection) => {
                    let reason = rejection.code.as_str().to_owned();
                    let detail = rejection.detail;
                    (RecordedOutcome::Rejected { reason, detail }, Vec::new())
                }
            };
            let applied = matches!(outcome, RecordedOutcome::Applied { .. });
            let message = applied.then(|| messages.for_act(&envelope, facts.now));
            ActWrite {
                record: CommandRecord {
                    command_id: id,
                    task_id: None,
                    command_type: envelope.act.type_name(),
                    content_hash: hash,
                    outcome,
                    payload: Some(envelope.act.payload()),
                    decided_at: facts.now,
                },
                pauses,
                messages: message.flatten().into_iter().collect(),
            }
        });
        let row = log.act(id, &workflow, decision).await?;
        if row.content_hash == hash {
            Ok(row.outcome)
        } else {
            Err(OrchestrationError::Dead(Dead::CommandIdReused))
        }
    }
}
