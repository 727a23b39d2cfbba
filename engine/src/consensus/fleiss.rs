//! Fleiss' kappa: agreement of many annotators who need not be the same from item to item.

use super::units::{Units, agreeing_share, pairs_of, runs};
use super::{Agreement, ConsensusError};

/// Fleiss' kappa of items rated equally often.
///
/// `counts[item][category]` is how many annotators put the item into the category. With *n* ratings
/// an item, *N* items, *n_ij* the counts and *p_j* the share of category *j* among all ratings,
///
/// ```text
/// P_i = (sum over j of n_ij^2 - n) / (n (n - 1)),    P = mean of P_i,    P_e = sum over j of p_j^2
/// kappa = (P - P_e) / (1 - P_e)
/// ```
///
/// For two ratings per item this is Scott's pi.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) for no items, for fewer than two ratings per item,
///   and when one category holds every rating.
/// - [`UnequalLengths`](ConsensusError::UnequalLengths) when the rows differ in length.
/// - [`UnequalRowSums`](ConsensusError::UnequalRowSums) when items differ in the number of ratings;
///   [`fleiss_kappa_ratings`] has no such condition.
///
/// # Citation
///
/// Fleiss, J. L. (1971). Measuring nominal scale agreement among many raters. *Psychological
/// Bulletin* 76(5), 378-382.
///
/// # Examples
///
/// Ten subjects, 14 raters, five categories (Wikipedia, "Fleiss' kappa"): 0.210.
///
/// ```
/// use glyph_workflow_engine::consensus::fleiss_kappa;
///
/// let counts = [
///     [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
///     [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
/// ]
/// .map(|row| row.to_vec());
/// assert!((fleiss_kappa(&counts)? - 0.210).abs() < 5e-4);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn fleiss_kappa(counts: &[Vec<u32>]) -> Result<f64, ConsensusError> {
    fleiss_kappa_detailed(counts).map(|agreement| agreement.value)
}

/// [`fleiss_kappa`] with the number of items and pairs behind it.
pub fn fleiss_kappa_detailed(counts: &[Vec<u32>]) -> Result<Agreement, ConsensusError> {
    let categories = counts.first().map_or(0, Vec::len);
    let ratings: u64 = counts.first().map_or(0, |row| total(row));
    for (item, row) in counts.iter().enumerate() {
        if row.len() != categories {
            return Err(ConsensusError::UnequalLengths {
                row: item,
                expected: categories,
                found: row.len(),
            });
        }
        let found = total(row);
        if found != ratings {
            return Err(ConsensusError::UnequalRowSums {
                item,
                expected: ratings,
                found,
            });
        }
    }
    if ratings < 2 {
        return Err(ConsensusError::NO_PAIR);
    }
    let mut shares = vec![0.0; categories];
    let mut agreeing = 0.0;
    for row in counts {
        for (share, &count) in shares.iter_mut().zip(row) {
            *share += f64::from(count);
            agreeing += f64::from(count) * (f64::from(count) - 1.0);
        }
    }
    if shares.iter().filter(|&&share| share > 0.0).count() == 1 {
        return Err(ConsensusError::NO_VARIATION);
    }
    let items = counts.len();
    let all = items as f64 * ratings as f64;
    let observed = agreeing / (all * (ratings - 1) as f64);
    let expected: f64 = shares.iter().map(|share| (share / all).powi(2)).sum();
    Ok(Agreement {
        value: (observed - expected) / (1.0 - expected),
        units: items,
        pairs: pairs_of(ratings).saturating_mul(items as u64),
    })
}

/// Fleiss' kappa of ratings with gaps.
///
/// `ratings[annotator][item]`, `None` where missing. Observed agreement is that of
/// [`percent_agreement`](super::percent_agreement), over the items with two ratings or more; the
/// share *p_j* of a category is the mean, over the items with any rating, of its share within the
/// item. With equal numbers of ratings per item it is [`fleiss_kappa`].
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) when no item has two ratings, and when one category
///   holds every rating.
/// - [`UnequalLengths`](ConsensusError::UnequalLengths) when the rows differ in length.
///
/// # Citation
///
/// Gwet, K. L. (2014). *Handbook of Inter-Rater Reliability*, 4th edition. Advanced Analytics,
/// Gaithersburg.
///
/// # Examples
///
/// Four observers, twelve units, gaps (Krippendorff 2011, section C; Gwet 2014): 0.76117.
///
/// ```
/// use glyph_workflow_engine::consensus::fleiss_kappa_ratings;
///
/// let row = |codes: &str| codes.chars().map(|c| c.to_digit(10)).collect::<Vec<_>>();
/// let ratings =
///     [row("123321412..."), row("1233224125.3"), row(".3332342251."), row("12332441251.")];
/// assert!((fleiss_kappa_ratings(&ratings)? - 0.76117).abs() < 5e-6);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn fleiss_kappa_ratings(ratings: &[Vec<Option<u32>>]) -> Result<f64, ConsensusError> {
    fleiss_kappa_ratings_detailed(ratings).map(|agreement| agreement.value)
}

/// [`fleiss_kappa_ratings`] with the number of items and pairs behind it.
pub fn fleiss_kappa_ratings_detailed(
    ratings: &[Vec<Option<u32>>],
) -> Result<Agreement, ConsensusError> {
    let Shares {
        observed,
        categories,
    } = Shares::new(ratings)?;
    if categories.len() < 2 {
        return Err(ConsensusError::NO_VARIATION);
    }
    let expected: f64 = categories.iter().map(|share| share * share).sum();
    Ok(Agreement {
        value: (observed.value - expected) / (1.0 - expected),
        ..observed
    })
}

/// What the coefficients with gaps have in common: observed agreement and the share of each used
/// category.
pub(super) struct Shares {
    pub(super) observed: Agreement,
    /// One entry per used category, in order of code; they add up to 1.
    pub(super) categories: Vec<f64>,
}

impl Shares {
    pub(super) fn new(ratings: &[Vec<Option<u32>>]) -> Result<Self, ConsensusError> {
        let units = Units::new(ratings)?.sorted();
        let report = units.report(0.0);
        if report.units == 0 {
            return Err(ConsensusError::NO_PAIR);
        }
        let observed = units.pairable().map(agreeing_share).sum::<f64>() / report.units as f64;
        // Codes may be anything up to u32::MAX, so they are never used as table sizes.
        let mut used: Vec<u32> = units.rated().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        let mut categories = vec![0.0; used.len()];
        let mut items = 0_usize;
        for unit in units.rated() {
            items += 1;
            for (code, count) in runs(unit) {
                if let Ok(position) = used.binary_search(&code) {
                    categories[position] += count as f64 / unit.len() as f64;
                }
            }
        }
        for share in &mut categories {
            *share /= items as f64;
        }
        Ok(Self {
            observed: Agreement {
                value: observed,
                ..report
            },
            categories,
        })
    }
}

fn total(row: &[u32]) -> u64 {
    row.iter().map(|&count| u64::from(count)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::samples;

    #[test]
    fn degenerate_inputs() {
        for counts in [
            vec![],
            vec![vec![]],
            vec![vec![0, 0]],
            vec![vec![1, 0], vec![0, 1]],
        ] {
            assert_eq!(fleiss_kappa(&counts), Err(ConsensusError::NO_PAIR));
        }
        assert_eq!(
            fleiss_kappa(&[vec![0, 3], vec![0, 3]]),
            Err(ConsensusError::NO_VARIATION)
        );
        assert_eq!(
            fleiss_kappa(&[vec![2, 0], vec![2, 1]]),
            Err(ConsensusError::UnequalRowSums {
                item: 1,
                expected: 2,
                found: 3
            })
        );
        assert_eq!(
            fleiss_kappa(&[vec![2, 0], vec![2]]),
            Err(ConsensusError::UnequalLengths {
                row: 1,
                expected: 2,
                found: 1
            })
        );
        assert!(
            fleiss_kappa(&[vec![u32::MAX; 4], vec![u32::MAX; 4]])
                .unwrap()
                .abs()
                < 1e-9
        );
    }

    #[test]
    fn gaps_that_leave_one_category_are_no_variation() {
        let ratings = [vec![Some(3), None], vec![Some(3), Some(3)]];
        assert_eq!(
            fleiss_kappa_ratings(&ratings),
            Err(ConsensusError::NO_VARIATION)
        );
        assert_eq!(
            fleiss_kappa_ratings(&ratings[..1]),
            Err(ConsensusError::NO_PAIR)
        );
    }

    proptest! {
        /// Chance agreement by definition: two ratings drawn with replacement from all ratings.
        #[test]
        fn equals_agreement_against_random_draws(
            (raters, codes) in (2_usize..6)
                .prop_flat_map(|m| (Just(m), prop::collection::vec(prop::collection::vec(0_u32..4, m), 1..10)))
        ) {
            let all: Vec<u32> = codes.concat();
            let drawn = all
                .iter()
                .map(|x| all.iter().filter(|y| x == *y).count() as f64)
                .sum::<f64>()
                / (all.len() as f64).powi(2);
            let observed = codes
                .iter()
                .map(|item| {
                    let same: usize =
                        item.iter().map(|x| item.iter().filter(|y| x == *y).count() - 1).sum();
                    same as f64 / (raters * (raters - 1)) as f64
                })
                .sum::<f64>()
                / codes.len() as f64;
            let slow = (drawn < 1.0).then(|| (observed - drawn) / (1.0 - drawn));
            let counts: Vec<Vec<u32>> = codes
                .iter()
                .map(|item| {
                    (0..4).map(|c| u32::try_from(item.iter().filter(|&&x| x == c).count()).unwrap()).collect()
                })
                .collect();
            samples::same(fleiss_kappa(&counts), slow)?;
            let ratings: Vec<Vec<Option<u32>>> =
                (0..raters).map(|k| codes.iter().map(|item| Some(item[k])).collect()).collect();
            samples::same(fleiss_kappa_ratings(&ratings), slow)?;
        }

        #[test]
        fn never_panics_with_gaps(ratings in samples::codes()) {
            if let Ok(kappa) = fleiss_kappa_ratings(&ratings) {
                prop_assert!(kappa <= 1.0 + 1e-12);
            }
        }
    }
}
