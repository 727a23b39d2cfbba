//! Search over tasks, and drafts.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    super::{
        Draft, EventStoreError, TaskFilter, TaskIndex, TaskPage, TaskRow, WaitingStep,
        page::PageSize, rows,
    },
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    query::nth,
    rows::to_json,
};
use crate::{
    ids::{RevisionId, TaskId},
    state::TaskStatus,
};

/// The columns of a search row, with its labels as text.
macro_rules! task_columns {
    () => {
        "task_id, workflow, revision, workflow_id, version, status, current_steps, \
         labels::text AS labels, incidents, started_at, updated_at"
    };
}
pub(super) use task_columns;

const TASK: &str = concat!("SELECT ", task_columns!(), " FROM tasks WHERE task_id = $1");

/// The conditions repeat those of the partial indexes, so that the planner can use them.
const TASKS: &str = concat!(
    "SELECT ",
    task_columns!(),
    "
    FROM tasks
    WHERE ($1::uuid IS NULL OR task_id > $1)
      AND ($2::text IS NULL OR workflow = $2)
      AND ($3::text IS NULL OR status = $3)
      AND ($4::text IS NULL
           OR (current_steps @> ARRAY[$4::text] AND status IN ('running', 'paused')))
      AND ($5::text IS NULL OR (labels @> $5::jsonb AND labels <> '{}'))
    ORDER BY task_id LIMIT $6"
);

const COUNTS: &str = "SELECT status, count(*) FROM tasks GROUP BY status";

const WAITING: &str = "
    SELECT workflow_id, step,
           greatest(extract(epoch FROM clock_timestamp() - min(updated_at)), 0)::float8
    FROM tasks, unnest(current_steps) AS step
    WHERE status = 'running'
    GROUP BY workflow_id, step ORDER BY workflow_id, step";

const DRAFTS: &str = "
    SELECT task_id, step_id, visit, user_id, draft::text AS draft, saved_at
    FROM drafts WHERE task_id = $1 ORDER BY saved_at, step_id, visit, user_id";

#[async_trait]
impl TaskIndex for PgEventStore {
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, EventStoreError> {
        let query = sqlx::query(TASK).bind(task.0);
        self.fetch_optional(WORK_TIMEOUT, query, rows::task).await
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage, EventStoreError> {
        let page = PageSize::of(filter.limit);
        let labels = if filter.labels.is_empty() {
            None
        } else {
            Some(to_json(&filter.labels)?)
        };
        let query = sqlx::query(TASKS)
            .bind(filter.after.map(|task| task.0))
            .bind(filter.workflow.as_deref())
            .bind(filter.status.map(TaskStatus::as_str))
            .bind(filter.step.as_deref())
            .bind(labels)
            .bind(i64::from(page.rows_to_read()));
        let found = self.fetch(LONG_WORK_TIMEOUT, query, rows::task).await?;
        let (tasks, next_after) = page.cut(found, |task| task.task_id);
        Ok(TaskPage { tasks, next_after })
    }

    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError> {
        let mut counts = TaskStatus::ALL.map(|status| (status, 0)).into();
        let found = self
            .fetch(LONG_WORK_TIMEOUT, sqlx::query(COUNTS), |row| {
                Ok((rows::status(row)?, nth(row, 1)?))
            })
            .await?;
        BTreeMap::extend(&mut counts, found);
        Ok(counts)
    }

    async fn waiting_oldest(&self) -> Result<Vec<WaitingStep>, EventStoreError> {
        self.fetch(LONG_WORK_TIMEOUT, sqlx::query(WAITING), |row| {
            Ok(WaitingStep {
                revision_id: RevisionId(nth(row, 0)?),
                step_id: nth(row, 1)?,
                oldest_seconds: nth(row, 2)?,
            })
        })
        .await
    }

    async fn drafts(&self, task: TaskId) -> Result<Vec<Draft>, EventStoreError> {
        let query = sqlx::query(DRAFTS).bind(task.0);
        self.fetch(WORK_TIMEOUT, query, rows::draft).await
    }
}
