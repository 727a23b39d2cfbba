//! Everything derived, made anew from the log.

use async_trait::async_trait;
use serde::Serialize;

use super::{
    batch::{SnapshotRow, TaskRow},
    error::EventStoreError,
    timers::Timer,
};
use crate::{ids::TaskId, state::Slots};

/// What a rebuild did.
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
    /// FireTimer work written, deleted or changed.
    pub timers_changed: u64,
    /// Whether the pauses of workflows differed from operator commands.
    pub pauses_changed: bool,
    /// Models of annotators learnt anew.
    pub models_rebuilt: u64,
}

/// What a rebuild changed of one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DerivedChanges {
    /// The search row, or the slots.
    pub task: bool,
    /// Snapshots.
    pub snapshots: bool,
    /// FireTimer work.
    pub timers: bool,
}

/// Everything derived, made anew from the log.
#[async_trait]
pub trait Rebuild: Send + Sync {
    /// Ids of streams after `after`, in id order.
    async fn stream_ids(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError>;

    /// Replaces what is derived of one task, under its lock: the search row with its slots,
    /// snapshots and timers. Leaves equal rows untouched and answers what changed.
    async fn replace_derived(
        &self,
        task: TaskRow,
        slots: Slots,
        snapshots: Vec<SnapshotRow>,
        due: Vec<Timer>,
    ) -> Result<DerivedChanges, EventStoreError>;
}
