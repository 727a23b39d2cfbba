//! The basis of a decision, complete enough to recompute the decision.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GroupEvidence;

/// Probabilities within this share of the largest one count as equal to it.
const TIED_WITHIN: f64 = 1e-12;

/// A label to weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    /// The annotator.
    pub annotator: &'a str,
    /// The label.
    pub class: &'a str,
    /// The group of annotators whose errors go together; `None`: the one known before, if any.
    pub group: Option<&'a str>,
}

impl<'a> From<(&'a str, &'a str)> for Label<'a> {
    fn from((annotator, class): (&'a str, &'a str)) -> Self {
        Self {
            annotator,
            class,
            group: None,
        }
    }
}

/// One label as it entered a posterior.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabelEvidence {
    /// The annotator who gave the label.
    pub annotator: String,
    /// The label.
    pub class: String,
    /// Probability of this label if the answer were each of [`Evidence::classes`] (and, last, the
    /// unseen class), given the earlier labels of the list. Only ratios matter for the posterior.
    pub likelihood: Vec<f64>,
    /// The annotator's expected accuracy at the time.
    pub accuracy: f64,
    /// Number of the annotator's labels behind that expectation, without labels of this item.
    pub labels: u64,
}

/// The basis of a posterior: a prior and one vector for each label.
///
/// ```text
/// P(z | labels)  proportional to  prior(z)  product over t of likelihood_t(z)
/// ```
///
/// [`posterior`](Self::posterior) computes exactly this, so a stored value explains a decision
/// permanently, whatever the model has learned since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The classes, in the order of all vectors here.
    pub classes: Vec<String>,
    /// Whether all vectors have one more entry than `classes`, for an answer that nobody has given
    /// yet.
    pub unseen: bool,
    /// Probability of each class before any label of the item.
    pub prior: Vec<f64>,
    /// The labels, in the order given.
    pub labels: Vec<LabelEvidence>,
    /// What the labels of each group counted for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupEvidence>,
    /// The number of observations in the model.
    pub position: u64,
}

impl Evidence {
    /// Computes the posterior.
    ///
    /// Products are computed as logarithms in the order of the labels, so equal evidence gives
    /// equal bits. A missing likelihood, as in a damaged record, counts as 1.
    pub fn posterior(&self) -> Posterior {
        let mut logs: Vec<f64> = self.prior.iter().map(|p| p.ln()).collect();
        for label in &self.labels {
            for (log, likelihood) in logs.iter_mut().zip(&label.likelihood) {
                *log += likelihood.ln();
            }
        }
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut probabilities: Vec<f64> = if largest.is_finite() {
            logs.iter().map(|log| (log - largest).exp()).collect()
        } else {
            vec![1.0; logs.len()]
        };
        let sum: f64 = probabilities.iter().sum();
        for probability in &mut probabilities {
            *probability /= sum;
        }
        let unseen = if self.unseen {
            probabilities.pop().unwrap_or(0.0)
        } else {
            0.0
        };
        let mut best: Option<(usize, f64)> = None;
        for (class, &probability) in probabilities.iter().enumerate() {
            let wins = best.is_none_or(|(leader, highest)| {
                let tied = (probability - highest).abs() <= TIED_WITHIN * highest;
                if tied {
                    self.classes.get(class) < self.classes.get(leader)
                } else {
                    probability > highest
                }
            });
            if wins {
                best = Some((class, probability));
            }
        }
        Posterior {
            best: best.and_then(|(class, _)| self.classes.get(class).cloned()),
            confidence: best.map_or(0.0, |(_, probability)| probability),
            classes: self.classes.clone(),
            probabilities,
            unseen,
        }
    }
}

/// Probability of each answer, given labels: the soft label of an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Posterior {
    /// The classes known so far.
    pub classes: Vec<String>,
    /// Probability of each class.
    pub probabilities: Vec<f64>,
    /// Probability that the answer is a class that nobody has given yet; 0 if the classes are
    /// declared.
    pub unseen: f64,
    /// The most probable class. On a tie (to twelve digits, because sums of logarithms round), the
    /// first in alphabetical order. `None` without classes.
    pub best: Option<String>,
    /// Probability of `best`.
    pub confidence: f64,
}

impl Posterior {
    /// The most probable of the classes that people gave; `None` if two are equally probable.
    pub fn best_given<'p>(&'p self, labels: &[LabelEvidence]) -> Option<&'p str> {
        // The order in which labels came moves a probability by less than this part of it.
        const MOVED_BY_ORDER: f64 = 0.01;
        let given: BTreeSet<&str> = labels.iter().map(|label| label.class.as_str()).collect();
        let given: Vec<(&str, f64)> = (self.classes.iter().zip(&self.probabilities))
            .filter(|(class, _)| given.contains(class.as_str()))
            .map(|(class, probability)| (class.as_str(), *probability))
            .collect();
        let most = given.iter().map(|(_, p)| *p).fold(0.0, f64::max);
        let mut first = given
            .iter()
            .filter(|(_, probability)| *probability >= most * (1.0 - MOVED_BY_ORDER));
        match (first.next(), first.next()) {
            (Some((class, _)), None) => Some(*class),
            _ => None,
        }
    }
}
