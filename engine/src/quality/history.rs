//! How a value went: a bounded number of points, the further apart the longer it goes on.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::limits::HISTORY_POINTS_MAX;

/// Seconds that the first points are apart at least.
const WIDTH_FIRST: i64 = 60;

const MILLION: f64 = 1e6;

/// A ratio or a number of seconds in whole millionths: reading and writing them changes nothing, and
/// their sums are exact.
#[expect(
    clippy::cast_possible_truncation,
    reason = "ratios and durations of tasks are far below 2^63 millionths"
)]
pub fn millionths(value: f64) -> i64 {
    (value * MILLION).round() as i64
}

/// The ratio or number of seconds again.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53 millionths, 285 years"
)]
pub fn whole(millionths: i64) -> f64 {
    millionths as f64 / MILLION
}

/// Points in the order of time: of each span of time the first value that was noted in it. Once there
/// are too many, spans are twice as long, and every second point goes.
///
/// Points follow from the values and their times alone, so folding live and replaying the log give the
/// same ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History<V> {
    /// Seconds of a span.
    width: i64,
    /// Seconds since 1970, and the value then.
    points: Vec<(i64, V)>,
}

impl<V> Default for History<V> {
    fn default() -> Self {
        Self {
            width: WIDTH_FIRST,
            points: Vec::new(),
        }
    }
}

impl<V> History<V> {
    /// Whether a value at this time would be noted.
    pub fn is_due(&self, at: DateTime<Utc>) -> bool {
        let last = self.points.last();
        last.is_none_or(|(last, _)| self.span(at.timestamp()) > self.span(*last))
    }

    /// Notes a value, if it is [due](Self::is_due).
    pub fn note(&mut self, at: DateTime<Utc>, value: V) {
        if !self.is_due(at) {
            return;
        }
        self.points.push((at.timestamp(), value));
        while self.points.len() > HISTORY_POINTS_MAX {
            self.width *= 2;
            let width = self.width;
            self.points.dedup_by_key(|(at, _)| at.div_euclid(width));
        }
    }

    /// The points, oldest first.
    pub fn points(&self) -> impl Iterator<Item = (DateTime<Utc>, &V)> {
        let points = self.points.iter();
        points.filter_map(|(at, value)| Some((DateTime::from_timestamp(*at, 0)?, value)))
    }

    fn span(&self, seconds: i64) -> i64 {
        seconds.div_euclid(self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn of_each_span_the_first_value_is_kept() {
        let mut history = History::default();
        for (second, value) in [(0, 1), (59, 2), (60, 3), (200, 4), (100, 5)] {
            history.note(at(second), value);
        }
        let points: Vec<_> = history.points().collect();
        assert_eq!(points, [(at(0), &1), (at(60), &3), (at(200), &4)]);
    }

    #[test]
    fn however_long_it_goes_on_the_points_stay_few_and_span_all_of_it() {
        let mut history = History::default();
        for minute in 0..100_000 {
            history.note(at(60 * minute), minute);
        }
        let points: Vec<_> = history.points().collect();
        assert!((HISTORY_POINTS_MAX / 2..=HISTORY_POINTS_MAX).contains(&points.len()));
        assert_eq!(points[0], (at(0), &0));
        let (last, _) = points[points.len() - 1];
        assert!(at(60 * 99_999) - last < (last - at(0)) / 40, "{last}");
    }

    #[test]
    fn where_it_is_stored_and_read_in_between_makes_no_difference() {
        let (mut whole, mut cut) = (History::default(), History::default());
        for minute in 0..1_000 {
            whole.note(at(37 * minute), minute);
            cut.note(at(37 * minute), minute);
            if minute % 7 == 0 {
                let stored = serde_json::to_value(&cut).unwrap();
                cut = serde_json::from_value(stored).unwrap();
            }
        }
        assert_eq!(whole, cut);
    }
}
