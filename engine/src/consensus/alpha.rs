//! Krippendorff's alpha: one coefficient for any number of annotators, gaps, and four levels of
//! measurement.
//!
//! All four are `1 - D_o / D_e`, mean disagreement inside items over mean disagreement among all
//! values, and differ in the disagreement of two values. Written out, both are sums over pairs of
//! values. The functions here use sums that need no pairs where the level has them (nominal,
//! ordinal, interval), so that their cost is that of sorting the values.

use super::units::{Units, runs};
use super::{Agreement, ConsensusError};

/// Krippendorff's alpha for unordered categories.
///
/// `ratings[annotator][item]` holds category codes, `None` where missing. Only items with two
/// values or more (pairable values) count. Item *u* has *m_u* values, *n_uc* of them *c*; *n* = sum
/// of *m_u* and *n_c* = sum of *n_uc* are taken over those items; *d(c, k)* is 0 for equal and 1
/// for unequal values.
///
/// ```text
/// alpha = 1 - D_o / D_e
/// D_o = 1/n       sum over u of  1/(m_u - 1)  sum over c, k of  n_uc n_uk d(c, k)
/// D_e = 1/(n (n - 1))                         sum over c, k of  n_c  n_k  d(c, k)
/// ```
///
/// 1 is full agreement, 0 is the agreement of randomly assigned values, negative is less than that.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) when no item has two values, and when all pairable
///   values are equal (`D_e` = 0).
/// - [`UnequalLengths`](ConsensusError::UnequalLengths) when the rows differ in length.
///
/// # Citation
///
/// Krippendorff, K. (2011). *Computing Krippendorff's Alpha-Reliability*. Annenberg School for
/// Communication, University of Pennsylvania. Krippendorff, K. (2004). *Content Analysis: An
/// Introduction to Its Methodology*, 2nd edition, chapter 11. Sage.
///
/// # Examples
///
/// Four observers, twelve units, gaps (Krippendorff 2011, section C): 0.743.
///
/// ```
/// use glyph_workflow_engine::consensus::krippendorffs_alpha_nominal;
///
/// let row = |codes: &str| codes.chars().map(|c| c.to_digit(10)).collect::<Vec<_>>();
/// let ratings =
///     [row("123321412..."), row("1233224125.3"), row(".3332342251."), row("12332441251.")];
/// assert!((krippendorffs_alpha_nominal(&ratings)? - 0.743).abs() < 5e-4);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn krippendorffs_alpha_nominal(ratings: &[Vec<Option<u32>>]) -> Result<f64, ConsensusError> {
    krippendorffs_alpha_nominal_detailed(ratings).map(|agreement| agreement.value)
}

/// [`krippendorffs_alpha_nominal`] with the number of items and pairs behind it.
pub fn krippendorffs_alpha_nominal_detailed(
    ratings: &[Vec<Option<u32>>],
) -> Result<Agreement, ConsensusError> {
    let units = Units::new(ratings)?.sorted();
    let totals = distinct(&units)?;
    let n: u64 = totals.iter().map(|&(_, count)| count).sum();
    // Unequal pairs are all pairs minus the equal ones: the double sum over c, k becomes a single
    // one.
    let unequal = |count: u64, equal: f64| (count as f64).powi(2) - equal;
    let expected = unequal(
        n,
        totals
            .iter()
            .map(|&(_, count)| (count as f64).powi(2))
            .sum(),
    );
    let observed: f64 = units
        .pairable()
        .map(|unit| {
            let equal = runs(unit).map(|(_, count)| (count as f64).powi(2)).sum();
            unequal(unit.len() as u64, equal) / (unit.len() - 1) as f64
        })
        .sum();
    Ok(units.report(1.0 - (n - 1) as f64 * observed / expected))
}

/// Krippendorff's alpha for ordered categories.
///
/// As [`krippendorffs_alpha_nominal`], with codes in the order of the scale and, for *c* < *k*,
///
/// ```text
/// d(c, k) = ( n_c / 2 + sum over c < g < k of n_g + n_k / 2 )^2
/// ```
///
/// This is the squared difference of the mid-ranks of *c* and *k* among all pairable values, so
/// only the order of the codes matters, and alpha here is the interval alpha of those ranks.
///
/// # Errors
///
/// As [`krippendorffs_alpha_nominal`].
///
/// # Citation
///
/// Krippendorff, K. (2011). *Computing Krippendorff's Alpha-Reliability*. Annenberg School for
/// Communication, University of Pennsylvania, section D.
///
/// # Examples
///
/// The data of Krippendorff (2011), section C: 0.815.
///
/// ```
/// use glyph_workflow_engine::consensus::krippendorffs_alpha_ordinal;
///
/// let row = |codes: &str| codes.chars().map(|c| c.to_digit(10)).collect::<Vec<_>>();
/// let ratings =
///     [row("123321412..."), row("1233224125.3"), row(".3332342251."), row("12332441251.")];
/// assert!((krippendorffs_alpha_ordinal(&ratings)? - 0.815).abs() < 5e-4);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn krippendorffs_alpha_ordinal(ratings: &[Vec<Option<u32>>]) -> Result<f64, ConsensusError> {
    krippendorffs_alpha_ordinal_detailed(ratings).map(|agreement| agreement.value)
}

/// [`krippendorffs_alpha_ordinal`] with the number of items and pairs behind it.
pub fn krippendorffs_alpha_ordinal_detailed(
    ratings: &[Vec<Option<u32>>],
) -> Result<Agreement, ConsensusError> {
    let units = Units::new(ratings)?;
    let totals = distinct(&units)?;
    let mut below = 0.0;
    let ranks: Vec<(u32, f64)> = totals
        .iter()
        .map(|&(code, count)| {
            let rank = below + count as f64 / 2.0;
            below += count as f64;
            (code, rank)
        })
        .collect();
    // A code that occurs only outside pairable items has no rank; it enters no pair either.
    let ranked = units.map(|code| {
        ranks
            .binary_search_by_key(&code, |&(code, _)| code)
            .map_or(0.0, |position| ranks[position].1)
    });
    Ok(ranked.report(alpha_of_squares(&ranked)))
}

/// Krippendorff's alpha for numbers whose differences mean something (temperatures, dates, slider
/// values).
///
/// `ratings[annotator][item]`, `None` where missing. As [`krippendorffs_alpha_nominal`], with
/// `d(c, k) = (c - k)^2`. Adding a constant to all values, or scaling them, changes nothing.
///
/// # Errors
///
/// As [`krippendorffs_alpha_nominal`], and [`NotFinite`](ConsensusError::NotFinite) for NaN and
/// infinite values.
///
/// # Citation
///
/// Krippendorff, K. (2011). *Computing Krippendorff's Alpha-Reliability*. Annenberg School for
/// Communication, University of Pennsylvania, section D.
///
/// # Examples
///
/// The data of Krippendorff (2011), section C: 0.849.
///
/// ```
/// use glyph_workflow_engine::consensus::krippendorffs_alpha_interval;
///
/// let row = |codes: &str| {
///     codes.chars().map(|c| c.to_digit(10).map(f64::from)).collect::<Vec<_>>()
/// };
/// let ratings =
///     [row("123321412..."), row("1233224125.3"), row(".3332342251."), row("12332441251.")];
/// assert!((krippendorffs_alpha_interval(&ratings)? - 0.849).abs() < 5e-4);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn krippendorffs_alpha_interval(ratings: &[Vec<Option<f64>>]) -> Result<f64, ConsensusError> {
    krippendorffs_alpha_interval_detailed(ratings).map(|agreement| agreement.value)
}

/// [`krippendorffs_alpha_interval`] with the number of items and pairs behind it.
pub fn krippendorffs_alpha_interval_detailed(
    ratings: &[Vec<Option<f64>>],
) -> Result<Agreement, ConsensusError> {
    let units = numbers(ratings)?;
    let (low, high) = range(&units).ok_or(ConsensusError::NO_PAIR)?;
    if low >= high {
        return Err(ConsensusError::NO_VARIATION);
    }
    // Measured from the lowest value and in units of the range, no square overflows, and close
    // values far from zero keep their digits. Halved only where the range itself would overflow,
    // since halving costs the smallest numbers a digit.
    let half = if (high - low).is_finite() { 1.0 } else { 0.5 };
    let width = high * half - low * half;
    let scaled = units.map(|value| (value * half - low * half) / width);
    Ok(scaled.report(alpha_of_squares(&scaled)))
}

/// Krippendorff's alpha for quantities with a true zero (lengths, counts, prices).
///
/// `ratings[annotator][item]`, `None` where missing. As [`krippendorffs_alpha_nominal`], with
///
/// ```text
/// d(c, k) = ( (c - k) / (c + k) )^2,        d(0, 0) = 0
/// ```
///
/// Values are zero or more. This level has no sum without pairs: the cost grows with the square of
/// the number of *distinct* values (a thousand take milliseconds, a hundred thousand many seconds).
///
/// # Errors
///
/// As [`krippendorffs_alpha_interval`], and
/// [`NegativeOnRatioScale`](ConsensusError::NegativeOnRatioScale) for a value below zero.
///
/// # Citation
///
/// Krippendorff, K. (2011). *Computing Krippendorff's Alpha-Reliability*. Annenberg School for
/// Communication, University of Pennsylvania, section D.
///
/// # Examples
///
/// The data of Krippendorff (2011), section C: 0.797.
///
/// ```
/// use glyph_workflow_engine::consensus::krippendorffs_alpha_ratio;
///
/// let row = |codes: &str| {
///     codes.chars().map(|c| c.to_digit(10).map(f64::from)).collect::<Vec<_>>()
/// };
/// let ratings =
///     [row("123321412..."), row("1233224125.3"), row(".3332342251."), row("12332441251.")];
/// assert!((krippendorffs_alpha_ratio(&ratings)? - 0.797).abs() < 5e-4);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn krippendorffs_alpha_ratio(ratings: &[Vec<Option<f64>>]) -> Result<f64, ConsensusError> {
    krippendorffs_alpha_ratio_detailed(ratings).map(|agreement| agreement.value)
}

/// [`krippendorffs_alpha_ratio`] with the number of items and pairs behind it.
pub fn krippendorffs_alpha_ratio_detailed(
    ratings: &[Vec<Option<f64>>],
) -> Result<Agreement, ConsensusError> {
    for (annotator, row) in ratings.iter().enumerate() {
        if let Some(item) = row.iter().position(|value| value.is_some_and(|v| v < 0.0)) {
            return Err(ConsensusError::NegativeOnRatioScale { annotator, item });
        }
    }
    let units = numbers(ratings)?;
    // For values that are not negative the order of the bits is the order of the numbers. `abs`
    // turns the -0.0 that may be among them into 0.0.
    let bits = units.map(|value| value.abs().to_bits()).sorted();
    let totals = distinct(&bits)?;
    let n: u64 = totals.iter().map(|&(_, count)| count).sum();
    let expected = ratio_disagreement(&totals);
    let mut counts = Vec::new();
    let observed: f64 = bits
        .pairable()
        .map(|unit| {
            counts.clear();
            counts.extend(runs(unit));
            ratio_disagreement(&counts) / (unit.len() - 1) as f64
        })
        .sum();
    Ok(units.report(1.0 - (n - 1) as f64 * observed / expected))
}

/// Sum over unordered pairs of distinct values, in ascending order, of count times count times
/// disagreement.
fn ratio_disagreement(counts: &[(u64, u64)]) -> f64 {
    let mut sum = 0.0;
    for (k, &(high, count_high)) in counts.iter().enumerate() {
        let high = f64::from_bits(high);
        let row: f64 = counts[..k]
            .iter()
            .map(|&(low, count_low)| {
                let low = f64::from_bits(low);
                // (high - low) / (high + low), divided by high above and below: the sum could
                // overflow.
                let share = ((high - low) / high) / (1.0 + low / high);
                count_low as f64 * share * share
            })
            .sum();
        sum += count_high as f64 * row;
    }
    sum
}

/// The pairable values in order with how often each occurs; an error unless there are two distinct
/// ones.
fn distinct<T: Copy + Ord>(units: &Units<T>) -> Result<Vec<(T, u64)>, ConsensusError> {
    let mut values: Vec<T> = units.pairable().flatten().copied().collect();
    values.sort_unstable();
    let totals: Vec<(T, u64)> = runs(&values).collect();
    match totals.len() {
        0 => Err(ConsensusError::NO_PAIR),
        1 => Err(ConsensusError::NO_VARIATION),
        _ => Ok(totals),
    }
}

fn numbers(ratings: &[Vec<Option<f64>>]) -> Result<Units<f64>, ConsensusError> {
    for (annotator, row) in ratings.iter().enumerate() {
        if let Some(item) = row
            .iter()
            .position(|value| value.is_some_and(|v| !v.is_finite()))
        {
            return Err(ConsensusError::NotFinite { annotator, item });
        }
    }
    Units::new(ratings)
}

fn range(units: &Units<f64>) -> Option<(f64, f64)> {
    units
        .pairable()
        .flatten()
        .fold(None, |range, &value| match range {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        })
}

/// Alpha with squared differences, for pairable values that are not all equal.
///
/// The squared differences of all ordered pairs among m values add up to 2 m times their squared
/// deviations from the mean, so two passes replace the pairs.
fn alpha_of_squares(units: &Units<f64>) -> f64 {
    let all = || units.pairable().flatten().copied();
    let n = all().count() as f64;
    let expected = 2.0 * n * deviations(all, n);
    let observed: f64 = units
        .pairable()
        .map(|unit| {
            let m = unit.len() as f64;
            2.0 * m * deviations(|| unit.iter().copied(), m) / (m - 1.0)
        })
        .sum();
    1.0 - (n - 1.0) * observed / expected
}

/// Squared deviations of `n` values from their mean.
fn deviations<I: Iterator<Item = f64>>(values: impl Fn() -> I, n: f64) -> f64 {
    let mean = values().sum::<f64>() / n;
    values().map(|value| (value - mean).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::samples;

    /// The definition, pair by pair; `d` also sees all pairable values.
    fn by_pairs<T: Copy + PartialEq>(
        ratings: &[Vec<Option<T>>],
        d: impl Fn(T, T, &[T]) -> f64,
    ) -> Option<f64> {
        let items = ratings.first().map_or(0, Vec::len);
        let units: Vec<Vec<T>> = (0..items)
            .map(|i| ratings.iter().filter_map(|row| row[i]).collect::<Vec<_>>())
            .filter(|unit| unit.len() > 1)
            .collect();
        let all = units.concat();
        let n = all.len() as f64;
        let sum = |values: &[T]| {
            values
                .iter()
                .flat_map(|&x| values.iter().map(move |&y| (x, y)))
                .map(|(x, y)| d(x, y, &all))
                .sum::<f64>()
        };
        let observed: f64 = units
            .iter()
            .map(|unit| sum(unit) / (unit.len() as f64 - 1.0))
            .sum::<f64>()
            / n;
        let expected = sum(&all) / (n * (n - 1.0));
        (all.len() > 1 && expected > 0.0).then(|| 1.0 - observed / expected)
    }

    fn ordinal(x: u32, y: u32, all: &[u32]) -> f64 {
        let count = |code: u32| all.iter().filter(|&&value| value == code).count() as f64;
        let (low, high) = (x.min(y), x.max(y));
        let between = all
            .iter()
            .filter(|&&value| low <= value && value <= high)
            .count() as f64;
        if x == y {
            0.0
        } else {
            (between - f64::midpoint(count(x), count(y))).powi(2)
        }
    }

    type Numeric = fn(&[Vec<Option<f64>>]) -> Result<f64, ConsensusError>;
    const NUMERIC: [Numeric; 2] = [krippendorffs_alpha_interval, krippendorffs_alpha_ratio];

    #[test]
    fn degenerate_inputs() {
        let lone = [vec![Some(1), None], vec![None, Some(2)]];
        assert_eq!(
            krippendorffs_alpha_nominal(&lone),
            Err(ConsensusError::NO_PAIR)
        );
        assert_eq!(
            krippendorffs_alpha_ordinal(&[]),
            Err(ConsensusError::NO_PAIR)
        );
        // The 2 is not pairable, so the pairable values do not vary.
        let flat = [vec![Some(1), Some(2)], vec![Some(1), None]];
        assert_eq!(
            krippendorffs_alpha_nominal(&flat),
            Err(ConsensusError::NO_VARIATION)
        );
        assert_eq!(
            krippendorffs_alpha_ordinal(&flat),
            Err(ConsensusError::NO_VARIATION)
        );
        for alpha in NUMERIC {
            assert_eq!(alpha(&[]), Err(ConsensusError::NO_PAIR));
            assert_eq!(alpha(&[vec![Some(1.0)]]), Err(ConsensusError::NO_PAIR));
            assert_eq!(
                alpha(&[vec![Some(0.1)], vec![Some(0.1)]]),
                Err(ConsensusError::NO_VARIATION)
            );
            assert_eq!(
                alpha(&[vec![Some(0.0)], vec![Some(-0.0)]]),
                Err(ConsensusError::NO_VARIATION)
            );
            for bad in [f64::NAN, f64::INFINITY] {
                assert_eq!(
                    alpha(&[vec![Some(1.0), None], vec![None, Some(bad)]]),
                    Err(ConsensusError::NotFinite {
                        annotator: 1,
                        item: 1
                    })
                );
            }
            assert!(alpha(&[vec![Some(1.0)], vec![]]).is_err());
        }
        assert_eq!(
            krippendorffs_alpha_ratio(&[vec![Some(-1.0)]]),
            Err(ConsensusError::NegativeOnRatioScale {
                annotator: 0,
                item: 0
            })
        );
    }

    #[test]
    fn huge_and_close_values_keep_their_digits() {
        let rows = |values: [[f64; 4]; 2]| values.map(|row| row.map(Some).to_vec());
        let plain =
            krippendorffs_alpha_interval(&rows([[0., 1., 2., 3.], [0., 2., 2., 3.]])).unwrap();
        let far = rows([[0., 1., 2., 3.], [0., 2., 2., 3.]].map(|row| row.map(|x| 1e15 + x)));
        assert!((krippendorffs_alpha_interval(&far).unwrap() - plain).abs() < 1e-12);
        let huge = rows([[-1.7e308, 1.7e308, 0., 0.], [-1.7e308, 1.7e308, 0., 0.]]);
        assert_eq!(krippendorffs_alpha_interval(&huge), Ok(1.0));
        let huge = rows([[1.7e308, 1e308, 0., 0.], [1.7e308, 1e308, 0., 0.]]);
        assert_eq!(krippendorffs_alpha_ratio(&huge), Ok(1.0));
        let tiny = rows([[0.0, 5e-324, 0., 0.], [0.0, 5e-324, 0., 0.]]);
        for alpha in NUMERIC {
            assert_eq!(alpha(&tiny), Ok(1.0));
        }
    }

    proptest! {
        #[test]
        fn categories_equal_the_definition(ratings in samples::codes()) {
            samples::same(
                krippendorffs_alpha_nominal(&ratings),
                by_pairs(&ratings, |x, y, _| f64::from(u8::from(x != y))),
            )?;
            samples::same(krippendorffs_alpha_ordinal(&ratings), by_pairs(&ratings, ordinal))?;
        }

        #[test]
        fn numbers_equal_the_definition(
            ratings in samples::matrix((0_i32..20).prop_map(|x| f64::from(x) / 4.0)),
        ) {
            samples::same(
                krippendorffs_alpha_interval(&ratings),
                by_pairs(&ratings, |x, y, _| (x - y).powi(2)),
            )?;
            samples::same(
                krippendorffs_alpha_ratio(&ratings),
                by_pairs(&ratings, |x, y, _| {
                    if x + y > 0.0 { ((x - y) / (x + y)).powi(2) } else { 0.0 }
                }),
            )?;
        }

        #[test]
        fn no_number_makes_it_panic(ratings in samples::matrix(any::<f64>())) {
            for alpha in NUMERIC {
                if let Ok(value) = alpha(&ratings) {
                    prop_assert!(value.is_finite() && value <= 1.0 + 1e-9);
                }
            }
        }
    }
}
