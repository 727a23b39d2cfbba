//! Sharing work by quality: what a free slot is worth to the person who asks.
//!
//! Who is known to be reliable is offered what others have begun and are least sure of, everybody
//! else what nobody has begun: a second opinion is worth most where the first ones differ, and most
//! of somebody who is mostly right. Known is what the models say of the log as it stands when the
//! claim comes; a claim that rested on it says so in its event.

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
    /// Finds out how the steps that share their work by quality see a claim of this person, made
    /// under this id.
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
            let looked = models.look();
            let reliability = Annotators::new(&looked).reliability(&questions, user_id);
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
