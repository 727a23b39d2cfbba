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
    connection::SqliteEventStore,
    query::nth,
    rows::{json, micros, seconds_between},
};
use crate::{
    ids::{RevisionId, TaskId},
    state::TaskStatus,
};

const TASK: &str = "SELECT * FROM tasks WHERE task_id = ?1";

/// A search.
macro_rules! search {
    ($order:literal) => {
        concat!(
            "
    SELECT * FROM tasks AS t
    WHERE (?1 IS NULL OR t.task_id > ?1)
      AND (?2 IS NULL OR t.workflow = ?2)
      AND (?3 IS NULL OR t.status = ?3 OR (?7 AND t.status = 'archived'))
      AND (?4 IS NULL OR (
          t.status IN ('running', 'paused')
          AND EXISTS (SELECT 1 FROM json_each(t.current_steps) WHERE value = ?4)
      ))
      AND NOT EXISTS (
          SELECT 1 FROM json_each(?5) AS wanted
          WHERE NOT EXISTS (
              SELECT 1 FROM json_each(t.labels) AS label
              WHERE label.key = wanted.key AND label.value = wanted.value
          )
      )
      AND (NOT ?8 OR t.incidents > 0)
      AND (?9 IS NULL OR t.task_id IN (SELECT c.task_id FROM claims AS c WHERE c.user_id = ?9))
    ORDER BY ",
            $order,
            " LIMIT ?6"
        )
    };
}

const TASKS: &str = search!("t.task_id");

const OLDEST_TASKS: &str = search!("t.updated_at, t.task_id");

const WITH_INCIDENTS: &str =
    "SELECT COUNT(*) FROM (SELECT 1 FROM tasks WHERE incidents > 0 LIMIT ?1)";
const COUNTS: &str = "SELECT status, count FROM task_counts";

const WAITING: &str = "
    SELECT task_id, workflow_id, current_steps, updated_at FROM tasks
    WHERE status = 'running' AND task_id > COALESCE(?1, '')
    ORDER BY task_id LIMIT ?2";

const STEP_LOADS: &str = "
    SELECT t.workflow, t.workflow_id, t.revision, step.value AS step_id,
           COUNT(*) FILTER (WHERE t.status = 'running') AS running,
           COUNT(*) FILTER (WHERE t.status = 'paused') AS paused,
           COUNT(*) FILTER (WHERE t.incidents > 0) AS with_incidents,
           MIN(t.updated_at) FILTER (WHERE t.status = 'running') AS oldest_at
    FROM tasks AS t, json_each(t.current_steps) AS step
    WHERE t.status IN ('running', 'paused')
    GROUP BY t.workflow, t.revision, t.workflow_id, step.value
    ORDER BY t.workflow, t.revision, step.value";

const DRAFTS: &str = "
    SELECT * FROM drafts WHERE task_id = ?1
    ORDER BY saved_at, step_id, visit, user_id";

#[async_trait]
impl TaskIndex for SqliteEventStore {
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, EventStoreError> {
        let query = sqlx::query(TASK).bind(task.0.hyphenated());
        self.fetch_optional(query, rows::task).await
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage, EventStoreError> {
        let page = PageSize::of(filter.limit);
        let (sql, after) = if filter.oldest_first {
            (OLDEST_TASKS, None)
        } else {
            (TASKS, filter.after)
        };
        let query = sqlx::query(sql)
            .bind(after.map(|task| task.0.hyphenated()))
            .bind(filter.workflow.as_deref())
            .bind(filter.status.map(TaskStatus::as_str))
            .bind(filter.step.as_deref())
            .bind(json(&filter.labels)?)
            .bind(page.rows_to_read())
            .bind(filter.or_archived)
            .bind(filter.incidents)
            .bind(filter.held_by.map(|user| user.0.hyphenated()));
        let found = self.fetch(query, rows::task).await?;
        Ok(TaskPage::of(&filter, found))
    }

    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError> {
        let mut counts = BTreeMap::from(TaskStatus::ALL.map(|status| (status, 0)));
        let found = self.fetch(sqlx::query(COUNTS), |row| {
            Ok((rows::status(row)?, nth(row, 1)?))
        });
        counts.extend(found.await?);
        Ok(counts)
    }

    async fn tasks_with_incidents(&self, up_to: u32) -> Result<u64, EventStoreError> {
        let query = sqlx::query(WITH_INCIDENTS).bind(i64::from(up_to));
        let count: i64 = self.scalar(query).await?;
        Ok(count.unsigned_abs())
    }

    async fn waiting(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<WaitingPage, EventStoreError> {
        let now = micros(self.now());
        let page = PageSize::of(limit);
        let query = sqlx::query(WAITING)
            .bind(after.map(|task| task.0.hyphenated()))
            .bind(page.rows_to_read());
        let tasks = self.fetch(query, |row| {
            let columns = Columns::of("tasks", row);
            Ok(WaitingTask {
                task_id: columns.task("task_id")?,
                revision_id: RevisionId(columns.uuid("workflow_id")?),
                steps: columns.slugs("current_steps")?,
                seconds: seconds_between(columns.number("updated_at")?, now),
            })
        });
        Ok(WaitingPage::of(tasks.await?, page))
    }

    async fn step_loads(&self) -> Result<Vec<StepLoad>, EventStoreError> {
        self.fetch(sqlx::query(STEP_LOADS), rows::step_load).await
    }

    async fn drafts(&self, task: TaskId) -> Result<Vec<Draft>, EventStoreError> {
        let query = sqlx::query(DRAFTS).bind(task.0.hyphenated());
        self.fetch(query, rows::draft).await
    }
}
