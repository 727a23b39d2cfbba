//! Search over tasks.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{batch::TaskRow, error::EventStoreError, page::PageSize};
use crate::{
    ids::{RevisionId, StepId, TaskId, UserId, WorkflowId},
    state::{Draft, TaskStatus},
};

/// The filter of a search.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// The workflow.
    pub workflow: Option<WorkflowId>,
    /// The status.
    pub status: Option<TaskStatus>,
    /// Archived tasks as well as those with the status.
    pub or_archived: bool,
    /// A step in which the task waits.
    pub step: Option<StepId>,
    /// Only tasks with an open incident.
    pub incidents: bool,
    /// Only tasks in which this person has claimed a slot.
    pub held_by: Option<UserId>,
    /// Sorted by when something last happened to them, the longest ago first, and not by id. There
    /// is one page alone then: `after` is ignored, and no next page is named.
    pub oldest_first: bool,
    /// Labels, all of which must match.
    pub labels: BTreeMap<String, String>,
    /// The last task of the previous page.
    pub after: Option<TaskId>,
    /// The maximum number of rows, bounded by [`PAGE_MAX`](crate::limits::PAGE_MAX).
    pub limit: u32,
}

/// A page of tasks, in the order of the search.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRow>,
    /// The task after which the next page starts; `None` on the last page, and where the oldest come
    /// first.
    pub next_after: Option<TaskId>,
    /// Whether there may be more tasks than the page has.
    pub more: bool,
}

impl TaskPage {
    /// The page of a search that has read `found`.
    pub(super) fn of(filter: &TaskFilter, found: Vec<TaskRow>) -> Self {
        let (tasks, next_after) = PageSize::of(filter.limit).cut(found, |task| task.task_id);
        Self {
            tasks,
            more: next_after.is_some(),
            next_after: next_after.filter(|_| !filter.oldest_first),
        }
    }
}

/// A step in which running tasks wait.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingStep {
    /// The revision of the workflow.
    pub revision_id: RevisionId,
    /// The step.
    pub step_id: StepId,
    /// How long the task of the page that waits longest has waited, in seconds.
    pub oldest_seconds: f64,
}

/// The tasks in a step that have not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLoad {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The revision's UUID.
    pub revision_id: RevisionId,
    /// The revision's number.
    pub revision: u32,
    /// The step.
    pub step_id: StepId,
    /// Running tasks.
    pub running: u64,
    /// Paused tasks.
    pub paused: u64,
    /// Tasks with an open incident, in this step or another one.
    pub with_incidents: u64,
    /// When something last happened to the running task that has been left alone longest; none where
    /// none runs.
    pub oldest_at: Option<DateTime<Utc>>,
}

/// Where the running tasks of a page wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WaitingPage {
    /// The steps, in order.
    pub steps: Vec<WaitingStep>,
    /// The task after which the next page starts; `None` on the last page.
    pub next_after: Option<TaskId>,
}

/// A running task of such a page.
pub(super) struct WaitingTask {
    pub(super) task_id: TaskId,
    pub(super) revision_id: RevisionId,
    pub(super) steps: Vec<StepId>,
    pub(super) seconds: f64,
}

impl WaitingPage {
    pub(super) fn of(tasks: Vec<WaitingTask>, page: PageSize) -> Self {
        let (tasks, next_after) = page.cut(tasks, |task| task.task_id);
        let mut oldest: BTreeMap<(RevisionId, StepId), f64> = BTreeMap::new();
        for task in tasks {
            for step in task.steps {
                let waits = oldest.entry((task.revision_id, step)).or_default();
                *waits = waits.max(task.seconds);
            }
        }
        let steps = oldest
            .into_iter()
            .map(|((revision_id, step_id), oldest_seconds)| WaitingStep {
                revision_id,
                step_id,
                oldest_seconds,
            });
        Self {
            steps: steps.collect(),
            next_after,
        }
    }
}

/// Search over tasks.
#[async_trait]
pub trait TaskIndex: Send + Sync {
    /// One task's row.
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, EventStoreError>;

    /// A page of tasks, sorted by id, or the oldest ones.
    async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage, EventStoreError>;

    /// The number of tasks by status; every status is present. The numbers are kept, not counted, so
    /// reading them costs the same however many tasks there are.
    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError>;

    /// How many tasks have an open incident, `up_to` at most: no more are counted.
    async fn tasks_with_incidents(&self, up_to: u32) -> Result<u64, EventStoreError>;

    /// Shortens what [`task_counts`](Self::task_counts) adds up, where a store keeps changes of the
    /// numbers. Whoever reads the numbers often calls it before.
    async fn fold_task_counts(&self) -> Result<(), EventStoreError> {
        Ok(())
    }

    /// For each step in which running tasks of a page of tasks wait, how long the oldest of them has
    /// waited. Pages are sorted by task id and have at most
    /// [`PAGE_MAX`](crate::limits::PAGE_MAX) tasks.
    async fn waiting(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<WaitingPage, EventStoreError>;

    /// The tasks of each step that have not ended, by workflow, revision and step. It reads all such
    /// tasks: tens of milliseconds for a hundred thousand.
    async fn step_loads(&self) -> Result<Vec<StepLoad>, EventStoreError>;

    /// Drafts of a task, oldest first.
    async fn drafts(&self, task: TaskId) -> Result<Vec<Draft>, EventStoreError>;
}
