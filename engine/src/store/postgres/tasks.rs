//! Search over tasks, drafts, and the inbox for operators.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        CommandLog, CommandPage, CommandRow, Draft, EventStoreError, RecordedOutcome, TaskFilter,
        TaskIndex, TaskPage, TaskRow,
    },
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    error::classify,
    rows::{to_json, unsigned},
};
use crate::{
    ids::{CommandId, RevisionId, Slug, TaskId, UserId},
    limits::PAGE_MAX,
    state::TaskStatus,
};

const TASK: &str = "
    SELECT task_id, workflow, revision, workflow_id, version, status, current_steps,
           labels::text AS labels, incidents, started_at, updated_at
    FROM tasks WHERE task_id = $1";

/// The conditions repeat those of the partial indexes, so that those can serve.
const TASKS: &str = "
    SELECT task_id, workflow, revision, workflow_id, version, status, current_steps,
           labels::text AS labels, incidents, started_at, updated_at
    FROM tasks
    WHERE ($1::uuid IS NULL OR task_id > $1)
      AND ($2::text IS NULL OR workflow = $2)
      AND ($3::text IS NULL OR status = $3)
      AND ($4::text IS NULL
           OR (current_steps @> ARRAY[$4::text] AND status IN ('running', 'paused')))
      AND ($5::text IS NULL OR (labels @> $5::jsonb AND labels <> '{}'))
    ORDER BY task_id LIMIT $6";

const COUNTS: &str = "SELECT status, count(*) FROM tasks GROUP BY status";

const WAITING: &str = "
    SELECT workflow_id, step,
           greatest(extract(epoch FROM clock_timestamp() - min(updated_at)), 0)::float8
    FROM tasks, unnest(current_steps) AS step
    WHERE status = 'running'
    GROUP BY workflow_id, step ORDER BY workflow_id, step";

const DRAFTS: &str = "
    SELECT task_id, step_id, visit, user_id, draft, saved_at
    FROM drafts WHERE task_id = $1 ORDER BY saved_at, step_id, visit, user_id";

const COMMAND: &str = "
    SELECT command_id, task_id, type, outcome, reason, detail, result::text AS result,
           content_hash, payload::text AS payload, decided_at
    FROM commands WHERE command_id = $1";

const REJECTED: &str = "
    SELECT command_id, task_id, type, outcome, reason, detail, result::text AS result,
           content_hash, payload::text AS payload, decided_at
    FROM commands
    WHERE outcome = 'rejected'
      AND ($1::uuid IS NULL OR task_id = $1)
      AND ($2::uuid IS NULL OR (decided_at, command_id) < (
          SELECT c.decided_at, c.command_id FROM commands c WHERE c.command_id = $2))
    ORDER BY decided_at DESC, command_id DESC LIMIT $3";

#[async_trait]
impl TaskIndex for PgEventStore {
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, EventStoreError> {
        let row = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    let found = sqlx::query(TASK).bind(task.0).fetch_optional(conn).await;
                    found.map_err(classify)
                })
            })
            .await?;
        row.as_ref().map(task_row).transpose()
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage, EventStoreError> {
        let limit = filter.limit.clamp(1, PAGE_MAX);
        let labels = if filter.labels.is_empty() {
            None
        } else {
            Some(to_json(&filter.labels)?)
        };
        let rows = self
            .run(LONG_WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(TASKS)
                        .bind(filter.after.map(|task| task.0))
                        .bind(filter.workflow.as_deref())
                        .bind(filter.status.map(TaskStatus::as_str))
                        .bind(filter.step.as_deref())
                        .bind(labels)
                        .bind(i64::from(limit) + 1)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        let mut tasks = rows.iter().map(task_row).collect::<Result<Vec<_>, _>>()?;
        let more = tasks.len() > limit as usize;
        tasks.truncate(limit as usize);
        let next_after = tasks.last().filter(|_| more).map(|task| task.task_id);
        Ok(TaskPage { tasks, next_after })
    }

    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError> {
        let rows: Vec<(String, i64)> = self
            .run(LONG_WORK_TIMEOUT, |conn| {
                Box::pin(async move {
                    sqlx::query_as(COUNTS)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        let mut counts: BTreeMap<_, _> = TaskStatus::ALL
            .into_iter()
            .map(|status| (status, 0))
            .collect();
        for (status, count) in rows {
            counts.insert(task_status(&status)?, count);
        }
        Ok(counts)
    }

    async fn waiting_oldest(&self) -> Result<Vec<(RevisionId, String, f64)>, EventStoreError> {
        let rows: Vec<(Uuid, String, f64)> = self
            .run(LONG_WORK_TIMEOUT, |conn| {
                Box::pin(async move {
                    sqlx::query_as(WAITING)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|(id, step, seconds)| (RevisionId(id), step, seconds))
            .collect())
    }

    async fn drafts(&self, task: TaskId) -> Result<Vec<Draft>, EventStoreError> {
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(DRAFTS)
                        .bind(task.0)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Draft {
                    task_id: TaskId(row.try_get("task_id").map_err(classify)?),
                    step_id: slug("drafts", row.try_get("step_id").map_err(classify)?)?,
                    visit: unsigned("drafts", int(row, "visit")?)?,
                    user_id: UserId(row.try_get("user_id").map_err(classify)?),
                    draft: row.try_get("draft").map_err(classify)?,
                    saved_at: row.try_get("saved_at").map_err(classify)?,
                })
            })
            .collect()
    }
}

#[async_trait]
impl CommandLog for PgEventStore {
    async fn command(&self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError> {
        let row = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    let found = sqlx::query(COMMAND).bind(id.0).fetch_optional(conn).await;
                    found.map_err(classify)
                })
            })
            .await?;
        row.as_ref().map(command_row).transpose()
    }

    async fn rejected(
        &self,
        task: Option<TaskId>,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, EventStoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let rows = self
            .run(LONG_WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(REJECTED)
                        .bind(task.map(|task| task.0))
                        .bind(after.map(|command| command.0))
                        .bind(i64::from(limit) + 1)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        let mut commands = rows
            .iter()
            .map(command_row)
            .collect::<Result<Vec<_>, _>>()?;
        let more = commands.len() > limit as usize;
        commands.truncate(limit as usize);
        let next_after = commands
            .last()
            .filter(|_| more)
            .map(|command| command.command_id);
        Ok(CommandPage {
            commands,
            next_after,
        })
    }
}

/// A row of `tasks`.
pub(super) fn task_row(row: &PgRow) -> Result<TaskRow, EventStoreError> {
    let steps: Vec<String> = row.try_get("current_steps").map_err(classify)?;
    let labels: &str = row.try_get("labels").map_err(classify)?;
    Ok(TaskRow {
        task_id: TaskId(row.try_get("task_id").map_err(classify)?),
        workflow: slug("tasks", row.try_get("workflow").map_err(classify)?)?,
        revision: unsigned("tasks", int(row, "revision")?)?,
        revision_id: RevisionId(row.try_get("workflow_id").map_err(classify)?),
        version: unsigned("tasks", row.try_get("version").map_err(classify)?)?,
        status: task_status(row.try_get("status").map_err(classify)?)?,
        current_steps: steps
            .iter()
            .map(|step| slug("tasks", step))
            .collect::<Result<_, _>>()?,
        labels: serde_json::from_str(labels).map_err(|error| unreadable("tasks", error))?,
        incidents: unsigned("tasks", int(row, "incidents")?)?,
        started_at: row.try_get("started_at").map_err(classify)?,
        updated_at: row.try_get("updated_at").map_err(classify)?,
    })
}

/// A row of `commands`, with its JSON as text.
pub(super) fn command_row(row: &PgRow) -> Result<CommandRow, EventStoreError> {
    let json = |column: &str| -> Result<Option<Value>, EventStoreError> {
        let text: Option<&str> = row.try_get(column).map_err(classify)?;
        text.map(serde_json::from_str)
            .transpose()
            .map_err(|error| unreadable("commands", error))
    };
    let text = |column: &str| -> Result<String, EventStoreError> {
        let text: Option<String> = row.try_get(column).map_err(classify)?;
        Ok(text.unwrap_or_default())
    };
    let outcome = match row.try_get::<&str, _>("outcome").map_err(classify)? {
        "applied" => RecordedOutcome::Applied {
            result: json("result")?.unwrap_or_default(),
        },
        _ => RecordedOutcome::Rejected {
            reason: text("reason")?,
            detail: text("detail")?,
        },
    };
    let hash: &[u8] = row.try_get("content_hash").map_err(classify)?;
    Ok(CommandRow {
        command_id: CommandId(row.try_get("command_id").map_err(classify)?),
        task_id: row
            .try_get::<Option<Uuid>, _>("task_id")
            .map_err(classify)?
            .map(TaskId),
        command_type: row.try_get("type").map_err(classify)?,
        content_hash: hash
            .try_into()
            .map_err(|error| unreadable("commands", error))?,
        outcome,
        payload: json("payload")?,
        decided_at: row.try_get("decided_at").map_err(classify)?,
    })
}

/// An `integer` column.
pub(super) fn int(row: &PgRow, column: &str) -> Result<i64, EventStoreError> {
    row.try_get::<i32, _>(column)
        .map(i64::from)
        .map_err(classify)
}

/// A name in a column.
pub(super) fn slug(table: &'static str, text: &str) -> Result<Slug, EventStoreError> {
    Slug::new(text).map_err(|error| unreadable(table, error))
}

/// A row holds what this build did not write.
pub(super) fn unreadable(
    table: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> EventStoreError {
    EventStoreError::Row {
        table,
        source: Box::new(source),
    }
}

fn task_status(name: &str) -> Result<TaskStatus, EventStoreError> {
    TaskStatus::from_name(name).ok_or_else(|| EventStoreError::Row {
        table: "tasks",
        source: format!("`{name}` is no status").into(),
    })
}
