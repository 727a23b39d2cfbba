//! The inbox, for operators.

use async_trait::async_trait;

use super::{
    super::{CommandLog, CommandPage, CommandRow, EventStoreError, page::PageSize, rows},
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
};
use crate::ids::{CommandId, TaskId};

/// The columns of a row of the inbox, with its JSON as text.
macro_rules! command_columns {
    () => {
        "command_id, task_id, type, outcome, reason, detail, result::text AS result, content_hash, \
         payload::text AS payload, decided_at"
    };
}
pub(super) use command_columns;

pub(super) const COMMAND: &str = concat!(
    "SELECT ",
    command_columns!(),
    " FROM commands WHERE command_id = $1"
);

const REJECTED: &str = concat!(
    "SELECT ",
    command_columns!(),
    "
    FROM commands
    WHERE outcome = 'rejected'
      AND ($1::uuid IS NULL OR task_id = $1)
      AND ($2::uuid IS NULL OR (decided_at, command_id) < (
          SELECT c.decided_at, c.command_id FROM commands c WHERE c.command_id = $2))
    ORDER BY decided_at DESC, command_id DESC LIMIT $3"
);

#[async_trait]
impl CommandLog for PgEventStore {
    async fn command(&self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError> {
        let query = sqlx::query(COMMAND).bind(id.0);
        self.fetch_optional(WORK_TIMEOUT, query, rows::command)
            .await
    }

    async fn rejected(
        &self,
        task: Option<TaskId>,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, EventStoreError> {
        let page = PageSize::of(limit);
        let query = sqlx::query(REJECTED)
            .bind(task.map(|task| task.0))
            .bind(after.map(|command| command.0))
            .bind(i64::from(page.rows_to_read()));
        let found = self.fetch(LONG_WORK_TIMEOUT, query, rows::command).await?;
        let (commands, next_after) = page.cut(found, |row| row.command_id);
        Ok(CommandPage {
            commands,
            next_after,
        })
    }
}
