//! Search over tasks.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    super::{Draft, EventStoreError, TaskFilter, TaskIndex, TaskPage, TaskRow},
    connection::SqliteEventStore,
    outbox::seconds_between,
    rows::{self, Columns, json, micros},
};
use crate::{
    ids::{RevisionId, TaskId},
    limits::PAGE_MAX,
    state::TaskStatus,
};

const TASK: &str = "SELECT * FROM tasks WHERE task_id = ?1";

const TASKS: &str = "
    SELECT * FROM tasks AS t
    WHERE (?1 IS NULL OR t.task_id > ?1)
      AND (?2 IS NULL OR t.workflow = ?2)
      AND (?3 IS NULL OR t.status = ?3)
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
    ORDER BY t.task_id
    LIMIT ?6";

const COUNTS: &str = "SELECT status, COUNT(*) FROM tasks GROUP BY status";

const WAITING: &str = "
    SELECT t.workflow_id, step.value AS step, MIN(t.updated_at) AS since
    FROM tasks AS t, json_each(t.current_steps) AS step
    WHERE t.status = 'running'
    GROUP BY t.workflow_id, step.value
    ORDER BY t.workflow_id, step.value";

const DRAFTS: &str = "
    SELECT * FROM drafts WHERE task_id = ?1
    ORDER BY saved_at, step_id, visit, user_id";

#[async_trait]
impl TaskIndex for SqliteEventStore {
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, EventStoreError> {
        sqlx::query(TASK)
            .bind(task.0.hyphenated())
            .fetch_optional(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?
            .as_ref()
            .map(rows::task)
            .transpose()
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage, EventStoreError> {
        let limit = filter.limit.clamp(1, PAGE_MAX);
        let mut rows = sqlx::query(TASKS)
            .bind(filter.after.map(|task| task.0.hyphenated()))
            .bind(filter.workflow.as_deref())
            .bind(filter.status.map(TaskStatus::as_str))
            .bind(filter.step.as_deref())
            .bind(json(&filter.labels)?)
            .bind(i64::from(limit) + 1)
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?;
        let more = rows.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            rows.pop();
        }
        let tasks = rows.iter().map(rows::task).collect::<Result<Vec<_>, _>>()?;
        let next_after = if more {
            tasks.last().map(|row| row.task_id)
        } else {
            None
        };
        Ok(TaskPage { tasks, next_after })
    }

    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError> {
        let found: Vec<(String, i64)> = sqlx::query_as(COUNTS)
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?;
        let mut counts: BTreeMap<_, _> = TaskStatus::ALL
            .into_iter()
            .map(|status| (status, 0))
            .collect();
        for (name, count) in found {
            if let Some(status) = TaskStatus::from_name(&name) {
                counts.insert(status, count);
            }
        }
        Ok(counts)
    }

    async fn waiting_oldest(&self) -> Result<Vec<(RevisionId, String, f64)>, EventStoreError> {
        let now = micros(self.now());
        sqlx::query(WAITING)
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?
            .iter()
            .map(|row| {
                let columns = Columns::of("tasks", row);
                let seconds = seconds_between(columns.get("since")?, now);
                Ok((
                    RevisionId(columns.uuid("workflow_id")?),
                    columns.get("step")?,
                    seconds,
                ))
            })
            .collect()
    }

    async fn drafts(&self, task: TaskId) -> Result<Vec<Draft>, EventStoreError> {
        sqlx::query(DRAFTS)
            .bind(task.0.hyphenated())
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?
            .iter()
            .map(rows::draft)
            .collect()
    }
}
