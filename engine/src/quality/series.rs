//! The newest answers to one question, and what they say about agreement on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    item::{Item, as_text},
    sample::{Given, Sample},
};
use crate::{
    config::{Coefficient, DistanceWeights, Level, Metric},
    consensus::{ConsensusError, Pooled, PooledCoefficient, PooledScale, PooledUnit},
};

/// Texts up to this length are kept to name their class; of longer ones only a hash is.
const CLASS_TEXT_MAX: usize = 64;
const MILLION: f64 = 1e6;

/// The answers of several items to one question, oldest first. Items are numbered by whoever keeps
/// the series, ascending.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    #[serde(with = "as_text")]
    items: VecDeque<Item>,
    /// The answers inside, by hash.
    answers: BTreeMap<Uuid, CodedAnswer>,
    /// Those who gave them, where two answered an item.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    people: BTreeMap<Uuid, Coded>,
    /// How the newest item was compared.
    pub(super) measure: Measure,
}

/// How answers to a question are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Measure {
    pub(super) metric: Metric,
    #[serde(default)]
    pub(super) level: Level,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<DistanceWeights>,
    /// Weight among the fields of the step.
    pub(super) weight: f64,
    /// How many answers are possible, as far as is known.
    #[serde(default)]
    categories: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CodedAnswer {
    #[serde(flatten)]
    coded: Coded,
    /// The answer, if it is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// Where it is on the scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Coded {
    code: u32,
    /// How often it occurs; at 0 it is removed.
    uses: u64,
}

/// One class of answers, with the agreement on it.
pub(super) struct ClassSeries {
    pub(super) value: Value,
    /// How often it was given.
    pub(super) given: u64,
    pub(super) pooled: Pooled,
}

impl Series {
    /// Adds an item. Its number is above those before it.
    pub fn add(&mut self, number: u64, sample: &Sample<'_>) {
        let units = sample.units.iter().map(|unit| {
            let codes = unit.iter().map(|given| self.answer(given));
            codes.collect()
        });
        let units = units.collect();
        let people = sample.people.map(|people| {
            people.map(|person| {
                let code = self
                    .people
                    .get(&person.0)
                    .map_or_else(|| unused(self.people.values()), |known| known.code);
                let known = self
                    .people
                    .entry(person.0)
                    .or_insert(Coded { code, uses: 0 });
                known.uses += 1;
                known.code
            })
        });
        self.measure = Measure {
            metric: sample.metric,
            level: sample.level,
            weights: sample.weights,
            weight: sample.weight,
            categories: sample.categories,
        };
        self.items.push_back(Item {
            number,
            units,
            people,
            similarity: sample.similarity.map(millionths),
        });
    }

    fn answer(&mut self, given: &Given<'_>) -> u32 {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, given.canonical().as_bytes());
        let code = match self.answers.get(&id) {
            Some(known) => known.coded.code,
            None => unused(self.answers.values().map(|known| &known.coded)),
        };
        let known = self.answers.entry(id).or_insert_with(|| CodedAnswer {
            coded: Coded { code, uses: 0 },
            value: Some(given.value.clone()).filter(is_short),
            place: None,
        });
        known.coded.uses += 1;
        // A scale that has changed counts as it is now.
        known.place = given.place;
        code
    }

    /// Removes the items before a number.
    pub fn drop_before(&mut self, number: u64) {
        while self.first().is_some_and(|first| first < number) {
            let Some(oldest) = self.items.pop_front() else {
                return;
            };
            let mut gone: BTreeMap<u32, u64> = BTreeMap::new();
            for code in oldest.units.iter().flatten() {
                *gone.entry(*code).or_default() += 1;
            }
            self.answers
                .retain(|_, known| remains(&mut known.coded, &gone));
            let mut gone: BTreeMap<u32, u64> = BTreeMap::new();
            for code in oldest.people.iter().flatten() {
                *gone.entry(*code).or_default() += 1;
            }
            self.people.retain(|_, known| remains(known, &gone));
        }
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The number of its oldest item.
    pub fn first(&self) -> Option<u64> {
        self.items.front().map(|item| item.number)
    }

    /// The weight of the question among the fields of its step.
    pub fn weight(&self) -> f64 {
        self.measure.weight
    }

    /// Categories in use, and how many are known.
    pub(super) fn categories(&self) -> (usize, usize) {
        let used = self.answers.len();
        (used, used.max(self.measure.categories))
    }

    /// Agreement by the metric of the question: pooled over items where it corrects for chance, else
    /// the mean similarity.
    ///
    /// # Errors
    ///
    /// Why it has no value.
    pub fn agreement(&self) -> Result<Pooled, ConsensusError> {
        match self.measure.metric.coefficient() {
            Some(Coefficient::CohenKappa) => self.kappa().map(|(pooled, _)| pooled),
            Some(Coefficient::FleissKappa) => {
                self.pooled(PooledCoefficient::Fleiss, PooledScale::Nominal)
            }
            Some(Coefficient::KrippendorffAlpha) => self.alpha(),
            Some(Coefficient::GwetAc1) => self.ac1(),
            None => self.similarity(),
        }
    }

    /// The mean similarity of the items.
    pub(super) fn similarity(&self) -> Result<Pooled, ConsensusError> {
        let scores = self.items.iter().filter_map(|item| {
            let similarity = item.similarity?;
            Some((item.number, f64::from(similarity) / MILLION))
        });
        Pooled::of_scores(&scores.collect::<Vec<_>>())
    }

    /// The share of agreeing pairs of answers.
    pub(super) fn observed(&self) -> Result<Pooled, ConsensusError> {
        self.pooled(PooledCoefficient::Observed, PooledScale::Nominal)
    }

    /// Krippendorff's alpha at the level of the question.
    pub(super) fn alpha(&self) -> Result<Pooled, ConsensusError> {
        let scale = match self.measure.level {
            Level::Nominal => PooledScale::Nominal,
            Level::Ordinal => PooledScale::Ordinal,
            Level::Interval => PooledScale::Interval,
            Level::Ratio => PooledScale::Ratio,
        };
        self.pooled(PooledCoefficient::Alpha, self.placed(scale))
    }

    /// Gwet's AC1, over the known categories.
    pub(super) fn ac1(&self) -> Result<Pooled, ConsensusError> {
        let coefficient = PooledCoefficient::Ac1(self.measure.categories);
        self.pooled(coefficient, PooledScale::Nominal)
    }

    /// Cohen's kappa, if the same two people gave all answers; else Fleiss', which does not ask who
    /// gave which. With which of the two it is.
    pub(super) fn kappa(&self) -> Result<(Pooled, bool), ConsensusError> {
        let scale = self.placed(match self.measure.weights {
            None => PooledScale::Nominal,
            Some(DistanceWeights::Linear) => PooledScale::Linear,
            Some(DistanceWeights::Quadratic) => PooledScale::Interval,
        });
        let pairs = self.people.len() == 2 && self.items.iter().all(|item| item.people.is_some());
        if !pairs {
            let pooled = self.pooled(PooledCoefficient::Fleiss, scale)?;
            return Ok((pooled, false));
        }
        // The one with the lower code first.
        let turned = self.items.iter().flat_map(|item| {
            let swap = item.people.is_some_and(|[first, second]| first > second);
            item.units.iter().map(move |unit| {
                let mut unit = unit.clone();
                if swap {
                    unit.reverse();
                }
                (item.number, unit)
            })
        });
        let turned: Vec<(u64, Vec<u32>)> = turned.collect();
        let units = turned
            .iter()
            .map(|(item, codes)| PooledUnit { item: *item, codes });
        let pooled = self.measured(&units.collect::<Vec<_>>(), PooledCoefficient::Cohen, scale)?;
        Ok((pooled, true))
    }

    /// The most frequent classes, with the agreement on each.
    pub(super) fn classes(&self, most: usize) -> Vec<ClassSeries> {
        let units: Vec<PooledUnit<'_>> = self.units().collect();
        let mut named: Vec<(&Value, Coded)> = self
            .answers
            .values()
            .filter_map(|known| Some((known.value.as_ref()?, known.coded)))
            .collect();
        named.sort_by_key(|(value, coded)| (std::cmp::Reverse(coded.uses), value.to_string()));
        named.truncate(most);
        let class = |(value, coded): (&Value, Coded)| {
            Some(ClassSeries {
                value: value.clone(),
                given: coded.uses,
                pooled: Pooled::of_class(&units, coded.code).ok()?,
            })
        };
        named.into_iter().filter_map(class).collect()
    }

    /// The scale, unless answers have no place on it.
    fn placed(&self, scale: PooledScale) -> PooledScale {
        let placed = self.answers.values().all(|known| known.place.is_some());
        if placed { scale } else { PooledScale::Nominal }
    }

    fn units(&self) -> impl Iterator<Item = PooledUnit<'_>> {
        self.items.iter().flat_map(|item| {
            let units = item.units.iter();
            units.map(|codes| PooledUnit {
                item: item.number,
                codes,
            })
        })
    }

    fn pooled(
        &self,
        coefficient: PooledCoefficient,
        scale: PooledScale,
    ) -> Result<Pooled, ConsensusError> {
        self.measured(&self.units().collect::<Vec<_>>(), coefficient, scale)
    }

    fn measured(
        &self,
        units: &[PooledUnit<'_>],
        coefficient: PooledCoefficient,
        scale: PooledScale,
    ) -> Result<Pooled, ConsensusError> {
        let known = self.answers.values();
        let places: BTreeMap<u32, f64> = known
            .filter_map(|known| Some((known.coded.code, known.place?)))
            .collect();
        let place = |code| places.get(&code).copied().unwrap_or_default();
        Pooled::of(units, coefficient, scale, place)
    }
}

/// The smallest code that nothing has.
fn unused<'c>(known: impl Iterator<Item = &'c Coded>) -> u32 {
    let taken: BTreeSet<u32> = known.map(|known| known.code).collect();
    (0..=u32::MAX)
        .find(|code| !taken.contains(code))
        .unwrap_or(u32::MAX)
}

/// Whether something is still in use.
fn remains(known: &mut Coded, gone: &BTreeMap<u32, u64>) -> bool {
    known.uses -= gone.get(&known.code).copied().unwrap_or(0).min(known.uses);
    known.uses > 0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a similarity is between 0 and 1"
)]
fn millionths(similarity: f64) -> u32 {
    (similarity.clamp(0.0, 1.0) * MILLION).round() as u32
}

fn is_short(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.len() <= CLASS_TEXT_MAX,
        Value::Array(_) | Value::Object(_) => false,
    }
}
