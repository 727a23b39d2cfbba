//! Converts Rust types to SQLite columns and back.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{Decode, Row, Sqlite, Type, sqlite::SqliteRow};
use uuid::{Uuid, fmt::Hyphenated};

use super::super::{
    EventStoreError, LogPosition,
    rows::{ColumnError, Record},
};
use crate::events::WorkflowEvent;

/// Content with a character that no store keeps.
#[derive(Debug, thiserror::Error)]
#[error("a text contains the character U+0000")]
struct NulInText;

/// A time in a column: microseconds since 1970.
pub(super) fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// A version or count in a column.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An array for `json_each`.
pub(super) fn array<T: Serialize>(rows: &[T]) -> Result<String, EventStoreError> {
    serde_json::to_string(rows).map_err(|error| EventStoreError::Other(Box::new(error)))
}

/// JSON in a column. Rejects U+0000, as PostgreSQL does.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, EventStoreError> {
    let text =
        serde_json::to_string(value).map_err(|error| EventStoreError::Data(Box::new(error)))?;
    let nul = text.match_indices("\\u0000").any(|(at, _)| {
        // With an even number of backslashes before it, this one begins the escape.
        text.as_bytes()[..at]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count()
            % 2
            == 0
    });
    if nul {
        Err(EventStoreError::Data(Box::new(NulInText)))
    } else {
        Ok(text)
    }
}

/// Plain text in a column. Rejects U+0000, as PostgreSQL does.
pub(super) fn plain(text: &str) -> Result<&str, EventStoreError> {
    if text.contains('\0') {
        Err(EventStoreError::Data(Box::new(NulInText)))
    } else {
        Ok(text)
    }
}

/// The content of an event without its type.
pub(super) fn event_data(event: &WorkflowEvent) -> Result<String, EventStoreError> {
    let mut value =
        serde_json::to_value(event).map_err(|error| EventStoreError::Data(Box::new(error)))?;
    json(&value.get_mut("event_data").map_or(Value::Null, Value::take))
}

/// The end of a lease or delay that begins now.
pub(super) fn later(now: DateTime<Utc>, by: Duration) -> i64 {
    TimeDelta::from_std(by)
        .ok()
        .and_then(|by| now.checked_add_signed(by))
        .map_or(i64::MAX, micros)
}

/// Seconds between two times; 0 if the clock went back.
pub(super) fn seconds_between(from: i64, to: i64) -> f64 {
    to.saturating_sub(from).max(0) as f64 / 1e6
}

/// A position in the log of one file: each event is an entry.
pub(super) fn log_position(event: i64) -> LogPosition {
    LogPosition {
        entry: event,
        position: 0,
    }
}

fn value<'r, T>(row: &'r SqliteRow, column: &str) -> Result<Option<T>, ColumnError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    Ok(row.try_get(column)?)
}

/// A time is not an integer of microseconds within the calendar's range.
#[derive(Debug, thiserror::Error)]
#[error("{0} is no time")]
struct NoTime(i64);

impl Record for SqliteRow {
    fn text(&self, column: &str) -> Result<Option<&str>, ColumnError> {
        value(self, column)
    }

    fn number(&self, column: &str) -> Result<Option<i64>, ColumnError> {
        value(self, column)
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, ColumnError> {
        value(self, column)
    }

    fn uuid(&self, column: &str) -> Result<Option<Uuid>, ColumnError> {
        Ok(value::<Hyphenated>(self, column)?.map(Hyphenated::into_uuid))
    }

    fn time(&self, column: &str) -> Result<Option<DateTime<Utc>>, ColumnError> {
        let Some(micros) = value(self, column)? else {
            return Ok(None);
        };
        let time = DateTime::from_timestamp_micros(micros).ok_or(NoTime(micros))?;
        Ok(Some(time))
    }

    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, ColumnError> {
        value(self, column)
    }

    fn texts(&self, column: &str) -> Result<Option<Vec<String>>, ColumnError> {
        Ok(self.text(column)?.map(serde_json::from_str).transpose()?)
    }

    fn uuids(&self, column: &str) -> Result<Option<Vec<Uuid>>, ColumnError> {
        Ok(self.text(column)?.map(serde_json::from_str).transpose()?)
    }

    fn log_position(&self) -> Result<LogPosition, ColumnError> {
        Ok(log_position(self.try_get("position")?))
    }
}
