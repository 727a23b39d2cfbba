//! True classes and annotators' error rates from labels alone: the model of Dawid and Skene.

use super::ConsensusError;

/// The maximum number of cells (posteriors and error rates together) of a model: 1 GiB of f64.
///
/// Error rates take annotators times classes squared cells. A free-text field treated as a category
/// would need more memory than there is, and running out of memory cannot be handled.
pub const DAWID_SKENE_CELLS_MAX: u128 = 1 << 27;

/// When to stop the iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stopping {
    /// The largest change of any posterior, in one round, that counts as no change.
    pub tolerance: f64,
    /// The maximum number of rounds.
    pub rounds_max: usize,
}

impl Default for Stopping {
    /// 1e-10 and 20,000 rounds: the likelihood can be flat long before the posteriors converge, so
    /// the posteriors decide.
    fn default() -> Self {
        Self {
            tolerance: 1e-10,
            rounds_max: 20_000,
        }
    }
}

/// A fitted model: class probabilities of each item, error rates of each annotator, class
/// frequencies.
#[derive(Debug, Clone, PartialEq)]
pub struct DawidSkene {
    items: Vec<u32>,
    annotators: Vec<u32>,
    classes: Vec<u32>,
    /// `posteriors[item * classes + class]`.
    posteriors: Vec<f64>,
    /// `rates[(annotator * classes + true class) * classes + label]`.
    rates: Vec<f64>,
    priors: Vec<f64>,
    log_likelihood: f64,
    rounds: usize,
    converged: bool,
}

impl DawidSkene {
    /// The items, in ascending order.
    pub fn items(&self) -> &[u32] {
        &self.items
    }

    /// The annotators, in ascending order.
    pub fn annotators(&self) -> &[u32] {
        &self.annotators
    }

    /// The classes that occur as labels, in ascending order: what the positions in all other
    /// results mean.
    pub fn classes(&self) -> &[u32] {
        &self.classes
    }

    /// Frequency of each class.
    pub fn priors(&self) -> &[f64] {
        &self.priors
    }

    /// Probability of each class for `item`; `None` for an item without labels.
    pub fn posterior(&self, item: u32) -> Option<&[f64]> {
        let row = self.items.binary_search(&item).ok()?;
        Some(&self.posteriors[row * self.classes.len()..][..self.classes.len()])
    }

    /// The most probable class of `item`, the smallest on a tie, with its probability.
    pub fn label(&self, item: u32) -> Option<(u32, f64)> {
        let mut best = None;
        for (&class, &probability) in self.classes.iter().zip(self.posterior(item)?) {
            if best.is_none_or(|(_, highest)| probability > highest) {
                best = Some((class, probability));
            }
        }
        best
    }

    /// Probability of each label `annotator` gives to items of `true_class`; `None` if either is
    /// unknown.
    ///
    /// All zero when the annotator saw no item that may be of this class.
    pub fn error_rates(&self, annotator: u32, true_class: u32) -> Option<&[f64]> {
        let classes = self.classes.len();
        let annotator = self.annotators.binary_search(&annotator).ok()?;
        let class = self.classes.binary_search(&true_class).ok()?;
        Some(&self.rates[(annotator * classes + class) * classes..][..classes])
    }

    /// Natural logarithm of the probability of all labels, in their order, under the model.
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihood
    }

    /// Rounds taken.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Whether the posteriors converged before the rounds ran out.
    pub fn converged(&self) -> bool {
        self.converged
    }
}

/// Fits the model of Dawid and Skene to labels by expectation maximisation, without smoothing.
///
/// `labels` are triples (item, annotator, class), in any order and with any numbers; an annotator
/// may label an item more than once. With *T_ij* the probability that item *i* is of class *j*,
/// *n_ikl* how often annotator *k* labelled it *l*, *p_j* the class frequencies and *e_kjl* the
/// probability that *k* labels an item of class *j* as *l*, the iteration starts from the shares of
/// the labels of each item and repeats
///
/// ```text
/// p_j   = mean over i of T_ij
/// e_kjl = (sum over i of T_ij n_ikl) / (sum over i, l of T_ij n_ikl)
/// T_ij  proportional to  p_j  product over k, l of e_kjl ^ n_ikl
/// ```
///
/// until no *T_ij* changes by [`Stopping::tolerance`]. Nothing is smoothed: a rate of zero stays
/// zero, as in the paper. Probabilities are multiplied as logarithms, so items with thousands of
/// labels do not underflow. The result is a local maximum, the one that voting leads to.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) (no pair) without labels.
/// - [`OutOfDomain`](ConsensusError::OutOfDomain) when the tolerance is negative or not finite, or
///   `rounds_max` is 0.
/// - [`TooLarge`](ConsensusError::TooLarge) beyond [`DAWID_SKENE_CELLS_MAX`].
///
/// # Citation
///
/// Dawid, A. P. and Skene, A. M. (1979). Maximum likelihood estimation of observer error-rates
/// using the EM algorithm. *Applied Statistics* 28(1), 20-28.
///
/// # Examples
///
/// 45 patients graded 1 to 4 by five anaesthetists, the first of them three times (Table 1 of the
/// paper; one word per patient). Published class frequencies: 0.40, 0.42, 0.11, 0.07.
///
/// ```
/// use glyph_workflow_engine::consensus::{Stopping, dawid_skene};
///
/// let table = "1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 \
///              4444444 2223343 1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322 \
///              2222222 2222221 2223222 2212222 1111111 1111111 2322222 1111111 1111111 1121121 \
///              1111111 3333233 1111111 2222222 2223232 4334343 2212232 2323233 3333432 1111111 \
///              1111111 1212111 2322222 1211111 2222222";
/// let mut labels = Vec::new();
/// for (patient, grades) in (0..).zip(table.split_whitespace()) {
///     for (k, grade) in (0_u32..).zip(grades.chars()) {
///         let anaesthetist = k.saturating_sub(2);
///         labels.extend(grade.to_digit(10).map(|grade| (patient, anaesthetist, grade)));
///     }
/// }
/// let model = dawid_skene(&labels, Stopping::default())?;
/// assert_eq!(model.classes(), [1, 2, 3, 4]);
/// for (prior, published) in model.priors().iter().zip([0.40, 0.42, 0.11, 0.07]) {
///     assert!((prior - published).abs() < 5e-3);
/// }
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn dawid_skene(
    labels: &[(u32, u32, u32)],
    stopping: Stopping,
) -> Result<DawidSkene, ConsensusError> {
    if !(0.0..=f64::MAX).contains(&stopping.tolerance) {
        return Err(ConsensusError::OutOfDomain {
            name: "tolerance",
            value: stopping.tolerance,
        });
    }
    if stopping.rounds_max == 0 {
        return Err(ConsensusError::OutOfDomain {
            name: "rounds_max",
            value: 0.0,
        });
    }
    if labels.is_empty() {
        return Err(ConsensusError::NO_PAIR);
    }
    let data = Table::new(labels)?;
    let classes = data.classes.len();
    let mut posteriors = data.shares();
    let mut next = posteriors.clone();
    let mut model = Parameters {
        priors: vec![0.0; classes],
        rates: vec![0.0; data.annotators.len() * classes * classes],
    };
    let (mut log_likelihood, mut rounds, mut converged) = (0.0, 0, false);
    while rounds < stopping.rounds_max && !converged {
        rounds += 1;
        model.maximise(&data, &posteriors);
        log_likelihood = model.expect(&data, &mut next);
        let change = posteriors
            .iter()
            .zip(&next)
            .map(|(old, new)| (old - new).abs())
            .fold(0.0, f64::max);
        std::mem::swap(&mut posteriors, &mut next);
        converged = change <= stopping.tolerance;
    }
    Ok(DawidSkene {
        items: data.items,
        annotators: data.annotators,
        classes: data.classes,
        posteriors,
        rates: model.rates,
        priors: model.priors,
        log_likelihood,
        rounds,
        converged,
    })
}

/// The labels by item, with positions in place of the caller's numbers.
struct Table {
    items: Vec<u32>,
    annotators: Vec<u32>,
    classes: Vec<u32>,
    /// Item `i` owns `labels[starts[i]..starts[i + 1]]`.
    starts: Vec<usize>,
    labels: Vec<Label>,
}

struct Label {
    annotator: usize,
    class: usize,
}

impl Table {
    fn new(labels: &[(u32, u32, u32)]) -> Result<Self, ConsensusError> {
        let mut sorted = labels.to_vec();
        sorted.sort_unstable();
        let items = distinct(sorted.iter().map(|label| label.0));
        let annotators = distinct(sorted.iter().map(|label| label.1));
        let classes = distinct(sorted.iter().map(|label| label.2));
        let (i, k, j) = (
            items.len() as u128,
            annotators.len() as u128,
            classes.len() as u128,
        );
        let cells = i * j + k * j * j;
        if cells > DAWID_SKENE_CELLS_MAX {
            return Err(ConsensusError::TooLarge {
                needed: cells,
                limit: DAWID_SKENE_CELLS_MAX,
            });
        }
        let mut starts = vec![0];
        starts.extend(sorted.chunk_by(|x, y| x.0 == y.0).scan(0, |end, labels| {
            *end += labels.len();
            Some(*end)
        }));
        let position = |all: &[u32], one: u32| all.partition_point(|&other| other < one);
        let labels = sorted
            .iter()
            .map(|&(_, annotator, class)| Label {
                annotator: position(&annotators, annotator),
                class: position(&classes, class),
            })
            .collect();
        Ok(Self {
            items,
            annotators,
            classes,
            starts,
            labels,
        })
    }

    fn by_item(&self) -> impl Iterator<Item = &[Label]> {
        self.starts.windows(2).map(|w| &self.labels[w[0]..w[1]])
    }

    /// The share of each class among the labels of each item.
    fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.items.len() * self.classes.len()];
        for (row, labels) in shares
            .chunks_exact_mut(self.classes.len())
            .zip(self.by_item())
        {
            for label in labels {
                row[label.class] += 1.0 / labels.len() as f64;
            }
        }
        shares
    }
}

fn distinct(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

struct Parameters {
    priors: Vec<f64>,
    /// `rates[(annotator * classes + true class) * classes + label]`.
    rates: Vec<f64>,
}

impl Parameters {
    /// The M step: frequencies and rates from posteriors.
    fn maximise(&mut self, data: &Table, posteriors: &[f64]) {
        let classes = self.priors.len();
        self.priors.fill(0.0);
        self.rates.fill(0.0);
        for (row, labels) in posteriors.chunks_exact(classes).zip(data.by_item()) {
            for (prior, probability) in self.priors.iter_mut().zip(row) {
                *prior += probability;
            }
            for label in labels {
                let table = &mut self.rates[label.annotator * classes * classes..];
                for (class, probability) in row.iter().enumerate() {
                    table[class * classes + label.class] += probability;
                }
            }
        }
        for prior in &mut self.priors {
            *prior /= data.items.len() as f64;
        }
        for row in self.rates.chunks_exact_mut(classes) {
            let sum: f64 = row.iter().sum();
            // An annotator who saw no item of a class has no rates for it. Zeros do no harm: all
            // their items have posterior zero for that class already.
            if sum > 0.0 {
                for rate in row {
                    *rate /= sum;
                }
            }
        }
    }

    /// The E step: posteriors from frequencies and rates. Returns the log likelihood.
    fn expect(&self, data: &Table, posteriors: &mut [f64]) -> f64 {
        let classes = self.priors.len();
        let log_priors: Vec<f64> = self.priors.iter().map(|p| p.ln()).collect();
        let log_rates: Vec<f64> = self.rates.iter().map(|rate| rate.ln()).collect();
        let mut log_likelihood = 0.0;
        for (row, labels) in posteriors.chunks_exact_mut(classes).zip(data.by_item()) {
            row.copy_from_slice(&log_priors);
            for label in labels {
                let table = &log_rates[label.annotator * classes * classes..];
                for (class, log) in row.iter_mut().enumerate() {
                    *log += table[class * classes + label.class];
                }
            }
            // Finite: the class with the largest posterior of the last round has a positive
            // frequency, and its labels have positive rates, as that very posterior went into them.
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for log in row.iter_mut() {
                *log = (*log - largest).exp();
            }
            let sum: f64 = row.iter().sum();
            for probability in row.iter_mut() {
                *probability /= sum;
            }
            log_likelihood += largest + sum.ln();
        }
        log_likelihood
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The definition with full tables and plain products, for a fixed number of rounds.
    fn by_products(labels: &[(u32, u32, u32)], rounds: usize) -> Vec<Vec<f64>> {
        let set = |numbers: Vec<u32>| BTreeSet::from_iter(numbers).into_iter().collect::<Vec<_>>();
        let items = set(labels.iter().map(|l| l.0).collect());
        let annotators = set(labels.iter().map(|l| l.1).collect());
        let classes = set(labels.iter().map(|l| l.2).collect());
        let n = |i: u32, k: u32, l: u32| labels.iter().filter(|x| **x == (i, k, l)).count() as f64;
        let mut t: Vec<Vec<f64>> = items
            .iter()
            .map(|&i| {
                let count = |j: u32| annotators.iter().map(|&k| n(i, k, j)).sum::<f64>();
                let all: f64 = classes.iter().map(|&j| count(j)).sum();
                classes.iter().map(|&j| count(j) / all).collect()
            })
            .collect();
        for _ in 0..rounds {
            let prior: Vec<f64> = (0..classes.len())
                .map(|j| t.iter().map(|row| row[j]).sum::<f64>() / items.len() as f64)
                .collect();
            let rate = |k: u32, j: usize, l: u32| {
                let part = |l: u32| {
                    items
                        .iter()
                        .zip(&t)
                        .map(|(&i, row)| row[j] * n(i, k, l))
                        .sum::<f64>()
                };
                let all: f64 = classes.iter().map(|&l| part(l)).sum();
                if all > 0.0 { part(l) / all } else { 0.0 }
            };
            t = items
                .iter()
                .map(|&i| {
                    let weights: Vec<f64> = (0..classes.len())
                        .map(|j| {
                            labels
                                .iter()
                                .filter(|label| label.0 == i)
                                .fold(prior[j], |product, label| {
                                    product * rate(label.1, j, label.2)
                                })
                        })
                        .collect();
                    let all: f64 = weights.iter().sum();
                    weights.iter().map(|w| w / all).collect()
                })
                .collect();
        }
        t
    }

    #[test]
    fn degenerate_inputs() {
        let default = Stopping::default();
        assert_eq!(dawid_skene(&[], default), Err(ConsensusError::NO_PAIR));
        for tolerance in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(
                dawid_skene(
                    &[(0, 0, 0)],
                    Stopping {
                        tolerance,
                        ..default
                    }
                )
                .is_err()
            );
        }
        assert!(
            dawid_skene(
                &[(0, 0, 0)],
                Stopping {
                    rounds_max: 0,
                    ..default
                }
            )
            .is_err()
        );
        let one = dawid_skene(&[(9, u32::MAX, 4)], default).unwrap();
        assert_eq!(one.label(9), Some((4, 1.0)));
        assert_eq!(one.error_rates(u32::MAX, 4), Some(&[1.0][..]));
        assert_eq!((one.label(8), one.error_rates(0, 4)), (None, None));
        assert_eq!((one.log_likelihood(), one.converged()), (0.0, true));
    }

    #[test]
    fn a_field_of_free_text_is_refused() {
        let labels: Vec<_> = (0..12_000).map(|k| (k, 0, k)).collect();
        assert!(matches!(
            dawid_skene(&labels, Stopping::default()),
            Err(ConsensusError::TooLarge { .. })
        ));
    }

    #[test]
    fn thousands_of_labels_on_one_item_do_not_underflow() {
        let labels: Vec<_> = (0..20_000).map(|k| (k % 2, k % 7, k % 3)).collect();
        let model = dawid_skene(&labels, Stopping::default()).unwrap();
        assert!(model.log_likelihood().is_finite());
        assert!(model.posterior(0).unwrap().iter().all(|p| p.is_finite()));
    }

    proptest! {
        #[test]
        fn equals_plain_products(
            labels in prop::collection::vec((0_u32..6, 0_u32..4, 0_u32..3), 1..40),
            rounds in 1_usize..6,
        ) {
            let stopping = Stopping { tolerance: 0.0, rounds_max: rounds };
            let model = dawid_skene(&labels, stopping).unwrap();
            // The fast one may stop early, at a fixed point; further rounds change nothing there.
            for (&item, slow) in model.items().iter().zip(by_products(&labels, rounds)) {
                for (fast, slow) in model.posterior(item).unwrap().iter().zip(slow) {
                    prop_assert!((fast - slow).abs() < 1e-9, "{fast} != {slow}");
                }
            }
        }
    }
}
