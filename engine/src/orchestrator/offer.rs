//! A step on offer, and how it sees the claim of one person.

use std::sync::Arc;

use super::live_models::Prepared;
use crate::{
    assignment::{Offer, Worth},
    config::{LoadBalancing, StepConfig},
    events::OfferBasis,
    executor::annotators::{Annotators, ModelKey, Standing},
    ids::WorkflowId,
    state::OpenSlot,
    store::OpenStep,
};

/// A step in which a person may work.
pub(super) struct OfferedStep {
    pub(super) step: OpenStep,
    pub(super) workflow: WorkflowId,
    pub(super) config: StepConfig,
    /// Share of gold tasks among claims; where the file names none they are tasks like others.
    pub(super) gold_share: Option<f64>,
    /// How the step sees the claim.
    pub(super) turn: Turn,
}

impl OfferedStep {
    /// The models by which it shares its work.
    pub(super) fn questions(&self) -> Vec<ModelKey> {
        ModelKey::of_offers(&self.workflow, &self.config)
    }

    /// Whether a slot is one of this step.
    pub(super) fn has(&self, slot: &OpenSlot) -> bool {
        self.step.step_id == slot.step_id && self.step.revision_id == slot.revision_id
    }
}

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
    pub(super) fn offers(&self, slots: Vec<OpenSlot>, strategy: LoadBalancing) -> Vec<Offer> {
        let offer = |slot: OpenSlot, worth| Offer {
            slot,
            strategy,
            worth,
        };
        match self {
            Self::Usual | Self::Overdue => {
                let worth = match self {
                    Self::Overdue => Worth::Overdue,
                    Self::Usual | Self::Reliable { .. } => Worth::Usual,
                };
                slots.into_iter().map(|p| offer(p, worth)).collect()
            }
            Self::Reliable {
                models, questions, ..
            } => {
                let looked = models.look();
                let annotators = Annotators::new(&looked);
                let worth = |slot: &OpenSlot| {
                    if slot.submitted == 0 {
                        return Worth::Usual;
                    }
                    let item = (slot.task_id, slot.visit);
                    // Where the labels say nothing, nothing is sure.
                    let confidence = annotators.confidence(questions, item).unwrap_or(0.0);
                    Worth::Contested {
                        percent: percent(confidence),
                    }
                };
                let slots = slots.into_iter();
                slots
                    .map(|slot| {
                        let worth = worth(&slot);
                        offer(slot, worth)
                    })
                    .collect()
            }
        }
    }

    /// Why a slot of such worth came first.
    pub(super) fn basis(&self, slot: &OpenSlot, worth: Worth) -> Option<OfferBasis> {
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
                let item = (slot.task_id, slot.visit);
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
