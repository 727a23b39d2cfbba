//! Coefficients over many small units, with an interval.
//!
//! The items of a project are answered by a few people each, and not always by the same ones. A
//! coefficient of one item says little, and the mean of such coefficients is none: it leaves out
//! the items on which everybody agrees. So the units of all items are pooled first, and the
//! coefficient is calculated once.
//!
//! The interval comes from linearisation: by how much each item moves the coefficient
//! (infinitesimal jackknife). Items are taken whole, since answers within one depend on each other.
//! Wilson's interval is then applied to what an item contributes, so that an interval never has the
//! width 0 because of a window in which nobody has differed yet.
//!
//! # Citations
//!
//! Gwet, K. L. (2008). Computing inter-rater reliability and its variance in the presence of high
//! agreement. *British Journal of Mathematical and Statistical Psychology* 61(1), 29-48. Efron, B.
//! and Tibshirani, R. J. (1993). *An Introduction to the Bootstrap*, chapter 21. Cicchetti, D. V. and
//! Feinstein, A. R. (1990). High agreement but low kappa: II. *Journal of Clinical Epidemiology*
//! 43(6), 551-558 (agreement on one class).

use super::proportion::scores_interval;
use super::{Bounds, ConsensusError};

/// The most different values on a scale whose distances have to be summed one by one.
const SCALE_VALUES_MAX: usize = 1_000;

/// Values that several people gave to one thing, by code.
#[derive(Clone, Copy, Debug)]
pub struct PooledUnit<'a> {
    /// The item that it belongs to; an item may have several units.
    pub item: u64,
    /// The values. For [`PooledCoefficient::Cohen`] those of the two people, always in one order.
    pub codes: &'a [u32],
}

/// A coefficient over pooled units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PooledCoefficient {
    /// The mean over units of the share of agreeing pairs.
    Observed,
    /// Cohen's kappa of two people who both answered every unit.
    Cohen,
    /// Fleiss' kappa, which is Scott's pi where two people answer each unit: it does not ask who
    /// gave which answer.
    Fleiss,
    /// Krippendorff's alpha.
    Alpha,
    /// Gwet's AC1 over so many known categories, or those that were used if they are more.
    Ac1(usize),
}

/// How far apart two values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PooledScale {
    /// Equal or not.
    Nominal,
    /// By rank, as Krippendorff has it: the values between two count by how often they were given.
    Ordinal,
    /// By the difference.
    Linear,
    /// By the square of the difference.
    Interval,
    /// By the square of the difference, relative to the size.
    Ratio,
}

/// A coefficient with what each item contributes to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pooled {
    /// The coefficient.
    pub value: f64,
    /// The least value that an item could stand for, as the lower end reckons with it.
    low: f64,
    /// The same for the upper end. Where categories are rare, a single disagreement would draw it
    /// below what is true.
    near: f64,
    /// By item, ascending: by how much it lies above the value. The mean is 0.
    influence: Vec<(u64, f64)>,
}

/// A value with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// The interval.
    pub bounds: Bounds,
    /// Items behind it.
    pub items: usize,
}

impl Pooled {
    /// A coefficient of units of two values or more; others are left out. `place` says where a
    /// code is on the scale, if there is one.
    ///
    /// # Errors
    ///
    /// - [`Undefined`](ConsensusError::Undefined) without a unit of two values, and where only one
    ///   category is in use (for AC1: known).
    /// - [`TooLarge`](ConsensusError::TooLarge) with too many different values on a scale.
    pub fn of(
        units: &[PooledUnit<'_>],
        coefficient: PooledCoefficient,
        scale: PooledScale,
        place: impl Fn(u32) -> f64,
    ) -> Result<Self, ConsensusError> {
        let mut units: Vec<_> = units.iter().filter(|u| u.codes.len() >= 2).collect();
        if units.is_empty() {
            return Err(ConsensusError::NO_PAIR);
        }
        units.sort_by_key(|unit| unit.item);
        let values = Values::of(&units, scale, place)?;
        let table = Table {
            units: &units,
            values: &values,
        };
        match coefficient {
            PooledCoefficient::Observed => table.chance_corrected(|_| 0.0, 1.0),
            PooledCoefficient::Cohen => table.cohen(),
            PooledCoefficient::Fleiss => table.fleiss(),
            PooledCoefficient::Alpha => table.alpha(),
            PooledCoefficient::Ac1(known) => table.ac1(known),
        }
    }

    /// The mean of one score between 0 and 1 of each item.
    ///
    /// # Errors
    ///
    /// [`Undefined`](ConsensusError::Undefined) without scores.
    pub fn of_scores(scores: &[(u64, f64)]) -> Result<Self, ConsensusError> {
        if scores.is_empty() {
            return Err(ConsensusError::NO_PAIR);
        }
        let value = scores.iter().map(|(_, score)| score).sum::<f64>() / scores.len() as f64;
        let influence = scores.iter().map(|(item, score)| (*item, score - value));
        Ok(Self {
            value,
            low: 0.0,
            near: 0.0,
            influence: influence.collect(),
        })
    }

    /// How often another person gives a value to what somebody gave it: agreement on one class.
    ///
    /// # Errors
    ///
    /// [`Undefined`](ConsensusError::Undefined) where nobody gave it.
    pub fn of_class(units: &[PooledUnit<'_>], class: u32) -> Result<Self, ConsensusError> {
        let counted = units.iter().filter_map(|unit| {
            let given = unit.codes.iter().filter(|code| **code == class).count();
            let others = unit
                .codes
                .len()
                .checked_sub(1)
                .filter(|others| *others > 0)?;
            let again = given as f64 * given.saturating_sub(1) as f64 / others as f64;
            (given > 0).then_some((unit.item, given as f64, again))
        });
        let counted: Vec<(u64, f64, f64)> = counted.collect();
        let given: f64 = counted.iter().map(|(_, given, _)| given).sum();
        if counted.is_empty() {
            return Err(ConsensusError::NO_PAIR);
        }
        let value = counted.iter().map(|(_, _, again)| again).sum::<f64>() / given;
        let mut influence: Vec<(u64, f64)> = counted
            .iter()
            .map(|(item, given, again)| (*item, again - value * given))
            .collect();
        influence.sort_by_key(|(item, _)| *item);
        let mut influence = by_item(influence.into_iter());
        let scale = influence.len() as f64 / given;
        for (_, moved) in &mut influence {
            *moved *= scale;
        }
        Ok(Self {
            value,
            low: 0.0,
            near: 0.0,
            influence,
        })
    }

    /// The value with its interval.
    ///
    /// # Errors
    ///
    /// [`OutOfDomain`](ConsensusError::OutOfDomain) when `confidence` is not strictly between 0 and
    /// 1.
    pub fn estimate(&self, confidence: f64) -> Result<Estimate, ConsensusError> {
        let items = self.influence.len();
        let squares: f64 = self.influence.iter().map(|(_, moved)| moved * moved).sum();
        let from = |low: f64| {
            let range = 1.0 - low;
            let mean = ((self.value - low) / range).clamp(0.0, 1.0);
            let bounds = scores_interval(items, mean, squares / (range * range), confidence)?;
            Ok(Bounds {
                lower: low + range * bounds.lower,
                upper: low + range * bounds.upper,
            })
        };
        Ok(Estimate {
            value: self.value,
            bounds: Bounds {
                lower: from(self.low)?.lower,
                upper: from(self.near)?.upper,
            },
            items,
        })
    }

    /// The weighted mean of several coefficients, over all their items. None without weight.
    pub fn mean(parts: &[(f64, Self)]) -> Option<Self> {
        let weights: f64 = parts.iter().map(|(weight, _)| weight).sum();
        if weights <= 0.0 {
            return None;
        }
        let mean = |of: fn(&Self) -> f64| {
            let sum: f64 = parts.iter().map(|(weight, part)| weight * of(part)).sum();
            sum / weights
        };
        let all = parts.iter().flat_map(|(_, part)| &part.influence);
        let mut items: Vec<u64> = all.map(|(item, _)| *item).collect();
        items.sort_unstable();
        items.dedup();
        let count = items.len() as f64;
        let mut influence: Vec<(u64, f64)> = items.into_iter().map(|item| (item, 0.0)).collect();
        for (weight, part) in parts {
            let scale = weight / weights * count / part.influence.len() as f64;
            for (item, moved) in &part.influence {
                if let Ok(position) = influence.binary_search_by_key(item, |(item, _)| *item) {
                    influence[position].1 += scale * moved;
                }
            }
        }
        Some(Self {
            value: mean(|part| part.value),
            low: mean(|part| part.low),
            near: mean(|part| part.near),
            influence,
        })
    }

    /// Items behind it.
    pub fn items(&self) -> usize {
        self.influence.len()
    }
}

/// Sums by item what is sorted by item.
fn by_item(moved: impl Iterator<Item = (u64, f64)>) -> Vec<(u64, f64)> {
    let mut sums: Vec<(u64, f64)> = Vec::new();
    for (item, moved) in moved {
        match sums.last_mut() {
            Some((last, sum)) if *last == item => *sum += moved,
            _ => sums.push((item, moved)),
        }
    }
    sums
}

/// The different values in use.
struct Values {
    scale: PooledScale,
    /// Code and position in the fields below, ascending by code.
    codes: Vec<(u32, usize)>,
    /// How often each was given.
    counts: Vec<f64>,
    /// Where each is on the scale, from the mean; ascending.
    places: Vec<f64>,
    /// How often values up to each were given, without half of itself.
    below: Vec<f64>,
    mean: f64,
}

impl Values {
    fn of(
        units: &[&PooledUnit<'_>],
        scale: PooledScale,
        place: impl Fn(u32) -> f64,
    ) -> Result<Self, ConsensusError> {
        let mut all: Vec<u32> = units.iter().flat_map(|unit| unit.codes).copied().collect();
        let total = all.len() as f64;
        all.sort_unstable();
        let mut counted: Vec<(u32, f64, f64)> = super::units::runs(&all)
            .map(|(code, count)| (code, count as f64, 0.0))
            .collect();
        let is_nominal = scale == PooledScale::Nominal;
        let summed = matches!(
            scale,
            PooledScale::Ordinal | PooledScale::Linear | PooledScale::Ratio
        );
        if summed && counted.len() > SCALE_VALUES_MAX {
            return Err(ConsensusError::TooLarge {
                needed: counted.len() as u128,
                limit: SCALE_VALUES_MAX as u128,
            });
        }
        if !is_nominal {
            for (code, _, at) in &mut counted {
                *at = place(*code);
            }
            counted.sort_by(|a, b| a.2.total_cmp(&b.2));
        }
        let mean = counted.iter().map(|(_, count, at)| count * at).sum::<f64>() / total;
        let mut codes: Vec<(u32, usize)> = counted
            .iter()
            .enumerate()
            .map(|(position, (code, _, _))| (*code, position))
            .collect();
        codes.sort_unstable();
        let mut sum = 0.0;
        let below = counted.iter().map(|(_, count, _)| {
            sum += count;
            sum - count / 2.0
        });
        Ok(Self {
            scale,
            codes,
            below: below.collect(),
            counts: counted.iter().map(|(_, count, _)| *count).collect(),
            places: counted.iter().map(|(_, _, at)| at - mean).collect(),
            mean,
        })
    }

    fn position(&self, code: u32) -> usize {
        let found = self.codes.binary_search_by_key(&code, |(code, _)| *code);
        found.map_or(0, |at| self.codes[at].1)
    }

    /// How far apart two values are, by position.
    fn distance(&self, a: usize, b: usize) -> f64 {
        let difference = self.places[a] - self.places[b];
        match self.scale {
            PooledScale::Nominal => f64::from(u8::from(a != b)),
            PooledScale::Ordinal => (self.below[a] - self.below[b]).powi(2),
            PooledScale::Linear => difference.abs(),
            PooledScale::Interval => difference * difference,
            PooledScale::Ratio => {
                let size = self.places[a] + self.places[b] + 2.0 * self.mean;
                if size == 0.0 {
                    0.0
                } else {
                    (difference / size).powi(2)
                }
            }
        }
    }

    /// For each value the distance to all others, each as often as `shares` says.
    fn spread(&self, shares: &[f64]) -> Vec<f64> {
        let total: f64 = shares.iter().sum();
        match self.scale {
            PooledScale::Nominal => shares.iter().map(|share| total - share).collect(),
            PooledScale::Interval => {
                let places = || self.places.iter().zip(shares);
                let first: f64 = places().map(|(at, share)| at * share).sum();
                let second: f64 = places().map(|(at, share)| at * at * share).sum();
                let of = |at: &f64| total * at * at - 2.0 * at * first + second;
                self.places.iter().map(of).collect()
            }
            PooledScale::Ordinal | PooledScale::Linear | PooledScale::Ratio => (0..shares.len())
                .map(|a| {
                    let each = shares.iter().enumerate();
                    each.map(|(b, share)| share * self.distance(a, b)).sum()
                })
                .collect(),
        }
    }

    /// The least coefficient that one item can stand for, where the expected distance is this, for
    /// the lower and for the upper end. On a scale two values at its ends are too rare to reckon
    /// with: it is that of people who differ twice as much as by chance.
    fn low(&self, expected: f64) -> (f64, f64) {
        let ends = self.distance(0, self.counts.len() - 1) / expected;
        match self.scale {
            PooledScale::Nominal => (1.0 - 1.0 / expected, 1.0 - (1.0 / expected).min(2.0)),
            PooledScale::Ordinal
            | PooledScale::Linear
            | PooledScale::Interval
            | PooledScale::Ratio => (1.0 - ends.min(2.0), 1.0 - ends.min(2.0)),
        }
    }
}

struct Table<'t> {
    /// By item, ascending.
    units: &'t [&'t PooledUnit<'t>],
    values: &'t Values,
}

impl Table<'_> {
    fn positions<'s>(&'s self, unit: &'s PooledUnit<'_>) -> impl Iterator<Item = usize> + 's {
        unit.codes.iter().map(|code| self.values.position(*code))
    }

    /// The sum of the distances of all ordered pairs of a unit.
    fn differing(&self, unit: &PooledUnit<'_>) -> f64 {
        let positions: Vec<usize> = self.positions(unit).collect();
        let pairs = positions.iter().enumerate().map(|(place, a)| {
            let before = positions[..place].iter();
            before.map(|b| self.values.distance(*a, *b)).sum::<f64>()
        });
        2.0 * pairs.sum::<f64>()
    }

    /// `1 - D / E` with *D* the mean over units of the mean distance within one. `expected` is *E*,
    /// and `moves` by how much a unit moves it.
    fn chance_corrected(
        &self,
        moves: impl Fn(&PooledUnit<'_>) -> f64,
        expected: f64,
    ) -> Result<Pooled, ConsensusError> {
        if expected <= 0.0 {
            return Err(ConsensusError::NO_VARIATION);
        }
        let within: Vec<f64> = self
            .units
            .iter()
            .map(|unit| {
                let size = unit.codes.len() as f64;
                self.differing(unit) / (size * (size - 1.0))
            })
            .collect();
        let observed = within.iter().sum::<f64>() / within.len() as f64;
        let influences = self.units.iter().zip(&within).map(|(unit, within)| {
            let by =
                -(within - observed) / expected + observed / (expected * expected) * moves(unit);
            (unit.item, by)
        });
        let mut influence = by_item(influences);
        let per_item = influence.len() as f64 / within.len() as f64;
        for (_, moved) in &mut influence {
            *moved *= per_item;
        }
        let (low, near) = self.values.low(expected);
        Ok(Pooled {
            value: 1.0 - observed / expected,
            low,
            near,
            influence,
        })
    }

    fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.values.counts.len()];
        for unit in self.units {
            for position in self.positions(unit) {
                shares[position] += 1.0 / (unit.codes.len() * self.units.len()) as f64;
            }
        }
        shares
    }

    fn fleiss(&self) -> Result<Pooled, ConsensusError> {
        if self.values.counts.len() < 2 {
            return Err(ConsensusError::NO_VARIATION);
        }
        let shares = self.shares();
        let spread = self.values.spread(&shares);
        let expected = spread.iter().zip(&shares).map(|(s, share)| s * share).sum();
        let moves = |unit: &PooledUnit<'_>| {
            let sum: f64 = self.positions(unit).map(|position| spread[position]).sum();
            2.0 * (sum / unit.codes.len() as f64 - expected)
        };
        self.chance_corrected(moves, expected)
    }

    fn ac1(&self, known: usize) -> Result<Pooled, ConsensusError> {
        let categories = self.values.counts.len().max(known);
        if categories < 2 {
            return Err(ConsensusError::NO_VARIATION);
        }
        let shares = self.shares();
        let others = (categories - 1) as f64;
        let chance = shares
            .iter()
            .map(|share| share * (1.0 - share))
            .sum::<f64>()
            / others;
        let slope = |position: usize| (1.0 - 2.0 * shares[position]) / others;
        let mean: f64 = shares
            .iter()
            .enumerate()
            .map(|(at, share)| share * slope(at))
            .sum();
        let moves = |unit: &PooledUnit<'_>| {
            let sum: f64 = self.positions(unit).map(slope).sum();
            mean - sum / unit.codes.len() as f64
        };
        self.chance_corrected(moves, 1.0 - chance)
    }

    fn cohen(&self) -> Result<Pooled, ConsensusError> {
        if self.values.counts.len() < 2 {
            return Err(ConsensusError::NO_VARIATION);
        }
        let each = 1.0 / self.units.len() as f64;
        let mut margins = [(); 2].map(|()| vec![0.0; self.values.counts.len()]);
        for unit in self.units {
            for (margin, position) in margins.iter_mut().zip(self.positions(unit)) {
                margin[position] += each;
            }
        }
        let [first, second] = &margins;
        let (of_first, of_second) = (self.values.spread(first), self.values.spread(second));
        let expected = first
            .iter()
            .zip(&of_second)
            .map(|(share, s)| share * s)
            .sum();
        let moves = |unit: &PooledUnit<'_>| {
            let spreads = [&of_second, &of_first];
            let sum: f64 = self
                .positions(unit)
                .zip(spreads)
                .map(|(position, spread)| spread[position])
                .sum();
            sum - 2.0 * expected
        };
        self.chance_corrected(moves, expected)
    }

    fn alpha(&self) -> Result<Pooled, ConsensusError> {
        if self.values.counts.len() < 2 {
            return Err(ConsensusError::NO_VARIATION);
        }
        let counts = &self.values.counts;
        let total: f64 = counts.iter().sum();
        let spread = self.values.spread(counts);
        let expected: f64 = spread.iter().zip(counts).map(|(s, count)| s * count).sum();
        if expected <= 0.0 {
            return Err(ConsensusError::NO_VARIATION);
        }
        let within: Vec<f64> = self
            .units
            .iter()
            .map(|unit| self.differing(unit) / (unit.codes.len() - 1) as f64)
            .collect();
        let observed: f64 = within.iter().sum();
        let moved = self.units.iter().zip(&within).map(|(unit, within)| {
            let size = unit.codes.len() as f64;
            let sum: f64 = self.positions(unit).map(|position| spread[position]).sum();
            let by = size * observed + (total - 1.0) * within
                - (total - 1.0) * observed * 2.0 * sum / expected;
            (unit.item, -by / expected)
        });
        let mut influence = by_item(moved);
        let items = influence.len() as f64;
        let mean = influence.iter().map(|(_, moved)| moved).sum::<f64>() / items;
        for (_, moved) in &mut influence {
            *moved = (*moved - mean) * items;
        }
        let (low, near) = self.values.low(expected / (total * (total - 1.0)));
        Ok(Pooled {
            value: 1.0 - (total - 1.0) * observed / expected,
            low,
            near,
            influence,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consensus::{
        Weighting, bootstrap_ratings, cohens_kappa, cohens_kappa_weighted, fleiss_kappa_ratings,
        gwet_ac1_with_categories, krippendorffs_alpha_interval, krippendorffs_alpha_nominal,
        krippendorffs_alpha_ordinal, krippendorffs_alpha_ratio, percent_agreement, samples,
    };

    /// Units by item, from `ratings[annotator][item]`.
    fn columns(ratings: &[Vec<Option<u32>>]) -> Vec<Vec<u32>> {
        let items = ratings.first().map_or(0, Vec::len);
        (0..items)
            .map(|item| ratings.iter().filter_map(|row| row[item]).collect())
            .collect()
    }

    fn pooled(
        columns: &[Vec<u32>],
        coefficient: PooledCoefficient,
        scale: PooledScale,
    ) -> Result<Pooled, ConsensusError> {
        let units: Vec<PooledUnit<'_>> = (0..)
            .zip(columns)
            .map(|(item, codes)| PooledUnit { item, codes })
            .collect();
        Pooled::of(&units, coefficient, scale, f64::from)
    }

    fn value(
        ratings: &[Vec<Option<u32>>],
        coefficient: PooledCoefficient,
        scale: PooledScale,
    ) -> Result<f64, ConsensusError> {
        pooled(&columns(ratings), coefficient, scale).map(|found| found.value)
    }

    fn complete() -> impl Strategy<Value = Vec<Vec<u32>>> {
        (2_usize..5, 1_usize..12).prop_flat_map(|(people, items)| {
            prop::collection::vec(prop::collection::vec(0_u32..4, items), people)
        })
    }

    fn numbers(ratings: &[Vec<Option<u32>>]) -> Vec<Vec<Option<f64>>> {
        let row = |row: &Vec<Option<u32>>| row.iter().map(|v| v.map(f64::from)).collect();
        ratings.iter().map(row).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn values_are_those_of_the_batch_functions_with_gaps(ratings in samples::codes()) {
            use PooledCoefficient::{Alpha, Observed};
            let same = |found, wanted: Result<f64, ConsensusError>| samples::same(found, wanted.ok());
            same(value(&ratings, Observed, PooledScale::Nominal), percent_agreement(&ratings))?;
            same(value(&ratings, Alpha, PooledScale::Nominal), krippendorffs_alpha_nominal(&ratings))?;
            same(value(&ratings, Alpha, PooledScale::Ordinal), krippendorffs_alpha_ordinal(&ratings))?;
            let numbers = numbers(&ratings);
            same(value(&ratings, Alpha, PooledScale::Interval), krippendorffs_alpha_interval(&numbers))?;
            same(value(&ratings, Alpha, PooledScale::Ratio), krippendorffs_alpha_ratio(&numbers))?;
        }

        #[test]
        fn values_are_those_of_the_batch_functions_without_gaps(rows in complete()) {
            use PooledCoefficient::{Ac1, Cohen, Fleiss};
            let ratings: Vec<Vec<Option<u32>>> =
                rows.iter().map(|row| row.iter().copied().map(Some).collect()).collect();
            let nominal = PooledScale::Nominal;
            let same = |found, wanted: Result<f64, ConsensusError>| samples::same(found, wanted.ok());
            same(value(&ratings, Fleiss, nominal), fleiss_kappa_ratings(&ratings))?;
            let ac1 = gwet_ac1_with_categories(&ratings, 4).map(|found| found.value);
            same(value(&ratings, Ac1(4), nominal), ac1)?;
            let two = &ratings[..2];
            same(value(two, Cohen, nominal), cohens_kappa(&rows[0], &rows[1]))?;
            for (scale, weights) in [
                (PooledScale::Linear, Weighting::Linear),
                (PooledScale::Interval, Weighting::Quadratic),
            ] {
                let weighted = cohens_kappa_weighted(&rows[0], &rows[1], weights);
                same(value(two, Cohen, scale), weighted)?;
            }
        }

        /// The influence is the derivative: an item counted a little more moves the coefficient by
        /// so much.
        #[test]
        fn influence_is_what_one_more_copy_of_an_item_changes(rows in complete(), which in 0_usize..12) {
            use PooledCoefficient::{Ac1, Alpha, Cohen, Fleiss, Observed};
            let columns = columns(&rows.iter().map(|r| r.iter().copied().map(Some).collect()).collect::<Vec<_>>());
            let copies = 500;
            let many: Vec<Vec<u32>> = columns.iter().flat_map(|c| vec![c.clone(); copies]).collect();
            let which = which % columns.len();
            let two = rows.len() == 2;
            for coefficient in [Observed, Fleiss, Alpha, Ac1(4), Cohen] {
                if coefficient == Cohen && !two {
                    continue;
                }
                let Ok(before) = pooled(&many, coefficient, PooledScale::Nominal) else { continue };
                let mut more = many.clone();
                more.push(columns[which].clone());
                let after = pooled(&more, coefficient, PooledScale::Nominal).unwrap();
                let step = 1.0 / more.len() as f64;
                let influence = before.influence[which * copies].1;
                let change = (after.value - before.value) / step;
                prop_assert!((change - influence).abs() < 0.05 * influence.abs().max(1.0),
                    "{coefficient:?}: {change} {influence}");
            }
        }

        #[test]
        fn intervals_hold_their_value(ratings in samples::codes(), confidence in 0.5_f64..0.99) {
            use PooledCoefficient::{Ac1, Alpha, Fleiss, Observed};
            let columns = columns(&ratings);
            for (coefficient, scale) in [
                (Observed, PooledScale::Nominal),
                (Fleiss, PooledScale::Nominal),
                (Alpha, PooledScale::Nominal),
                (Alpha, PooledScale::Ordinal),
                (Alpha, PooledScale::Interval),
                (Ac1(6), PooledScale::Nominal),
            ] {
                let Ok(found) = pooled(&columns, coefficient, scale) else { continue };
                let Estimate { value, bounds, .. } = found.estimate(confidence).unwrap();
                prop_assert!(bounds.lower < bounds.upper && bounds.upper <= 1.0 + 1e-9);
                let is_low = found.value < found.low;
                prop_assert!(is_low || (bounds.lower <= value + 1e-9 && value <= bounds.upper + 1e-9),
                    "{coefficient:?} {found:?} {bounds:?}");
            }
        }
    }

    /// SplitMix64, as in the bootstrap.
    struct Draws(u64);

    impl Draws {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap()) / 4_294_967_296.0
        }

        /// What `people` of accuracy `right` say of an item, whose class is 1 with probability
        /// `share`.
        fn item(&mut self, people: usize, right: f64, share: f64) -> Vec<u32> {
            let class = u32::from(self.next() < share);
            let say = |draws: &mut Self| {
                if draws.next() < right {
                    class
                } else {
                    1 - class
                }
            };
            (0..people).map(|_| say(self)).collect()
        }
    }

    /// How often the interval holds the true value and how often it lies above it, over windows of
    /// `items`. The figures stand in docs/statistics.md.
    fn coverage(items: usize, people: usize, share: f64, of: PooledCoefficient) -> (f64, f64) {
        const RUNS: usize = 1_000;
        let mut draws = Draws(7);
        let differ = 2.0 * 0.9 * 0.1;
        let said = 0.9 * share + 0.1 * (1.0 - share);
        let chance = 2.0 * said * (1.0 - said);
        let truth = match of {
            PooledCoefficient::Observed => 1.0 - differ,
            PooledCoefficient::Ac1(_) => 1.0 - differ / (1.0 - chance),
            PooledCoefficient::Cohen | PooledCoefficient::Fleiss | PooledCoefficient::Alpha => {
                1.0 - differ / chance
            }
        };
        let (mut held, mut above) = (0, 0);
        for _ in 0..RUNS {
            let window: Vec<_> = (0..items).map(|_| draws.item(people, 0.9, share)).collect();
            // Without any variation there is no kappa, and no interval that could be wrong.
            let Ok(found) = pooled(&window, of, PooledScale::Nominal) else {
                held += 1;
                continue;
            };
            let bounds = found.estimate(0.95).unwrap().bounds;
            held += usize::from(bounds.lower <= truth && truth <= bounds.upper);
            above += usize::from(truth < bounds.lower);
        }
        (held as f64 / RUNS as f64, above as f64 / RUNS as f64)
    }

    #[test]
    fn intervals_cover_the_true_value() {
        use PooledCoefficient::{Ac1, Alpha, Fleiss, Observed};
        for (name, of) in [
            ("observed", Observed),
            ("fleiss", Fleiss),
            ("alpha", Alpha),
            ("ac1", Ac1(2)),
        ] {
            for (items, people, share) in [
                (50, 2, 0.5),
                (200, 2, 0.5),
                (200, 3, 0.5),
                (50, 2, 0.1),
                (200, 2, 0.1),
                (200, 3, 0.1),
            ] {
                let (held, above) = coverage(items, people, share, of);
                println!(
                    "{name:9} items {items:3} people {people} class {share}: held {held:.3} above {above:.3}"
                );
                assert!(
                    (0.92..=1.0).contains(&held),
                    "{name} {items} {people} {share}: {held}"
                );
                assert!(above <= 0.05, "{name} {items} {people} {share}: {above}");
            }
        }
    }

    #[test]
    fn a_window_of_equal_answers_is_not_certain() {
        let same = vec![vec![0, 0]; 20];
        let found = pooled(&same, PooledCoefficient::Ac1(2), PooledScale::Nominal).unwrap();
        let estimate = found.estimate(0.95).unwrap();
        assert_eq!((found.value, estimate.items), (1.0, 20));
        assert!(
            (estimate.bounds.lower - 0.8389).abs() < 5e-5,
            "{estimate:?}"
        );
        for coefficient in [PooledCoefficient::Fleiss, PooledCoefficient::Alpha] {
            let found = pooled(&same, coefficient, PooledScale::Nominal);
            assert_eq!(found, Err(ConsensusError::NO_VARIATION));
        }
    }

    #[test]
    fn the_interval_is_near_that_of_the_bootstrap() {
        let mut draws = Draws(3);
        let items: Vec<_> = (0..400).map(|_| draws.item(3, 0.85, 0.4)).collect();
        let ratings: Vec<Vec<Option<u32>>> = (0..3)
            .map(|k| items.iter().map(|item| Some(item[k])).collect())
            .collect();
        let found = pooled(&items, PooledCoefficient::Alpha, PooledScale::Nominal).unwrap();
        let bounds = found.estimate(0.95).unwrap().bounds;
        let resampled =
            bootstrap_ratings(&ratings, krippendorffs_alpha_nominal, 1_000, 0.95, 1).unwrap();
        assert!(
            (bounds.lower - resampled.lower).abs() < 0.02,
            "{bounds:?} {resampled:?}"
        );
        assert!(
            (bounds.upper - resampled.upper).abs() < 0.02,
            "{bounds:?} {resampled:?}"
        );
    }

    #[test]
    fn agreement_on_a_class_is_the_chance_that_another_says_the_same() {
        // The worked table of Cicchetti and Feinstein: 40 both yes, 9 + 6 differ, 45 both no.
        let mut items = vec![vec![1, 1]; 40];
        items.extend(vec![vec![1, 0]; 9]);
        items.extend(vec![vec![0, 1]; 6]);
        items.extend(vec![vec![0, 0]; 45]);
        let units: Vec<_> = (0..)
            .zip(&items)
            .map(|(item, codes)| PooledUnit { item, codes })
            .collect();
        let yes = Pooled::of_class(&units, 1).unwrap();
        assert!((yes.value - 80.0 / 95.0).abs() < 1e-12);
        let estimate = yes.estimate(0.95).unwrap();
        assert_eq!(estimate.items, 55);
        assert!(
            estimate.bounds.lower > 0.7 && estimate.bounds.upper < 0.93,
            "{estimate:?}"
        );
        assert!(Pooled::of_class(&units, 9).is_err());
    }

    #[test]
    fn a_mean_joins_the_items_of_its_parts() {
        let scores = |of: &[(u64, f64)]| Pooled::of_scores(of).unwrap();
        let one = scores(&[(1, 1.0), (2, 0.0)]);
        let same = Pooled::mean(&[(1.0, one.clone()), (3.0, one.clone())]).unwrap();
        assert_eq!(same, one, "a part beside itself adds nothing");
        let other = Pooled::mean(&[(1.0, one), (1.0, scores(&[(2, 0.5), (3, 1.0)]))]).unwrap();
        assert!((other.value - 0.625).abs() < 1e-12);
        assert_eq!(other.items(), 3);
        assert_eq!(Pooled::mean(&[]), None);
    }
}
