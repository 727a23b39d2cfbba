//! A step on offer, and how it sees the claim of one person.

use std::sync::Arc;

use super::live_models::ModelsInUse;
use crate::{
    assignment::{Offer, OfferPriority},
    config::{LoadBalancing, StepConfig},
    events::OfferBasis,
    executor::annotators::{Annotators, ModelKey, Reliability},
    ids::WorkflowId,
    state::OpenSlot,
    store::StepWithOpenSlots,
};

/// A step in which a person may work.
pub(super) struct OfferedStep {
    pub(super) step: StepWithOpenSlots,
    pub(super) workflow: WorkflowId,
    pub(super) config: StepConfig,
    /// Share of gold tasks among claims; where the file names none they are tasks like others.
    pub(super) gold_share: Option<f64>,
    /// How the step sees the claim.
    pub(super) claim_priority: ClaimPriority,
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
pub(super) enum ClaimPriority {
    /// Like any other.
    #[default]
    Usual,
    /// As one for what has waited longest.
    Overdue,
    /// As one of a reliable person.
    Reliable {
        models: Arc<ModelsInUse>,
        questions: Vec<ModelKey>,
        reliability: Reliability,
    },
}

impl ClaimPriority {
    /// Whether what is begun may be worth more than what is not.
    pub(super) fn prefers_begun(&self) -> bool {
        match self {
            Self::Usual => false,
            Self::Overdue | Self::Reliable { .. } => true,
        }
    }

    /// Offers of one step.
    pub(super) fn offers(&self, slots: Vec<OpenSlot>, strategy: LoadBalancing) -> Vec<Offer> {
        let offer = |slot: OpenSlot, priority| Offer {
            slot,
            strategy,
            priority,
        };
        match self {
            Self::Usual | Self::Overdue => {
                let priority = match self {
                    Self::Overdue => OfferPriority::Overdue,
                    Self::Usual | Self::Reliable { .. } => OfferPriority::Usual,
                };
                slots.into_iter().map(|p| offer(p, priority)).collect()
            }
            Self::Reliable {
                models, questions, ..
            } => {
                let looked = models.look();
                let annotators = Annotators::new(&looked);
                let priority = |slot: &OpenSlot| {
                    if slot.submitted == 0 {
                        return OfferPriority::Usual;
                    }
                    let item = (slot.task_id, slot.visit);
                    // Where the labels say nothing, nothing is sure.
                    let confidence = annotators.confidence(questions, item).unwrap_or(0.0);
                    OfferPriority::Contested {
                        percent: percent(confidence),
                    }
                };
                let slots = slots.into_iter();
                slots
                    .map(|slot| {
                        let priority = priority(&slot);
                        offer(slot, priority)
                    })
                    .collect()
            }
        }
    }

    /// Why a slot of such worth came first.
    pub(super) fn basis(&self, slot: &OpenSlot, priority: OfferPriority) -> Option<OfferBasis> {
        match (self, priority) {
            (Self::Overdue, OfferPriority::Overdue) => Some(OfferBasis::Overdue),
            (
                Self::Reliable {
                    models,
                    questions,
                    reliability,
                },
                OfferPriority::Contested { .. },
            ) => {
                let looked = models.look();
                let item = (slot.task_id, slot.visit);
                Some(OfferBasis::Contested {
                    confidence: Annotators::new(&looked).confidence(questions, item),
                    accuracy_low: reliability.low,
                    accuracy_expected: reliability.expected,
                    position: reliability.position,
                    beyond: reliability.beyond,
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
