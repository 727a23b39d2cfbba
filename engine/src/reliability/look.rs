//! Looking back: what is known now about an item, and about how often an annotator is right.

use super::ReliabilityModel;
use super::expert::COIN_STRENGTH;
use super::expert::CONFUSION_CLASSES_MAX;
use super::fair::{LEVELS, LabelSeen, Moments, Prior};
use super::model::Item;

/// How many labels of an annotator a reliability is computed from, the newest first; older ones
/// within reach do not count.
const LABELS_EXACT: usize = 1_000;
/// How much a label counts whose truth only other people's labels tell: what is known of those
/// people is uncertain, too.
const SURE: f64 = 0.72;

/// What the estimates of all annotators have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) crowd: Vec<f64>,
    pub(super) prior: Prior,
}

impl ReliabilityModel {
    /// Expected share of labels of an item that are guesses, from 0 (an easy item) to 0.9; `None`
    /// for an item without labels or out of reach.
    ///
    /// Only its labels tell: the answer of a gold item is not used.
    pub fn difficulty(&self, item: &str) -> Option<f64> {
        let item = self.known(item)?;
        let crowd = self.fair.crowd(self.classes.len());
        let votes = self.tied(item.votes.iter().copied());
        let whole = self.fair.posterior(&crowd, votes.into_iter(), None);
        let by_level = whole.iter().zip(LEVELS.iter().cycle());
        Some(by_level.map(|(one, level)| one * level).sum())
    }

    /// Mean and variance of an annotator's accuracy on an item drawn at random, by the labels
    /// within reach but for those of the item `without`.
    pub(super) fn fair_moments(&self, annotator: Option<usize>, without: Option<u64>) -> Moments {
        let common = self.common();
        let items = self.items.iter().rev();
        let items = items.filter(|(id, _)| Some(**id) != without);
        let labels = annotator.map_or_else(Vec::new, |annotator| {
            self.labels_and_others(annotator, items.map(|(_, item)| item), &common.crowd)
        });
        self.moments_of(&common, annotator, &labels, 1.0)
    }

    /// Mean and variance of an annotator's accuracy, given the labels within reach. A label out of
    /// reach counts `retired`.
    pub(super) fn moments_of(
        &self,
        common: &Common,
        annotator: Option<usize>,
        labels: &[LabelSeen<'_>],
        retired: f64,
    ) -> Moments {
        let annotator = annotator.unwrap_or(usize::MAX);
        self.fair
            .moments(&common.crowd, annotator, common.prior, (labels, retired))
    }

    pub(super) fn common(&self) -> Common {
        Common {
            crowd: self.fair.crowd(self.classes.len()),
            prior: self.fair_prior(),
        }
    }

    fn fair_prior(&self) -> Prior {
        let (mut coin, mut strength) = (0.0, 0.0);
        for (expert, weight) in self.experts.iter().zip(self.expert_weights(None)) {
            if expert.has_matrices() && self.classes.len() <= CONFUSION_CLASSES_MAX {
                strength += weight * expert.own_strength();
            } else {
                coin += weight;
            }
        }
        Prior {
            coin,
            coin_strength: COIN_STRENGTH,
            strength: if coin < 1.0 {
                strength / (1.0 - coin)
            } else {
                COIN_STRENGTH
            },
        }
    }

    /// The newest labels of an annotator, in order; `items` are those to look at, the newest first.
    pub(super) fn labels_and_others<'m>(
        &'m self,
        annotator: usize,
        items: impl Iterator<Item = &'m Item>,
        crowd: &[f64],
    ) -> Vec<LabelSeen<'m>> {
        let group = self.annotators[annotator].group;
        let mut labels = Vec::new();
        for item in items {
            if labels.len() >= LABELS_EXACT {
                break;
            }
            let own = || {
                let votes = item.votes.iter();
                votes.filter(|vote| vote.annotator == annotator)
            };
            if own().next().is_none() {
                continue;
            }
            // What its own group says is no second opinion.
            let others = item.votes.iter().copied().filter(|vote| {
                vote.annotator != annotator
                    && (group.is_none() || self.annotators[vote.annotator].group != group)
            });
            let others = self.tied(others);
            let others = self.fair.posterior(crowd, others.into_iter(), item.gold);
            labels.extend(own().map(|vote| LabelSeen {
                item: &item.name,
                class: vote.class,
                weight: if item.gold.is_some() { 1.0 } else { SURE },
                others: others.clone(),
            }));
        }
        labels.reverse();
        labels
    }
}
