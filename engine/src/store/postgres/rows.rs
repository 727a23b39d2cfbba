//! Converts Rust types to PostgreSQL columns and back.

use std::{io, str::FromStr};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{
    Map, Value,
    ser::{CompactFormatter, Formatter, Serializer},
};
use sqlx::{Decode, Postgres, Row, Type, ValueRef, postgres::PgRow};
use uuid::Uuid;

use super::super::{
    EventStoreError, LogPosition,
    nul::refuse_nul,
    rows::{ColumnError, Record, checksum},
};
use crate::{events::WorkflowEvent, state::WorkflowSnapshot};

/// Writes whole floats between 1e16 and 1e20 with `.0` instead of an exponent. PostgreSQL's jsonb
/// would turn `1e16` into the integer `10000000000000000`, and replay would read a different value
/// from the one decided on.
struct KeepFloats;

impl Formatter for KeepFloats {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if (1e16..1e20).contains(&value.abs()) {
            write!(writer, "{value:.1}")
        } else {
            CompactFormatter.write_f64(writer, value)
        }
    }
}

/// JSON text that every store reads back as the same value.
pub(super) fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String, EventStoreError> {
    let mut text = Vec::with_capacity(256);
    value
        .serialize(&mut Serializer::with_formatter(&mut text, KeepFloats))
        .map_err(|error| EventStoreError::Data(error.into()))?;
    String::from_utf8(text).map_err(|error| EventStoreError::Data(error.into()))
}

/// The content of an event, without its type: the column `event_data`.
pub(super) fn event_data(event: &WorkflowEvent) -> Result<String, EventStoreError> {
    let tagged = to_json(event)?;
    // The tag comes first, so the content is a slice of the whole.
    let content = tagged
        .strip_prefix("{\"event_type\":\"")
        .and_then(|rest| rest.strip_prefix(event.event_type()))
        .and_then(|rest| rest.strip_prefix("\",\"event_data\":"))
        .and_then(|rest| rest.strip_suffix('}'));
    let content = if let Some(content) = content {
        content.to_owned()
    } else {
        let value =
            serde_json::to_value(event).map_err(|error| EventStoreError::Data(error.into()))?;
        to_json(&value["event_data"])?
    };
    // The column is text, which would take an escaped one.
    refuse_nul(&content)?;
    Ok(content)
}

/// The text of a state with its checksum.
pub(super) fn snapshot_text(
    state: &WorkflowSnapshot,
) -> Result<(String, [u8; 32]), EventStoreError> {
    let text = to_json(state)?;
    let checksum = checksum(&text);
    Ok((text, checksum))
}

/// A number in a signed column; this build never produces one that does not fit.
pub(super) fn signed<T: TryFrom<U>, U>(number: U) -> Result<T, EventStoreError>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(number).map_err(|error| EventStoreError::Data(Box::new(error)))
}

/// One column of rows: a statement that writes any number of rows takes arrays.
pub(super) fn column<R, C>(rows: &[R], value: impl Fn(&R) -> C) -> Vec<C> {
    rows.iter().map(value).collect()
}

/// A column whose conversion may fail.
pub(super) fn try_column<R, C>(
    rows: &[R],
    value: impl Fn(&R) -> Result<C, EventStoreError>,
) -> Result<Vec<C>, EventStoreError> {
    rows.iter().map(value).collect()
}

fn value<'r, T>(row: &'r PgRow, column: &str) -> Result<Option<T>, ColumnError>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    Ok(row.try_get(column)?)
}

impl Record for PgRow {
    fn text(&self, column: &str) -> Result<Option<&str>, ColumnError> {
        value(self, column)
    }

    fn number(&self, column: &str) -> Result<Option<i64>, ColumnError> {
        let is_integer =
            <i32 as Type<Postgres>>::compatible(&self.try_get_raw(column)?.type_info());
        if is_integer {
            Ok(value::<i32>(self, column)?.map(i64::from))
        } else {
            value(self, column)
        }
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, ColumnError> {
        value(self, column)
    }

    fn uuid(&self, column: &str) -> Result<Option<Uuid>, ColumnError> {
        value(self, column)
    }

    fn time(&self, column: &str) -> Result<Option<DateTime<Utc>>, ColumnError> {
        value(self, column)
    }

    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, ColumnError> {
        value(self, column)
    }

    fn texts(&self, column: &str) -> Result<Option<Vec<String>>, ColumnError> {
        value(self, column)
    }

    fn uuids(&self, column: &str) -> Result<Option<Vec<Uuid>>, ColumnError> {
        value(self, column)
    }

    fn log_position(&self) -> Result<LogPosition, ColumnError> {
        Ok(LogPosition {
            entry: self.try_get("entry")?,
            position: self.try_get("position")?,
        })
    }
}

/// A row returned as JSON, inside a row of another shape.
pub(super) type JsonRow = Map<String, Value>;

/// A value in such a row has another type than the column.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}` is {value}")]
struct BadJson {
    column: String,
    value: Value,
}

fn json_value<'r, T>(
    row: &'r JsonRow,
    column: &str,
    read: impl FnOnce(&'r Value) -> Option<T>,
) -> Result<Option<T>, ColumnError> {
    match row.get(column) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| {
            let (column, value) = (column.to_owned(), value.clone());
            BadJson { column, value }.into()
        }),
    }
}

fn parsed<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(read).collect()
}

/// Decodes bytes as PostgreSQL prints them: `\x` and two digits for each byte.
fn from_hex(value: &Value) -> Option<Vec<u8>> {
    let digits = value.as_str()?.strip_prefix("\\x")?;
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

impl Record for JsonRow {
    fn text(&self, column: &str) -> Result<Option<&str>, ColumnError> {
        json_value(self, column, Value::as_str)
    }

    fn number(&self, column: &str) -> Result<Option<i64>, ColumnError> {
        json_value(self, column, Value::as_i64)
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, ColumnError> {
        json_value(self, column, Value::as_bool)
    }

    fn uuid(&self, column: &str) -> Result<Option<Uuid>, ColumnError> {
        json_value(self, column, parsed)
    }

    fn time(&self, column: &str) -> Result<Option<DateTime<Utc>>, ColumnError> {
        json_value(self, column, parsed)
    }

    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, ColumnError> {
        json_value(self, column, from_hex)
    }

    fn texts(&self, column: &str) -> Result<Option<Vec<String>>, ColumnError> {
        json_value(self, column, |value| list(value, parsed))
    }

    fn uuids(&self, column: &str) -> Result<Option<Vec<Uuid>>, ColumnError> {
        json_value(self, column, |value| list(value, parsed))
    }

    fn log_position(&self) -> Result<LogPosition, ColumnError> {
        let number = |column: &str| {
            self.number(column)?
                .ok_or_else(|| ColumnError::from("no such column"))
        };
        Ok(LogPosition {
            entry: number("entry")?,
            position: number("position")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_content_of_an_event_is_its_adjacent_content() {
        let event = WorkflowEvent::WorkflowCompleted {
            output: json!({"a": [1, 2.5, 1e17]}),
        };
        let value = serde_json::to_value(&event).unwrap();
        let text = event_data(&event).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            value["event_data"]
        );
        assert!(text.contains("100000000000000000.0"), "{text}");
    }

    #[test]
    fn a_row_of_json_holds_what_the_row_of_a_table_holds() {
        let row = json!({
            "text": "a", "none": null, "number": 7, "flag": true,
            "uuid": "6ba7b811-9dad-11d1-80b4-00c04fd430c8",
            "time": "2026-01-02T03:04:05.000006+00:00", "bytes": "\\x00ff",
        });
        let row = row.as_object().unwrap();
        assert_eq!(row.text("text").unwrap(), Some("a"));
        assert_eq!(row.text("none").unwrap(), None);
        assert_eq!(row.number("number").unwrap(), Some(7));
        assert_eq!(row.flag("flag").unwrap(), Some(true));
        assert_eq!(row.uuid("uuid").unwrap(), Some(Uuid::NAMESPACE_URL));
        let time = row.time("time").unwrap().unwrap();
        assert_eq!(time.timestamp_micros(), 1_767_323_045_000_006);
        assert_eq!(row.bytes("bytes").unwrap(), Some(vec![0, 255]));
        assert!(row.number("text").is_err());
    }
}
