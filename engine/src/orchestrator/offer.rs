//! A step that is offered to a person, and the priority of that person's claim.

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
    /// Share of gold tasks among claims; if the file sets none, gold tasks are offered like others.
    pub(super) gold_share: Option<f64>,
    /// The priority of the claim in this step.
    pub(super) claim_priority: ClaimPriority,
}

impl OfferedStep {
    /// The models that the step's work is shared by.
    pub(super) fn questions(&self) -> Vec<ModelKey> {
        ModelKey::of_offers(&self.workflow, &self.config)
    }

    /// Whether a slot belongs to this step.
    pub(super) fn has(&self, slot: &OpenSlot) -> bool {
        self.step.step_id == slot.step_id && self.step.revision_id == slot.revision_id
    }
}

/// The priority of a claim in a step.
#[derive(Default)]
pub(super) enum ClaimPriority {
    /// A claim like any other.
    #[default]
    Usual,
    /// A claim for what has waited longest.
    Overdue,
    /// A claim by a person known to be reliable.
    Reliable {
        models: Arc<ModelsInUse>,
        questions: Vec<ModelKey>,
        reliability: Reliability,
    },
}

impl ClaimPriority {
    /// Whether begun tasks may have priority over fresh ones.
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
                let priority = |annotators: Annotators<'_>, slot: &OpenSlot| {
                    if slot.submitted == 0 {
                        return OfferPriority::Usual;
                    }
                    let item = (slot.task_id, slot.visit);
                    // Without informative labels the confidence counts as 0.
                    let confidence = annotators.confidence(questions, item).unwrap_or(0.0);
                    OfferPriority::Contested {
                        percent: percent(confidence),
                    }
                };
                models.look(|looked| {
                    let annotators = Annotators::new(looked);
                    let slots = slots.into_iter();
                    slots
                        .map(|slot| {
                            let priority = priority(annotators, &slot);
                            offer(slot, priority)
                        })
                        .collect()
                })
            }
        }
    }

    /// Why a slot with this priority came first.
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
                let item = (slot.task_id, slot.visit);
                Some(OfferBasis::Contested {
                    confidence: models
                        .look(|looked| Annotators::new(looked).confidence(questions, item)),
                    accuracy_low: reliability.low,
                    accuracy_expected: reliability.expected,
                    position: reliability.position,
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
