//! What is folded from the log: projections, each under a name, with rows of its own.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    LogPosition, error::EventStoreError, goals::NewGoalAction, log::LogEntry,
    operator_commands::PlannedOperatorCommand, outbox::NewOutboxRow,
};

/// The rows of a projection, by key: plain JSON, whose form is the projection's own affair.
pub type ProjectionRows = BTreeMap<String, Value>;

/// What a step of a projection writes, in one transaction.
#[derive(Debug, Default)]
pub struct ProjectionWrite {
    /// Rows that changed, by key; none where a row is gone.
    pub rows: BTreeMap<String, Option<Value>>,
    /// Messages; one that waits already is left as it is.
    pub messages: Vec<NewOutboxRow>,
    /// Messages that are sent once for ever, however often the log is read: their ids are kept.
    pub once: Vec<NewOutboxRow>,
    /// What is to be done outside; one that is known already is left as it is.
    pub actions: Vec<NewGoalAction>,
    /// Acts of rules; one that is known already is left as it is.
    pub operator_commands: Vec<PlannedOperatorCommand>,
}

/// What is folded from the log: projections, each under a name, with rows of its own by key.
#[async_trait]
pub trait ProjectionStore: Send + Sync {
    /// Begins a step of a projection: takes its lock, and reads its rows and the next events after
    /// its checkpoint, at most `limit`. One process at a time; `None` where another one is at it.
    ///
    /// Between opening and committing, the caller may read from the store and must not write to
    /// it: a store in one file has one writer, and that is the step.
    async fn open_projection(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Option<OpenProjection>, EventStoreError>;

    /// The rows of a projection, by key.
    async fn projection_rows(&self, name: &str) -> Result<ProjectionRows, EventStoreError>;

    /// Forgets the rows of a projection and its checkpoint. What it has said once stays said.
    async fn reset_projection(&self, name: &str) -> Result<(), EventStoreError>;
}

/// An open step of a projection. Dropping it without [`commit`](Self::commit) writes nothing.
pub struct OpenProjection {
    /// The store's clock when the step was opened.
    pub now: DateTime<Utc>,
    /// The time up to which everything is known: whatever was decided, stored or done by then is
    /// in the log up to the end of [`entries`](Self::entries), or can be read from the store.
    /// At most [`now`](Self::now), and before it while transactions are open, or while there are
    /// more events to read.
    pub settled: DateTime<Utc>,
    /// The events, in the order of the log.
    pub entries: Vec<LogEntry>,
    /// Whether the projection begins with the log.
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
    /// Writes rows, messages and the checkpoint behind [`entries`](Self::entries), and commits.
    pub async fn commit(self, write: ProjectionWrite) -> Result<(), EventStoreError> {
        let last = self.entries.last().map(|entry| entry.position);
        self.tx.commit(write, last).await
    }
}

/// The transaction of an [`OpenProjection`]: it holds the lock until it is committed or dropped.
#[async_trait]
pub trait ProjectionTx: Send {
    /// Writes rows, messages and the checkpoint, and commits. The checkpoint is the last event
    /// that was read; none where there was none, which leaves it where it is.
    async fn commit(
        self: Box<Self>,
        write: ProjectionWrite,
        last: Option<LogPosition>,
    ) -> Result<(), EventStoreError>;
}
