//! Looking back: what is known now about items and annotators.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::expert::CONFUSION_CLASSES_MAX;
use super::expert::{COIN_STRENGTH, Vote};
use super::fair::{LEVELS, Moments, Prior};
use super::group::Share;
use super::model::Item;
use super::{Posterior, Reliability, ReliabilityModel};

/// How many labels of an annotator a reliability is computed from, the newest first; older ones
/// within reach count as the last refit left them.
const LABELS_EXACT: usize = 1_000;
/// How much a label counts whose truth only other people's labels tell: what is known of those
/// people is uncertain, too.
const SURE: f64 = 0.72;
/// Labels on each side of a change.
const CHANGE_LABELS: usize = 15;
/// How much more probable a change must be than none, as a logarithm, beside the places it could be
/// at.
const CHANGE_LOG: f64 = 5.0;
/// The same for pairs who agree suspiciously.
const PAIR_LOG: f64 = 5.0;
/// Items that two annotators must share.
const PAIR_ITEMS: usize = 10;

/// An item as known now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ItemNow {
    /// The posterior of its labels.
    pub posterior: Posterior,
    /// Expected share of labels that are guesses: 0 is an easy item.
    pub difficulty: f64,
}

/// How far others agree with an annotator about one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassAgreement {
    /// The class.
    pub class: String,
    /// Pairs of a label of the annotator and one of somebody else on the same item, one of them at
    /// least this class, that are both this class.
    pub both: u64,
    /// Pairs in which exactly one is this class.
    pub one: u64,
    /// 2 both / (2 both + one), the specific agreement; `None` without such pairs.
    pub agreement: Option<f64>,
}

/// Two annotators who agree more than their accuracy explains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SuspiciousPair {
    /// One of them.
    pub first: String,
    /// The other one.
    pub second: String,
    /// Items that both labelled.
    pub items: u64,
    /// On how many of them they gave the same label.
    pub alike: u64,
    /// The correlation of their errors that explains the labels best.
    pub correlation: f64,
    /// Logarithm of how much more probable the labels are with that correlation than without.
    pub log_evidence: f64,
}

/// A place where an annotator's accuracy changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// How many of the annotator's labels within reach were before it.
    pub after_labels: u64,
    /// Accuracy before.
    pub before: f64,
    /// Accuracy after.
    pub now: f64,
    /// Logarithm of how much more probable the labels are with the change than without.
    pub log_evidence: f64,
}

impl ReliabilityModel {
    /// An item as known now, also long after its decision; `None` for an item without labels or out
    /// of reach. Run [`refit`](Self::refit) on a copy first for what is known at the very end.
    pub fn look_back(&self, item: &str) -> Option<ItemNow> {
        Some(ItemNow {
            posterior: self.posterior(item)?,
            difficulty: self.difficulty(item)?,
        })
    }

    /// Expected share of labels of an item that are guesses; `None` as for
    /// [`look_back`](Self::look_back).
    pub fn difficulty(&self, item: &str) -> Option<f64> {
        let item = self.known(item)?;
        let crowd = self.fair.crowd(self.classes.len());
        let votes = self.tied(item.votes.iter().copied());
        let whole = self.fair.posterior(&crowd, votes.into_iter(), item.gold);
        let by_level = whole.iter().zip(LEVELS.iter().cycle());
        Some(by_level.map(|(one, level)| one * level).sum())
    }

    /// The names of all items within reach, in order of their first label.
    pub fn items(&self) -> impl Iterator<Item = &str> {
        self.items
            .values()
            .filter(|item| !item.votes.is_empty())
            .map(|item| item.name.as_str())
    }

    /// [`confusion`](Self::confusion) with names: (true class, its row of (label, probability)).
    pub fn confusion_named(&self, annotator: &str) -> Vec<(&str, Vec<(&str, f64)>)> {
        let names = || self.classes.iter().map(String::as_str);
        let row = |row: Vec<f64>| names().zip(row).collect();
        names()
            .zip(self.confusion(annotator).into_iter().map(row))
            .collect()
    }

    /// The agreement of an annotator with everybody else, by class, over the items within reach.
    pub fn agreement(&self, annotator: &str) -> Vec<ClassAgreement> {
        let mut counts = vec![(0_u64, 0_u64); self.classes.len()];
        let id = self.annotator_ids.get(annotator).copied();
        for item in self.items.values() {
            let (own, others): (Vec<&Vote>, Vec<&Vote>) = item
                .votes
                .iter()
                .partition(|vote| Some(vote.annotator) == id);
            for (one, other) in own
                .iter()
                .flat_map(|one| others.iter().map(move |o| (one, o)))
            {
                if one.class == other.class {
                    counts[one.class].0 += 1;
                } else {
                    counts[one.class].1 += 1;
                    counts[other.class].1 += 1;
                }
            }
        }
        let of = |(class, (both, one)): (&String, (u64, u64))| ClassAgreement {
            class: class.clone(),
            both,
            one,
            agreement: (both + one > 0).then(|| 2.0 * both as f64 / (2 * both + one) as f64),
        };
        self.classes.iter().zip(counts).map(of).collect()
    }

    /// The reliability of an annotator of late: a label counts half as much as one `half_life`
    /// labels of the same annotator later. Without fading it is
    /// [`reliability`](Self::reliability).
    pub fn reliability_of_late(&self, annotator: &str, half_life: f64) -> Reliability {
        let id = self.annotator_ids.get(annotator).copied();
        let (mean, variance) = self.fair_moments(id, None, Some(half_life));
        let whole = self.reliability(annotator);
        let gold = (whole.gold_labels, whole.gold_right);
        Reliability::new(mean, variance, whole.labels, gold)
    }

    /// Where the accuracy of an annotator changed most, if it did beyond chance: the likelihood
    /// ratio of two rates against one.
    pub fn change(&self, annotator: &str) -> Option<Change> {
        let id = *self.annotator_ids.get(annotator)?;
        let crowd = self.fair.crowd(self.classes.len());
        let labels = self.labels_and_others(id, None, &crowd);
        // The probability of each label as a line over the rate of correct labels.
        let lines: Vec<(f64, f64)> = labels
            .iter()
            .map(|(label, _, others)| line(*label, others, crowd.len()))
            .collect();
        if lines.len() < 2 * CHANGE_LABELS {
            return None;
        }
        let (whole, _) = best_rate(&lines);
        let places = CHANGE_LABELS..=lines.len() - CHANGE_LABELS;
        let step = (lines.len() / 100).max(1);
        let tried = places.clone().step_by(step).count() as f64;
        let mut best: Option<Change> = None;
        for at in places.step_by(step) {
            let (before, now) = (best_rate(&lines[..at]), best_rate(&lines[at..]));
            let log_evidence = before.0 + now.0 - whole;
            if best
                .as_ref()
                .is_none_or(|best| log_evidence > best.log_evidence)
            {
                best = Some(Change {
                    after_labels: at as u64,
                    before: before.1,
                    now: now.1,
                    log_evidence,
                });
            }
        }
        best.filter(|change| change.log_evidence > CHANGE_LOG + tried.ln() / 2.0)
    }

    /// Pairs of annotators, of no common group, who agree more than their accuracy and the
    /// difficulty of the items explain: copies, or models of one family. The most suspicious first.
    pub fn suspicious_pairs(&self) -> Vec<SuspiciousPair> {
        let mut shared: std::collections::BTreeMap<(usize, usize), Vec<(&Item, usize)>> =
            std::collections::BTreeMap::new();
        let group = |k: usize| self.annotators[k].group;
        for item in self.items.values() {
            for (t, one) in item.votes.iter().enumerate() {
                for other in &item.votes[..t] {
                    let pair = (
                        one.annotator.min(other.annotator),
                        one.annotator.max(other.annotator),
                    );
                    let together = group(pair.0).is_some() && group(pair.0) == group(pair.1);
                    if pair.0 != pair.1 && !together {
                        let alike = usize::from(one.class == other.class);
                        shared.entry(pair).or_default().push((item, alike));
                    }
                }
            }
        }
        let crowd = self.fair.crowd(self.classes.len());
        let limit = PAIR_LOG + (shared.len().max(1) as f64).ln();
        let mut found = Vec::new();
        for ((first, second), items) in shared {
            if items.len() < PAIR_ITEMS {
                continue;
            }
            let mut logs = Share::none(0).logs;
            for (item, _) in &items {
                let is_own = |vote: &&Vote| vote.annotator == first || vote.annotator == second;
                let others = item.votes.iter().filter(|vote| !is_own(vote)).copied();
                let others = self.tied(others);
                let others = self.fair.posterior(&crowd, others.into_iter(), item.gold);
                let own: Vec<(usize, Vec<f64>)> = item
                    .votes
                    .iter()
                    .filter(is_own)
                    .map(|&vote| (vote.class, self.fair.likelihood(&crowd, vote)))
                    .collect();
                for (sum, log) in logs.iter_mut().zip(Share::of(0, &others, &own).logs) {
                    *sum += log;
                }
            }
            if let Some((correlation, log_evidence)) = Share::best(&logs)
                && log_evidence > limit
            {
                found.push(SuspiciousPair {
                    first: self.annotators[first].name.clone(),
                    second: self.annotators[second].name.clone(),
                    items: items.len() as u64,
                    alike: items.iter().map(|(_, alike)| *alike as u64).sum(),
                    correlation,
                    log_evidence,
                });
            }
        }
        found.sort_by(|a, b| b.log_evidence.total_cmp(&a.log_evidence));
        found
    }

    /// Mean and variance of an annotator's accuracy on an item drawn at random, by the labels
    /// within reach but for those of the item `without`.
    pub(super) fn fair_moments(
        &self,
        annotator: Option<usize>,
        without: Option<u64>,
        half_life: Option<f64>,
    ) -> Moments {
        let crowd = self.fair.crowd(self.classes.len());
        let prior = self.fair_prior();
        let Some(annotator) = annotator else {
            return self.fair.moments(&crowd, usize::MAX, prior, &[]);
        };
        let mut labels = self.labels_and_others(annotator, without, &crowd);
        if let Some(half_life) = half_life.filter(|half_life| *half_life > 0.0) {
            let count = labels.len();
            for (n, (_, weight, _)) in labels.iter_mut().enumerate() {
                *weight *= (-((count - 1 - n) as f64) / half_life).exp2();
            }
        }
        self.fair.moments(&crowd, annotator, prior, &labels)
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

    /// The newest labels of an annotator within reach, in order: the class, its weight, and the
    /// probability of each class and level given the labels of all others.
    fn labels_and_others(
        &self,
        annotator: usize,
        without: Option<u64>,
        crowd: &[f64],
    ) -> Vec<(usize, f64, Vec<f64>)> {
        let mut labels = Vec::new();
        for (id, item) in self.items.iter().rev() {
            if labels.len() >= LABELS_EXACT {
                break;
            }
            let own: Vec<usize> = item
                .votes
                .iter()
                .filter(|vote| vote.annotator == annotator)
                .map(|vote| vote.class)
                .collect();
            if own.is_empty() || Some(*id) == without {
                continue;
            }
            let group = self.annotators[annotator].group;
            // What its own group says is no second opinion.
            let others = item.votes.iter().copied().filter(|vote| {
                vote.annotator != annotator
                    && (group.is_none() || self.annotators[vote.annotator].group != group)
            });
            let others = self.tied(others);
            let others = self.fair.posterior(crowd, others.into_iter(), item.gold);
            let weight = if item.gold.is_some() { 1.0 } else { SURE };
            labels.extend(own.into_iter().map(|class| (class, weight, others.clone())));
        }
        labels.reverse();
        labels
    }
}

/// The probability of a label at rate 0, and its slope.
fn line(label: usize, others: &[f64], classes: usize) -> (f64, f64) {
    let alternatives = classes.max(2) as f64;
    let (mut at_zero, mut slope) = (0.0, 0.0);
    for (class, by_level) in others.chunks_exact(LEVELS.len()).enumerate() {
        let wrong = 1.0 / (alternatives - 1.0);
        let (zero, one) = if class == label {
            (0.0, 1.0)
        } else {
            (wrong, 0.0)
        };
        for (share, level) in by_level.iter().zip(LEVELS) {
            at_zero += share * ((1.0 - level) * zero + level / alternatives);
            slope += share * (1.0 - level) * (one - zero);
        }
    }
    (at_zero, slope)
}

/// The largest logarithm of a product of lines over the rates 0.02 to 0.98, and its rate.
fn best_rate(lines: &[(f64, f64)]) -> (f64, f64) {
    let mut best = (f64::NEG_INFINITY, 0.5);
    for n in 0..25 {
        let rate = 0.02 + 0.04 * f64::from(n);
        let log = |(zero, slope): &(f64, f64)| (zero + slope * rate).max(f64::MIN_POSITIVE).ln();
        let sum: f64 = lines.iter().map(log).sum();
        if sum > best.0 {
            best = (sum, rate);
        }
    }
    best
}
