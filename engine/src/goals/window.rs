//! Rolling windows: the durations of the last hours or days, and their result.

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{config::GoalConfig, quality::whole};

pub use crate::limits::WINDOW_SAMPLES_MAX;

/// Measurements in order of time. A measurement leaves `window` after it was made.
///
/// Times and values are whole millionths (of seconds since 1970, or of a second), so
/// sums are exact: folding live and replaying the log give equal results to the last digit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The time and the value of each measurement.
    samples: VecDeque<(i64, i64)>,
    /// Since when the target has been met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holds_since: Option<DateTime<Utc>>,
}

pub(super) fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

impl Window {
    /// The number of measurements.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Since when the target has been met.
    pub fn holds_since(&self) -> Option<DateTime<Utc>> {
        self.holds_since
    }

    /// The mean of the measurements, or their percentile; `None` without measurements.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a window holds a thousand samples at most"
    )]
    pub fn value(&self, percentile: Option<u32>) -> Option<f64> {
        if self.samples.is_empty() {
            return None;
        }
        let values = self.samples.iter().map(|(_, value)| *value);
        match percentile {
            None => Some(whole(values.sum()) / self.samples.len() as f64),
            Some(percentile) => {
                let mut values: Vec<i64> = values.collect();
                values.sort_unstable();
                // Nearest rank: the smallest value with at least that share at or below it.
                let rank = (values.len() * percentile as usize).div_ceil(100).max(1);
                values.get(rank - 1).map(|value| whole(*value))
            }
        }
    }

    /// The value, if there are enough measurements.
    fn measured(&self, config: &GoalConfig) -> Option<f64> {
        self.value(config.percentile)
            .filter(|_| self.samples.len() >= config.min_samples())
    }

    /// Whether the target is met; `None` with too few measurements.
    pub(super) fn meets(&self, config: &GoalConfig) -> Option<bool> {
        let value = self.measured(config)?;
        let within = config.within?;
        Some(value <= within.get().as_secs_f64())
    }

    /// Whether the value is beyond the bound of its alert; `None` with too few measurements.
    pub(super) fn alarms(&self, config: &GoalConfig) -> Option<bool> {
        let (value, alerts) = (self.measured(config)?, config.alerts.as_ref()?);
        Some(alerts.above.is_some_and(|b| value > b.get().as_secs_f64()))
    }

    /// Adds a measurement that is not older than those before.
    pub(super) fn add(&mut self, config: &GoalConfig, at: DateTime<Utc>, value: i64) {
        self.samples.push_back((at.timestamp_micros(), value));
        if self.samples.len() > WINDOW_SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.evaluate(config, at);
    }

    /// Records since when the target has been met.
    pub(super) fn evaluate(&mut self, config: &GoalConfig, at: DateTime<Utc>) {
        self.holds_since = match self.meets(config) {
            Some(true) => self.holds_since.or(Some(at)),
            Some(false) | None => None,
        };
    }

    /// When the target will have been met for long enough, if nothing changes before.
    pub(super) fn sustained_at(&self, config: &GoalConfig) -> Option<DateTime<Utc>> {
        let sustain = config.sustain.map_or(TimeDelta::zero(), |s| delta(s.get()));
        self.holds_since?.checked_add_signed(sustain)
    }

    /// When the oldest measurement leaves the window.
    pub(super) fn leaves_at(&self, config: &GoalConfig) -> Option<DateTime<Utc>> {
        let (at, _) = self.samples.front()?;
        DateTime::from_timestamp_micros(*at)?.checked_add_signed(delta(config.window()))
    }

    /// Removes the oldest measurement at the time it leaves the window.
    pub(super) fn leave(&mut self, config: &GoalConfig, at: DateTime<Utc>) {
        self.samples.pop_front();
        self.evaluate(config, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::GoalType, ids::Slug, quality::millionths};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn the_value_is_the_mean_or_the_percentile_by_nearest_rank() {
        let mut config = GoalConfig::new(Slug::new("fast").unwrap(), GoalType::Duration);
        config.min_samples = Some(1);
        let mut window = Window::default();
        assert_eq!(window.value(None), None);
        for (second, value) in [(1, 15.0), (2, 20.0), (3, 35.0), (4, 40.0), (5, 50.0)] {
            window.add(&config, at(second), millionths(value));
        }
        assert_eq!(window.value(None), Some(32.0));
        // The worked example of the nearest-rank method.
        let percentiles = [5, 30, 40, 50, 100].map(|p| millionths(window.value(Some(p)).unwrap()));
        assert_eq!(
            percentiles,
            [15_000_000, 20_000_000, 20_000_000, 35_000_000, 50_000_000]
        );
        window.leave(&config, at(9));
        assert_eq!(window.value(None), Some(36.25));
    }

    #[test]
    fn a_full_window_keeps_the_newest() {
        let config = GoalConfig::new(Slug::new("fast").unwrap(), GoalType::Duration);
        let mut window = Window::default();
        for second in 0..1_100 {
            window.add(&config, at(second), second);
        }
        assert_eq!(window.samples(), WINDOW_SAMPLES_MAX);
        assert_eq!(window.samples.front(), Some(&(100_000_000, 100)));
    }
}
