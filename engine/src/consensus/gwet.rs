//! Gwet's AC1: chance correction that does not collapse where one category dominates.

use super::fleiss::Shares;
use super::{Agreement, ConsensusError};

/// Gwet's first-order agreement coefficient AC1, over the categories that were used.
///
/// `ratings[annotator][item]`, `None` where missing. With *P* the mean over items of the share of
/// agreeing pairs (as [`percent_agreement`](super::percent_agreement)), *p_k* the mean over the
/// items with any rating of the share of category *k* in the item, and *q* the number of
/// categories,
///
/// ```text
/// AC1 = (P - P_e) / (1 - P_e),        P_e = (sum over k of p_k (1 - p_k)) / (q - 1)
/// ```
///
/// Kappa turns negative when nearly all items are of one category, however often the annotators
/// agree; AC1 does not, since only ratings of hard items count as chance.
///
/// *q* is the number of distinct codes in `ratings`. If the scale has unused categories,
/// [`gwet_ac1_with_categories`] takes the true number.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) when no item has two ratings, and when a single
///   category was used (*q* = 1).
/// - [`UnequalLengths`](ConsensusError::UnequalLengths) when the rows differ in length.
///
/// # Citation
///
/// Gwet, K. L. (2008). Computing inter-rater reliability and its variance in the presence of high
/// agreement. *British Journal of Mathematical and Statistical Psychology* 61(1), 29-48.
///
/// # Examples
///
/// Four observers, twelve units, gaps (Gwet 2014, *Handbook of Inter-Rater Reliability*): 0.77544.
///
/// ```
/// use glyph_workflow_engine::consensus::gwet_ac1;
///
/// let row = |codes: &str| codes.chars().map(|c| c.to_digit(10)).collect::<Vec<_>>();
/// let ratings =
///     [row("123321412..."), row("1233224125.3"), row(".3332342251."), row("12332441251.")];
/// assert!((gwet_ac1(&ratings)? - 0.77544).abs() < 5e-6);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn gwet_ac1(ratings: &[Vec<Option<u32>>]) -> Result<f64, ConsensusError> {
    gwet_ac1_detailed(ratings).map(|agreement| agreement.value)
}

/// [`gwet_ac1`] with the number of items and pairs behind it.
pub fn gwet_ac1_detailed(ratings: &[Vec<Option<u32>>]) -> Result<Agreement, ConsensusError> {
    let shares = Shares::new(ratings)?;
    let used = shares.categories.len();
    ac1(&shares, used)
}

/// [`gwet_ac1`] on a scale of `categories` categories, used or not.
///
/// With two or more categories it has a value even if only one was used: 1.
///
/// # Errors
///
/// As [`gwet_ac1`], and [`TooFewCategories`](ConsensusError::TooFewCategories) when the ratings use
/// more than `categories`.
pub fn gwet_ac1_with_categories(
    ratings: &[Vec<Option<u32>>],
    categories: usize,
) -> Result<Agreement, ConsensusError> {
    let shares = Shares::new(ratings)?;
    let observed = shares.categories.len();
    if categories < observed {
        return Err(ConsensusError::TooFewCategories {
            declared: categories,
            observed,
        });
    }
    ac1(&shares, categories)
}

fn ac1(shares: &Shares, categories: usize) -> Result<Agreement, ConsensusError> {
    if categories < 2 {
        return Err(ConsensusError::NO_VARIATION);
    }
    let spread: f64 = shares
        .categories
        .iter()
        .map(|share| share * (1.0 - share))
        .sum();
    // At most 1/q, reached when all categories are equally frequent: the divisor below is never
    // zero.
    let expected = spread / (categories - 1) as f64;
    Ok(Agreement {
        value: (shares.observed.value - expected) / (1.0 - expected),
        ..shares.observed
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::{percent_agreement, samples};

    /// Chance agreement counted rating by rating.
    fn by_ratings(ratings: &[Vec<Option<u32>>], scale: &[u32]) -> Option<f64> {
        let observed = percent_agreement(ratings).ok()?;
        let items: Vec<Vec<u32>> = (0..ratings[0].len())
            .map(|i| ratings.iter().filter_map(|row| row[i]).collect::<Vec<_>>())
            .filter(|item| !item.is_empty())
            .collect();
        let used = scale
            .iter()
            .filter(|c| items.iter().flatten().any(|x| x == *c))
            .count();
        let mut expected = 0.0;
        for category in scale {
            let share = items
                .iter()
                .map(|item| {
                    item.iter().filter(|x| *x == category).count() as f64 / item.len() as f64
                })
                .sum::<f64>()
                / items.len() as f64;
            expected += share * (1.0 - share) / (used as f64 - 1.0);
        }
        (used > 1).then(|| (observed - expected) / (1.0 - expected))
    }

    #[test]
    fn one_used_category_needs_the_scale() {
        let ratings = [vec![Some(0), Some(0)], vec![Some(0), Some(0)]];
        assert_eq!(gwet_ac1(&ratings), Err(ConsensusError::NO_VARIATION));
        assert_eq!(
            gwet_ac1_with_categories(&ratings, 2),
            Ok(Agreement {
                value: 1.0,
                units: 2,
                pairs: 2
            })
        );
        assert_eq!(
            gwet_ac1_with_categories(&ratings, 0),
            Err(ConsensusError::TooFewCategories {
                declared: 0,
                observed: 1
            })
        );
        assert_eq!(gwet_ac1(&ratings[..1]), Err(ConsensusError::NO_PAIR));
    }

    proptest! {
        #[test]
        fn equals_the_count_over_ratings(ratings in samples::codes()) {
            samples::same(gwet_ac1(&ratings), by_ratings(&ratings, &[0, 1, 2, 3, 4, u32::MAX]))?;
        }
    }
}
