//! Rebuilds all derived data from the event log.

use async_trait::async_trait;
use serde::Serialize;

use super::{
    batch::{SnapshotRow, TaskRow},
    error::EventStoreError,
    timers::Timer,
};
use crate::{ids::TaskId, state::Slots};

/// The outcome of a rebuild.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RebuildReport {
    /// Streams replayed.
    pub tasks: u64,
    /// Events replayed.
    pub events: u64,
    /// Task rows that differed from the log.
    pub tasks_changed: u64,
    /// Snapshots written, deleted or changed.
    pub snapshots_changed: u64,
    /// Timers written, deleted or changed.
    #[serde(rename = "due_changed")]
    pub timers_changed: u64,
    /// Whether the kept numbers of tasks by status differed from the tasks.
    pub counts_changed: bool,
    /// Whether the pauses of workflows differed from the operator commands.
    pub pauses_changed: bool,
    /// Annotator models rebuilt.
    #[serde(rename = "models_learnt")]
    pub models_rebuilt: u64,
}

/// What a rebuild changed for one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DerivedChanges {
    /// The search row or the slots.
    pub task: bool,
    /// Snapshots.
    pub snapshots: bool,
    /// Timers.
    pub timers: bool,
}

/// Rebuilds all derived data from the event log.
#[async_trait]
pub trait Rebuild: Send + Sync {
    /// Ids of streams after `after`, in id order.
    async fn stream_ids(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError>;

    /// Replaces the derived data of one task under its lock: the search row with its slots,
    /// snapshots and timers. Leaves equal rows untouched. Returns what changed.
    async fn replace_derived(
        &self,
        task: TaskRow,
        slots: Slots,
        snapshots: Vec<SnapshotRow>,
        due: Vec<Timer>,
    ) -> Result<DerivedChanges, EventStoreError>;

    /// Counts the tasks by status, and corrects the numbers that are kept. Returns whether they
    /// differed.
    async fn recount_tasks(&self) -> Result<bool, EventStoreError>;
}
