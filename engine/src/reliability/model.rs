//! The model's public interface: names, items, the average over experts.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::expert::{Base, EXPERTS, Expert, Own, Scope, Vote};
use super::{Evidence, LabelEvidence, Posterior, Reliability, ReliabilityError};

/// The maximum number of classes of a field. A field with more is not categorical.
pub const CLASSES_MAX: usize = 200;

/// The number of classes up to which confusion matrices are kept; their memory grows with the
/// square.
pub const CONFUSION_CLASSES_MAX: usize = 12;

/// The number of items a refit visits. Older closed items stay in the counts with their last
/// values.
pub const ITEMS_MAX: usize = 10_000;

/// Passes over all items in a refit.
const PASSES: usize = 4;
/// The number of labels before the first automatic refit.
const FIRST_REFIT: u64 = 20;
/// A refit runs when the labels within reach have grown by this part (one in ten), but at least
/// [`REFIT_GAP`] labels after the previous one.
const REFIT_PART: u64 = 10;
const REFIT_GAP: u64 = 5;
/// How fast the average shifts to the experts that predict best; 1 would be Bayes' rule for labels
/// that are as independent as the experts assume.
const LEARNING_RATE: f64 = 0.5;
/// The share of items on which people may agree for reasons other than the truth.
const COMMON_CAUSE: f64 = 0.02;
/// The accuracy above which a vote gains no more weight.
const ACCURACY_MAX: f64 = 0.999;
/// The version of the checkpoint format.
const VERSION: u32 = 1;

/// The possible answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Classes {
    /// The classes seen so far, and one class not seen yet.
    Open,
    /// Only these classes.
    Declared(Vec<String>),
}

/// An item within reach of refits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Item {
    name: String,
    votes: Vec<Vote>,
    /// The known class of a gold item.
    gold: Option<usize>,
    closed: bool,
    /// Class probabilities by expert, as included in its counts.
    probabilities: Vec<Vec<f64>>,
}

impl Item {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            votes: Vec::new(),
            gold: None,
            closed: false,
            probabilities: vec![Vec::new(); EXPERTS],
        }
    }

    /// The item as part of an expert's counts; `None` without votes.
    fn own(&self, expert: usize) -> Option<Own<'_>> {
        (!self.votes.is_empty()).then(|| Own {
            votes: &self.votes,
            probabilities: &self.probabilities[expert],
            counts_as_item: self.gold.is_none(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Annotator {
    name: String,
    labels: u64,
    gold_labels: u64,
    gold_right: u64,
}

/// The reliability of all annotators of one field of one workflow.
///
/// The same observations in the same order give the same numbers: live, from a checkpoint (the
/// model serialises as it is) or rebuilt from nothing. The [module](super) describes the
/// computation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct ReliabilityModel {
    classes: Vec<String>,
    class_ids: BTreeMap<String, usize>,
    open: bool,
    annotators: Vec<Annotator>,
    annotator_ids: BTreeMap<String, usize>,
    experts: Vec<Expert>,
    /// Counts of items out of reach, by expert.
    base: Vec<Base>,
    /// In order of their first label.
    items: BTreeMap<u64, Item>,
    item_ids: BTreeMap<String, u64>,
    closed: VecDeque<u64>,
    next_item: u64,
    labels_within_reach: u64,
    position: u64,
    refit_at: u64,
    /// [`ITEMS_MAX`]; smaller in tests.
    items_max: usize,
}

impl ReliabilityModel {
    /// A model without observations.
    ///
    /// # Errors
    ///
    /// [`MalformedClasses`](ReliabilityError::MalformedClasses) if declared classes repeat or are
    /// empty, [`TooManyClasses`](ReliabilityError::TooManyClasses) beyond [`CLASSES_MAX`].
    pub fn new(classes: Classes) -> Result<Self, ReliabilityError> {
        let (open, declared) = match classes {
            Classes::Open => (true, Vec::new()),
            Classes::Declared(declared) => (false, declared),
        };
        let mut model = Self {
            classes: Vec::new(),
            class_ids: BTreeMap::new(),
            open: true,
            annotators: Vec::new(),
            annotator_ids: BTreeMap::new(),
            experts: Expert::all(),
            base: vec![Base::default(); EXPERTS],
            items: BTreeMap::new(),
            item_ids: BTreeMap::new(),
            closed: VecDeque::new(),
            next_item: 0,
            labels_within_reach: 0,
            position: 0,
            refit_at: FIRST_REFIT,
            items_max: ITEMS_MAX,
        };
        for class in &declared {
            if model.class_ids.contains_key(class) {
                return Err(ReliabilityError::MalformedClasses);
            }
            model.class(class)?;
        }
        if !open && declared.is_empty() {
            return Err(ReliabilityError::MalformedClasses);
        }
        model.open = open;
        Ok(model)
    }

    /// Adds a label.
    ///
    /// The item's class probabilities are updated by one step, and so are the counts of everyone
    /// who labelled it. Labels of other items are re-evaluated by a [`refit`](Self::refit), which
    /// runs automatically when the labels within reach have grown by a tenth. An annotator may
    /// label an item more than once; each label counts.
    ///
    /// # Errors
    ///
    /// [`UndeclaredClass`](ReliabilityError::UndeclaredClass), and
    /// [`TooManyClasses`](ReliabilityError::TooManyClasses) in an open set.
    pub fn observe(
        &mut self,
        item: &str,
        annotator: &str,
        class: &str,
    ) -> Result<(), ReliabilityError> {
        let class = self.class(class)?;
        let annotator = self.annotator(annotator);
        let id = self.item(item);
        let scope = self.scope();
        let vote = Vote { annotator, class };
        let Some(item) = self.items.get_mut(&id) else {
            return Ok(());
        };
        let mut out = vec![0.0; scope.entries()];
        let mut scratch = out.clone();
        let mut after = Vec::with_capacity(EXPERTS);
        for (e, expert) in self.experts.iter_mut().enumerate() {
            let own = item.own(e);
            expert.posterior(scope, &item.votes, item.gold, own, &mut out, &mut scratch);
            expert.log_evidence += expert.step(scope, vote, own, &mut out, &mut scratch);
            if let Some(own) = own {
                expert.count(scope, own, -1.0);
            }
            after.push(out[..scope.classes].to_vec());
        }
        item.votes.push(vote);
        item.probabilities = after;
        for (e, expert) in self.experts.iter_mut().enumerate() {
            if let Some(own) = item.own(e) {
                expert.count(scope, own, 1.0);
            }
        }
        let gold = item.gold;
        let annotator = &mut self.annotators[annotator];
        annotator.labels += 1;
        if let Some(gold) = gold {
            annotator.gold_labels += 1;
            annotator.gold_right += u64::from(gold == class);
        }
        self.labels_within_reach += 1;
        self.advance();
        Ok(())
    }

    /// Makes an item gold: its answer is known. Its labels, earlier and later ones, are evaluated
    /// against that answer.
    ///
    /// A later call with another class corrects the first.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    pub fn observe_gold(&mut self, item: &str, class: &str) -> Result<(), ReliabilityError> {
        let class = self.class(class)?;
        let id = self.item(item);
        let scope = self.scope();
        let Some(item) = self.items.get_mut(&id) else {
            return Ok(());
        };
        let mut out = vec![0.0; scope.entries()];
        let mut scratch = out.clone();
        for (e, expert) in self.experts.iter_mut().enumerate() {
            if let Some(own) = item.own(e) {
                let mut log = |known, out: &mut [f64]| {
                    expert.posterior(scope, &item.votes, known, Some(own), out, &mut scratch)
                };
                let change = log(Some(class), &mut out) - log(item.gold, &mut out);
                expert.log_evidence += change;
                expert.count(scope, own, -1.0);
            }
        }
        let before = item.gold.replace(class);
        for probabilities in &mut item.probabilities {
            *probabilities = vec![0.0; scope.classes];
            probabilities[class] = 1.0;
        }
        for (e, expert) in self.experts.iter_mut().enumerate() {
            if let Some(own) = item.own(e) {
                expert.count(scope, own, 1.0);
            }
        }
        for vote in &item.votes {
            let annotator = &mut self.annotators[vote.annotator];
            annotator.gold_labels += u64::from(before.is_none());
            annotator.gold_right -= u64::from(before == Some(vote.class));
            annotator.gold_right += u64::from(class == vote.class);
        }
        self.advance();
        Ok(())
    }

    /// Marks that no more labels are expected on an item, so that refits may stop visiting it in
    /// time.
    pub fn close(&mut self, item: &str) {
        if let Some(id) = self.item_ids.get(item)
            && let Some(item) = self.items.get_mut(id)
            && !item.closed
        {
            item.closed = true;
            self.closed.push_back(*id);
            self.retire();
        }
    }

    /// The evidence of labels on an item that the model has not seen; each label is (annotator,
    /// class).
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    pub fn posterior_of(&self, labels: &[(&str, &str)]) -> Result<Evidence, ReliabilityError> {
        self.evidence(None, labels)
    }

    /// The evidence of `labels` on `item`, excluding everything the model has learned from that
    /// item.
    ///
    /// Used for the decision about an item: `labels` are those that should count, whether or not
    /// the model has observed them. An item the model does not know, or one out of reach, is
    /// treated as by [`posterior_of`](Self::posterior_of). The answer of a gold item is not used.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    pub fn posterior_for(
        &self,
        item: &str,
        labels: &[(&str, &str)],
    ) -> Result<Evidence, ReliabilityError> {
        self.evidence(self.known(item), labels)
    }

    /// Whether the model has labels of `item` within reach.
    pub fn knows(&self, item: &str) -> bool {
        self.known(item).is_some()
    }

    /// The posterior of the model's own labels of `item`; `None` for an item without labels or out
    /// of reach.
    pub fn posterior(&self, item: &str) -> Option<Posterior> {
        let item = self.known(item)?;
        let labels: Vec<(&str, &str)> = item
            .votes
            .iter()
            .map(|vote| {
                let annotator = self.annotators[vote.annotator].name.as_str();
                (annotator, self.classes[vote.class].as_str())
            })
            .collect();
        Some(self.evidence(Some(item), &labels).ok()?.posterior())
    }

    /// How often an annotator is right, with its uncertainty; the prior for an unknown annotator.
    pub fn reliability(&self, annotator: &str) -> Reliability {
        let id = self.annotator_ids.get(annotator).copied();
        let weights = self.expert_weights(None);
        let (mean, variance) = self.moments(&weights, id.unwrap_or(usize::MAX), None);
        let (labels, gold) = id.map_or((0, (0, 0)), |id| {
            let one = &self.annotators[id];
            (one.labels, (one.gold_labels, one.gold_right))
        });
        Reliability::new(mean, variance, labels, gold)
    }

    /// The weight of an annotator's vote in a weighted vote.
    ///
    /// With *A* the expected accuracy of [`reliability`](Self::reliability), at most 0.999, and *J*
    /// classes,
    ///
    /// ```text
    /// weight = max(0, ln( A (J - 1) / (1 - A) ))
    /// ```
    ///
    /// This weight makes a weighted vote of independent annotators the most probable answer. The
    /// prior shrinks *A* to the crowd's mean, so an unknown annotator has the weight of an average
    /// one. An annotator no better than chance has weight 0; no vote counts against its own answer.
    ///
    /// # Citations
    ///
    /// Nitzan, S. and Paroush, J. (1982). Optimal decision rules in uncertain dichotomous choice
    /// situations. *International Economic Review* 23(2), 289-297. Shapley, L. and Grofman, B.
    /// (1984). Optimizing group judgmental accuracy in the presence of interdependencies. *Public
    /// Choice* 43(3), 329-343.
    pub fn weight(&self, annotator: &str) -> f64 {
        self.weight_at(self.reliability(annotator).accuracy)
    }

    /// The weight of a vote with that accuracy: see [`weight`](Self::weight).
    pub fn weight_at(&self, accuracy: f64) -> f64 {
        let accuracy = accuracy.min(ACCURACY_MAX);
        let others = (self.classes.len().max(2) - 1) as f64;
        (accuracy * others / (1.0 - accuracy)).ln().max(0.0)
    }

    /// The expected accuracy of an annotator, excluding everything the model has learned from
    /// `item`.
    ///
    /// Used for the decision about `item`, which must not rest on its own labels: two people known
    /// from nothing else get the same accuracy, whichever of their labels was observed.
    pub fn accuracy_for(&self, item: &str, annotator: &str) -> f64 {
        let annotator = self.annotator_ids.get(annotator).copied();
        let item = self.known(item);
        let weights = self.expert_weights(item);
        self.moments(&weights, annotator.unwrap_or(usize::MAX), item)
            .0
    }

    /// The expected confusion matrix of an annotator: a row for each true [class](Self::classes)
    /// with the probability of each label.
    pub fn confusion(&self, annotator: &str) -> Vec<Vec<f64>> {
        let scope = self.scope();
        let annotator = self
            .annotator_ids
            .get(annotator)
            .copied()
            .unwrap_or(usize::MAX);
        let mut rows = vec![vec![0.0; scope.classes]; scope.classes];
        let mut column = vec![0.0; scope.entries()];
        for (expert, weight) in self.experts.iter().zip(self.expert_weights(None)) {
            for label in 0..scope.classes {
                let vote = Vote {
                    annotator,
                    class: label,
                };
                expert.likelihood(scope, vote, None, &mut column);
                for (row, probability) in rows.iter_mut().zip(&column) {
                    row[label] += weight * probability;
                }
            }
        }
        rows
    }

    /// The classes declared or seen so far, in that order.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The annotators seen so far, in that order.
    pub fn annotators(&self) -> impl Iterator<Item = &str> {
        self.annotators
            .iter()
            .map(|annotator| annotator.name.as_str())
    }

    /// The number of observations (labels and gold answers).
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Re-evaluates all items within reach in several passes, with everything known now.
    ///
    /// Runs automatically; calling it more often is harmless but takes time.
    pub fn refit(&mut self) {
        let scope = self.scope();
        let mut out = vec![0.0; scope.entries()];
        let mut scratch = out.clone();
        for (e, expert) in self.experts.iter_mut().enumerate() {
            for _ in 0..PASSES {
                expert.pool_errors(scope);
                for item in self.items.values_mut() {
                    let Some(own) = item.own(e).filter(|_| item.gold.is_none()) else {
                        continue;
                    };
                    expert.posterior(scope, own.votes, None, Some(own), &mut out, &mut scratch);
                    expert.count(scope, own, -1.0);
                    item.probabilities[e].clear();
                    item.probabilities[e].extend_from_slice(&out[..scope.classes]);
                    if let Some(own) = item.own(e) {
                        expert.count(scope, own, 1.0);
                    }
                }
            }
            // Counts were added and removed many times; this removes accumulated rounding errors.
            expert.restart_from(&self.base[e]);
            for item in self.items.values() {
                if let Some(own) = item.own(e) {
                    expert.count(scope, own, 1.0);
                }
            }
            expert.pool_errors(scope);
        }
        let gap = (self.labels_within_reach / REFIT_PART).max(REFIT_GAP);
        self.refit_at = self.position + gap;
    }

    fn advance(&mut self) {
        self.position += 1;
        // Only differences matter, and they stay small numbers.
        let best = self
            .experts
            .iter()
            .map(|expert| expert.log_evidence)
            .fold(f64::NEG_INFINITY, f64::max);
        for expert in &mut self.experts {
            expert.log_evidence -= best;
        }
        if self.position >= self.refit_at {
            self.refit();
        }
        self.retire();
    }

    fn scope(&self) -> Scope {
        Scope {
            classes: self.classes.len(),
            open: self.open,
        }
    }

    fn known(&self, item: &str) -> Option<&Item> {
        self.items
            .get(self.item_ids.get(item)?)
            .filter(|item| !item.votes.is_empty())
    }

    fn class(&mut self, name: &str) -> Result<usize, ReliabilityError> {
        if let Some(&id) = self.class_ids.get(name) {
            return Ok(id);
        }
        self.admits(name, self.classes.len())?;
        let id = self.classes.len();
        self.classes.push(name.to_owned());
        self.class_ids.insert(name.to_owned(), id);
        if self.classes.len() > CONFUSION_CLASSES_MAX {
            for expert in self
                .experts
                .iter_mut()
                .filter(|expert| expert.has_matrices())
            {
                expert.forget_matrices();
            }
            for base in &mut self.base {
                base.forget_matrices();
            }
        }
        Ok(id)
    }

    /// Checks that `name` may become a class beside `classes` others.
    fn admits(&self, name: &str, classes: usize) -> Result<(), ReliabilityError> {
        if !self.open {
            return Err(ReliabilityError::UndeclaredClass {
                class: name.to_owned(),
            });
        }
        if classes >= CLASSES_MAX {
            return Err(ReliabilityError::TooManyClasses { limit: CLASSES_MAX });
        }
        Ok(())
    }

    fn annotator(&mut self, name: &str) -> usize {
        if let Some(&id) = self.annotator_ids.get(name) {
            return id;
        }
        let id = self.annotators.len();
        self.annotators.push(Annotator {
            name: name.to_owned(),
            labels: 0,
            gold_labels: 0,
            gold_right: 0,
        });
        self.annotator_ids.insert(name.to_owned(), id);
        id
    }

    fn item(&mut self, name: &str) -> u64 {
        if let Some(&id) = self.item_ids.get(name) {
            return id;
        }
        let id = self.next_item;
        self.next_item += 1;
        self.items.insert(id, Item::new(name));
        self.item_ids.insert(name.to_owned(), id);
        id
    }

    /// Retires closed items while there are more than a refit should visit.
    fn retire(&mut self) {
        let scope = self.scope();
        while self.items.len() > self.items_max {
            let Some(id) = self.closed.pop_front() else {
                return;
            };
            let Some(item) = self.items.remove(&id) else {
                continue;
            };
            self.item_ids.remove(&item.name);
            self.labels_within_reach -= item.votes.len() as u64;
            for (e, expert) in self.experts.iter().enumerate() {
                if let Some(own) = item.own(e) {
                    expert.retire(&mut self.base[e], scope, own);
                }
            }
        }
    }

    /// The share of each expert in the average, excluding its predictions for `without`.
    fn expert_weights(&self, without: Option<&Item>) -> Vec<f64> {
        let scope = self.scope();
        let mut out = vec![0.0; scope.entries()];
        let mut scratch = out.clone();
        let mut weights: Vec<f64> = self
            .experts
            .iter()
            .enumerate()
            .map(|(e, expert)| {
                expert.log_evidence
                    - without.map_or(0.0, |item| {
                        let own = item.own(e);
                        let votes = &item.votes;
                        expert.posterior(scope, votes, item.gold, own, &mut out, &mut scratch)
                    })
            })
            .collect();
        let best = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for weight in &mut weights {
            *weight = (LEARNING_RATE * (*weight - best)).exp();
        }
        let sum: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= sum;
        }
        weights
    }

    /// Mean and variance of an annotator's accuracy, averaged over the experts, excluding what they
    /// learned from `without`.
    fn moments(&self, weights: &[f64], annotator: usize, without: Option<&Item>) -> (f64, f64) {
        let scope = self.scope();
        let (mut mean, mut square) = (0.0, 0.0);
        for (e, (expert, weight)) in self.experts.iter().zip(weights).enumerate() {
            let own = without.and_then(|item| item.own(e));
            let (accuracy, variance) = expert.accuracy(scope, annotator, own);
            mean += weight * accuracy;
            square += weight * (variance + accuracy * accuracy);
        }
        (mean, (square - mean * mean).max(0.0))
    }

    fn evidence(
        &self,
        item: Option<&Item>,
        labels: &[(&str, &str)],
    ) -> Result<Evidence, ReliabilityError> {
        // New classes and annotators in the labels get the next free positions.
        let mut classes = self.classes.clone();
        let mut strangers: Vec<&str> = Vec::new();
        let mut votes = Vec::with_capacity(labels.len());
        for &(annotator, class) in labels {
            let class = if let Some(&id) = self.class_ids.get(class) {
                id
            } else if let Some(id) = classes.iter().position(|known| known == class) {
                id
            } else {
                self.admits(class, classes.len())?;
                classes.push(class.to_owned());
                classes.len() - 1
            };
            let annotator = self
                .annotator_ids
                .get(annotator)
                .copied()
                .unwrap_or_else(|| {
                    let known = strangers.iter().position(|&stranger| stranger == annotator);
                    self.annotators.len()
                        + known.unwrap_or_else(|| {
                            strangers.push(annotator);
                            strangers.len() - 1
                        })
                });
            votes.push(Vote { annotator, class });
        }
        let scope = Scope {
            classes: classes.len(),
            open: self.open,
        };
        let entries = scope.entries();
        let mut prior = vec![0.0; entries];
        // shares[e][z]: the part of the average for class z that comes from expert e; the last row
        // is the part of the common cause.
        let mut shares = vec![vec![0.0; entries]; EXPERTS + 1];
        let weights = self.expert_weights(item);
        for (e, (share, weight)) in shares.iter_mut().zip(weights).enumerate() {
            self.experts[e].prior(scope, item.and_then(|item| item.own(e)), share);
            for (sum, share) in prior.iter_mut().zip(share) {
                *share *= weight;
                *sum += *share;
            }
        }
        for share in shares[..EXPERTS].iter_mut().flatten() {
            *share *= 1.0 - COMMON_CAUSE;
        }
        for (share, prior) in shares[EXPERTS].iter_mut().zip(&prior) {
            *share = COMMON_CAUSE * prior;
        }
        normalise(&mut shares, &prior);
        let mut column = vec![0.0; entries];
        let average = self.expert_weights(None);
        let mut used = Vec::with_capacity(labels.len());
        for (t, (&vote, &(annotator, class))) in votes.iter().zip(labels).enumerate() {
            let mut likelihood = vec![0.0; entries];
            for (e, share) in shares.iter_mut().enumerate() {
                if let Some(expert) = self.experts.get(e) {
                    let own = item.and_then(|item| item.own(e));
                    expert.likelihood(scope, vote, own, &mut column);
                } else {
                    common_cause(&votes[..t], vote, scope, &mut column);
                }
                for ((sum, share), one) in likelihood.iter_mut().zip(share).zip(&column) {
                    *share *= one;
                    *sum += *share;
                }
            }
            normalise(&mut shares, &likelihood);
            let (accuracy, _) = self.moments(&average, vote.annotator, None);
            let here = item.map_or(0, |item| {
                item.votes
                    .iter()
                    .filter(|one| one.annotator == vote.annotator)
                    .count()
            });
            let labels = self
                .annotators
                .get(vote.annotator)
                .map_or(0, |one| one.labels);
            used.push(LabelEvidence {
                annotator: annotator.to_owned(),
                class: class.to_owned(),
                likelihood,
                accuracy,
                labels: labels.saturating_sub(here as u64),
            });
        }
        Ok(Evidence {
            classes,
            unseen: self.open,
            prior,
            labels: used,
            position: self.position,
        })
    }
}

/// The probability of `vote` after `earlier` ones on an item where labels follow each other rather
/// than the truth.
///
/// An urn with one ball for each class and an additional half ball for the true one; every label
/// drawn is put back twice.
fn common_cause(earlier: &[Vote], vote: Vote, scope: Scope, out: &mut [f64]) {
    let same = earlier.iter().filter(|one| one.class == vote.class).count() as f64;
    let balls = scope.classes.max(2) as f64 + 0.5 + earlier.len() as f64;
    out.fill((same + 1.0) / balls);
    out[vote.class] = (same + 1.5) / balls;
}

/// Divides each column by its sum. A sum is never zero: every likelihood here is positive.
fn normalise(shares: &mut [Vec<f64>], sums: &[f64]) {
    for row in shares {
        for (share, sum) in row.iter_mut().zip(sums) {
            *share /= sum;
        }
    }
}

/// The format of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    classes: Vec<String>,
    open: bool,
    annotators: Vec<Annotator>,
    experts: Vec<Expert>,
    base: Vec<Base>,
    items: Vec<(u64, Item)>,
    closed: VecDeque<u64>,
    next_item: u64,
    position: u64,
    refit_at: u64,
}

impl From<ReliabilityModel> for Stored {
    fn from(model: ReliabilityModel) -> Self {
        Self {
            version: VERSION,
            classes: model.classes,
            open: model.open,
            annotators: model.annotators,
            experts: model.experts,
            base: model.base,
            items: model.items.into_iter().collect(),
            closed: model.closed,
            next_item: model.next_item,
            position: model.position,
            refit_at: model.refit_at,
        }
    }
}

impl TryFrom<Stored> for ReliabilityModel {
    type Error = ReliabilityError;

    fn try_from(stored: Stored) -> Result<Self, ReliabilityError> {
        let (classes, annotators) = (stored.classes.len(), stored.annotators.len());
        let item_fits = |(id, item): &(u64, Item)| {
            *id < stored.next_item
                && item.gold.is_none_or(|gold| gold < classes)
                && item.probabilities.len() == EXPERTS
                && item.probabilities.iter().all(|row| row.len() <= classes)
                && item
                    .votes
                    .iter()
                    .all(|vote| vote.annotator < annotators && vote.class < classes)
        };
        let class_ids: BTreeMap<String, usize> = stored.classes.iter().cloned().zip(0..).collect();
        let annotator_ids: BTreeMap<String, usize> = stored
            .annotators
            .iter()
            .map(|one| one.name.clone())
            .zip(0..)
            .collect();
        let item_ids: BTreeMap<String, u64> = stored
            .items
            .iter()
            .map(|(id, item)| (item.name.clone(), *id))
            .collect();
        let fits = stored.version == VERSION
            && class_ids.len() == classes
            && annotator_ids.len() == annotators
            && item_ids.len() == stored.items.len()
            && stored.experts.len() == EXPERTS
            && stored.experts.iter().all(|expert| expert.fits(classes))
            && stored.base.len() == EXPERTS
            && stored.base.iter().all(|base| base.fits(classes))
            && stored.items.iter().all(item_fits);
        if !fits {
            return Err(ReliabilityError::MalformedCheckpoint);
        }
        let labels_within_reach = stored
            .items
            .iter()
            .map(|(_, item)| item.votes.len() as u64)
            .sum();
        Ok(Self {
            classes: stored.classes,
            class_ids,
            open: stored.open,
            annotators: stored.annotators,
            annotator_ids,
            experts: stored.experts,
            base: stored.base,
            items: stored.items.into_iter().collect(),
            item_ids,
            closed: stored.closed,
            next_item: stored.next_item,
            labels_within_reach,
            position: stored.position,
            refit_at: stored.refit_at,
            items_max: ITEMS_MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_out_of_reach_stay_in_the_counts() {
        let mut model = ReliabilityModel::new(Classes::Open).unwrap();
        model.items_max = 10;
        for n in 0..60 {
            let item = format!("{n}");
            for annotator in ["ada", "bob", "cem"] {
                model
                    .observe(&item, annotator, if n % 3 == 0 { "a" } else { "b" })
                    .unwrap();
            }
            model.observe(&item, "spammer", "a").unwrap();
            model.close(&item);
            model.close(&item);
        }
        assert_eq!((model.items.len(), model.item_ids.len()), (10, 10));
        assert_eq!(model.labels_within_reach, 40);
        assert!(model.posterior("3").is_none());
        let counted: f64 = model.experts[3].items.iter().sum();
        assert!((counted - 60.0).abs() < 0.5, "{counted} items");
        let ada = model.reliability("ada");
        assert!(ada.labels == 60 && ada.low > 0.85, "{ada:?}");
        // A late label on an item out of reach counts as a label on a new item.
        model.observe("3", "late", "a").unwrap();
        assert!(model.posterior("3").is_some());
    }

    #[test]
    fn open_items_are_never_let_go() {
        let mut model = ReliabilityModel::new(Classes::Open).unwrap();
        model.items_max = 3;
        for n in 0..8 {
            model.observe(&format!("{n}"), "ada", "a").unwrap();
        }
        assert_eq!(model.items.len(), 8);
        model.close("0");
        assert_eq!(model.items.len(), 7);
    }
}
