//! Errors of the orchestrator, and who must act on them.

use uuid::Uuid;

use crate::{
    command::{Dead, Rejection, Undecided},
    executor::ExecutorError,
    ids::TaskId,
    parser::ParseError,
    state::StateTransitionError,
    store::{ErrorClass, EventStoreError},
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
    /// How a caller must handle it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::EventStoreError(error) => error.class(),
            Self::Undecided(
                Undecided::TaskNotFound | Undecided::NotPerformed | Undecided::Paused,
            ) => ErrorClass::Retry,
            Self::ConfigNotFound(_)
            | Self::ParseError(_)
            | Self::ExecutionError(_)
            | Self::TaskNotFound(_)
            | Self::VersionNotFound { .. }
            | Self::Rejected(_)
            | Self::Dead(_) => ErrorClass::Data,
            Self::StateError(_)
            | Self::StoredWorkflow { .. }
            | Self::Undecided(Undecided::Panicked(_)) => ErrorClass::Bug,
        }
    }
}
