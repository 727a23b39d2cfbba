//! The measurements of a quality goal, and what they say with confidence.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::window::{WINDOW_SAMPLES_MAX, delta};
use crate::{
    config::GoalConfig,
    consensus::{Bounds, ConsensusError, Pooled, wilson_interval},
    ids::StepId,
    quality::{ComparedVisit, Sample, Series, millionths, whole},
};

/// Fields of one step that are measured; what objects hold beyond them is not.
const FIELDS_MAX: usize = 200;

/// Measurements in order of time. A measurement leaves the window of the goal after it was made.
///
/// The result is kept in whole millionths, so that folding live and replaying the log give equal
/// results to the last digit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QualityWindow {
    /// When each measurement was made, in microseconds since 1970.
    times: VecDeque<i64>,
    /// The number of the oldest one.
    first: u64,
    /// Of a share: whether each measurement counts towards it.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    hits: VecDeque<bool>,
    /// Of agreement: the answers, by step and field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    answers: BTreeMap<StepId, BTreeMap<String, Series>>,
    /// The value and its interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undefined: Option<String>,
    /// Since when the target has been met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holds_since: Option<DateTime<Utc>>,
}

/// A value and the ends of its interval, in whole millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Measured {
    value: i64,
    lower: i64,
    upper: i64,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measurement<'e> {
    /// Something that is right or wrong: a review, an answer to a gold task.
    Hit(bool),
    /// The first comparison of a visit.
    Compared(&'e ComparedVisit<'e>),
}

impl QualityWindow {
    /// The number of measurements.
    pub fn samples(&self) -> usize {
        self.times.len()
    }

    /// Since when the target has been met.
    pub fn holds_since(&self) -> Option<DateTime<Utc>> {
        self.holds_since
    }

    /// The value; `None` where it is not defined.
    pub fn value(&self) -> Option<f64> {
        self.measured.map(|measured| whole(measured.value))
    }

    /// The interval of the value, at the confidence of the goal.
    pub fn interval(&self) -> Option<Bounds> {
        self.measured.map(|measured| Bounds {
            lower: whole(measured.lower),
            upper: whole(measured.upper),
        })
    }

    /// Why there is no value although something was measured.
    pub fn undefined(&self) -> Option<&str> {
        self.undefined.as_deref()
    }

    /// The value, if there are enough measurements.
    fn enough(&self, config: &GoalConfig) -> Option<Measured> {
        self.measured
            .filter(|_| self.samples() >= config.min_samples())
    }

    /// Whether the value is surely at the target: the lower end of its interval is. `None` with too
    /// few measurements.
    fn meets(&self, config: &GoalConfig) -> Option<bool> {
        let measured = self.enough(config)?;
        Some(measured.lower >= millionths(config.target?))
    }

    /// Whether the value itself is at the target; `None` with too few measurements.
    pub(super) fn is_at_target(&self, config: &GoalConfig) -> Option<bool> {
        let measured = self.enough(config)?;
        Some(measured.value >= millionths(config.target?))
    }

    /// Whether the value is below the bound of its alert; `None` with too few measurements.
    pub(super) fn alarms(&self, config: &GoalConfig) -> Option<bool> {
        let (measured, bound) = (self.enough(config)?, config.alerts.as_ref()?.below);
        Some(bound.is_some_and(|bound| measured.value < millionths(bound)))
    }

    /// Adds a measurement that is not older than those before.
    pub(super) fn add(&mut self, config: &GoalConfig, at: DateTime<Utc>, what: Measurement<'_>) {
        let number = self.first + self.times.len() as u64;
        self.times.push_back(at.timestamp_micros());
        match what {
            Measurement::Hit(hit) => self.hits.push_back(hit),
            Measurement::Compared(visit) => {
                let fields = self.answers.entry(visit.step_id.clone()).or_default();
                for sample in &visit.samples {
                    let name = name_of(sample);
                    if fields.len() < FIELDS_MAX || fields.contains_key(&name) {
                        fields.entry(name).or_default().add(number, sample);
                    }
                }
            }
        }
        if self.times.len() > WINDOW_SAMPLES_MAX {
            self.drop_oldest();
        }
        self.evaluate(config, at);
    }

    /// Calculates the value, and records since when the target has been met.
    pub(super) fn evaluate(&mut self, config: &GoalConfig, at: DateTime<Utc>) {
        (self.measured, self.undefined) = match self.calculate(config.confidence()) {
            Ok(measured) => (Some(measured), None),
            Err(_) if self.times.is_empty() => (None, None),
            Err(error) => (None, Some(error.to_string())),
        };
        self.holds_since = match self.meets(config) {
            Some(true) => self.holds_since.or(Some(at)),
            Some(false) | None => None,
        };
    }

    fn calculate(&self, confidence: f64) -> Result<Measured, ConsensusError> {
        let (value, bounds) = if self.answers.is_empty() {
            let hits = self.hits.iter().filter(|hit| **hit).count();
            let bounds = wilson_interval(hits, self.hits.len(), confidence)?;
            (hits as f64 / self.hits.len() as f64, bounds)
        } else {
            let estimate = self.agreement()?.estimate(confidence)?;
            (estimate.value, estimate.bounds)
        };
        Ok(Measured {
            value: millionths(value),
            lower: millionths(bounds.lower),
            upper: millionths(bounds.upper),
        })
    }

    /// Agreement of each step, by the weights of its fields, and of all steps by their items.
    fn agreement(&self) -> Result<Pooled, ConsensusError> {
        let mut steps = Vec::new();
        let mut undefined = None;
        for fields in self.answers.values() {
            let mut parts = Vec::new();
            for series in fields.values() {
                match series.agreement() {
                    Ok(pooled) => parts.push((series.weight(), pooled)),
                    Err(error) => undefined = Some(error),
                }
            }
            if let Some(step) = Pooled::mean(&parts) {
                steps.push((step.items() as f64, step));
            }
        }
        let undefined = undefined.unwrap_or(ConsensusError::NO_PAIR);
        Pooled::mean(&steps).ok_or(undefined)
    }

    /// When the target will have been met for long enough, if nothing changes before.
    pub(super) fn sustained_at(&self, config: &GoalConfig) -> Option<DateTime<Utc>> {
        let sustain = config
            .sustain
            .map_or_else(Default::default, |s| delta(s.get()));
        self.holds_since?.checked_add_signed(sustain)
    }

    /// When the oldest measurement leaves the window.
    pub(super) fn leaves_at(&self, config: &GoalConfig) -> Option<DateTime<Utc>> {
        let at = self.times.front()?;
        DateTime::from_timestamp_micros(*at)?.checked_add_signed(delta(config.window()))
    }

    /// Removes the oldest measurement at the time it leaves the window.
    pub(super) fn leave(&mut self, config: &GoalConfig, at: DateTime<Utc>) {
        self.drop_oldest();
        self.evaluate(config, at);
    }

    fn drop_oldest(&mut self) {
        if self.times.pop_front().is_none() {
            return;
        }
        self.first += 1;
        self.hits.pop_front();
        for fields in self.answers.values_mut() {
            for series in fields.values_mut() {
                series.drop_before(self.first);
            }
            fields.retain(|_, series| !series.is_empty());
        }
        self.answers.retain(|_, fields| !fields.is_empty());
    }
}

fn name_of(sample: &Sample<'_>) -> String {
    sample.field.clone().unwrap_or_default()
}
