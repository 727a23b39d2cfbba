//! Items whose labels follow a common cause rather than the truth.

use serde::{Deserialize, Serialize};

use super::expert::Vote;

/// Shares of items with a common cause.
const SHARES: [f64; 3] = [0.03, 0.1, 0.25];
/// How probable each share is before any label.
const PRIOR: [f64; 3] = [0.9, 0.08, 0.02];
/// The share of labels that follow the cause of an item that has one.
const FOLLOW: f64 = 0.5;

/// What is known about how many items have a common cause.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct CauseShare {
    /// Logarithm of the probability of all items' labels under each of [`SHARES`], relative to
    /// items without a cause.
    logs: [f64; SHARES.len()],
}

impl CauseShare {
    /// The expected share. `without` is the ratio of an item to leave out; 1 leaves out none.
    pub(super) fn expected(&self, without: f64) -> f64 {
        let logs: Vec<f64> = (0..SHARES.len())
            .map(|n| PRIOR[n].ln() + self.logs[n] - evidence(SHARES[n], without))
            .collect();
        let best = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut mean, mut sum) = (0.0, 0.0);
        for (share, log) in SHARES.iter().zip(logs) {
            let weight = (log - best).exp();
            mean += weight * share;
            sum += weight;
        }
        mean / sum
    }

    /// Learns that an item's ratio has become `after`.
    pub(super) fn learn(&mut self, before: f64, after: f64) {
        for (share, log) in SHARES.iter().zip(&mut self.logs) {
            *log += evidence(*share, after) - evidence(*share, before);
        }
    }

    pub(super) fn is_finite(&self) -> bool {
        self.logs.iter().all(|log| log.is_finite())
    }
}

fn evidence(share: f64, ratio: f64) -> f64 {
    (1.0 - share + share * ratio).ln()
}

/// The labels of one item, seen as possibly caused by something else than the truth.
pub(super) struct CommonCause {
    share: f64,
    /// Probability of the labels so far in each class if there is no cause.
    honest: Vec<f64>,
    /// The same if there is one, for each cause that a label names, and for all other causes.
    caused: Vec<(Option<usize>, Vec<f64>)>,
}

impl CommonCause {
    pub(super) fn new(share: f64, prior: &[f64], votes: &[Vote]) -> Self {
        let mut named: Vec<usize> = votes.iter().map(|vote| vote.class).collect();
        named.sort_unstable();
        named.dedup();
        let known: f64 = named.iter().map(|&class| prior[class]).sum();
        let mut caused: Vec<(Option<usize>, Vec<f64>)> = named
            .into_iter()
            .map(|class| (Some(class), vec![prior[class]; prior.len()]))
            .collect();
        caused.push((None, vec![(1.0 - known).max(0.0); prior.len()]));
        Self {
            share,
            honest: vec![1.0; prior.len()],
            caused,
        }
    }

    /// Turns the probability of the next label in each class, without a cause, into the one that
    /// allows for a cause.
    ///
    /// A label that speaks for its own class against another one does so afterwards as well, or for
    /// neither: the cause may take away what a label says, it may not turn it round.
    pub(super) fn step(&mut self, label: usize, honest: &[f64]) -> Vec<f64> {
        let before = self.total();
        for (product, one) in self.honest.iter_mut().zip(honest) {
            *product *= one;
        }
        for (cause, row) in &mut self.caused {
            let followed = if *cause == Some(label) { FOLLOW } else { 0.0 };
            for (product, one) in row.iter_mut().zip(honest) {
                *product *= followed + (1.0 - FOLLOW) * one;
            }
        }
        let mut likelihood = self.total();
        for (after, before) in likelihood.iter_mut().zip(&before) {
            *after /= before;
        }
        // Keeps the products of many labels from vanishing; only ratios matter.
        let scale = 1.0 / likelihood.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let rows = self.caused.iter_mut().flat_map(|(_, row)| row);
        for product in rows.chain(&mut self.honest) {
            *product = (*product * scale).max(f64::MIN_POSITIVE);
        }
        for class in 0..honest.len() {
            if honest[class] <= honest[label] {
                likelihood[class] = likelihood[class].min(likelihood[label]);
            }
        }
        likelihood
    }

    /// How much more probable the labels are with a cause than without.
    pub(super) fn ratio(&self, prior: &[f64]) -> f64 {
        let over = |row: &[f64]| -> f64 { row.iter().zip(prior).map(|(one, p)| one * p).sum() };
        let caused: f64 = self.caused.iter().map(|(_, row)| over(row)).sum();
        caused / over(&self.honest)
    }

    fn total(&self) -> Vec<f64> {
        let mut total: Vec<f64> = self
            .honest
            .iter()
            .map(|one| (1.0 - self.share) * one)
            .collect();
        for (_, row) in &self.caused {
            for (sum, one) in total.iter_mut().zip(row) {
                *sum += self.share * one;
            }
        }
        total
    }
}
