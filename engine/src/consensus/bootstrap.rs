//! Uncertainty of a coefficient: percentile intervals by resampling items.

use serde::{Deserialize, Serialize};

use super::{ConsensusError, UndefinedReason};

/// Resamples that are enough for the ends of a 95% interval to be steady in the second digit.
pub const BOOTSTRAP_RESAMPLES_DEFAULT: usize = 1_000;

/// A range for a coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Interval {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// Resamples that had a value; the ends are quantiles of these.
    pub defined: usize,
    /// Resamples in which the statistic was undefined.
    pub undefined: usize,
}

/// Percentile bootstrap interval of a statistic over `units` items.
///
/// Draws `resamples` times `units` positions with replacement from `0..units`, asks `statistic` for
/// the value on each draw, and returns the quantiles at (1 - *c*) / 2 and (1 + *c*) / 2 of those
/// values, *c* being `confidence` (interpolated linearly between neighbours). Items are drawn
/// whole, with all their ratings, since ratings of one item depend on each other.
///
/// The same `seed` gives the same interval on every machine: the draws come from SplitMix64, which
/// lives here.
///
/// Draws on which the statistic is [`Undefined`](ConsensusError::Undefined) are left out and
/// counted; an interval in which many are missing describes only the samples with enough variation.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) when `units` is 0 (no pair), or when half of the
///   draws or more have no value.
/// - [`OutOfDomain`](ConsensusError::OutOfDomain) when `confidence` is not strictly between 0 and
///   1, when `resamples` is 0, or when the statistic returns NaN or an infinite number.
/// - Any other error of `statistic` at once.
///
/// # Citations
///
/// Efron, B. and Tibshirani, R. J. (1993). *An Introduction to the Bootstrap*. Chapman and Hall,
/// chapter 13. Steele, G. L., Lea, D. and Flood, C. H. (2014). Fast splittable pseudorandom number
/// generators. *Proceedings of OOPSLA 2014*, 453-472. Quantiles: definition 7 of Hyndman, R. J. and
/// Fan, Y. (1996). Sample quantiles in statistical packages. *The American Statistician* 50(4),
/// 361-365.
///
/// # Examples
///
/// Survival of seven treated mice (Efron and Tibshirani 1993, Table 2.1): mean 86.86.
///
/// ```
/// use glyph_workflow_engine::consensus::bootstrap_interval;
///
/// let days = [94.0, 197.0, 16.0, 38.0, 99.0, 141.0, 23.0];
/// let mean = |drawn: &[usize]| Ok(drawn.iter().map(|&i| days[i]).sum::<f64>() / 7.0);
/// assert!((mean(&[0, 1, 2, 3, 4, 5, 6])? - 86.86).abs() < 5e-3);
/// let interval = bootstrap_interval(7, mean, 1_000, 0.95, 42)?;
/// assert!(interval.lower < 86.86 && 86.86 < interval.upper);
/// assert_eq!(interval, bootstrap_interval(7, mean, 1_000, 0.95, 42)?);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn bootstrap_interval(
    units: usize,
    mut statistic: impl FnMut(&[usize]) -> Result<f64, ConsensusError>,
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Result<Interval, ConsensusError> {
    if !(confidence > 0.0 && confidence < 1.0) {
        return Err(ConsensusError::OutOfDomain {
            name: "confidence",
            value: confidence,
        });
    }
    if resamples == 0 {
        return Err(ConsensusError::OutOfDomain {
            name: "resamples",
            value: 0.0,
        });
    }
    if units == 0 {
        return Err(ConsensusError::NO_PAIR);
    }
    let mut random = SplitMix64 { state: seed };
    let mut drawn = vec![0; units];
    let mut values = Vec::new();
    for _ in 0..resamples {
        drawn.fill_with(|| random.below(units));
        match statistic(&drawn) {
            Ok(value) if value.is_finite() => values.push(value),
            Ok(value) => {
                return Err(ConsensusError::OutOfDomain {
                    name: "value of the statistic",
                    value,
                });
            }
            Err(ConsensusError::Undefined { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let undefined = resamples - values.len();
    if values.len() <= undefined {
        return Err(ConsensusError::Undefined {
            reason: UndefinedReason::MostResamplesUndefined,
        });
    }
    values.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Ok(Interval {
        lower: quantile(&values, tail),
        upper: quantile(&values, 1.0 - tail),
        defined: values.len(),
        undefined,
    })
}

/// [`bootstrap_interval`] of a coefficient of ratings, over items.
///
/// `ratings[annotator][item]` is handed to `coefficient` with its items redrawn.
///
/// # Errors
///
/// As [`bootstrap_interval`], and [`UnequalLengths`](ConsensusError::UnequalLengths) when the rows
/// differ in length.
///
/// # Examples
///
/// The data of Krippendorff (2011), section C, with alpha 0.743: twelve items leave much room.
///
/// ```
/// use glyph_workflow_engine::consensus::{bootstrap_ratings, krippendorffs_alpha_nominal};
///
/// let row = |codes: &str| codes.chars().map(|c| c.to_digit(10)).collect::<Vec<_>>();
/// let ratings =
///     [row("123321412..."), row("1233224125.3"), row(".3332342251."), row("12332441251.")];
/// let interval = bootstrap_ratings(&ratings, krippendorffs_alpha_nominal, 1_000, 0.95, 1)?;
/// assert!(interval.lower < 0.743 && 0.743 < interval.upper);
/// assert!(interval.upper - interval.lower > 0.2);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn bootstrap_ratings<T: Copy>(
    ratings: &[Vec<Option<T>>],
    mut coefficient: impl FnMut(&[Vec<Option<T>>]) -> Result<f64, ConsensusError>,
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Result<Interval, ConsensusError> {
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
    // One scratch matrix for all draws: allocating a new one would cost more than many
    // coefficients.
    let mut redrawn: Vec<Vec<Option<T>>> = ratings.to_vec();
    let statistic = |drawn: &[usize]| {
        for (target, row) in redrawn.iter_mut().zip(ratings) {
            target.clear();
            target.extend(drawn.iter().map(|&item| row[item]));
        }
        coefficient(&redrawn)
    };
    bootstrap_interval(items, statistic, resamples, confidence, seed)
}

/// The value below which a share `p` of the sorted, non-empty `values` lies.
fn quantile(values: &[f64], p: f64) -> f64 {
    let position = p * (values.len() - 1) as f64;
    // The index by counting, because a float must not be truncated to an integer.
    let below = (1..values.len())
        .take_while(|&k| k as f64 <= position)
        .count();
    let (low, high) = (values[below], values[(below + 1).min(values.len() - 1)]);
    let share = position - below as f64;
    // As a weighted sum, since the difference of two huge values may overflow.
    low * (1.0 - share) + high * share
}

/// SplitMix64: small, fast, the same everywhere, and good enough to draw samples (not keys).
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A position below `bound`, each equally likely; `bound` is not 0.
    ///
    /// The high half of draw times bound, refusing the few draws that would favour some positions
    /// (Lemire 2019, Fast random integer generation in an interval).
    fn below(&mut self, bound: usize) -> usize {
        let wide = bound as u128;
        // How many of the 2^64 draws are left over after dealing them out evenly.
        let surplus = (1_u128 << 64) % wide;
        loop {
            let product = u128::from(self.next()) * wide;
            if u128::from(low_half(product)) >= surplus {
                return usize::try_from(product >> 64).unwrap_or(0);
            }
        }
    }
}

fn low_half(product: u128) -> u64 {
    let mask = u128::from(u64::MAX);
    u64::try_from(product & mask).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::percent_agreement;

    #[test]
    fn the_generator_gives_the_published_sequence() {
        // First outputs for seed 1234567 of the authors' reference implementation (also on Rosetta
        // Code).
        let mut random = SplitMix64 { state: 1_234_567 };
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
        assert_eq!(random.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn positions_are_drawn_evenly() {
        let mut random = SplitMix64 { state: 7 };
        let mut counts = [0_u32; 3];
        for _ in 0..30_000 {
            counts[random.below(3)] += 1;
        }
        // Four standard deviations of a binomial of 30,000 and 1/3 are 327.
        assert!(
            counts.iter().all(|&count| count.abs_diff(10_000) < 327),
            "{counts:?}"
        );
    }

    #[test]
    fn the_interval_of_a_mean_is_near_the_normal_one() {
        // Mean of 400 values of 0 and 1, half each: standard error 0.025.
        let mean = |drawn: &[usize]| Ok(drawn.iter().filter(|&&i| i < 200).count() as f64 / 400.0);
        let interval = bootstrap_interval(400, mean, 2_000, 0.95, 3).unwrap();
        assert!((interval.lower - 0.451).abs() < 0.006, "{interval:?}");
        assert!((interval.upper - 0.549).abs() < 0.006, "{interval:?}");
    }

    #[test]
    fn settings_are_checked_and_undefined_draws_counted() {
        let one = |_: &[usize]| Ok(1.0);
        for confidence in [0.0, 1.0, f64::NAN] {
            assert!(bootstrap_interval(3, one, 10, confidence, 0).is_err());
        }
        assert!(bootstrap_interval(3, one, 0, 0.9, 0).is_err());
        assert_eq!(
            bootstrap_interval(0, one, 10, 0.9, 0),
            Err(ConsensusError::NO_PAIR)
        );
        assert!(bootstrap_interval(3, |_: &[usize]| Ok(f64::NAN), 10, 0.9, 0).is_err());
        assert_eq!(
            bootstrap_interval(3, |_: &[usize]| Err(ConsensusError::NO_PAIR), 10, 0.9, 0),
            Err(ConsensusError::Undefined {
                reason: UndefinedReason::MostResamplesUndefined
            })
        );
        let mut call = 0;
        let sometimes = |_: &[usize]| {
            call += 1;
            if call % 3 == 0 {
                Err(ConsensusError::NO_VARIATION)
            } else {
                Ok(0.5)
            }
        };
        assert_eq!(
            bootstrap_interval(3, sometimes, 9, 0.9, 0),
            Ok(Interval {
                lower: 0.5,
                upper: 0.5,
                defined: 6,
                undefined: 3
            })
        );
        let ragged = [vec![Some(1)], vec![]];
        assert!(bootstrap_ratings(&ragged, percent_agreement, 9, 0.9, 0).is_err());
    }

    #[test]
    fn quantiles_interpolate() {
        let values = [1.0, 2.0, 4.0, 8.0];
        for (p, expected) in [(0.0, 1.0), (0.5, 3.0), (1.0, 8.0), (5.0 / 6.0, 6.0)] {
            assert!((quantile(&values, p) - expected).abs() < 1e-12);
        }
        assert!((quantile(&[3.0], 0.7) - 3.0).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn the_interval_lies_inside_the_values(
            values in prop::collection::vec(-1e3..1e3, 1..20),
            confidence in 0.01..0.99,
            seed in any::<u64>(),
        ) {
            let mean =
                |drawn: &[usize]| Ok(drawn.iter().map(|&i| values[i]).sum::<f64>() / drawn.len() as f64);
            let interval = bootstrap_interval(values.len(), mean, 50, confidence, seed).unwrap();
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(low - 1e-9 <= interval.lower && interval.lower <= interval.upper + 1e-9);
            prop_assert!(interval.upper <= high + 1e-9);
        }
    }
}
