//! Search over tasks.

use std::collections::BTreeMap;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;

use super::{batch::TaskRow, error::EventStoreError};
use crate::{
    ids::{RevisionId, StepId, TaskId, WorkflowId},
    state::{Draft, TaskStatus},
};

/// The filter of a search.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// The workflow.
    pub workflow: Option<WorkflowId>,
    /// The status.
    pub status: Option<TaskStatus>,
    /// A step in which the task waits.
    pub step: Option<StepId>,
    /// Labels, all of which must match.
    pub labels: BTreeMap<String, String>,
    /// The last task of the previous page.
    pub after: Option<TaskId>,
    /// The maximum number of rows, bounded by [`PAGE_MAX`](crate::limits::PAGE_MAX).
    pub limit: u32,
}

/// A page of tasks, sorted by id.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRow>,
    /// The task after which the next page starts; `None` on the last page.
    pub next_after: Option<TaskId>,
}

/// A step in which running tasks wait.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingStep {
    /// The revision of the workflow.
    pub revision_id: RevisionId,
    /// The step.
    pub step_id: String,
    /// How long the task that waits longest has waited, in seconds.
    pub oldest_seconds: f64,
}

/// Search over tasks.
#[async_trait]
pub trait TaskIndex: Send + Sync {
    /// One task's row.
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, EventStoreError>;

    /// A page of tasks, sorted by id.
    async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage, EventStoreError>;

    /// The number of tasks by status; every status is present.
    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError>;

    /// For each step in which running tasks wait, how long the oldest of them has waited.
    async fn waiting_oldest(&self) -> Result<Vec<WaitingStep>, EventStoreError>;

    /// Drafts of a task, oldest first.
    async fn drafts(&self, task: TaskId) -> Result<Vec<Draft>, EventStoreError>;
}
