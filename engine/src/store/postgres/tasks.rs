//! Search over tasks, and drafts.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    super::{
        Draft, EventStoreError, StepLoad, TaskFilter, TaskIndex, TaskPage, TaskRow, WaitingPage,
        page::PageSize,
        rows::{self, Columns},
        tasks::WaitingTask,
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

/// A search. The conditions repeat those of the partial indexes, so that the planner can use them.
macro_rules! search {
    ($order:literal) => {
        concat!(
            "SELECT ",
            task_columns!(),
            "
    FROM tasks
    WHERE ($1::uuid IS NULL OR task_id > $1)
      AND ($2::text IS NULL OR workflow = $2)
      AND ($3::text IS NULL OR status = $3 OR ($7 AND status = 'archived'))
      AND ($4::text IS NULL
           OR (current_steps @> ARRAY[$4::text] AND status IN ('running', 'paused')))
      AND ($5::text IS NULL OR (labels @> $5::jsonb AND labels <> '{}'))
      AND (NOT $8 OR incidents > 0)
      AND ($9::uuid IS NULL OR task_id IN (SELECT task_id FROM claims WHERE user_id = $9))
    ORDER BY ",
            $order,
            " LIMIT $6"
        )
    };
}

const TASKS: &str = search!("task_id");

const OLDEST_TASKS: &str = search!("updated_at, task_id");

const WITH_INCIDENTS: &str =
    "SELECT count(*) FROM (SELECT FROM tasks WHERE incidents > 0 LIMIT $1) few";
const COUNTS: &str = "SELECT status, sum(change)::bigint FROM task_counts GROUP BY status";

/// Replaces rows by their sum, in one statement: whoever adds up sees the rows or the sum. Two that
/// do it at once take different rows, as each row is deleted once. A few rows are left alone.
const FOLD_COUNTS: &str = "
    WITH folded AS (
        DELETE FROM task_counts
        WHERE (SELECT count(*) FROM (SELECT FROM task_counts LIMIT $1) few) = $1
          AND id IN (SELECT id FROM task_counts ORDER BY id LIMIT $2)
        RETURNING status, change
    )
    INSERT INTO task_counts (status, change)
    SELECT status, sum(change) FROM folded GROUP BY status HAVING sum(change) <> 0";
/// So many rows of counts are added up at each reading.
const COUNTS_FEW: i64 = 64;
/// So many are replaced at a time; more have to wait for the next time.
const COUNTS_FOLDED_MAX: i64 = 50_000;

/// No task has the id that stands for the beginning.
const WAITING: &str = "
    SELECT task_id, workflow_id, current_steps,
           greatest(extract(epoch FROM clock_timestamp() - updated_at), 0)::float8 AS seconds
    FROM tasks
    WHERE status = 'running'
      AND task_id > coalesce($1, '00000000-0000-0000-0000-000000000000'::uuid)
    ORDER BY task_id LIMIT $2";

const STEP_LOADS: &str = "
    SELECT workflow, workflow_id, revision, step AS step_id,
           count(*) FILTER (WHERE status = 'running') AS running,
           count(*) FILTER (WHERE status = 'paused') AS paused,
           count(*) FILTER (WHERE incidents > 0) AS with_incidents,
           min(updated_at) FILTER (WHERE status = 'running') AS oldest_at
    FROM tasks CROSS JOIN unnest(current_steps) AS step
    WHERE status IN ('running', 'paused')
    GROUP BY workflow, revision, workflow_id, step
    ORDER BY workflow, revision, step";

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
        let (sql, after) = if filter.oldest_first {
            (OLDEST_TASKS, None)
        } else {
            (TASKS, filter.after)
        };
        let query = sqlx::query(sql)
            .bind(after.map(|task| task.0))
            .bind(filter.workflow.as_deref())
            .bind(filter.status.map(TaskStatus::as_str))
            .bind(filter.step.as_deref())
            .bind(labels)
            .bind(i64::from(page.rows_to_read()))
            .bind(filter.or_archived)
            .bind(filter.incidents)
            .bind(filter.held_by.map(|user| user.0));
        let found = self.fetch(LONG_WORK_TIMEOUT, query, rows::task).await?;
        Ok(TaskPage::of(&filter, found))
    }

    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError> {
        let mut counts = TaskStatus::ALL.map(|status| (status, 0)).into();
        let found = self
            .fetch(WORK_TIMEOUT, sqlx::query(COUNTS), |row| {
                Ok((rows::status(row)?, nth(row, 1)?))
            })
            .await?;
        BTreeMap::extend(&mut counts, found);
        Ok(counts)
    }

    async fn tasks_with_incidents(&self, up_to: u32) -> Result<u64, EventStoreError> {
        let query = sqlx::query(WITH_INCIDENTS).bind(i64::from(up_to));
        let count = self.fetch_optional(WORK_TIMEOUT, query, |row| nth::<i64>(row, 0));
        Ok(count.await?.unwrap_or_default().unsigned_abs())
    }

    async fn fold_task_counts(&self) -> Result<(), EventStoreError> {
        let query = sqlx::query(FOLD_COUNTS)
            .bind(COUNTS_FEW)
            .bind(COUNTS_FOLDED_MAX);
        self.execute(WORK_TIMEOUT, query).await
    }

    async fn waiting(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<WaitingPage, EventStoreError> {
        let page = PageSize::of(limit);
        let query = sqlx::query(WAITING)
            .bind(after.map(|task| task.0))
            .bind(i64::from(page.rows_to_read()));
        let tasks = self.fetch(WORK_TIMEOUT, query, |row| {
            let columns = Columns::of("tasks", row);
            Ok(WaitingTask {
                task_id: columns.task("task_id")?,
                revision_id: RevisionId(columns.uuid("workflow_id")?),
                steps: columns.slugs("current_steps")?,
                seconds: nth(row, 3)?,
            })
        });
        Ok(WaitingPage::of(tasks.await?, page))
    }

    async fn step_loads(&self) -> Result<Vec<StepLoad>, EventStoreError> {
        let query = sqlx::query(STEP_LOADS);
        self.fetch(LONG_WORK_TIMEOUT, query, rows::step_load).await
    }

    async fn drafts(&self, task: TaskId) -> Result<Vec<Draft>, EventStoreError> {
        let query = sqlx::query(DRAFTS).bind(task.0);
        self.fetch(WORK_TIMEOUT, query, rows::draft).await
    }
}
