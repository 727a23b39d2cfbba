//! Store errors, and how callers react to them.

use crate::{events::UpcastError, ids::TaskId, state::StateTransitionError};

/// What a caller does about a failed store call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The service is unavailable, slow or asked to try again: wait, then run the same batch with
    /// the same ids. Also used if the outcome of a commit is unknown.
    Retry,
    /// The content of a command cannot be stored: split the batch until the poison command is
    /// found.
    Data,
    /// The log is corrupt or this build is wrong: no retry will help.
    Bug,
}

/// A store call failed.
#[derive(Debug, thiserror::Error)]
pub enum EventStoreError {
    /// The database cannot be reached, timed out, or asked to try again.
    #[error("the event store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
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
}

impl EventStoreError {
    /// What a caller does about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable(_) | Self::CommitUnknown(_) => ErrorClass::Retry,
            Self::Data(_) => ErrorClass::Data,
            Self::VersionConflict { .. }
            | Self::Unreadable { .. }
            | Self::Corrupt(_)
            | Self::Row { .. }
            | Self::Other(_)
            | Self::NotMigrated { .. } => ErrorClass::Bug,
        }
    }
}

/// A call to a [`WorkflowConfigStore`](super::WorkflowConfigStore) failed.
pub type StorageError = EventStoreError;
