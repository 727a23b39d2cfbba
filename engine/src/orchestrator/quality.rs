//! Sharing work by quality: what a free slot is worth to the person who asks.
//!
//! Who is known to be reliable is offered what others have begun and are least sure of, everybody
//! else what nobody has begun: a second opinion is worth most where the first ones differ, and most
//! of somebody who is mostly right. Known is what the models say of the log as it stands when the
//! claim comes; a claim that rested on it says so in its event.

use std::sync::Arc;

use super::{
    OrchestrationError, WorkflowOrchestrator,
    live_models::Prepared,
    offer::{OfferedStep, Turn},
};
use crate::{
    assignment::is_for_overdue,
    config::LoadBalancing,
    executor::annotators::{Annotators, Standing},
    ids::{CommandId, UserId},
};

impl WorkflowOrchestrator {
    /// Finds out how the steps that share their work by quality see a claim of this person, made
    /// under this id.
    pub(super) async fn take_turns(
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
                step.turn = Turn::Overdue;
            }
            return Ok(());
        }
        let mut prepared = Prepared::default();
        let questions = steps.iter().flat_map(OfferedStep::questions);
        self.models.prepare(&mut prepared, questions).await?;
        let models = Arc::new(prepared);
        for step in steps.iter_mut().filter(by_quality) {
            let questions = step.questions();
            let looked = models.look();
            let standing = Annotators::new(&looked).standing(&questions, user_id);
            if let Some(standing) = standing.filter(Standing::is_reliable) {
                step.turn = Turn::Reliable {
                    models: Arc::clone(&models),
                    questions,
                    standing,
                };
            }
        }
        Ok(())
    }
}
