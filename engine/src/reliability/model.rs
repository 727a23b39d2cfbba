//! The model's public interface: names, items, the average over experts.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cause::CauseShare;
use super::cursor::Cursor;
use super::expert::{Base, CONFUSION_CLASSES_MAX, EXPERTS, Expert, Own, Scope, Scratch, Vote};
use super::fair::Fair;
use super::group::{Group, Share, Tie};
use super::{Evidence, Label, Posterior, Reliability, ReliabilityError};

/// The maximum number of classes of a field. A field with more is not categorical.
pub const CLASSES_MAX: usize = 200;

/// The number of items a refit visits. Older closed items stay in the counts with their last
/// values.
pub const ITEMS_MAX: usize = 10_000;

/// Items times classes within reach: beyond two classes, fewer items are, but at least
/// [`ITEMS_MIN`].
const ITEMS_CLASSES_MAX: usize = 20_000;
const ITEMS_MIN: usize = 1_000;

/// The number of annotators told apart. Those who come later count as one annotator together.
pub const ANNOTATORS_MAX: usize = 20_000;
/// The name under which they are counted.
const LATECOMERS: &str = "\u{0}latecomers";

/// The number of labels before the first automatic refit.
const FIRST_REFIT: u64 = 20;
/// How fast the average shifts to the experts that predict best; 1 would be Bayes' rule for labels
/// that are as independent as the experts assume.
const LEARNING_RATE: f64 = 0.5;
/// The accuracy above which a vote gains no more weight.
const ACCURACY_MAX: f64 = 0.999;
/// The possible answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Classes {
    /// The classes seen so far, and one class not seen yet.
    Open,
    /// Only these classes.
    Declared(Vec<String>),
}

/// The name under which a judge is known beside the annotators.
pub fn judge_name(judge: &str) -> String {
    format!("judge/{judge}")
}

/// An item within reach of refits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) votes: Vec<Vote>,
    /// The known class of a gold item.
    pub(super) gold: Option<usize>,
    pub(super) closed: bool,
    /// Class probabilities by expert, as included in its counts.
    pub(super) probabilities: Vec<Vec<f64>>,
    /// How much more probable its labels are with a common cause than without.
    pub(super) ratio: f64,
    /// Its part in what is known about groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) shares: Vec<Share>,
}

impl Item {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            votes: Vec::new(),
            gold: None,
            closed: false,
            probabilities: vec![Vec::new(); EXPERTS],
            ratio: 1.0,
            shares: Vec::new(),
        }
    }

    /// The item as part of an expert's counts; `None` without votes.
    pub(super) fn own(&self, expert: usize) -> Option<Own<'_>> {
        (!self.votes.is_empty()).then(|| Own {
            votes: &self.votes,
            probabilities: &self.probabilities[expert],
            counts_as_item: self.gold.is_none(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Annotator {
    pub(super) name: String,
    pub(super) labels: u64,
    pub(super) gold_labels: u64,
    pub(super) gold_right: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<usize>,
}

/// The reliability of all annotators of one field of one workflow.
///
/// The same observations in the same order give the same numbers: live, from a checkpoint (the
/// model serialises as it is) or rebuilt from nothing. The [module](super) describes the
/// computation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    try_from = "super::checkpoint::Stored",
    into = "super::checkpoint::Stored"
)]
pub struct ReliabilityModel {
    pub(super) classes: Vec<String>,
    pub(super) class_ids: BTreeMap<String, usize>,
    pub(super) open: bool,
    pub(super) annotators: Vec<Annotator>,
    pub(super) annotator_ids: BTreeMap<String, usize>,
    pub(super) groups: Vec<Group>,
    pub(super) experts: Vec<Expert>,
    /// Counts of items out of reach, by expert.
    pub(super) base: Vec<Base>,
    pub(super) causes: CauseShare,
    pub(super) fair: Fair,
    /// In order of their first label.
    pub(super) items: BTreeMap<u64, Item>,
    pub(super) item_ids: BTreeMap<String, u64>,
    pub(super) closed: VecDeque<u64>,
    pub(super) next_item: u64,
    pub(super) labels_within_reach: u64,
    pub(super) position: u64,
    pub(super) refit_at: u64,
    /// The refit that is under way.
    pub(super) cursor: Option<Cursor>,
    /// [`ITEMS_MAX`]; smaller in tests.
    pub(super) items_max: usize,
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
            groups: Vec::new(),
            experts: Expert::all(),
            base: vec![Base::default(); EXPERTS],
            causes: CauseShare::default(),
            fair: Fair::default(),
            items: BTreeMap::new(),
            item_ids: BTreeMap::new(),
            closed: VecDeque::new(),
            next_item: 0,
            labels_within_reach: 0,
            position: 0,
            refit_at: FIRST_REFIT,
            cursor: None,
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
        self.observe_label(item, Label::from((annotator, class)))
    }

    /// Adds a label by an annotator who may belong to a group.
    ///
    /// The group given last holds for all labels of the annotator. Without one an annotator stays
    /// in the group known before.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    pub fn observe_label(&mut self, item: &str, label: Label<'_>) -> Result<(), ReliabilityError> {
        let class = self.class(label.class)?;
        let annotator = self.annotator(label.annotator);
        if let Some(name) = label.group {
            let group = self.group(name);
            self.annotators[annotator].group = Some(group);
        }
        let id = self.item(item);
        let scope = self.scope();
        let vote = Vote { annotator, class };
        let mut votes = self
            .items
            .get(&id)
            .map_or_else(Vec::new, |item| item.votes.clone());
        votes.push(vote);
        let ties = self.ties(&votes);
        let tie = ties.last().copied().unwrap_or(Tie::NONE);
        let Some(item) = self.items.get_mut(&id) else {
            return Ok(());
        };
        let mut out = vec![0.0; scope.entries()];
        let mut scratch = Scratch::new(scope);
        let mut after = Vec::with_capacity(EXPERTS);
        for (e, expert) in self.experts.iter_mut().enumerate() {
            let own = item.own(e);
            let votes = (item.votes.as_slice(), ties.as_slice());
            expert.posterior(scope, votes, item.gold, own, &mut out, &mut scratch);
            expert.log_evidence += expert.step(scope, (vote, tie), own, &mut out, &mut scratch);
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
        self.learn_ties(id);
        self.advance();
        Ok(())
    }

    /// Adds what a judge (an adjudicator, a reviewer) said the answer is, as evidence about the
    /// item's annotators.
    ///
    /// It counts as a label by somebody who has seen more than the annotators: it weighs as much as
    /// the judge has been right in judgements before, which is learned apart from the labels that
    /// the same person gives as an annotator. It does not enter decisions, which name the labels
    /// that count; [`posterior`](Self::posterior) and all that looks back take it along.
    /// [`reliability`](Self::reliability) of [`judge_name`] is how reliable the judge is.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    pub fn observe_verdict(
        &mut self,
        item: &str,
        judge: &str,
        class: &str,
    ) -> Result<(), ReliabilityError> {
        self.observe(item, &judge_name(judge), class)
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
        let ties = self
            .items
            .get(&id)
            .map_or_else(Vec::new, |item| self.ties(&item.votes));
        let Some(item) = self.items.get_mut(&id) else {
            return Ok(());
        };
        let mut out = vec![0.0; scope.entries()];
        let mut scratch = Scratch::new(scope);
        for (e, expert) in self.experts.iter_mut().enumerate() {
            if let Some(own) = item.own(e) {
                let mut log = |known, out: &mut [f64]| {
                    let votes = (item.votes.as_slice(), ties.as_slice());
                    expert.posterior(scope, votes, known, Some(own), out, &mut scratch)
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

    /// The evidence of labels on an item that the model has not seen; each is a [`Label`], or
    /// (annotator, class).
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    pub fn posterior_of<'a, L>(&self, labels: &[L]) -> Result<Evidence, ReliabilityError>
    where
        L: Into<Label<'a>> + Copy,
    {
        let labels: Vec<Label<'a>> = labels.iter().map(|&label| label.into()).collect();
        Ok(self.evidence(None, &labels)?.0)
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
    pub fn posterior_for<'a, L>(
        &self,
        item: &str,
        labels: &[L],
    ) -> Result<Evidence, ReliabilityError>
    where
        L: Into<Label<'a>> + Copy,
    {
        let labels: Vec<Label<'a>> = labels.iter().map(|&label| label.into()).collect();
        Ok(self.evidence(self.known(item), &labels)?.0)
    }

    /// Whether the model has labels of `item` within reach.
    pub fn knows(&self, item: &str) -> bool {
        self.known(item).is_some()
    }

    /// The posterior of the model's own labels of `item`; `None` for an item without labels or out
    /// of reach.
    pub fn posterior(&self, item: &str) -> Option<Posterior> {
        let item = self.known(item)?;
        let labels = self.labels_of(item);
        Some(self.evidence(Some(item), &labels).ok()?.0.posterior())
    }

    pub(super) fn labels_of<'a>(&'a self, item: &Item) -> Vec<Label<'a>> {
        let label = |vote: &Vote| {
            let annotator = self.annotators[vote.annotator].name.as_str();
            Label::from((annotator, self.classes[vote.class].as_str()))
        };
        item.votes.iter().map(label).collect()
    }

    /// How often an annotator is right, with its uncertainty; the prior for an unknown annotator.
    pub fn reliability(&self, annotator: &str) -> Reliability {
        let id = self.annotator_ids.get(annotator).copied();
        let (mean, variance) = self.fair_moments(id, None);
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
        self.fair_moments(annotator, self.item_ids.get(item).copied())
            .0
    }

    /// The expected confusion matrix of an annotator: a row for each true [class](Self::classes)
    /// with the probability of each label.
    pub fn confusion(&self, annotator: &str) -> Vec<Vec<f64>> {
        let annotator = self
            .annotator_ids
            .get(annotator)
            .copied()
            .unwrap_or(usize::MAX);
        self.rows(annotator)
    }

    pub(super) fn rows(&self, annotator: usize) -> Vec<Vec<f64>> {
        let scope = self.scope();
        let mut rows = vec![vec![0.0; scope.classes]; scope.classes];
        let mut column = vec![0.0; scope.entries()];
        let mut frequencies = column.clone();
        for (expert, weight) in self.experts.iter().zip(self.expert_weights(None)) {
            expert.prior(scope, None, &mut frequencies);
            for label in 0..scope.classes {
                let vote = Vote {
                    annotator,
                    class: label,
                };
                expert.likelihood(scope, vote, None, &frequencies, &mut column);
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
        self.refit_slice();
        self.retire();
    }

    /// The group's position.
    fn group(&mut self, name: &str) -> usize {
        let known = self.groups.iter().position(|group| group.name == name);
        known.unwrap_or_else(|| {
            self.groups.push(Group::new(name));
            self.groups.len() - 1
        })
    }

    pub(super) fn scope(&self) -> Scope {
        Scope {
            classes: self.classes.len(),
            open: self.open,
        }
    }

    pub(super) fn known(&self, item: &str) -> Option<&Item> {
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
    pub(super) fn admits(&self, name: &str, classes: usize) -> Result<(), ReliabilityError> {
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
        if self.annotators.len() >= ANNOTATORS_MAX && name != LATECOMERS {
            return self.annotator(LATECOMERS);
        }
        let id = self.annotators.len();
        self.annotators.push(Annotator {
            name: name.to_owned(),
            labels: 0,
            gold_labels: 0,
            gold_right: 0,
            group: None,
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
        let by_classes = ITEMS_CLASSES_MAX / scope.classes.max(2);
        let most = self.items_max.min(by_classes.max(ITEMS_MIN));
        while self.items.len() > most {
            let Some(id) = self.closed.pop_front() else {
                return;
            };
            let Some(item) = self.items.remove(&id) else {
                continue;
            };
            self.item_ids.remove(&item.name);
            self.labels_within_reach -= item.votes.len() as u64;
            let crowd = self.fair.crowd(self.classes.len());
            let votes = self.tied(item.votes.iter().copied());
            self.fair.retire(&crowd, &votes, item.gold);
            for (e, expert) in self.experts.iter().enumerate() {
                if let Some(own) = item.own(e) {
                    expert.retire(&mut self.base[e], scope, own);
                }
            }
        }
    }

    /// The share of each expert in the average, excluding its predictions for `without`.
    pub(super) fn expert_weights(&self, without: Option<&Item>) -> Vec<f64> {
        let scope = self.scope();
        let mut out = vec![0.0; scope.entries()];
        let mut scratch = Scratch::new(scope);
        let ties = without.map_or_else(Vec::new, |item| self.ties(&item.votes));
        let mut weights: Vec<f64> = self
            .experts
            .iter()
            .enumerate()
            .map(|(e, expert)| {
                expert.log_evidence
                    - without.map_or(0.0, |item| {
                        let own = item.own(e);
                        let votes = (item.votes.as_slice(), ties.as_slice());
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
    pub(super) fn moments(
        &self,
        weights: &[f64],
        annotator: usize,
        without: Option<&Item>,
    ) -> (f64, f64) {
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
