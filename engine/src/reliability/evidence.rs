//! What a decision rests on, complete enough to be recomputed from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Share of the largest probability within which another one is as large.
const TIED_WITHIN: f64 = 1e-12;

/// One label as it entered a posterior.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabelEvidence {
    /// Who gave the label.
    pub annotator: String,
    /// The label.
    pub class: String,
    /// Probability of this label if the answer were each of [`Evidence::classes`] (and, last, the unseen
    /// class), given the labels before it in the list. Only ratios matter for the posterior.
    pub likelihood: Vec<f64>,
    /// The model's expectation of the annotator's accuracy when it was asked.
    pub accuracy: f64,
    /// How many labels of the annotator that expectation rests on, labels of this item left out.
    pub labels: u64,
}

/// Everything a posterior follows from: a prior and one vector for each label.
///
/// ```text
/// P(z | labels)  proportional to  prior(z)  product over t of likelihood_t(z)
/// ```
///
/// [`posterior`](Self::posterior) computes just that, so a stored value explains a decision for ever, whatever
/// the model has learnt since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The classes, in the order of all vectors here.
    pub classes: Vec<String>,
    /// Whether all vectors have one entry more than `classes`: for an answer that nobody has given yet.
    pub unseen: bool,
    /// Probability of each class before any label of the item.
    pub prior: Vec<f64>,
    /// The labels, in the order given.
    pub labels: Vec<LabelEvidence>,
    /// How many observations the model had taken in.
    pub position: u64,
}

impl Evidence {
    /// The posterior that follows.
    ///
    /// Products are taken as logarithms and in the order of the labels: equal evidence gives equal bits.
    /// A likelihood that is missing, as in a damaged record, counts as 1.
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
    /// Probability of each of them.
    pub probabilities: Vec<f64>,
    /// Probability that the answer is a class that nobody has given yet; 0 where classes are declared.
    pub unseen: f64,
    /// The most probable class, the first in alphabetical order on a tie (to twelve digits, as sums of logarithms
    /// round); `None` without classes.
    pub best: Option<String>,
    /// Probability of `best`.
    pub confidence: f64,
}
