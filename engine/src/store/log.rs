//! The log of all events, and the annotator models learned from it.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::EventStoreError;
use crate::{
    events::{LogPosition, StoredEvent},
    ids::{StepId, TaskId, WorkflowId},
};

/// An event in the order of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Its position.
    pub position: LogPosition,
    /// The workflow of its task. A migration changes the revision, never the workflow.
    pub workflow: WorkflowId,
    /// When the first event of its task happened.
    pub started_at: DateTime<Utc>,
    /// The event.
    pub event: StoredEvent,
}

/// A message in the log, which no event stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedMessage {
    /// Its id.
    pub message_id: Uuid,
    /// The task whose message order applies.
    pub task_id: Option<TaskId>,
    /// The routing key without prefix.
    pub routing_key: String,
    /// The message's kind, as `goal.completed`.
    pub message_type: String,
    /// The whole body.
    pub body: Arc<str>,
}

/// The messages of the log that no event stands for.
#[async_trait]
pub trait MessageLog: Send + Sync {
    /// The end of the log: whatever is there now is at this position or before it, and what comes is
    /// after it.
    async fn log_end(&self) -> Result<LogPosition, EventStoreError>;

    /// At most `limit` messages without an event after a position and up to another one, in the order
    /// of the log.
    async fn logged_messages(
        &self,
        after: LogPosition,
        through: LogPosition,
        limit: u32,
    ) -> Result<Vec<(LogPosition, LoggedMessage)>, EventStoreError>;
}

/// A filter for events of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter {
    /// Only tasks of this workflow.
    pub workflow: WorkflowId,
    /// Only these event types.
    pub event_types: Vec<&'static str>,
}

/// A part of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    /// The matching events with their positions, in order.
    pub entries: Vec<(LogPosition, StoredEvent)>,
    /// The position of the last event examined; the requested position if there was none after it.
    pub through: LogPosition,
    /// How many events were examined.
    pub read: u32,
    /// Whether the log went no further when it was read.
    pub is_last: bool,
}

/// A page of a task's history.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<StoredEvent>,
    /// The version after which the next page starts; `None` on the last page.
    pub next_after: Option<u64>,
    /// When the task was archived, if events of this page are in the archive alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<DateTime<Utc>>,
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl LogPage {
    /// The page after `after` of the events examined, each with its position: at most `limit`, and
    /// fewer if their size ended it.
    pub(super) fn of(
        examined: Vec<(LogPosition, Option<StoredEvent>)>,
        ended_by_size: bool,
        after: LogPosition,
        limit: u32,
    ) -> Self {
        Self {
            through: examined.last().map_or(after, |(position, _)| *position),
            read: u32::try_from(examined.len()).unwrap_or(u32::MAX),
            is_last: !ended_by_size && examined.len() < limit as usize,
            entries: examined
                .into_iter()
                .filter_map(|(position, event)| Some((position, event?)))
                .collect(),
        }
    }
}

/// An annotator model at a position in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCheckpoint {
    /// Derived from what the model is about: its workflow, step, field and classes.
    pub model: Uuid,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step_id: StepId,
    /// The position in the log up to which it has learned.
    pub position: LogPosition,
    /// The model, as JSON.
    pub state: String,
}

/// The events that annotator models learn from, and the stored checkpoints.
#[async_trait]
pub trait ReliabilityStore: Send + Sync {
    /// Examines at most `limit` events after a position, in log order. Returns those of one
    /// workflow and of some types. Skips no event, like
    /// [`EventStore::read_log`](super::EventStore::read_log).
    async fn read_workflow_log(
        &self,
        filter: LogFilter,
        after: LogPosition,
        limit: u32,
    ) -> Result<LogPage, EventStoreError>;

    /// The last stored checkpoint of a model; `None` if there is none or its checksum does not
    /// match.
    async fn model_checkpoint(
        &self,
        model: Uuid,
    ) -> Result<Option<ModelCheckpoint>, EventStoreError>;

    /// The position of the stored checkpoint.
    async fn checkpoint_position(
        &self,
        model: Uuid,
    ) -> Result<Option<LogPosition>, EventStoreError>;

    /// Stores a checkpoint, unless one at the same or a later position is stored.
    async fn keep_model(&self, row: ModelCheckpoint) -> Result<(), EventStoreError>;

    /// Deletes all checkpoints; models are then rebuilt from the log.
    async fn forget_models(&self) -> Result<(), EventStoreError>;
}
