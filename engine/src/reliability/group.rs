//! Annotators whose errors go together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Correlations of errors within a group, and how probable each is before any label: strong ones
/// first.
const CORRELATIONS: [(f64, f64); 7] = [
    (0.995, 0.93),
    (0.9, 0.03),
    (0.75, 0.01),
    (0.5, 0.01),
    (0.3, 0.01),
    (0.15, 0.005),
    (0.03, 0.005),
];

/// A named group of annotators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) name: String,
    /// Logarithm of the probability of all items' labels under each correlation.
    logs: [f64; CORRELATIONS.len()],
}

/// The part of an item in the logarithms of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Share {
    pub(super) group: usize,
    pub(super) logs: [f64; CORRELATIONS.len()],
}

/// How the probability of a label follows from what its annotator would say alone and from earlier
/// labels of the group: `alone * own + copied`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tie {
    pub(super) alone: f64,
    pub(super) copied: f64,
}

impl Tie {
    /// Of a label that depends on no other.
    pub(super) const NONE: Self = Self {
        alone: 1.0,
        copied: 0.0,
    };

    /// Of a label after `earlier` ones of its group, `same` of which are equal to it.
    pub(super) fn new(correlation: f64, earlier: usize, same: usize) -> Self {
        let (earlier, same) = (earlier as f64, same as f64);
        let size = 1.0 - correlation + correlation * earlier;
        Self {
            alone: (1.0 - correlation) / size,
            copied: correlation * same / size,
        }
    }

    pub(super) fn apply(self, own: f64) -> f64 {
        self.alone * own + self.copied
    }
}

impl Group {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            logs: [0.0; CORRELATIONS.len()],
        }
    }

    /// The expected correlation of errors.
    pub(super) fn correlation(&self) -> f64 {
        let best = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut mean, mut sum) = (0.0, 0.0);
        for ((correlation, prior), log) in CORRELATIONS.iter().zip(&self.logs) {
            let weight = prior * (log - best).exp();
            mean += weight * correlation;
            sum += weight;
        }
        mean / sum
    }

    /// How many votes of independent annotators so many of its labels on one item are worth.
    pub(super) fn worth(&self, labels: u32) -> f64 {
        let n = f64::from(labels);
        n / (1.0 + (n - 1.0) * self.correlation())
    }

    pub(super) fn learn(&mut self, before: &[f64], after: &[f64]) {
        for ((log, before), after) in self.logs.iter_mut().zip(before).zip(after) {
            *log += after - before;
        }
    }

    pub(super) fn is_finite(&self) -> bool {
        self.logs.iter().all(|log| log.is_finite())
    }
}

impl Share {
    /// The part of an item without labels.
    pub(super) fn none(group: usize) -> Self {
        Self {
            group,
            logs: [0.0; CORRELATIONS.len()],
        }
    }

    /// The correlation with the largest logarithm, if that is above 0.
    pub(super) fn best(logs: &[f64]) -> Option<(f64, f64)> {
        let all = CORRELATIONS
            .iter()
            .zip(logs)
            .map(|(one, log)| (one.0, *log));
        all.filter(|(_, log)| *log > 0.0)
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The logarithm of the labels' probability under each correlation, relative to independence.
    ///
    /// `others` is the probability of each class without the group's labels, `own` holds for each
    /// label of the group its class and its probability in each class.
    pub(super) fn of(group: usize, others: &[f64], own: &[(usize, Vec<f64>)]) -> Self {
        let of = |correlation: f64| {
            let mut product = others.to_vec();
            let mut log = 0.0;
            for (t, (class, alone)) in own.iter().enumerate() {
                let same = own[..t].iter().filter(|(one, _)| one == class).count();
                let tie = Tie::new(correlation, t, same);
                for (product, alone) in product.iter_mut().zip(alone) {
                    *product *= tie.apply(*alone);
                }
                let sum: f64 = product.iter().sum();
                for product in &mut product {
                    *product /= sum;
                }
                log += sum.ln();
            }
            log
        };
        let independent = of(0.0);
        Self {
            group,
            logs: CORRELATIONS.map(|(correlation, _)| of(correlation) - independent),
        }
    }
}

/// What the labels of a group counted for in a posterior.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupEvidence {
    /// The group.
    pub group: String,
    /// Its labels.
    pub labels: u32,
    /// How many votes of independent annotators they were worth: 1 for copies of one label.
    pub votes: f64,
    /// How strongly errors in the group go together: 0 not at all, 1 always the same error.
    pub correlation: f64,
}

impl GroupEvidence {
    pub(super) fn new(group: &Group, labels: u32) -> Self {
        Self {
            group: group.name.clone(),
            labels,
            votes: group.worth(labels),
            correlation: group.correlation(),
        }
    }
}
