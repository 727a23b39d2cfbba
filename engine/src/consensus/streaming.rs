//! Agreement over a moving window: items enter and leave; the coefficient always covers the items
//! inside.
//!
//! Both structures keep only counts. Adding or removing an item takes, for each of its values, time
//! logarithmic in the number of distinct categories. It does not depend on how many items are or
//! were inside. All counts are integers, so nothing drifts: after a million additions and removals
//! the value is that of the batch function on the remaining items.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::units::{pairs_of, runs};
use super::{Agreement, ConsensusError};

/// Krippendorff's alpha for unordered categories, over items that are added and removed.
///
/// The value is that of [`krippendorffs_alpha_nominal`](super::krippendorffs_alpha_nominal). With
/// *m_u* values in item *u* (two or more; other items do not count), *n_uc* of them *c*, *n_c* the
/// sum of *n_uc* over items and *n* the sum of *n_c*, that is
///
/// ```text
/// alpha = 1 - (n - 1) O / E
/// O = sum over u of  ( m_u^2 - sum over c of n_uc^2 ) / (m_u - 1)
/// E = n^2 - sum over c of n_c^2
/// ```
///
/// *E* is kept as a whole number. *O* is kept as whole numbers as well, one numerator for each
/// *m_u* in use.
///
/// # Errors
///
/// [`agreement`](Self::agreement) is [`Undefined`](ConsensusError::Undefined) without an item of
/// two values and when all values that count are equal. [`remove`](Self::remove) is
/// [`NotInWindow`](ConsensusError::NotInWindow) for values that cannot have been added.
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::{StreamingAlpha, krippendorffs_alpha_nominal};
///
/// let mut alpha = StreamingAlpha::new();
/// for item in [[0, 0, 1], [1, 1, 1], [2, 2, 2], [0, 0, 0]] {
///     alpha.add(&item);
/// }
/// // The window moves on: the oldest item leaves.
/// alpha.remove(&[0, 0, 1])?;
/// alpha.add(&[1, 2, 2]);
/// let batch = krippendorffs_alpha_nominal(&[
///     [1, 2, 0, 1].map(Some).to_vec(),
///     [1, 2, 0, 2].map(Some).to_vec(),
///     [1, 2, 0, 2].map(Some).to_vec(),
/// ])?;
/// assert!((alpha.agreement()?.value - batch).abs() < 1e-12);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamingAlpha {
    /// *n_c* for each category, none of them 0.
    values: BTreeMap<u32, u64>,
    /// Sum of squares of `values`.
    squares: u128,
    /// *n*.
    total: u64,
    /// For each number of values in an item: how many items have it, and their summed numerators of
    /// *O*.
    sizes: BTreeMap<usize, (usize, u128)>,
}

impl StreamingAlpha {
    /// An empty window.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an item by its values, in any order. An item with fewer than two values changes
    /// nothing.
    pub fn add(&mut self, values: &[u32]) {
        let Some((counts, unequal)) = pairable(values) else {
            return;
        };
        for (category, count) in counts {
            let entry = self.values.entry(category).or_default();
            self.squares += square(*entry + count) - square(*entry);
            *entry += count;
            self.total += count;
        }
        let (items, sum) = self.sizes.entry(values.len()).or_default();
        *items += 1;
        *sum += unequal;
    }

    /// Removes an item that was added with these values, in any order.
    ///
    /// # Errors
    ///
    /// [`NotInWindow`](ConsensusError::NotInWindow) if such an item cannot be inside; nothing has
    /// changed then. Another item of the same size and disagreement cannot be distinguished from
    /// it.
    pub fn remove(&mut self, values: &[u32]) -> Result<(), ConsensusError> {
        let Some((counts, unequal)) = pairable(values) else {
            return Ok(());
        };
        let size = values.len();
        let inside = self.sizes.get(&size).is_some_and(|&(items, sum)| {
            // The last item of its size must leave no remainder.
            sum >= unequal && (items > 1 || sum == unequal)
        }) && counts
            .iter()
            .all(|(category, count)| self.values.get(category).is_some_and(|have| have >= count));
        if !inside {
            return Err(ConsensusError::NotInWindow);
        }
        for (category, count) in counts {
            if let Some(entry) = self.values.get_mut(&category) {
                self.squares -= square(*entry) - square(*entry - count);
                *entry -= count;
                self.total -= count;
                if *entry == 0 {
                    self.values.remove(&category);
                }
            }
        }
        if let Some((items, sum)) = self.sizes.get_mut(&size) {
            *items -= 1;
            *sum -= unequal;
            if *items == 0 {
                self.sizes.remove(&size);
            }
        }
        Ok(())
    }

    /// The coefficient of the items inside, with the number of items that count and of pairs inside
    /// them.
    ///
    /// # Errors
    ///
    /// [`Undefined`](ConsensusError::Undefined), see the [type](Self).
    pub fn agreement(&self) -> Result<Agreement, ConsensusError> {
        if self.total == 0 {
            return Err(ConsensusError::NO_PAIR);
        }
        if self.values.len() == 1 {
            return Err(ConsensusError::NO_VARIATION);
        }
        // An unused size cannot occur, so `size - 1` is at least 1.
        let observed: f64 = self
            .sizes
            .iter()
            .map(|(&size, &(_, unequal))| unequal as f64 / (size - 1) as f64)
            .sum();
        let expected = square(self.total) - self.squares;
        Ok(Agreement {
            value: 1.0 - (self.total - 1) as f64 * observed / expected as f64,
            units: self.sizes.values().map(|&(items, _)| items).sum(),
            pairs: self
                .sizes
                .iter()
                .map(|(&size, &(items, _))| items as u64 * pairs_of(size as u64))
                .sum(),
        })
    }

    /// Whether no item that counts is inside.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

/// Counts of the categories among two values or more, and the ordered pairs of unequal ones.
fn pairable(values: &[u32]) -> Option<(Vec<(u32, u64)>, u128)> {
    if values.len() < 2 {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let counts: Vec<(u32, u64)> = runs(&sorted).collect();
    let equal: u128 = counts.iter().map(|&(_, count)| square(count)).sum();
    Some((counts, square(values.len() as u64) - equal))
}

fn square(count: u64) -> u128 {
    u128::from(count) * u128::from(count)
}

/// Cohen's kappa of two annotators, over items that are added and removed.
///
/// The value is that of [`cohens_kappa`](super::cohens_kappa). With *n* items inside, *d* of them
/// labelled differently, and *a_k*, *b_k* how often either annotator used category *k*, that is
///
/// ```text
/// kappa = 1 - n d / ( n^2 - sum over k of a_k b_k )
/// ```
///
/// # Errors
///
/// [`agreement`](Self::agreement) is [`Undefined`](ConsensusError::Undefined) without items and
/// when both used one and the same category throughout. [`remove`](Self::remove) is
/// [`NotInWindow`](ConsensusError::NotInWindow) for a pair that cannot have been added.
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::StreamingKappa;
///
/// let mut kappa = StreamingKappa::new();
/// for (pair, times) in [((0, 0), 20), ((0, 1), 5), ((1, 0), 10), ((1, 1), 15)] {
///     for _ in 0..times {
///         kappa.add(pair.0, pair.1);
///     }
/// }
/// assert!((kappa.agreement()?.value - 0.4).abs() < 1e-12);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamingKappa {
    /// How often each annotator used each category; never both 0.
    margins: BTreeMap<u32, (u64, u64)>,
    /// Sum of the products of `margins`.
    products: u128,
    items: usize,
    differing: usize,
}

impl StreamingKappa {
    /// An empty window.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an item by the categories that the two annotators gave it.
    pub fn add(&mut self, a: u32, b: u32) {
        self.change(a, |margin| margin.0 += 1);
        self.change(b, |margin| margin.1 += 1);
        self.items += 1;
        self.differing += usize::from(a != b);
    }

    /// Removes an item that was added with these categories.
    ///
    /// # Errors
    ///
    /// [`NotInWindow`](ConsensusError::NotInWindow) when such an item cannot be inside; nothing has
    /// changed then.
    pub fn remove(&mut self, a: u32, b: u32) -> Result<(), ConsensusError> {
        let used = |category, side: fn(&(u64, u64)) -> u64| {
            self.margins
                .get(&category)
                .is_some_and(|margin| side(margin) > 0)
        };
        let equal = self.items - self.differing;
        let inside = used(a, |margin| margin.0)
            && used(b, |margin| margin.1)
            && if a == b {
                equal > 0
            } else {
                self.differing > 0
            };
        if !inside {
            return Err(ConsensusError::NotInWindow);
        }
        self.change(a, |margin| margin.0 -= 1);
        self.change(b, |margin| margin.1 -= 1);
        self.items -= 1;
        self.differing -= usize::from(a != b);
        Ok(())
    }

    fn change(&mut self, category: u32, by: impl FnOnce(&mut (u64, u64))) {
        let product = |margin: (u64, u64)| u128::from(margin.0) * u128::from(margin.1);
        let margin = self.margins.entry(category).or_default();
        let before = product(*margin);
        by(margin);
        self.products = self.products - before + product(*margin);
        if *margin == (0, 0) {
            self.margins.remove(&category);
        }
    }

    /// The coefficient of the items inside; there are as many pairs as items.
    ///
    /// # Errors
    ///
    /// [`Undefined`](ConsensusError::Undefined), see the [type](Self).
    pub fn agreement(&self) -> Result<Agreement, ConsensusError> {
        if self.items == 0 {
            return Err(ConsensusError::NO_PAIR);
        }
        let expected = square(self.items as u64) - self.products;
        if expected == 0 {
            return Err(ConsensusError::NO_VARIATION);
        }
        let observed = self.items as u128 * self.differing as u128;
        Ok(Agreement {
            value: 1.0 - observed as f64 / expected as f64,
            units: self.items,
            pairs: self.items as u64,
        })
    }

    /// Whether no item is inside.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::consensus::{cohens_kappa_detailed, krippendorffs_alpha_nominal_detailed, samples};

    fn batch_alpha(window: &VecDeque<Vec<u32>>) -> Result<Agreement, ConsensusError> {
        let most = window.iter().map(Vec::len).max().unwrap_or(0);
        let ratings: Vec<Vec<Option<u32>>> = (0..most)
            .map(|k| window.iter().map(|item| item.get(k).copied()).collect())
            .collect();
        krippendorffs_alpha_nominal_detailed(&ratings)
    }

    fn equal(
        streamed: Result<Agreement, ConsensusError>,
        batch: Result<Agreement, ConsensusError>,
    ) -> Result<(), TestCaseError> {
        match (streamed, batch) {
            (Ok(streamed), Ok(batch)) => {
                samples::same(Ok(streamed.value), Some(batch.value))?;
                prop_assert_eq!((streamed.units, streamed.pairs), (batch.units, batch.pairs));
            }
            (streamed, batch) => prop_assert_eq!(streamed, batch),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_moving_window_has_the_alpha_of_its_content(
            items in prop::collection::vec(prop::collection::vec(0_u32..4, 0..6), 1..60),
            length in 1_usize..20,
        ) {
            let (mut alpha, mut window) = (StreamingAlpha::new(), VecDeque::new());
            for item in items {
                alpha.add(&item);
                window.push_back(item);
                if window.len() > length {
                    let mut oldest = window.pop_front().unwrap_or_default();
                    oldest.reverse();
                    alpha.remove(&oldest).unwrap();
                }
                equal(alpha.agreement(), batch_alpha(&window))?;
            }
            for item in &window {
                alpha.remove(item).unwrap();
            }
            prop_assert_eq!(alpha, StreamingAlpha::new());
        }

        #[test]
        fn a_moving_window_has_the_kappa_of_its_content(
            items in prop::collection::vec((0_u32..3, 0_u32..3), 1..60),
            length in 1_usize..20,
        ) {
            let (mut kappa, mut window) = (StreamingKappa::new(), VecDeque::new());
            for (a, b) in items {
                kappa.add(a, b);
                window.push_back((a, b));
                if window.len() > length {
                    let (a, b) = window.pop_front().unwrap_or_default();
                    kappa.remove(a, b).unwrap();
                }
                let (a, b): (Vec<u32>, Vec<u32>) = window.iter().copied().unzip();
                equal(kappa.agreement(), cohens_kappa_detailed(&a, &b))?;
            }
            for (a, b) in window {
                kappa.remove(a, b).unwrap();
            }
            prop_assert_eq!(kappa, StreamingKappa::new());
        }
    }

    #[test]
    fn what_is_not_inside_cannot_leave() {
        let mut alpha = StreamingAlpha::new();
        assert_eq!(alpha.remove(&[1, 2]), Err(ConsensusError::NotInWindow));
        alpha.add(&[1, 1]);
        let before = alpha.clone();
        assert_eq!(alpha.remove(&[1, 1, 1]), Err(ConsensusError::NotInWindow));
        assert_eq!(alpha.remove(&[1, 2]), Err(ConsensusError::NotInWindow));
        assert_eq!(alpha, before);
        assert_eq!(
            alpha.remove(&[7]),
            Ok(()),
            "an item without pairs never counted"
        );

        let mut kappa = StreamingKappa::new();
        kappa.add(1, 2);
        kappa.add(2, 1);
        let before = kappa.clone();
        assert_eq!(kappa.remove(1, 1), Err(ConsensusError::NotInWindow));
        assert_eq!(kappa.remove(3, 1), Err(ConsensusError::NotInWindow));
        assert_eq!(kappa, before);
    }

    #[test]
    fn degenerate_windows_say_why() {
        let mut alpha = StreamingAlpha::new();
        assert_eq!(alpha.agreement(), Err(ConsensusError::NO_PAIR));
        alpha.add(&[5]);
        assert!(alpha.is_empty());
        alpha.add(&[5, 5]);
        assert_eq!(alpha.agreement(), Err(ConsensusError::NO_VARIATION));

        let mut kappa = StreamingKappa::new();
        assert_eq!(kappa.agreement(), Err(ConsensusError::NO_PAIR));
        kappa.add(4, 4);
        assert_eq!(kappa.agreement(), Err(ConsensusError::NO_VARIATION));
        assert!(!kappa.is_empty());
    }
}
