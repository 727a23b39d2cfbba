//! The log of all events, and the models of annotators that are learnt from it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::error::EventStoreError;
use crate::{
    events::{LogPosition, StoredEvent},
    ids::{StepId, WorkflowId},
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

/// Which events of the log are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter {
    /// Those of this workflow's tasks.
    pub workflow: WorkflowId,
    /// Those of these types.
    pub event_types: Vec<&'static str>,
}

/// Some events of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    /// Those asked for with their positions, in order.
    pub entries: Vec<(LogPosition, StoredEvent)>,
    /// The last event looked at; the position asked for, where there was none after it.
    pub through: LogPosition,
    /// How many events were looked at.
    pub read: u32,
}

/// A page of a task's history.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<StoredEvent>,
    /// The version to go on after; none on the last page.
    pub next_after: Option<u64>,
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl LogPage {
    /// A page of the events that were looked at after `after`, each with its position.
    pub(super) fn of(
        looked_at: Vec<(LogPosition, Option<StoredEvent>)>,
        after: LogPosition,
    ) -> Self {
        Self {
            through: looked_at.last().map_or(after, |(position, _)| *position),
            read: u32::try_from(looked_at.len()).unwrap_or(u32::MAX),
            entries: looked_at
                .into_iter()
                .filter_map(|(position, event)| Some((position, event?)))
                .collect(),
        }
    }
}

/// A model of annotators at a place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCheckpoint {
    /// Derived from what it is about.
    pub model: Uuid,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step_id: StepId,
    /// How far in the log it was learnt.
    pub position: LogPosition,
    /// The model, as JSON.
    pub state: String,
}

/// What models of annotators are learnt from, and how far they have come.
#[async_trait]
pub trait ReliabilityStore: Send + Sync {
    /// Looks through at most `limit` events after a position, in the order of the log and as safe
    /// from gaps as [`EventStore::read_log`](super::EventStore::read_log); answers those of one workflow and of some types.
    async fn read_workflow_log(
        &self,
        filter: LogFilter,
        after: LogPosition,
        limit: u32,
    ) -> Result<LogPage, EventStoreError>;

    /// A model as it was kept last; none where there is none, or it is not whole.
    async fn model_checkpoint(
        &self,
        model: Uuid,
    ) -> Result<Option<ModelCheckpoint>, EventStoreError>;

    /// How far that model had come.
    async fn checkpoint_position(
        &self,
        model: Uuid,
    ) -> Result<Option<LogPosition>, EventStoreError>;

    /// Keeps a model, unless one that has come as far or further is kept.
    async fn keep_model(&self, row: ModelCheckpoint) -> Result<(), EventStoreError>;

    /// Forgets all models: they are learnt anew from the log.
    async fn forget_models(&self) -> Result<(), EventStoreError>;
}
