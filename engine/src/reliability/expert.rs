//! One of the averaged models: fixed prior, expected counts, predictive probabilities.

use serde::{Deserialize, Serialize};

use super::group::Tie;

/// The number of classes up to which confusion matrices are kept; their memory grows with the
/// square.
pub const CONFUSION_CLASSES_MAX: usize = 12;

/// Pseudo-items of each class in the prior of the class frequencies.
const CLASS_PRIOR: f64 = 2.0;
/// Pseudo-errors of each class in the prior of the shared errors.
const ERROR_PRIOR: f64 = 5.0;
/// How much of a guess follows the frequencies of the classes; the rest is even.
const BY_FREQUENCY: f64 = 0.8;
/// Strength of the beta prior of an annotator's accuracy.
pub(super) const COIN_STRENGTH: f64 = 12.0;
/// Where a crowd's accuracy may lie, as shares of the distance from chance to certainty.
const SKILLS: [f64; 5] = [0.2, 0.4, 0.6, 0.8, 0.92];
/// Strengths of the Dirichlet priors of confusion rows; `None`: one coin for all classes.
const STRENGTHS: [Option<f64>; 4] = [None, Some(2.0), Some(4.0), Some(12.0)];

/// How many models are averaged.
pub(super) const EXPERTS: usize = SKILLS.len() * STRENGTHS.len();

/// A label with positions in place of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vote {
    pub(super) annotator: usize,
    pub(super) class: usize,
}

/// An item as one expert sees it: its votes and their class probabilities, which are part of the
/// counts.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) votes: &'a [Vote],
    /// By class; may be shorter than the current number of classes. The remainder to 1 belongs to
    /// the unseen class.
    pub(super) probabilities: &'a [f64],
    /// Whether the item also counts in the class frequencies (gold items do not).
    pub(super) counts_as_item: bool,
}

impl Own<'_> {
    fn probability(&self, class: usize) -> f64 {
        self.probabilities.get(class).copied().unwrap_or(0.0)
    }
}

/// The set of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope {
    /// Number of classes declared or seen.
    pub(super) classes: usize,
    /// Whether one more, unseen class is possible.
    pub(super) open: bool,
}

impl Scope {
    /// Length of a vector over classes.
    pub(super) fn entries(self) -> usize {
        self.classes + usize::from(self.open)
    }

    /// The number of classes an annotator can be wrong among; at least two, because the first label
    /// must not be a certainty.
    fn alternatives(self) -> f64 {
        self.classes.max(2) as f64
    }
}

/// Vectors over the classes to work in.
#[derive(Debug, Clone)]
pub(super) struct Scratch {
    /// The class frequencies that [`Expert::posterior`] used last.
    pub(super) frequencies: Vec<f64>,
    pub(super) column: Vec<f64>,
}

impl Scratch {
    pub(super) fn new(scope: Scope) -> Self {
        Self {
            frequencies: vec![0.0; scope.entries()],
            column: vec![0.0; scope.entries()],
        }
    }
}

/// The counts of one expert for one annotator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    right: f64,
    all: f64,
    /// Rows by true class: a count for each label, then their sum. Empty if there is no matrix.
    rows: Vec<f64>,
    /// The number of classes in the layout of `rows`.
    classes: usize,
}

impl Tally {
    fn grow(&mut self, classes: usize) {
        if self.classes >= classes {
            return;
        }
        let mut rows = vec![0.0; classes * (classes + 1)];
        for (old, new) in self
            .rows
            .chunks_exact(self.classes + 1)
            .zip(rows.chunks_exact_mut(classes + 1))
        {
            new[..self.classes].copy_from_slice(&old[..self.classes]);
            new[classes] = old[self.classes];
        }
        self.rows = rows;
        self.classes = classes;
    }

    fn fits(&self, classes: usize) -> bool {
        let j = self.classes;
        j <= classes && self.rows.len() == if j == 0 { 0 } else { j * (j + 1) }
    }

    /// Count of `label` in `class`, and of all labels in `class`.
    fn row(&self, class: usize, label: usize) -> (f64, f64) {
        if class >= self.classes {
            return (0.0, 0.0);
        }
        let row = &self.rows[class * (self.classes + 1)..][..=self.classes];
        let count = if label < self.classes {
            row[label]
        } else {
            0.0
        };
        (count, row[self.classes])
    }
}

/// The state of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Expert {
    skill: f64,
    strength: Option<f64>,
    tallies: Vec<Tally>,
    /// Expected items of each class, without gold.
    pub(super) items: Vec<f64>,
    /// Gold items with labels.
    gold: f64,
    /// Share of each label among the errors in each class, as of the last refit.
    errors: Vec<f64>,
    /// The number of classes in the layout of `errors`.
    errors_of: usize,
    /// Logarithm of the probability of all labels so far, each predicted from those before it.
    pub(super) log_evidence: f64,
}

impl Expert {
    /// The models to average.
    pub(super) fn all() -> Vec<Self> {
        STRENGTHS
            .iter()
            .flat_map(|&strength| SKILLS.map(|skill| (skill, strength)))
            .map(|(skill, strength)| Self {
                skill,
                strength,
                tallies: Vec::new(),
                items: Vec::new(),
                gold: 0.0,
                errors: Vec::new(),
                errors_of: 0,
                log_evidence: 0.0,
            })
            .collect()
    }

    /// Prior mean of an annotator's accuracy in a class of that frequency among the seen ones: who
    /// does not know says what is frequent.
    fn mean_in(&self, scope: Scope, frequency: f64) -> f64 {
        if scope.classes < 2 {
            return self.mean(scope);
        }
        let chance = (1.0 - BY_FREQUENCY) / scope.alternatives() + BY_FREQUENCY * frequency;
        chance + (1.0 - chance) * self.skill
    }

    /// Prior mean of an annotator's accuracy.
    fn mean(&self, scope: Scope) -> f64 {
        let chance = 1.0 / scope.alternatives();
        chance + (1.0 - chance) * self.skill
    }

    /// Pseudo-labels behind what is expected of an annotator in a class.
    pub(super) fn own_strength(&self) -> f64 {
        self.strength.unwrap_or(COIN_STRENGTH)
    }

    pub(super) fn has_matrices(&self) -> bool {
        self.strength.is_some()
    }

    /// Drops the confusion matrices: from now on a one-coin model.
    pub(super) fn forget_matrices(&mut self) {
        self.strength = None;
        for tally in &mut self.tallies {
            tally.rows = Vec::new();
            tally.classes = 0;
        }
    }

    /// Share of `label` among the errors in `class`.
    fn error_share(&self, scope: Scope, class: usize, label: usize) -> f64 {
        if class < self.errors_of && label < self.errors_of && scope.classes == self.errors_of {
            self.errors[class * self.errors_of + label]
        } else {
            1.0 / (scope.alternatives() - 1.0)
        }
    }

    /// Recomputes the shared errors from the counts.
    pub(super) fn pool_errors(&mut self, scope: Scope) {
        if !self.has_matrices() || scope.classes < 3 {
            // With two classes there is one way to be wrong.
            self.errors_of = 0;
            self.errors.clear();
            return;
        }
        let j = scope.classes;
        let mut errors = vec![0.0; j * j];
        for tally in &self.tallies {
            for (class, row) in tally.rows.chunks_exact(tally.classes + 1).enumerate() {
                for (sum, count) in errors[class * j..].iter_mut().zip(&row[..tally.classes]) {
                    *sum += count.max(0.0);
                }
            }
        }
        for (class, row) in errors.chunks_exact_mut(j).enumerate() {
            row[class] = 0.0;
            let sum: f64 = row.iter().sum();
            for (label, share) in row.iter_mut().enumerate() {
                if label != class {
                    *share = (*share + ERROR_PRIOR / (j - 1) as f64) / (sum + ERROR_PRIOR);
                }
            }
        }
        self.errors = errors;
        self.errors_of = j;
    }

    /// Probability of each class of an item without labels, excluding `own` from the counts.
    ///
    /// The unseen class has only the pseudo-items of a class, measured against all items including
    /// gold: gold shows which classes exist. The rest is divided by how often classes occur outside
    /// gold.
    pub(super) fn prior(&self, scope: Scope, own: Option<Own<'_>>, out: &mut [f64]) {
        debug_assert_eq!(out.len(), scope.entries());
        let (drawn, gold) = match own {
            Some(own) if own.counts_as_item => (Some(own), 0.0),
            Some(_) => (None, 1.0),
            None => (None, 0.0),
        };
        let mut sum = 0.0;
        for (class, probability) in out[..scope.classes].iter_mut().enumerate() {
            let count = self.items.get(class).copied().unwrap_or(0.0)
                - drawn.map_or(0.0, |own| own.probability(class));
            *probability = count.max(0.0) + CLASS_PRIOR;
            sum += *probability;
        }
        if scope.open {
            let all = sum + CLASS_PRIOR + (self.gold - gold).max(0.0);
            let unseen = if scope.classes == 0 {
                1.0
            } else {
                CLASS_PRIOR / all
            };
            out[scope.classes] = unseen;
            sum /= 1.0 - unseen;
        }
        for probability in &mut out[..scope.classes] {
            *probability /= sum;
        }
    }

    /// Expected accuracy of an annotator's coin.
    fn coin(&self, scope: Scope, annotator: usize, own: Option<Own<'_>>) -> f64 {
        let (mut right, mut all) = self
            .tallies
            .get(annotator)
            .map_or((0.0, 0.0), |tally| (tally.right, tally.all));
        if let Some(own) = own {
            let sum: f64 = own.probabilities.iter().sum();
            for vote in own.votes.iter().filter(|vote| vote.annotator == annotator) {
                right -= own.probability(vote.class);
                all -= sum;
            }
        }
        let right = right.max(0.0);
        (right + COIN_STRENGTH * self.mean(scope)) / (all.max(right) + COIN_STRENGTH)
    }

    /// Probability of `vote` for each class of the item, excluding `own` from the counts.
    pub(super) fn likelihood(
        &self,
        scope: Scope,
        vote: Vote,
        own: Option<Own<'_>>,
        frequencies: &[f64],
        out: &mut [f64],
    ) {
        let coin = self.coin(scope, vote.annotator, own);
        let others = scope.alternatives() - 1.0;
        match self.strength {
            None => out.fill((1.0 - coin) / others),
            Some(strength) => {
                let seen = if scope.open {
                    1.0 - frequencies[scope.classes]
                } else {
                    1.0
                };
                let tally = self.tallies.get(vote.annotator);
                let (mut same, mut any) = (0.0, 0.0);
                for other in own.iter().flat_map(|own| own.votes) {
                    if other.annotator == vote.annotator {
                        any += 1.0;
                        same += f64::from(u8::from(other.class == vote.class));
                    }
                }
                for (class, probability) in out[..scope.classes].iter_mut().enumerate() {
                    let mean = self.mean_in(scope, frequencies[class] / seen);
                    let expected = if class == vote.class {
                        mean
                    } else {
                        (1.0 - mean) * self.error_share(scope, class, vote.class)
                    };
                    let (mut count, mut all) =
                        tally.map_or((0.0, 0.0), |tally| tally.row(class, vote.class));
                    if let Some(own) = own {
                        let probability = own.probability(class);
                        count -= same * probability;
                        all -= any * probability;
                    }
                    let count = count.max(0.0);
                    *probability = (count + strength * expected) / (all.max(count) + strength);
                }
            }
        }
        if self.strength.is_none() {
            out[vote.class] = coin;
        }
        if scope.open {
            out[scope.classes] = (1.0 - coin) / scope.classes.max(1) as f64;
        }
    }

    /// Updates the class probabilities `out` with `vote`; returns the logarithm of the vote's own
    /// probability.
    ///
    /// `own` is excluded from the counts. `scratch` has the class frequencies.
    pub(super) fn step(
        &self,
        scope: Scope,
        (vote, tie): (Vote, Tie),
        own: Option<Own<'_>>,
        out: &mut [f64],
        scratch: &mut Scratch,
    ) -> f64 {
        let Scratch {
            frequencies,
            column,
        } = scratch;
        self.likelihood(scope, vote, own, frequencies, column);
        let mut sum = 0.0;
        for (probability, likelihood) in out.iter_mut().zip(column.iter()) {
            *probability *= tie.apply(*likelihood);
            sum += *probability;
        }
        for probability in out.iter_mut() {
            *probability /= sum;
        }
        sum.ln()
    }

    /// Writes the class probabilities of an item with `votes` to `out`; returns the logarithm of
    /// the votes' probability.
    ///
    /// `known` fixes the class, as gold does. `own` is excluded from the counts. `scratch` is
    /// overwritten and then has the class frequencies. Votes beyond `ties` depend on no other.
    pub(super) fn posterior(
        &self,
        scope: Scope,
        (votes, ties): (&[Vote], &[Tie]),
        known: Option<usize>,
        own: Option<Own<'_>>,
        out: &mut [f64],
        scratch: &mut Scratch,
    ) -> f64 {
        self.prior(scope, own, &mut scratch.frequencies);
        if let Some(known) = known {
            out.fill(0.0);
            out[known] = 1.0;
        } else {
            out.copy_from_slice(&scratch.frequencies);
        }
        let ties = ties.iter().copied().chain(std::iter::repeat(Tie::NONE));
        votes
            .iter()
            .copied()
            .zip(ties)
            .map(|vote| self.step(scope, vote, own, out, scratch))
            .sum()
    }

    /// Adds an item's votes to the counts; with `sign` -1 removes them.
    pub(super) fn count(&mut self, scope: Scope, own: Own<'_>, sign: f64) {
        if own.counts_as_item {
            if self.items.len() < scope.classes {
                self.items.resize(scope.classes, 0.0);
            }
            for (count, probability) in self.items.iter_mut().zip(own.probabilities) {
                *count += sign * probability;
            }
        } else {
            self.gold += sign;
        }
        let sum: f64 = own.probabilities.iter().sum();
        for vote in own.votes {
            if self.tallies.len() <= vote.annotator {
                self.tallies.resize_with(vote.annotator + 1, Tally::default);
            }
            let matrix = self.strength.is_some();
            let tally = &mut self.tallies[vote.annotator];
            tally.right += sign * own.probability(vote.class);
            tally.all += sign * sum;
            if matrix {
                tally.grow(scope.classes);
                let width = tally.classes + 1;
                for (row, probability) in tally.rows.chunks_exact_mut(width).zip(own.probabilities)
                {
                    row[vote.class] += sign * probability;
                    row[width - 1] += sign * probability;
                }
            }
        }
    }

    /// Mean and variance of an annotator's accuracy, over the classes weighted by frequency,
    /// excluding `own` from the counts.
    pub(super) fn accuracy(
        &self,
        scope: Scope,
        annotator: usize,
        own: Option<Own<'_>>,
    ) -> (f64, f64) {
        let mean = self.mean(scope);
        let tally = self.tallies.get(annotator);
        let given = |own: Own<'_>| {
            let votes = own.votes.iter().filter(|vote| vote.annotator == annotator);
            votes.map(|vote| vote.class).collect::<Vec<_>>()
        };
        let given = own.map(given).unwrap_or_default();
        let probability = |class| own.map_or(0.0, |own| own.probability(class));
        let beta = |right: f64, all: f64, strength: f64, mean: f64| {
            let right = right.max(0.0);
            let size = all.max(right) + strength;
            let share = (right + strength * mean) / size;
            (share, share * (1.0 - share) / (size + 1.0))
        };
        let Some(strength) = self.strength else {
            let (mut right, mut all) = tally.map_or((0.0, 0.0), |tally| (tally.right, tally.all));
            let sum: f64 = own.map_or(0.0, |own| own.probabilities.iter().sum());
            for class in given {
                right -= probability(class);
                all -= sum;
            }
            return beta(right, all, COIN_STRENGTH, mean);
        };
        let counted = own.is_some_and(|own| own.counts_as_item);
        let items = |class: usize| {
            let own = if counted { probability(class) } else { 0.0 };
            (self.items.get(class).copied().unwrap_or(0.0) - own).max(0.0) + CLASS_PRIOR
        };
        let known: f64 = (0..scope.classes).map(items).sum();
        let (mut share, mut variance) = (0.0, 0.0);
        for class in 0..scope.classes {
            let frequency = items(class) / known;
            let (mut right, mut all) = tally.map_or((0.0, 0.0), |tally| tally.row(class, class));
            for &label in &given {
                right -= f64::from(u8::from(label == class)) * probability(class);
                all -= probability(class);
            }
            let (one, spread) = beta(right, all, strength, self.mean_in(scope, frequency));
            share += frequency * one;
            variance += frequency * frequency * spread;
        }
        if scope.classes == 0 {
            beta(0.0, 0.0, strength, mean)
        } else {
            (share, variance)
        }
    }

    /// Whether a checkpoint's counts fit this many classes.
    pub(super) fn fits(&self, classes: usize) -> bool {
        let j = self.errors_of;
        self.tallies.iter().all(|tally| tally.fits(classes))
            && self.items.len() <= classes
            && j <= classes
            && self.errors.len() == j * j
    }

    /// Resets the counts to `base` (the items that refits no longer visit).
    pub(super) fn restart_from(&mut self, base: &Base) {
        self.tallies.clone_from(&base.tallies);
        self.items.clone_from(&base.items);
        self.gold = base.gold;
    }

    /// Adds an item to the counts that no longer change.
    pub(super) fn retire(&self, base: &mut Base, scope: Scope, own: Own<'_>) {
        let mut frozen = Self {
            tallies: std::mem::take(&mut base.tallies),
            items: std::mem::take(&mut base.items),
            gold: base.gold,
            errors: Vec::new(),
            ..*self
        };
        frozen.count(scope, own, 1.0);
        base.tallies = frozen.tallies;
        base.items = frozen.items;
        base.gold = frozen.gold;
    }
}

/// Counts of the items that refits no longer visit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Base {
    tallies: Vec<Tally>,
    items: Vec<f64>,
    gold: f64,
}

impl Base {
    pub(super) fn fits(&self, classes: usize) -> bool {
        self.tallies.iter().all(|tally| tally.fits(classes)) && self.items.len() <= classes
    }

    pub(super) fn forget_matrices(&mut self) {
        for tally in &mut self.tallies {
            tally.rows = Vec::new();
            tally.classes = 0;
        }
    }
}
