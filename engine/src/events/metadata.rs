//! Stored events with their metadata, and the upcasting of old schema versions.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::WorkflowEvent;
use crate::ids::{CommandId, TaskId};

/// The schema version that this build writes.
pub const EVENT_SCHEMA_VERSION: u16 = 1;

/// An event with its position in its stream.
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
    /// Correlation id of the producer, for tracing a piece of work; the command id if it sets none.
    pub correlation_id: String,
    /// W3C trace context of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Who sent the command: the name of a token, `cli:` and an account, or `amqp:` and a user of
    /// the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The schema version of the event.
    pub schema_version: u16,
    /// Whether the task is gold (its answer is known). Gold tasks measure annotators and produce no
    /// output, so they are excluded from every count of output.
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
    /// Its content does not match its type and version.
    #[error("event `{event_type}` cannot be read")]
    Content {
        /// Its type.
        event_type: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads a stored event of any schema version that was ever written; `data` is its content, JSON.
///
/// Each version `n` has an upcaster that turns its content into that of `n + 1`; they run in turn.
/// There is only one version so far, so there are no upcasters, and the text is read as it is.
pub fn upcast(
    event_type: &str,
    schema_version: u16,
    data: &str,
) -> Result<WorkflowEvent, UpcastError> {
    if schema_version > EVENT_SCHEMA_VERSION {
        return Err(UpcastError::Newer {
            event_type: event_type.to_owned(),
            version: schema_version,
        });
    }
    // The type comes first, so that the content is read into it at once.
    let tagged = format!(
        r#"{{"event_type":{},"event_data":{data}}}"#,
        Value::from(event_type)
    );
    serde_json::from_str(&tagged).map_err(|source| UpcastError::Content {
        event_type: event_type.to_owned(),
        source,
    })
}
