//! Sharing work by quality: what a free place is worth to the person who asks.
//!
//! Who is known to be reliable is offered what others have begun and are least sure of, everybody
//! else what nobody has begun: a second opinion is worth most where the first ones differ, and most
//! of somebody who is mostly right. Known is what the models say of the log as it stands when the
//! claim comes; a claim that rested on it says so in its event.

use std::sync::Arc;

use super::{OrchestrationError, WorkflowOrchestrator, claim::OfferedStep, live_models::Prepared};
use crate::{
    assignment::{Offer, Worth, is_for_overdue},
    command::ClaimRequest,
    config::LoadBalancing,
    events::OfferBasis,
    executor::annotators::{Annotators, ModelKey, Standing},
    state::OpenPlace,
};

/// How a step sees a claim.
#[derive(Default)]
pub(super) enum Turn {
    /// Like any other.
    #[default]
    Usual,
    /// As one for what has waited longest.
    Overdue,
    /// As one of a reliable person.
    Reliable {
        models: Arc<Prepared>,
        questions: Vec<ModelKey>,
        standing: Standing,
    },
}

impl Turn {
    /// Whether what is begun may be worth more than what is not.
    pub(super) fn prefers_begun(&self) -> bool {
        match self {
            Self::Usual => false,
            Self::Overdue | Self::Reliable { .. } => true,
        }
    }

    /// Offers of one step.
    pub(super) fn offers(&self, places: Vec<OpenPlace>, strategy: LoadBalancing) -> Vec<Offer> {
        let offer = |place: OpenPlace, worth| Offer {
            place,
            strategy,
            worth,
        };
        match self {
            Self::Usual | Self::Overdue => {
                let worth = match self {
                    Self::Overdue => Worth::Overdue,
                    Self::Usual | Self::Reliable { .. } => Worth::Usual,
                };
                places.into_iter().map(|p| offer(p, worth)).collect()
            }
            Self::Reliable {
                models, questions, ..
            } => {
                let looked = models.look();
                let annotators = Annotators::new(&looked);
                let worth = |place: &OpenPlace| {
                    if place.submitted == 0 {
                        return Worth::Usual;
                    }
                    let item = (place.task_id, place.visit);
                    // Where the labels say nothing, nothing is sure.
                    let confidence = annotators.confidence(questions, item).unwrap_or(0.0);
                    Worth::Contested {
                        percent: percent(confidence),
                    }
                };
                let places = places.into_iter();
                places
                    .map(|place| {
                        let worth = worth(&place);
                        offer(place, worth)
                    })
                    .collect()
            }
        }
    }

    /// Why a place of such worth came first.
    pub(super) fn basis(&self, place: &OpenPlace, worth: Worth) -> Option<OfferBasis> {
        match (self, worth) {
            (Self::Overdue, Worth::Overdue) => Some(OfferBasis::Overdue),
            (
                Self::Reliable {
                    models,
                    questions,
                    standing,
                },
                Worth::Contested { .. },
            ) => {
                let looked = models.look();
                let item = (place.task_id, place.visit);
                Some(OfferBasis::Contested {
                    confidence: Annotators::new(&looked).confidence(questions, item),
                    accuracy_low: standing.low,
                    accuracy_expected: standing.expected,
                    position: standing.position,
                    beyond: standing.beyond,
                })
            }
            _ => None,
        }
    }
}

impl WorkflowOrchestrator {
    /// Finds out how the steps that share their work by quality see a claim.
    pub(super) async fn take_turns(
        &self,
        request: &ClaimRequest,
        steps: &mut [OfferedStep],
    ) -> Result<(), OrchestrationError> {
        let by_quality = |step: &&mut OfferedStep| {
            step.config.load_balancing() == LoadBalancing::QualityWeighted
        };
        if is_for_overdue(request.command_id) {
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
            let standing = Annotators::new(&looked).standing(&questions, request.user_id);
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

/// A probability in whole percent, rounded down.
fn percent(probability: f64) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 100"
    )]
    let percent = (probability.clamp(0.0, 1.0) * 100.0) as u8;
    percent
}
