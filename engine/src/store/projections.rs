//! Projections of the log: each has a name and rows of its own.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    LogPosition, error::EventStoreError, goals::NewGoalAction, log::LogEntry,
    operator_commands::PlannedOperatorCommand, outbox::NewMessage,
};
use crate::ids::LogIds;

/// The rows of a projection, by key: plain JSON in a form that the projection defines.
pub type ProjectionRows = BTreeMap<String, Value>;

/// What one step of a projection writes, in one transaction.
#[derive(Debug, Default)]
pub struct ProjectionWrite {
    /// Changed rows, by key; `None` deletes a row.
    pub rows: BTreeMap<String, Option<Value>>,
    /// Messages. One that is in the log already is not sent again, however often a projection is
    /// rebuilt: their ids derive from what they tell.
    pub messages: Vec<NewMessage>,
    /// External actions; known actions are left unchanged.
    pub actions: Vec<NewGoalAction>,
    /// Operator commands of rules; known commands are left unchanged.
    pub operator_commands: Vec<PlannedOperatorCommand>,
}

/// Projections of the log: each has a name and rows by key.
#[async_trait]
pub trait ProjectionStore: Send + Sync {
    /// Begins a step of a projection: takes its lock, then reads its rows and at most `limit`
    /// events after its checkpoint. One process runs a projection at a time; returns `None` if
    /// another process is running it.
    ///
    /// Between opening and committing, the caller may read from the store but must not write to it:
    /// a store in one file has one writer, and the step is that writer.
    async fn open_projection(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Option<OpenProjection>, EventStoreError>;

    /// The rows of a projection, by key.
    async fn projection_rows(&self, name: &str) -> Result<ProjectionRows, EventStoreError>;

    /// How far each projection that has begun is behind, in seconds: the age of the oldest event that
    /// it has not read; 0 if there is none.
    async fn projection_lags(&self) -> Result<BTreeMap<String, f64>, EventStoreError>;

    /// Deletes the rows and the checkpoint of a projection. Its messages stay in the log.
    async fn reset_projection(&self, name: &str) -> Result<(), EventStoreError>;
}

/// An open step of a projection. Dropping it without [`commit`](Self::commit) writes nothing.
pub struct OpenProjection {
    /// The store's clock when the step was opened.
    pub now: DateTime<Utc>,
    /// The time up to which everything is known. Anything decided, stored or done by then is in the
    /// log up to the end of [`entries`](Self::entries), or can be read from the store. It is at
    /// most [`now`](Self::now), and earlier while transactions are open or more events remain to be
    /// read.
    pub settled: DateTime<Utc>,
    /// The log.
    pub log: LogIds,
    /// The events, in the order of the log; other projections may have the same.
    pub entries: Vec<Arc<LogEntry>>,
    /// Whether [`entries`](Self::entries) ended at a bound of the page, so that more are waiting.
    pub is_full: bool,
    /// Whether the projection starts at the beginning of the log.
    pub at_beginning: bool,
    /// The rows of the projection, by key.
    pub rows: ProjectionRows,
    /// Holds the lock.
    pub tx: Box<dyn ProjectionTx>,
}

impl fmt::Debug for OpenProjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenProjection")
            .field("settled", &self.settled)
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl OpenProjection {
    /// Writes rows, messages and the checkpoint after [`entries`](Self::entries), and commits.
    pub async fn commit(self, write: ProjectionWrite) -> Result<(), EventStoreError> {
        let last = self.entries.last().map(|entry| entry.position);
        self.tx.commit(write, last).await
    }
}

/// The transaction of an [`OpenProjection`]: it holds the lock until it is committed or dropped.
#[async_trait]
pub trait ProjectionTx: Send {
    /// Writes rows, messages and the checkpoint, and commits. The checkpoint is the last event
    /// read; `None` if no event was read, which leaves the checkpoint unchanged.
    async fn commit(
        self: Box<Self>,
        write: ProjectionWrite,
        last: Option<LogPosition>,
    ) -> Result<(), EventStoreError>;
}
