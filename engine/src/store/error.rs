//! Store errors, and how callers react to them.

use std::{collections::BTreeSet, fmt};

use super::unsuitable::UnsuitableServer;
use crate::{events::UpcastError, ids::TaskId, state::StateTransitionError};

/// What the failure of a batch means: the only notion of it. Made of the store's error and of one
/// circumstance, whether the store answers on another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The store is away, or of no use to anybody: wait, then run the same batch with the same ids.
    Wait,
    /// The store is there, and this batch is too big, too slow or blocked: run it in parts. A
    /// command that fails alone is set aside for a while; it is not to blame.
    Split(SplitReason),
    /// The answer to COMMIT was lost: run the same batch with the same ids; what was written is
    /// then a duplicate.
    Unknown,
    /// The content of a command is refused: run the batch in parts until that command is found. It
    /// can never be stored.
    Blame,
}

/// Why a batch failed although the store is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SplitReason {
    /// It took longer than a statement, a transaction or the client allows.
    TooSlow,
    /// It needs more memory than the server gives.
    TooBig,
    /// Another transaction has held a row for too long.
    Blocked,
    /// Another transaction won: a deadlock, or the same new key.
    Conflict,
    /// The connection broke under it.
    ConnectionLost,
    /// The store gave a reason of its own (a trigger, an unknown SQLSTATE), or found rows that
    /// cannot be right.
    Unexplained,
}

impl SplitReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::TooSlow,
        Self::TooBig,
        Self::Blocked,
        Self::Conflict,
        Self::ConnectionLost,
        Self::Unexplained,
    ];

    /// The name in headers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooSlow => "too_slow",
            Self::TooBig => "too_big",
            Self::Blocked => "blocked",
            Self::Conflict => "conflict",
            Self::ConnectionLost => "connection_lost",
            Self::Unexplained => "unexplained",
        }
    }

    /// Whether the same batch may well succeed at once: its size is then not the cause.
    pub fn is_passing(self) -> bool {
        match self {
            Self::Conflict | Self::ConnectionLost => true,
            Self::TooSlow | Self::TooBig | Self::Blocked | Self::Unexplained => false,
        }
    }
}

impl fmt::Display for SplitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A store call failed.
#[derive(Debug, thiserror::Error)]
pub enum EventStoreError {
    /// The database cannot be reached, or is of no use to anybody: read-only, full, without the
    /// right.
    #[error("the event store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database did not finish this work: it was too slow, blocked, or ended by the server.
    /// Nothing was written.
    #[error("the event store did not finish ({reason})")]
    Hindered {
        /// Why.
        reason: SplitReason,
        /// The tasks known to be the cause; empty if any may be.
        tasks: BTreeSet<TaskId>,
        /// The database's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection was lost at COMMIT: the batch may or may not have been written.
    #[error("the outcome of the commit is unknown")]
    CommitUnknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database refused the content (SQLSTATE class 22, 23 or 54).
    #[error("the event store refused the data")]
    Data(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A stream moved although it was locked, or an id occurred twice: a bug. Nothing was written.
    #[error("task {task_id} is at version {actual}, not at {expected}")]
    VersionConflict {
        /// The stream.
        task_id: TaskId,
        /// The version the batch was decided on.
        expected: u64,
        /// The version in the store.
        actual: u64,
    },
    /// A stored event cannot be read.
    #[error("task {task_id} holds an unreadable event")]
    Unreadable {
        /// The stream.
        task_id: TaskId,
        /// The cause.
        #[source]
        source: UpcastError,
    },
    /// A stream contains an event that cannot follow the events before it.
    #[error("the stream is corrupt")]
    Corrupt(#[from] StateTransitionError),
    /// A stored row cannot be read.
    #[error("a row of `{table}` cannot be read")]
    Row {
        /// The table.
        table: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Any other database error.
    #[error("the event store failed")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The schema of the database is older than this build needs.
    #[error("the database is at migration {found}, this build needs {needed}: run `glyph migrate`")]
    NotMigrated {
        /// The migration found; 0 for none.
        found: i64,
        /// The migration needed.
        needed: i64,
    },
    /// The Postgres server answers, and is not used.
    #[error(transparent)]
    Unsuitable(#[from] UnsuitableServer),
}

impl EventStoreError {
    /// Work that the database did not finish.
    pub(super) fn hindered(
        reason: SplitReason,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Hindered {
            reason,
            tasks: BTreeSet::new(),
            source: source.into(),
        }
    }

    /// What it means for a batch. `answers` says whether the store has answered on another
    /// connection since ([`EventStore::ping`](super::EventStore::ping)).
    pub fn verdict(&self, answers: bool) -> Verdict {
        match self {
            Self::Data(_) => Verdict::Blame,
            Self::CommitUnknown(_) => Verdict::Unknown,
            Self::Unavailable(_) | Self::Unsuitable(_) | Self::NotMigrated { .. } => Verdict::Wait,
            Self::Hindered { .. } if !answers => Verdict::Wait,
            Self::Hindered { reason, .. } => Verdict::Split(*reason),
            Self::VersionConflict { .. }
            | Self::Unreadable { .. }
            | Self::Corrupt(_)
            | Self::Row { .. }
            | Self::Other(_) => Verdict::Split(SplitReason::Unexplained),
        }
    }

    /// Whether the same call may succeed later, without a change to what is stored or asked.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::CommitUnknown(_) | Self::Unsuitable(_) => true,
            Self::Hindered { reason, .. } => *reason != SplitReason::Unexplained,
            Self::Data(_)
            | Self::VersionConflict { .. }
            | Self::Unreadable { .. }
            | Self::Corrupt(_)
            | Self::Row { .. }
            | Self::Other(_)
            | Self::NotMigrated { .. } => false,
        }
    }
}

/// A call to a [`WorkflowConfigStore`](super::WorkflowConfigStore) failed.
pub type StorageError = EventStoreError;
