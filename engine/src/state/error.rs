//! Events that the state does not allow.

use super::{TaskStatus, VisitStatus};
use crate::ids::{StepId, TaskId};

/// An event that cannot follow the state before it: the log is corrupt, or there is a bug.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StateTransitionError {
    /// The first event is not `workflow_started`.
    #[error("task {task_id} begins with `{event}` instead of `workflow_started`")]
    NotStarted {
        /// The task.
        task_id: TaskId,
        /// Type of the event.
        event: &'static str,
    },
    /// A second `workflow_started`.
    #[error("task {task_id} is started a second time at version {version}")]
    AlreadyStarted {
        /// The task.
        task_id: TaskId,
        /// Version of the event.
        version: u64,
    },
    /// Versions do not follow each other.
    #[error("task {task_id} is at version {at}, and the next event has version {version}")]
    VersionGap {
        /// The task.
        task_id: TaskId,
        /// Version of the state.
        at: u64,
        /// Version of the event.
        version: u64,
    },
    /// The event names a visit that does not exist or is not the next one.
    #[error("`{event}` names visit {visit} of step `{step_id}`, which has {visits}")]
    UnknownVisit {
        /// Type of the event.
        event: &'static str,
        /// The step.
        step_id: StepId,
        /// The visit named.
        visit: u32,
        /// Visits that exist.
        visits: usize,
    },
    /// The visit is over.
    #[error("`{event}` names visit {visit} of step `{step_id}`, which is {status:?}")]
    VisitNotActive {
        /// Type of the event.
        event: &'static str,
        /// The step.
        step_id: StepId,
        /// The visit named.
        visit: u32,
        /// Its status.
        status: VisitStatus,
    },
    /// The task is over, or paused where it must run.
    #[error("`{event}` cannot follow while the task is {status}")]
    WrongStatus {
        /// Type of the event.
        event: &'static str,
        /// Status of the task.
        status: TaskStatus,
    },
}
