//! Errors of the orchestrator, and who must act on them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    command::{Dead, Rejection, Undecided},
    executor::ExecutorError,
    ids::TaskId,
    parser::ParseError,
    state::StateTransitionError,
    store::{EventStoreError, SplitReason, Verdict},
    transition::CompileError,
};

/// A call to the orchestrator failed.
#[derive(Debug, thiserror::Error)]
pub enum OrchestrationError {
    /// No revision of that UUID.
    #[error("there is no workflow revision {0}")]
    ConfigNotFound(Uuid),
    /// The workflow file is not valid.
    #[error("the workflow is not valid")]
    ParseError(#[from] ParseError),
    /// A step could not do its work.
    #[error("a step could not do its work")]
    ExecutionError(#[from] ExecutorError),
    /// The store failed.
    #[error("the event store failed")]
    EventStoreError(#[from] EventStoreError),
    /// A stream is corrupt.
    #[error("the stream is corrupt")]
    StateError(#[from] StateTransitionError),
    /// A stored workflow no longer compiles.
    #[error("workflow revision {revision_id} does not compile")]
    StoredWorkflow {
        /// The revision.
        revision_id: Uuid,
        /// Why.
        #[source]
        source: CompileError,
    },
    /// No task of that id.
    #[error("there is no task {0}")]
    TaskNotFound(TaskId),
    /// The task has no such version.
    #[error("task {task_id} is at version {version}; it has no version {wanted}")]
    VersionNotFound {
        /// The task.
        task_id: TaskId,
        /// Its current version.
        version: u64,
        /// The requested version.
        wanted: u64,
    },
    /// Only the last state of the task is known.
    #[error(
        "task {task_id} was archived on {}: earlier versions are in the archive, which `glyph task \
         import --archive` brings back",
        .at.format("%F")
    )]
    TaskArchived {
        /// The task.
        task_id: TaskId,
        /// When it was archived.
        at: DateTime<Utc>,
    },
    /// The state or the rules forbid the command.
    #[error("{}: {}", .0.code, .0.detail)]
    Rejected(Rejection),
    /// The command cannot be decided.
    #[error("the command cannot be decided: {0}")]
    Undecided(Undecided),
    /// The command can never be decided.
    #[error("the command can never be decided: {0}")]
    Dead(Dead),
}

impl OrchestrationError {
    /// What the failure of a batch means; `answers` as for [`EventStoreError::verdict`]. Whatever
    /// is no error of the store is a bug or a damaged row: the batch is run in parts, so that it
    /// keeps back one task only.
    pub fn verdict(&self, answers: bool) -> Verdict {
        match self {
            Self::EventStoreError(error) => error.verdict(answers),
            Self::ConfigNotFound(_)
            | Self::ParseError(_)
            | Self::ExecutionError(_)
            | Self::StateError(_)
            | Self::StoredWorkflow { .. }
            | Self::TaskNotFound(_)
            | Self::VersionNotFound { .. }
            | Self::TaskArchived { .. }
            | Self::Rejected(_)
            | Self::Undecided(_)
            | Self::Dead(_) => Verdict::Split(SplitReason::Unexplained),
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::EventStoreError(error) if error.is_passing())
    }
}
