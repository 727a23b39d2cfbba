//! The inbox, for operators.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use super::{
    super::{
        CommandLog, CommandPage, CommandRow, EventStoreError, RejectedFilter, page::PageSize, rows,
    },
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
};
use crate::ids::CommandId;

/// The columns of a row of the inbox, with its JSON as text.
/// The output of a task is stored once, in the event that ended it (see [`without_output`]).
macro_rules! command_columns {
    () => {
        "command_id, task_id, type, outcome, reason, detail,
         (CASE WHEN task_id IS NOT NULL AND result ->> 'status' = 'completed' AND result -> 'output' IS NULL
               THEN result::jsonb || jsonb_build_object('output', (
                   SELECT e.event_data::jsonb -> 'output' FROM stored_events e
                   WHERE e.stream_id = task_id AND e.event_type = 'workflow_completed'
                   ORDER BY e.version DESC LIMIT 1))
               ELSE result::jsonb END)::text AS result,
         content_hash, payload::text AS payload, decided_at"
    };
}
pub(super) use command_columns;

/// The result of a command of a task, as it is stored: its output is that of the task.
pub(super) fn without_output(result: &Value) -> BTreeMap<&String, &Value> {
    let fields = result.as_object().into_iter().flatten();
    fields.filter(|(name, _)| *name != "output").collect()
}

pub(super) const COMMAND: &str = concat!(
    "SELECT ",
    command_columns!(),
    " FROM commands WHERE command_id = $1"
);

const COMMANDS: &str = concat!(
    "SELECT ",
    command_columns!(),
    " FROM commands WHERE command_id = ANY ($1)"
);

/// Rejected commands beyond another one, in an order.
macro_rules! rejected {
    ($beyond:literal, $order:literal) => {
        concat!(
            "SELECT ",
            command_columns!(),
            "
            FROM commands
            WHERE outcome = 'rejected'
              AND ($1::uuid IS NULL OR task_id = $1)
              AND ($2::uuid IS NULL OR (decided_at, command_id) ",
            $beyond,
            " (SELECT c.decided_at, c.command_id FROM commands c WHERE c.command_id = $2))
              AND ($4::text IS NULL OR reason = $4)
              AND ($5::text IS NULL OR EXISTS (
                  SELECT FROM tasks t WHERE t.task_id = commands.task_id AND t.workflow = $5))
              AND CASE WHEN $6 THEN payload IS NOT NULL AND NOT EXISTS (
                  SELECT FROM exported_rejections x WHERE x.command_id = commands.command_id)
              ELSE NOT EXISTS (
                  SELECT FROM dropped_rejections d WHERE d.command_id = commands.command_id) END
            ORDER BY decided_at ",
            $order,
            ", command_id ",
            $order,
            " LIMIT $3"
        )
    };
}

const REJECTED_NEWEST: &str = rejected!("<", "DESC");
const REJECTED_OLDEST: &str = rejected!(">", "ASC");

const DROP: &str = "
    INSERT INTO dropped_rejections (command_id, actor)
    SELECT command_id, $2 FROM commands WHERE command_id = ANY ($1) AND outcome = 'rejected'
    ON CONFLICT (command_id) DO NOTHING
    RETURNING command_id";

const MARK_EXPORTED: &str = "
    INSERT INTO exported_rejections (command_id, actor)
    SELECT command_id, $2 FROM commands WHERE command_id = ANY ($1) AND outcome = 'rejected'
    ON CONFLICT (command_id) DO NOTHING
    RETURNING command_id";

#[async_trait]
impl CommandLog for PgEventStore {
    async fn command(&self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError> {
        let query = sqlx::query(COMMAND).bind(id.0);
        self.fetch_optional(WORK_TIMEOUT, query, rows::command)
            .await
    }

    async fn commands(&self, ids: &[CommandId]) -> Result<Vec<CommandRow>, EventStoreError> {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query(COMMANDS).bind(ids);
        self.fetch(WORK_TIMEOUT, query, rows::command).await
    }

    async fn rejected(
        &self,
        filter: &RejectedFilter,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, EventStoreError> {
        let page = PageSize::of(limit);
        let sql = if filter.oldest_first {
            REJECTED_OLDEST
        } else {
            REJECTED_NEWEST
        };
        let query = sqlx::query(sql)
            .bind(filter.task.map(|task| task.0))
            .bind(after.map(|command| command.0))
            .bind(i64::from(page.rows_to_read()))
            .bind(filter.reason.clone())
            .bind(filter.workflow.clone())
            .bind(filter.not_exported);
        let found = self.fetch(LONG_WORK_TIMEOUT, query, rows::command).await?;
        let (commands, next_after) = page.cut(found, |row| row.command_id);
        Ok(CommandPage {
            commands,
            next_after,
        })
    }

    async fn drop_rejected(&self, ids: &[CommandId], actor: &str) -> Result<u64, EventStoreError> {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query(DROP).bind(ids).bind(actor.to_owned());
        let dropped = self.fetch(WORK_TIMEOUT, query, |_| Ok(())).await?;
        Ok(dropped.len() as u64)
    }

    async fn mark_exported(&self, ids: &[CommandId], actor: &str) -> Result<u64, EventStoreError> {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query(MARK_EXPORTED).bind(ids).bind(actor.to_owned());
        let marked = self.fetch(WORK_TIMEOUT, query, |_| Ok(())).await?;
        Ok(marked.len() as u64)
    }
}
