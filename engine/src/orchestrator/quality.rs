//! Sharing work by quality: the priority of an open slot for the person who asks.
//!
//! A person known to be reliable is offered tasks that others have begun, least confident first;
//! everyone else is offered tasks that no one has begun. A second opinion is worth most where the
//! first ones differ, and from a person who is mostly right. Reliability comes from the annotator
//! models at the log's position when the claim arrives; a claim that depended on it records so in
//! its event.

use std::sync::Arc;

use super::{
    OrchestrationError, WorkflowOrchestrator,
    live_models::ModelsInUse,
    offer::{ClaimPriority, OfferedStep},
};
use crate::{
    assignment::is_for_overdue,
    config::LoadBalancing,
    executor::annotators::{Annotators, Reliability},
    ids::{CommandId, UserId},
};

impl WorkflowOrchestrator {
    /// Sets the priority of a claim in the steps that share their work by quality, for this person
    /// and claim id.
    pub(super) async fn take_priorities(
        &self,
        user_id: UserId,
        command_id: CommandId,
        steps: &mut [OfferedStep],
    ) -> Result<(), OrchestrationError> {
        let by_quality = |step: &&mut OfferedStep| {
            step.config.load_balancing() == LoadBalancing::QualityWeighted
        };
        if is_for_overdue(command_id) {
            for step in steps.iter_mut().filter(by_quality) {
                step.claim_priority = ClaimPriority::Overdue;
            }
            return Ok(());
        }
        let mut models = ModelsInUse::default();
        let questions = steps.iter().flat_map(OfferedStep::questions);
        self.models.prepare(&mut models, questions).await?;
        let models = Arc::new(models);
        for step in steps.iter_mut().filter(by_quality) {
            let questions = step.questions();
            let reliability =
                models.look(|looked| Annotators::new(looked).reliability(&questions, user_id));
            if let Some(reliability) = reliability.filter(Reliability::is_reliable) {
                step.claim_priority = ClaimPriority::Reliable {
                    models: Arc::clone(&models),
                    questions,
                    reliability,
                };
            }
        }
        Ok(())
    }
}
