//! Ratings regrouped from annotator-major to item-major: what all coefficients start from.

use super::{Agreement, ConsensusError};

/// The values of each item side by side, missing ones left out, in one allocation.
///
/// A flat vector with offsets instead of a vector per item: regrouping 10,000 items x 10 annotators
/// is then two passes over memory and two allocations, which is most of the cost of every
/// coefficient.
pub(super) struct Units<T> {
    values: Vec<T>,
    /// Item `i` owns `values[starts[i]..starts[i + 1]]`.
    starts: Vec<usize>,
}

impl<T: Copy> Units<T> {
    /// Regroups `ratings[annotator][item]`; rows of unequal length are an error.
    pub(super) fn new(ratings: &[Vec<Option<T>>]) -> Result<Self, ConsensusError> {
        let items = ratings.first().map_or(0, Vec::len);
        if let Some((row, found)) = ratings
            .iter()
            .map(Vec::len)
            .enumerate()
            .find(|&(_, found)| found != items)
        {
            return Err(ConsensusError::UnequalLengths {
                row,
                expected: items,
                found,
            });
        }
        let mut starts = Vec::with_capacity(items + 1);
        let mut values = Vec::with_capacity(items.saturating_mul(ratings.len()));
        starts.push(0);
        for item in 0..items {
            values.extend(ratings.iter().filter_map(|row| row[item]));
            starts.push(values.len());
        }
        Ok(Self { values, starts })
    }

    /// The values of every item that has at least one.
    pub(super) fn rated(&self) -> impl Iterator<Item = &[T]> {
        self.starts
            .windows(2)
            .map(|w| &self.values[w[0]..w[1]])
            .filter(|unit| !unit.is_empty())
    }

    /// The values of every item that has at least two: the only ones in which anything can agree.
    pub(super) fn pairable(&self) -> impl Iterator<Item = &[T]> {
        self.rated().filter(|unit| unit.len() >= 2)
    }

    /// Applies `f` to every value.
    pub(super) fn map<U>(&self, f: impl FnMut(T) -> U) -> Units<U> {
        Units {
            values: self.values.iter().copied().map(f).collect(),
            starts: self.starts.clone(),
        }
    }

    /// Pairs the value with the number of pairable items and of value pairs in them.
    pub(super) fn report(&self, value: f64) -> Agreement {
        let (units, pairs) = self.pairable().fold((0, 0_u64), |(units, pairs), unit| {
            (units + 1, pairs.saturating_add(pairs_of(unit.len() as u64)))
        });
        Agreement {
            value,
            units,
            pairs,
        }
    }
}

impl<T: Copy + Ord> Units<T> {
    /// Sorts inside each item, so that equal values are neighbours and runs can be counted.
    pub(super) fn sorted(mut self) -> Self {
        for window in self.starts.windows(2) {
            self.values[window[0]..window[1]].sort_unstable();
        }
        self
    }
}

/// Unordered pairs among `n` values.
pub(super) fn pairs_of(n: u64) -> u64 {
    // One of the factors is even; halving it first keeps the product inside u64 as long as
    // possible.
    if n < 2 {
        0
    } else if n.is_multiple_of(2) {
        (n / 2).saturating_mul(n - 1)
    } else {
        n.saturating_mul((n - 1) / 2)
    }
}

/// Lengths of the runs of equal neighbours in a sorted slice, with the value of each.
pub(super) fn runs<T: Copy + PartialEq>(sorted: &[T]) -> impl Iterator<Item = (T, u64)> {
    sorted
        .chunk_by(|a, b| a == b)
        .map(|run| (run[0], run.len() as u64))
}

/// Share of agreeing pairs among the pairs of one item whose values are sorted; two values at
/// least.
pub(super) fn agreeing_share<T: Copy + PartialEq>(sorted: &[T]) -> f64 {
    let agreeing: u64 = runs(sorted).map(|(_, n)| pairs_of(n)).sum();
    agreeing as f64 / pairs_of(sorted.len() as u64) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_leave_no_gap() {
        let units = Units::new(&[vec![Some(3), None, None], vec![Some(1), None, Some(2)]]).unwrap();
        assert_eq!(units.rated().collect::<Vec<_>>(), [&[3, 1][..], &[2]]);
        assert_eq!(units.pairable().count(), 1);
        let units = units.sorted();
        assert_eq!(units.rated().next().unwrap(), [1, 3]);
        assert_eq!(
            units.report(0.5),
            Agreement {
                value: 0.5,
                units: 1,
                pairs: 1
            }
        );
    }

    #[test]
    fn ragged_rows_are_refused() {
        let ragged = [vec![Some(1), Some(2)], vec![Some(1)]];
        assert_eq!(
            Units::new(&ragged).err(),
            Some(ConsensusError::UnequalLengths {
                row: 1,
                expected: 2,
                found: 1
            })
        );
    }

    #[test]
    fn pair_counts_do_not_overflow() {
        assert_eq!(pairs_of(0), 0);
        assert_eq!(pairs_of(1), 0);
        assert_eq!(pairs_of(2), 1);
        assert_eq!(pairs_of(5), 10);
        assert_eq!(pairs_of(u64::MAX), u64::MAX);
    }
}
