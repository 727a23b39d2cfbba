//! Events and snapshots as text for the database, and back.

use std::io;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{
    Value,
    ser::{CompactFormatter, Formatter, Serializer},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::EventStoreError;
use crate::{
    events::{EventMetadata, StoredEvent, UpcastError, WorkflowEvent, upcast},
    ids::TaskId,
    state::WorkflowSnapshot,
};

/// Writes whole floats between 1e16 and 1e20 with `.0` instead of an exponent: PostgreSQL's jsonb
/// would turn `1e16` into the integer `10000000000000000`, and replay would read another value
/// than was decided on.
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

/// JSON text that every store gives back as the same value.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, EventStoreError> {
    let mut text = Vec::with_capacity(256);
    value
        .serialize(&mut Serializer::with_formatter(&mut text, KeepFloats))
        .map_err(|error| EventStoreError::Data(error.into()))?;
    String::from_utf8(text).map_err(|error| EventStoreError::Data(error.into()))
}

/// The content of an event, without its type: the column `event_data`.
pub(super) fn event_data(event: &WorkflowEvent) -> Result<String, EventStoreError> {
    let tagged = to_json(event)?;
    // The tag comes first, so that the content is a slice of the whole.
    let content = tagged
        .strip_prefix("{\"event_type\":\"")
        .and_then(|rest| rest.strip_prefix(event.event_type()))
        .and_then(|rest| rest.strip_prefix("\",\"event_data\":"))
        .and_then(|rest| rest.strip_suffix('}'));
    if let Some(content) = content {
        return Ok(content.to_owned());
    }
    let value = serde_json::to_value(event).map_err(|error| EventStoreError::Data(error.into()))?;
    to_json(&value["event_data"])
}

/// The columns of a stored event.
pub(super) struct EventColumns<'r> {
    pub(super) task_id: TaskId,
    pub(super) version: i64,
    pub(super) event_id: Uuid,
    pub(super) event_type: &'r str,
    pub(super) event_data: &'r str,
    pub(super) metadata: &'r str,
    pub(super) occurred_at: DateTime<Utc>,
}

/// Reads a stored event of any schema version.
pub(super) fn read_event(columns: &EventColumns<'_>) -> Result<StoredEvent, EventStoreError> {
    let task_id = columns.task_id;
    let unreadable = |source| EventStoreError::Unreadable {
        task_id,
        source: UpcastError::Content {
            event_type: columns.event_type.to_owned(),
            source,
        },
    };
    let metadata: EventMetadata = serde_json::from_str(columns.metadata).map_err(unreadable)?;
    let data: Value = serde_json::from_str(columns.event_data).map_err(unreadable)?;
    let event = upcast(columns.event_type, metadata.schema_version, data)
        .map_err(|source| EventStoreError::Unreadable { task_id, source })?;
    Ok(StoredEvent {
        event_id: columns.event_id,
        task_id,
        version: unsigned("workflow_events", columns.version)?,
        occurred_at: columns.occurred_at,
        metadata,
        event,
    })
}

/// The text of a state and the checksum that proves it whole.
pub(super) fn snapshot_text(
    state: &WorkflowSnapshot,
) -> Result<(String, [u8; 32]), EventStoreError> {
    let text = to_json(state)?;
    let checksum = checksum(&text);
    Ok((text, checksum))
}

/// The state of a stored snapshot, or none where it is not whole: then the stream is replayed.
pub(super) fn read_snapshot(
    task: TaskId,
    version: i64,
    stored_checksum: &[u8],
    text: &str,
) -> Option<WorkflowSnapshot> {
    let whole = checksum(text) == stored_checksum;
    let state = whole
        .then(|| serde_json::from_str::<WorkflowSnapshot>(text).ok())
        .flatten();
    let state = state.filter(|s| s.task_id == task && i64::try_from(s.version) == Ok(version));
    if state.is_none() {
        tracing::warn!(%task, version, "a snapshot is not whole; its stream is replayed");
    }
    state
}

pub(super) fn checksum(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// A count from a signed column.
pub(super) fn unsigned<T: TryFrom<i64>>(
    table: &'static str,
    number: i64,
) -> Result<T, EventStoreError>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(number).map_err(|source| EventStoreError::Row {
        table,
        source: Box::new(source),
    })
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
}
