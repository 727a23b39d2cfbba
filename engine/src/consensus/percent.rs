//! Observed agreement, with no correction for chance.

use super::units::{Units, agreeing_share};
use super::{Agreement, ConsensusError};

/// Mean over items of the share of agreeing pairs of ratings.
///
/// `ratings[annotator][item]` holds category codes, `None` where the annotator gave none. For item
/// *i* with *m* ratings, *n_c* of them on category *c*,
///
/// ```text
/// P_i = sum over c of n_c (n_c - 1) / (m (m - 1)),    P = mean of P_i over the items with m >= 2
/// ```
///
/// The mean is over items, not over pairs: an item with many ratings does not weigh more than one
/// with two. Range 0 to 1; the codes matter only as equal or not.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) when no item has two ratings (also: no annotator, one
///   annotator).
/// - [`UnequalLengths`](ConsensusError::UnequalLengths) when the rows differ in length.
///
/// # Citation
///
/// Fleiss, J. L. (1971). Measuring nominal scale agreement among many raters. *Psychological
/// Bulletin* 76(5), 378-382 (there as the mean of P_i).
///
/// # Examples
///
/// 50 grant proposals read by two people, who agree on 35 (the worked example of Cohen's kappa in
/// Wikipedia, "Cohen's kappa"): 0.70.
///
/// ```
/// use glyph_workflow_engine::consensus::percent_agreement;
///
/// let a = [[Some(0); 25], [Some(1); 25]].concat();
/// let b = [vec![Some(0); 20], vec![Some(1); 5], vec![Some(0); 10], vec![Some(1); 15]].concat();
/// assert!((percent_agreement(&[a, b])? - 0.7).abs() < 1e-12);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn percent_agreement(ratings: &[Vec<Option<u32>>]) -> Result<f64, ConsensusError> {
    percent_agreement_detailed(ratings).map(|agreement| agreement.value)
}

/// [`percent_agreement`] with the number of items and pairs behind it.
pub fn percent_agreement_detailed(
    ratings: &[Vec<Option<u32>>],
) -> Result<Agreement, ConsensusError> {
    let units = Units::new(ratings)?.sorted();
    let report = units.report(0.0);
    if report.units == 0 {
        return Err(ConsensusError::NO_PAIR);
    }
    let sum: f64 = units.pairable().map(agreeing_share).sum();
    Ok(Agreement {
        value: sum / report.units as f64,
        ..report
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::samples;

    /// Every pair of every item, one after the other.
    fn by_pairs(ratings: &[Vec<Option<u32>>]) -> Option<f64> {
        let items = ratings.first().map_or(0, Vec::len);
        let mut shares = Vec::new();
        for item in 0..items {
            let (mut agreeing, mut pairs) = (0.0, 0.0);
            for (k, one) in ratings.iter().enumerate() {
                for other in &ratings[..k] {
                    if let (Some(x), Some(y)) = (one[item], other[item]) {
                        pairs += 1.0;
                        agreeing += f64::from(u8::from(x == y));
                    }
                }
            }
            if pairs > 0.0 {
                shares.push(agreeing / pairs);
            }
        }
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }

    #[test]
    fn nothing_to_compare_is_undefined() {
        for ratings in [
            vec![],
            vec![vec![]],
            vec![vec![Some(1), Some(2)]],
            vec![vec![Some(1), None], vec![None, Some(1)]],
        ] {
            assert_eq!(percent_agreement(&ratings), Err(ConsensusError::NO_PAIR));
        }
    }

    #[test]
    fn reports_items_and_pairs() {
        let ratings = [
            vec![Some(7), Some(1), None],
            vec![Some(7), Some(2), Some(1)],
            vec![Some(9), None, None],
        ];
        let agreement = percent_agreement_detailed(&ratings).unwrap();
        assert_eq!((agreement.units, agreement.pairs), (2, 4));
        assert!((agreement.value - 1.0 / 6.0).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn equals_the_count_over_all_pairs(ratings in samples::codes()) {
            samples::same(percent_agreement(&ratings), by_pairs(&ratings))?;
        }
    }
}
