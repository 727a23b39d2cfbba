//! What a share that was counted says about the share that is true.

use serde::{Deserialize, Serialize};

use super::ConsensusError;

/// The confidence of intervals where nobody asks for another one.
pub const CONFIDENCE_DEFAULT: f64 = 0.95;

/// The two ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Bounds {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// How probable it is that somebody who is right with probability `share` is right at most `right`
/// times of `answers`: the p-value of the exact one-sided binomial test that the true share is
/// below `share`.
///
/// ```text
/// sum over k from 0 to right of  C(n, k) share^k (1 - share)^(n - k)
/// ```
///
/// # Errors
///
/// [`OutOfDomain`](ConsensusError::OutOfDomain) when `share` is not between 0 and 1.
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::binomial_at_most;
///
/// // The eight cups of tea of Fisher (1935), as eight independent guesses: all wrong in 1 of 256.
/// assert!((binomial_at_most(0, 8, 0.5)? - 1.0 / 256.0).abs() < 1e-15);
/// assert!((binomial_at_most(3, 5, 0.7)? - 0.47178).abs() < 5e-6);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn binomial_at_most(right: usize, answers: usize, share: f64) -> Result<f64, ConsensusError> {
    if !(0.0..=1.0).contains(&share) {
        return Err(ConsensusError::OutOfDomain {
            name: "share",
            value: share,
        });
    }
    if right >= answers || share <= 0.0 {
        return Ok(1.0);
    }
    if share >= 1.0 {
        return Ok(0.0);
    }
    // As logarithms, since the first term is far below the smallest float for many answers.
    let odds = share.ln() - (1.0 - share).ln();
    let mut term = answers as f64 * (1.0 - share).ln();
    let mut sum = term.exp();
    for k in 0..right {
        term += ((answers - k) as f64).ln() - ((k + 1) as f64).ln() + odds;
        sum += term.exp();
    }
    Ok(sum.min(1.0))
}

/// Wilson's score interval of a share.
///
/// With *x* of *n*, *z* the two-sided normal quantile of `confidence` and *p* = *x* / *n*, the ends
/// are
///
/// ```text
/// ( x + z²/2 ± z sqrt( n p (1 - p) + z²/4 ) ) / ( n + z² )
/// ```
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) when `of` is 0.
/// - [`OutOfDomain`](ConsensusError::OutOfDomain) when `confidence` is not strictly between 0 and
///   1, or `hits` is above `of`.
///
/// # Citation
///
/// Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference.
/// *Journal of the American Statistical Association* 22(158), 209-212.
///
/// # Examples
///
/// 81 of 263 (Newcombe 1998, Table I, method 3): 0.2553 to 0.3662.
///
/// ```
/// use glyph_workflow_engine::consensus::wilson_interval;
///
/// let bounds = wilson_interval(81, 263, 0.95)?;
/// assert!((bounds.lower - 0.2553).abs() < 5e-5 && (bounds.upper - 0.3662).abs() < 5e-5);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn wilson_interval(hits: usize, of: usize, confidence: f64) -> Result<Bounds, ConsensusError> {
    if of == 0 {
        return Err(ConsensusError::NO_PAIR);
    }
    if hits > of {
        return Err(ConsensusError::OutOfDomain {
            name: "hits",
            value: hits as f64,
        });
    }
    let share = hits as f64 / of as f64;
    scores_interval(of, share, of as f64 * share * (1.0 - share), confidence)
}

/// Wilson's interval for the mean of `count` scores between 0 and 1, given the sum of their squared
/// distances from it. Of scores that are 0 or 1 it is [`wilson_interval`]. It never has the width
/// 0: scores that are all equal say that there is little spread, not that there is none.
pub(super) fn scores_interval(
    count: usize,
    mean: f64,
    squares: f64,
    confidence: f64,
) -> Result<Bounds, ConsensusError> {
    let z = normal_quantile(confidence)?;
    let all = count as f64 + z * z;
    let centre = (count as f64 * mean + z * z / 2.0) / all;
    let half = z * (squares + z * z / 4.0).sqrt() / all;
    Ok(Bounds {
        lower: (centre - half).clamp(0.0, mean),
        upper: (centre + half).clamp(mean, 1.0),
    })
}

/// How far from 0 a standard normal draw is with probability `1 - confidence` at most: 1.96 for
/// 0.95.
fn normal_quantile(confidence: f64) -> Result<f64, ConsensusError> {
    // Beyond it the series below takes long, and nobody can tell.
    if !(confidence > 0.0 && confidence <= 0.999_999) {
        return Err(ConsensusError::OutOfDomain {
            name: "confidence",
            value: confidence,
        });
    }
    // Newton's method on the share of draws within z, which is concave above 0.
    let mut z = 0.0;
    for _ in 0..64 {
        let density = 2.0 * (-z * z / 2.0_f64).exp() / std::f64::consts::TAU.sqrt();
        let step = (confidence - within(z, density)) / density;
        z += step;
        if step.abs() < 1e-13 {
            break;
        }
    }
    Ok(z)
}

/// The share of standard normal draws within `z` of 0, by the series of the error function.
fn within(z: f64, density: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term > sum * 1e-17 {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    sum * density
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (confidence, z) in [
            (0.5, 0.674_489_750_196_082),
            (0.9, 1.644_853_626_951_473),
            (0.95, 1.959_963_984_540_054),
            (0.99, 2.575_829_303_548_901),
            (0.999, 3.290_526_731_491_926),
        ] {
            let found = normal_quantile(confidence).unwrap();
            assert!((found - z).abs() < 1e-9, "{confidence}: {found}");
        }
        for confidence in [0.0, 1.0, f64::NAN, -1.0] {
            assert!(normal_quantile(confidence).is_err());
        }
    }

    #[test]
    fn the_ends_of_the_test_are_exact() {
        assert_eq!(binomial_at_most(5, 5, 0.3), Ok(1.0));
        assert_eq!(binomial_at_most(0, 5, 0.0), Ok(1.0));
        assert_eq!(binomial_at_most(4, 5, 1.0), Ok(0.0));
        assert!(binomial_at_most(1, 2, 1.5).is_err());
        let many = binomial_at_most(680, 1_000, 0.7).unwrap();
        assert!((many - 0.0898).abs() < 5e-3, "{many}");
    }

    #[test]
    fn a_share_of_nothing_has_no_interval() {
        assert_eq!(wilson_interval(0, 0, 0.95), Err(ConsensusError::NO_PAIR));
        assert!(wilson_interval(2, 1, 0.95).is_err());
        let all = wilson_interval(20, 20, 0.95).unwrap();
        assert!((all.lower - 0.8389).abs() < 5e-5 && all.upper >= 1.0 - 1e-12);
    }

    proptest! {
        #[test]
        fn the_test_is_the_sum_over_all_outcomes(
            answers in 1_usize..12, right in 0_usize..12, share in 0.01_f64..0.99,
        ) {
            let mut sum = 0.0;
            for outcome in 0_u32..1 << answers {
                let hits = outcome.count_ones() as usize;
                if hits <= right {
                    let (hits, misses) = (hits as f64, (answers - hits) as f64);
                    sum += share.powf(hits) * (1.0 - share).powf(misses);
                }
            }
            prop_assert!((binomial_at_most(right, answers, share).unwrap() - sum).abs() < 1e-12);
        }

        #[test]
        fn the_interval_holds_the_share_and_narrows(
            (of, hits) in (1_usize..500).prop_flat_map(|of| (Just(of), 0..=of)),
            confidence in 0.5_f64..0.999,
        ) {
            let one = wilson_interval(hits, of, confidence).unwrap();
            let ten = wilson_interval(hits * 10, of * 10, confidence).unwrap();
            let share = hits as f64 / of as f64;
            prop_assert!(0.0 <= one.lower && one.lower <= share && share <= one.upper);
            prop_assert!(one.upper <= 1.0 && one.upper > one.lower);
            prop_assert!(ten.upper - ten.lower < one.upper - one.lower);
        }
    }
}
