//! Cohen's kappa: agreement of two annotators, corrected for chance agreement given their habits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::units::Units;
use super::{Agreement, ConsensusError};

/// How much a disagreement between two categories weighs in a weighted kappa.
///
/// Categories are positions on an ordered scale; *i* and *j* are their codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Disagreement `|i - j|` (Cicchetti and Allison 1971).
    Linear,
    /// Disagreement `(i - j)^2` (Fleiss and Cohen 1973); in large samples close to the intraclass
    /// correlation.
    Quadratic,
}

impl Weighting {
    /// The disagreement between two codes.
    pub fn disagreement(self, a: u32, b: u32) -> f64 {
        let distance = f64::from(a.abs_diff(b));
        match self {
            Self::Linear => distance,
            Self::Quadratic => distance * distance,
        }
    }
}

/// Cohen's kappa of two annotators who both rated every item.
///
/// `a[i]` and `b[i]` are the category codes given to item *i*. With *p_o* the share of items on
/// which they agree and *p_ak*, *p_bk* the shares of category *k* in each annotator's own ratings,
///
/// ```text
/// kappa = (p_o - p_e) / (1 - p_e),        p_e = sum over k of p_ak p_bk
/// ```
///
/// 1 is full agreement, 0 what their habits alone would produce, negative is less than that. Only
/// equality of codes matters.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) for no items, and when `p_e` is 1: both annotators
///   used one and the same category throughout. (Two annotators constant on *different* categories
///   have kappa 0.)
/// - [`UnequalLengths`](ConsensusError::UnequalLengths) when `a` and `b` differ in length.
///
/// # Citation
///
/// Cohen, J. (1960). A coefficient of agreement for nominal scales. *Educational and Psychological
/// Measurement* 20(1), 37-46.
///
/// # Examples
///
/// 50 grant proposals, yes/no by two readers, 20 + 15 agreements (Wikipedia, "Cohen's kappa"):
/// 0.40.
///
/// ```
/// use glyph_workflow_engine::consensus::cohens_kappa;
///
/// let a = [[0; 25], [1; 25]].concat();
/// let b = [vec![0; 20], vec![1; 5], vec![0; 10], vec![1; 15]].concat();
/// assert!((cohens_kappa(&a, &b)? - 0.4).abs() < 1e-12);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn cohens_kappa(a: &[u32], b: &[u32]) -> Result<f64, ConsensusError> {
    cohens_kappa_detailed(a, b).map(|agreement| agreement.value)
}

/// [`cohens_kappa`] with the number of items and pairs behind it.
pub fn cohens_kappa_detailed(a: &[u32], b: &[u32]) -> Result<Agreement, ConsensusError> {
    kappa(a, b, None)
}

/// Cohen's weighted kappa: near misses on an ordered scale count less than far ones.
///
/// With *v_ij* the disagreement that `weighting` gives to codes *i* and *j*, *p_ij* the share of
/// items rated *i* by `a` and *j* by `b`, and *p_ai*, *p_bj* the margins,
///
/// ```text
/// kappa_w = 1 - (sum over i, j of v_ij p_ij) / (sum over i, j of v_ij p_ai p_bj)
/// ```
///
/// The weights act on the *difference of the codes*, so codes must be positions in the complete
/// ordered list of categories: a category nobody used still keeps its neighbours apart. With two
/// categories all weightings give the plain kappa.
///
/// # Errors
///
/// As [`cohens_kappa`]: undefined without items or when both annotators used one and the same
/// category.
///
/// # Citations
///
/// Cohen, J. (1968). Weighted kappa: nominal scale agreement with provision for scaled disagreement
/// or partial credit. *Psychological Bulletin* 70(4), 213-220. Cicchetti, D. V. and Allison, T.
/// (1971). A new procedure for assessing reliability of scoring EEG sleep recordings. *American
/// Journal of EEG Technology* 11(3), 101-110. Fleiss, J. L. and Cohen, J. (1973). The equivalence
/// of weighted kappa and the intraclass correlation coefficient as measures of reliability.
/// *Educational and Psychological Measurement* 33(3), 613-619.
///
/// # Examples
///
/// Multiple sclerosis, 149 Winnipeg patients, two neurologists, four grades of certainty (Landis
/// and Koch 1977): linear 0.3797.
///
/// ```
/// use glyph_workflow_engine::consensus::{Weighting, cohens_kappa_weighted};
///
/// let table = [[38, 5, 0, 1], [33, 11, 3, 0], [10, 14, 5, 6], [3, 7, 3, 10]];
/// let (mut a, mut b) = (Vec::new(), Vec::new());
/// for (i, row) in (0_u32..).zip(table) {
///     for (j, count) in (0_u32..).zip(row) {
///         a.extend(vec![i; count]);
///         b.extend(vec![j; count]);
///     }
/// }
/// let kappa = cohens_kappa_weighted(&a, &b, Weighting::Linear)?;
/// assert!((kappa - 0.3797).abs() < 5e-5);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn cohens_kappa_weighted(
    a: &[u32],
    b: &[u32],
    weighting: Weighting,
) -> Result<f64, ConsensusError> {
    cohens_kappa_weighted_detailed(a, b, weighting).map(|agreement| agreement.value)
}

/// [`cohens_kappa_weighted`] with the number of items and pairs behind it.
pub fn cohens_kappa_weighted_detailed(
    a: &[u32],
    b: &[u32],
    weighting: Weighting,
) -> Result<Agreement, ConsensusError> {
    kappa(a, b, Some(weighting))
}

/// Cohen's weighted kappa with custom disagreement weights.
///
/// `disagreement(i, j)` is *v_ij* of [`cohens_kappa_weighted`]: finite, not negative, 0 for `i ==
/// j` as a rule. It is asked once for every pair of a code used by `a` and one used by `b`, so cost
/// grows with the square of the number of categories.
///
/// # Errors
///
/// As [`cohens_kappa_weighted`], and [`OutOfDomain`](ConsensusError::OutOfDomain) for a weight that
/// is negative, NaN or infinite.
///
/// # Examples
///
/// 200 cases, three diagnoses, disagreements of 1, 3 and 6 (Cohen 1968, Table 1): 0.348.
///
/// ```
/// use glyph_workflow_engine::consensus::cohens_kappa_with_weights;
///
/// let table = [[88, 14, 18], [10, 40, 10], [2, 6, 12]];
/// let (mut a, mut b) = (Vec::new(), Vec::new());
/// for (i, row) in (0_u32..).zip(table) {
///     for (j, count) in (0_u32..).zip(row) {
///         a.extend(vec![i; count]);
///         b.extend(vec![j; count]);
///     }
/// }
/// let weights = [[0.0, 1.0, 3.0], [1.0, 0.0, 6.0], [3.0, 6.0, 0.0]];
/// let kappa = cohens_kappa_with_weights(&a, &b, |i, j| weights[i as usize][j as usize])?;
/// assert!((kappa - 0.348).abs() < 5e-4);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn cohens_kappa_with_weights(
    a: &[u32],
    b: &[u32],
    mut disagreement: impl FnMut(u32, u32) -> f64,
) -> Result<f64, ConsensusError> {
    check(a, b)?;
    let (margin_a, margin_b) = (margin(a), margin(b));
    let mut cells: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for pair in a.iter().copied().zip(b.iter().copied()) {
        *cells.entry(pair).or_default() += 1;
    }
    let (mut observed, mut expected) = (0.0, 0.0);
    for (&i, &count_a) in &margin_a {
        for (&j, &count_b) in &margin_b {
            let weight = disagreement(i, j);
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(ConsensusError::OutOfDomain {
                    name: "disagreement weight",
                    value: weight,
                });
            }
            observed += weight * cells.get(&(i, j)).map_or(0.0, |&count| count as f64);
            expected += weight * count_a as f64 * (count_b as f64 / a.len() as f64);
        }
    }
    if expected > 0.0 && expected.is_finite() {
        Ok(1.0 - observed / expected)
    } else {
        Err(ConsensusError::NO_VARIATION)
    }
}

/// Mean Cohen's kappa over all pairs of annotators, each on the items both rated.
///
/// `ratings[annotator][item]`; `weighting` as in [`cohens_kappa_weighted`], `None` for the plain
/// kappa. Annotator pairs whose kappa is undefined (no common item, or one and the same category
/// throughout) are left out of the mean, each other pair weighs the same. `units` counts items with
/// two ratings or more, `pairs` the *annotator* pairs in the mean.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) when no annotator pair has a kappa: for lack of
///   common items, else of variation.
/// - [`UnequalLengths`](ConsensusError::UnequalLengths) when the rows differ in length.
///
/// # Citation
///
/// Light, R. J. (1971). Measures of response agreement for qualitative data: some generalizations
/// and alternatives. *Psychological Bulletin* 76(5), 365-377.
///
/// # Examples
///
/// With two annotators it is Cohen's kappa; Krippendorff (2011), section B: 0.684.
///
/// ```
/// use glyph_workflow_engine::consensus::mean_cohens_kappa;
///
/// let a = [0, 0, 1, 1, 3, 2, 2, 2, 4, 3, 3, 0].map(Some).to_vec();
/// let b = [1, 0, 1, 1, 1, 2, 2, 2, 4, 3, 3, 3].map(Some).to_vec();
/// let mean = mean_cohens_kappa(&[a, b], None)?;
/// assert!((mean.value - 0.684).abs() < 5e-4);
/// assert_eq!((mean.units, mean.pairs), (12, 1));
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn mean_cohens_kappa(
    ratings: &[Vec<Option<u32>>],
    weighting: Option<Weighting>,
) -> Result<Agreement, ConsensusError> {
    let units = Units::new(ratings)?.report(0.0).units;
    // Crowds are sparse (164 annotators, 10 ratings per item): a pair is a merge of two short
    // lists.
    let rated: Vec<Vec<(usize, u32)>> = ratings
        .iter()
        .map(|row| {
            row.iter()
                .enumerate()
                .filter_map(|(i, code)| Some((i, (*code)?)))
                .collect()
        })
        .collect();
    let (mut sum, mut pairs, mut undefined) = (0.0, 0_u64, ConsensusError::NO_PAIR);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for (k, one) in rated.iter().enumerate() {
        for other in &rated[..k] {
            common(one, other, &mut a, &mut b);
            match kappa(&a, &b, weighting) {
                Ok(agreement) => {
                    sum += agreement.value;
                    pairs += 1;
                }
                Err(error) if a.is_empty() => debug_assert!(error.is_undefined()),
                Err(error) => undefined = error,
            }
        }
    }
    if pairs == 0 {
        return Err(undefined);
    }
    Ok(Agreement {
        value: sum / pairs as f64,
        units,
        pairs,
    })
}

/// Fills `a` and `b` with the codes of the items in both lists, which are in order of item.
fn common(one: &[(usize, u32)], other: &[(usize, u32)], a: &mut Vec<u32>, b: &mut Vec<u32>) {
    a.clear();
    b.clear();
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (one.get(i), other.get(j)) {
        if x.0 == y.0 {
            a.push(x.1);
            b.push(y.1);
        }
        i += usize::from(x.0 <= y.0);
        j += usize::from(y.0 <= x.0);
    }
}

fn check(a: &[u32], b: &[u32]) -> Result<(), ConsensusError> {
    if a.len() != b.len() {
        return Err(ConsensusError::UnequalLengths {
            row: 1,
            expected: a.len(),
            found: b.len(),
        });
    }
    if a.is_empty() {
        return Err(ConsensusError::NO_PAIR);
    }
    Ok(())
}

fn margin(codes: &[u32]) -> BTreeMap<u32, u64> {
    let mut counts = BTreeMap::new();
    for &code in codes {
        *counts.entry(code).or_default() += 1;
    }
    counts
}

fn kappa(a: &[u32], b: &[u32], weighting: Option<Weighting>) -> Result<Agreement, ConsensusError> {
    check(a, b)?;
    let first = a[0];
    if a.iter().chain(b).all(|&code| code == first) {
        return Err(ConsensusError::NO_VARIATION);
    }
    let n = a.len() as f64;
    // Both are n times the mean disagreement; the factor cancels.
    let (observed, expected) = match weighting {
        None => {
            let differing = a.iter().zip(b).filter(|(x, y)| x != y).count() as f64;
            let margin_b = margin(b);
            let same: f64 = margin(a)
                .iter()
                .map(|(code, &count)| {
                    count as f64 * margin_b.get(code).map_or(0.0, |&count| count as f64)
                })
                .sum();
            (differing, n - same / n)
        }
        Some(weighting) => {
            let observed = a
                .iter()
                .zip(b)
                .map(|(&x, &y)| weighting.disagreement(x, y))
                .sum();
            let expected = match weighting {
                Weighting::Linear => expected_linear(&margin(a), &margin(b), n),
                Weighting::Quadratic => expected_quadratic(a, b),
            };
            (observed, expected)
        }
    };
    Ok(Agreement {
        value: 1.0 - observed / expected,
        units: a.len(),
        pairs: a.len() as u64,
    })
}

/// Sum over all pairs of codes of |i - j|, over n.
///
/// |i - j| is the number of thresholds t between i and j, so the sum is, over the gaps between the
/// sorted codes, the width of the gap times the pairs it separates: one sweep, not categories
/// squared.
fn expected_linear(a: &BTreeMap<u32, u64>, b: &BTreeMap<u32, u64>, n: f64) -> f64 {
    let mut merged: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for (&code, &count) in a {
        merged.entry(code).or_default().0 += count as f64;
    }
    for (&code, &count) in b {
        merged.entry(code).or_default().1 += count as f64;
    }
    let (mut below_a, mut below_b, mut previous, mut sum) = (0.0, 0.0, 0_u32, 0.0);
    for (code, (count_a, count_b)) in merged {
        let separated: f64 = below_a * (n - below_b) + (n - below_a) * below_b;
        sum += f64::from(code - previous) * separated / n;
        below_a += count_a;
        below_b += count_b;
        previous = code;
    }
    sum
}

/// Sum over all pairs of codes of (i - j)^2, over n: by the moments, around the joint mean for
/// precision.
fn expected_quadratic(a: &[u32], b: &[u32]) -> f64 {
    let n = a.len() as f64;
    let centre = a.iter().chain(b).map(|&code| f64::from(code)).sum::<f64>() / (2.0 * n);
    let moments = |codes: &[u32]| {
        codes.iter().fold((0.0, 0.0), |(sum, squares), &code| {
            let x = f64::from(code) - centre;
            (sum + x, squares + x * x)
        })
    };
    let ((sum_a, squares_a), (sum_b, squares_b)) = (moments(a), moments(b));
    squares_a + squares_b - 2.0 * sum_a * sum_b / n
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::samples;

    /// The definition on the full table of all pairs of items.
    fn by_table(a: &[u32], b: &[u32], disagreement: impl Fn(u32, u32) -> f64) -> Option<f64> {
        let n = a.len() as f64;
        let observed = a
            .iter()
            .zip(b)
            .map(|(&x, &y)| disagreement(x, y))
            .sum::<f64>()
            / n;
        let expected = a
            .iter()
            .flat_map(|&x| b.iter().map(move |&y| (x, y)))
            .map(|(x, y)| disagreement(x, y))
            .sum::<f64>()
            / (n * n);
        (expected > 0.0).then(|| 1.0 - observed / expected)
    }

    fn unequal(x: u32, y: u32) -> f64 {
        f64::from(u8::from(x != y))
    }

    #[test]
    fn degenerate_inputs() {
        assert_eq!(cohens_kappa(&[], &[]), Err(ConsensusError::NO_PAIR));
        assert_eq!(
            cohens_kappa(&[4, 4], &[4, 4]),
            Err(ConsensusError::NO_VARIATION)
        );
        assert_eq!(cohens_kappa(&[0, 0], &[1, 1]), Ok(0.0));
        assert_eq!(
            cohens_kappa(&[0], &[1, 1]),
            Err(ConsensusError::UnequalLengths {
                row: 1,
                expected: 1,
                found: 2
            })
        );
        for weighting in [Weighting::Linear, Weighting::Quadratic] {
            assert_eq!(
                cohens_kappa_weighted(&[], &[], weighting),
                Err(ConsensusError::NO_PAIR)
            );
            assert_eq!(
                cohens_kappa_weighted(&[4], &[4], weighting),
                Err(ConsensusError::NO_VARIATION)
            );
            assert_eq!(
                cohens_kappa_weighted(&[0, u32::MAX], &[0, u32::MAX], weighting),
                Ok(1.0)
            );
        }
        assert!(cohens_kappa_with_weights(&[0, 1], &[0, 1], |_, _| f64::NAN).is_err());
        assert!(cohens_kappa_with_weights(&[0, 1], &[0, 1], |_, _| 0.0).is_err());
    }

    #[test]
    fn an_unused_category_keeps_its_neighbours_apart() {
        let near = cohens_kappa_weighted(&[0, 1, 2, 1], &[0, 2, 1, 1], Weighting::Linear);
        let far = cohens_kappa_weighted(&[0, 1, 9, 1], &[0, 9, 1, 1], Weighting::Linear);
        assert_ne!(near, far);
    }

    #[test]
    fn weighting_is_written_in_snake_case() {
        assert_eq!(
            serde_json::to_string(&Weighting::Quadratic).unwrap(),
            "\"quadratic\""
        );
    }

    #[test]
    fn undefined_pairs_leave_the_mean() {
        let ratings = [
            vec![Some(0), Some(1), None],
            vec![Some(0), Some(1), None],
            vec![None, None, Some(1)],
        ];
        let mean = mean_cohens_kappa(&ratings, None).unwrap();
        assert_eq!(
            mean,
            Agreement {
                value: 1.0,
                units: 2,
                pairs: 1
            }
        );
        let constant = [vec![Some(1)], vec![Some(1)], vec![None]];
        assert_eq!(
            mean_cohens_kappa(&constant, None),
            Err(ConsensusError::NO_VARIATION)
        );
        assert_eq!(mean_cohens_kappa(&[], None), Err(ConsensusError::NO_PAIR));
    }

    proptest! {
        #[test]
        fn equals_the_table_of_all_pairs(
            pairs in prop::collection::vec((0_u32..6, 0_u32..6), 1..40),
            shift in prop_oneof![Just(0_u32), Just(1_000_000)],
        ) {
            let (a, b): (Vec<u32>, Vec<u32>) =
                pairs.into_iter().map(|(x, y)| (x + shift, y + shift)).unzip();
            samples::same(cohens_kappa(&a, &b), by_table(&a, &b, unequal))?;
            samples::same(cohens_kappa_with_weights(&a, &b, unequal), by_table(&a, &b, unequal))?;
            for weighting in [Weighting::Linear, Weighting::Quadratic] {
                let slow = by_table(&a, &b, |x, y| weighting.disagreement(x, y));
                samples::same(cohens_kappa_weighted(&a, &b, weighting), slow)?;
            }
        }

        #[test]
        fn the_mean_is_taken_over_defined_pairs(ratings in samples::codes()) {
            let mut kappas = Vec::new();
            for (k, one) in ratings.iter().enumerate() {
                for other in &ratings[..k] {
                    let (a, b): (Vec<u32>, Vec<u32>) =
                        one.iter().zip(other).filter_map(|(x, y)| Some(((*x)?, (*y)?))).unzip();
                    kappas.extend(cohens_kappa(&a, &b));
                }
            }
            let slow = kappas.iter().sum::<f64>() / kappas.len() as f64;
            samples::same(
                mean_cohens_kappa(&ratings, None).map(|mean| mean.value),
                (!kappas.is_empty()).then_some(slow),
            )?;
        }
    }
}
