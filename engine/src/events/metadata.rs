//! What surrounds an event in the log, and the seam for old forms of events.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::WorkflowEvent;
use crate::ids::{CommandId, TaskId};

/// The schema version that this build writes.
pub const EVENT_SCHEMA_VERSION: u16 = 1;

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredEvent {
    /// Its id, also the id of the message it causes.
    pub event_id: Uuid,
    /// The stream.
    #[serde(rename = "stream_id")]
    pub task_id: TaskId,
    /// Its position in the stream, from 1, without gaps.
    pub version: u64,
    /// When it was decided (the database's clock, in microseconds).
    pub occurred_at: DateTime<Utc>,
    /// What caused it.
    pub metadata: EventMetadata,
    /// What happened.
    #[serde(flatten)]
    pub event: WorkflowEvent,
}

/// What caused an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventMetadata {
    /// The command.
    pub command_id: CommandId,
    /// What the producer uses to follow a piece of work; the command id when it gives none.
    pub correlation_id: String,
    /// W3C trace context of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The form in which the event is written.
    pub schema_version: u16,
    /// Whether the task is gold, its answer being known: what happens to it measures annotators and
    /// is no output, so no count of output takes it in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gold: bool,
}

/// A stored event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UpcastError {
    /// A later build wrote it.
    #[error(
        "event `{event_type}` has schema version {version}; this build reads up to {EVENT_SCHEMA_VERSION}"
    )]
    Newer {
        /// Its type.
        event_type: String,
        /// Its schema version.
        version: u16,
    },
    /// Its content is not what its type and version promise.
    #[error("event `{event_type}` cannot be read")]
    Content {
        /// Its type.
        event_type: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads a stored event of any schema version that was ever written.
///
/// A version's upcaster turns the content of version `n` into that of `n + 1`; they run in turn.
/// There is one version so far, so there is nothing to turn.
pub fn upcast(
    event_type: &str,
    schema_version: u16,
    data: Value,
) -> Result<WorkflowEvent, UpcastError> {
    if schema_version > EVENT_SCHEMA_VERSION {
        return Err(UpcastError::Newer {
            event_type: event_type.to_owned(),
            version: schema_version,
        });
    }
    let tagged = [
        ("event_type", Value::from(event_type)),
        ("event_data", data),
    ];
    serde_json::from_value(
        tagged
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect(),
    )
    .map_err(|source| UpcastError::Content {
        event_type: event_type.to_owned(),
        source,
    })
}
