//! Forecasts when a volume will be reached, and the data behind the forecast.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The length in seconds of a time slot in which events are counted together.
const SLOT_SECS: i64 = 300;
/// Time slots kept: one day.
const SLOTS: i64 = 288;
/// Events needed before a forecast may raise an alert.
const FIRM_EVENTS: u64 = 10;
/// Beyond any meaningful date; such forecasts report that it takes too long.
const AHEAD_MAX_DAYS: i64 = 36_525;

/// The counts of the last day, in time slots of five minutes: the basis of a forecast.
///
/// A whole day, so that nights and breaks are part of the rate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// When the first event was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<DateTime<Utc>>,
    /// When the last event was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<DateTime<Utc>>,
    /// Events counted in all.
    #[serde(default)]
    total: u64,
    /// The number of a time slot since 1970 and its events; empty time slots are omitted.
    slots: VecDeque<(i64, u64)>,
}

/// When a volume will be reached, at the rate of the last day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// The expected time; `None` if it is unknown or nothing is being counted.
    pub eta: Option<DateTime<Utc>>,
    /// Why there is no `eta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rate and its basis; `None` if nothing was counted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<ForecastBasis>,
    /// Whether work has stopped, so that the volume will never be reached.
    #[serde(skip)]
    pub(super) is_never: bool,
    /// Whether enough was counted in total to raise an alert.
    #[serde(skip)]
    pub(super) is_firm: bool,
}

/// The basis of a rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastBasis {
    /// Events are counted from this time, at most a day ago.
    pub from: DateTime<Utc>,
    /// Events are counted until this time.
    pub to: DateTime<Utc>,
    /// The number of events.
    pub events: u64,
    /// Events per hour.
    pub per_hour: f64,
}

impl Forecast {
    /// No forecast, with the reason.
    pub(super) fn unknown(reason: impl Into<String>) -> Self {
        Self {
            eta: None,
            reason: Some(reason.into()),
            basis: None,
            is_never: false,
            is_firm: false,
        }
    }

    /// Whether `deadline` will be missed, as far as is known.
    pub(super) fn is_later_than(&self, deadline: DateTime<Utc>) -> bool {
        self.is_never || (self.is_firm && self.eta.is_some_and(|eta| eta > deadline))
    }
}

fn slot(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(SLOT_SECS)
}

impl Recent {
    /// Counts events at a time that is not before those already counted.
    pub(super) fn add(&mut self, at: DateTime<Utc>, events: u64) {
        self.first.get_or_insert(at);
        self.last = Some(at);
        self.total += events;
        let now = slot(at);
        match self.slots.back_mut() {
            Some((last, count)) if *last == now => *count += events,
            _ => self.slots.push_back((now, events)),
        }
        while self.slots.front().is_some_and(|(s, _)| *s <= now - SLOTS) {
            self.slots.pop_front();
        }
    }

    /// When the last event was counted.
    pub fn last(&self) -> Option<DateTime<Utc>> {
        self.last
    }

    /// The next instant after `at` at which a forecast is evaluated without an event: the beginning
    /// of a time slot. Evaluated only then, a forecast never comes nearer unless something is
    /// counted.
    pub(super) fn next_look(at: DateTime<Utc>) -> DateTime<Utc> {
        DateTime::from_timestamp((slot(at) + 1) * SLOT_SECS, 0).unwrap_or(at)
    }

    /// The last such instant that is not after `at`.
    pub(super) fn last_look(at: DateTime<Utc>) -> DateTime<Utc> {
        DateTime::from_timestamp(slot(at) * SLOT_SECS, 0).unwrap_or(at)
    }

    /// The number of such instants between two of them.
    pub(super) fn looks_between(first: DateTime<Utc>, last: DateTime<Utc>) -> i64 {
        slot(last) - slot(first)
    }

    /// The `n`th such instant after `first`.
    pub(super) fn look(first: DateTime<Utc>, n: i64) -> DateTime<Utc> {
        DateTime::from_timestamp((slot(first) + n) * SLOT_SECS, 0).unwrap_or(first)
    }

    /// When `remaining` more will have been counted, seen from `now`.
    ///
    /// The rate is that of the last day, or of the time since the first event if that is shorter.
    /// In that case the first event only starts the clock.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a forecast needs no more than 53 bits"
    )]
    pub fn forecast(&self, remaining: u64, now: DateTime<Utc>) -> Forecast {
        let Some(first) = self.first else {
            return Forecast::unknown("nothing has been counted yet");
        };
        let oldest = slot(now) - SLOTS + 1;
        let begins = DateTime::from_timestamp(oldest * SLOT_SECS, 0).unwrap_or(first);
        let from = first.max(begins);
        let in_window = self.slots.iter().filter(|(slot, _)| *slot >= oldest);
        let events: u64 = in_window.map(|(_, count)| count).sum();
        let seconds = (now - from).as_seconds_f64();
        let intervals = if from == first {
            events.saturating_sub(1)
        } else {
            events
        };
        let basis = (seconds > 0.0).then(|| ForecastBasis {
            from,
            to: now,
            events,
            per_hour: intervals as f64 * 3_600.0 / seconds,
        });
        let none = |reason: &str, is_never| Forecast {
            basis: basis.clone(),
            is_never,
            ..Forecast::unknown(reason)
        };
        if events == 0 {
            return none("nothing was counted in the last day", true);
        }
        if intervals == 0 || seconds <= 0.0 {
            return none("too little has been counted to know a rate", false);
        }
        let ahead = remaining as f64 * seconds / intervals as f64;
        if ahead > (AHEAD_MAX_DAYS * 86_400) as f64 {
            return none("at this rate it takes more than a hundred years", true);
        }
        let eta = now.checked_add_signed(TimeDelta::microseconds((ahead * 1e6) as i64));
        Forecast {
            eta,
            reason: None,
            basis,
            is_never: false,
            is_firm: self.total >= FIRM_EVENTS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn the_rate_of_a_young_goal_is_that_since_its_first_event() {
        let mut recent = Recent::default();
        assert_eq!(recent.forecast(10, at(0)).basis, None);
        recent.add(at(0), 1);
        assert_eq!(recent.forecast(10, at(60)).eta, None);
        for minute in 1..=10 {
            recent.add(at(60 * minute), 1);
        }
        let forecast = recent.forecast(5, at(600));
        assert_eq!(forecast.eta, Some(at(900)));
        let basis = forecast.basis.unwrap();
        assert_eq!((basis.from, basis.events), (at(0), 11));
        assert!((basis.per_hour - 60.0).abs() < 1e-9);
    }

    #[test]
    fn only_the_last_day_counts_and_a_day_without_events_is_a_standstill() {
        let mut recent = Recent::default();
        recent.add(at(0), 1_000_000);
        recent.add(at(5 * 86_400), 24);
        let basis = recent.forecast(1, at(5 * 86_400)).basis.unwrap();
        assert_eq!(basis.events, 24);
        assert!(basis.per_hour > 1.0 && basis.per_hour < 1.01);
        let late = recent.forecast(1, at(7 * 86_400));
        assert!(late.is_never && late.eta.is_none());
        assert!(late.is_later_than(at(999_999_999)));
    }

    #[test]
    fn without_events_the_forecast_only_moves_away() {
        let mut recent = Recent::default();
        for n in 0..100 {
            recent.add(at(97 * n), 1);
        }
        let mut instant = at(97 * 99);
        let mut eta = instant;
        for _ in 0..600 {
            instant = Recent::next_look(instant);
            let forecast = recent.forecast(50, instant);
            assert!(forecast.eta.is_none_or(|later| later >= eta), "{instant}");
            eta = forecast.eta.unwrap_or(DateTime::<Utc>::MAX_UTC);
        }
        assert_eq!(eta, DateTime::<Utc>::MAX_UTC);
    }
}
