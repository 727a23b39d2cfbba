//! The inbox, for operators.

use async_trait::async_trait;

use super::{
    super::{CommandLog, CommandPage, CommandRow, EventStoreError, page::PageSize, rows},
    connection::SqliteEventStore,
};
use crate::ids::{CommandId, TaskId};

pub(super) const COMMAND: &str = "SELECT * FROM commands WHERE command_id = ?1";

const REJECTED: &str = "
    SELECT * FROM commands
    WHERE outcome = 'rejected'
      AND (?1 IS NULL OR task_id = ?1)
      AND (?2 IS NULL OR (decided_at, command_id) < (
          SELECT decided_at, command_id FROM commands WHERE command_id = ?2
      ))
    ORDER BY decided_at DESC, command_id DESC
    LIMIT ?3";

#[async_trait]
impl CommandLog for SqliteEventStore {
    async fn command(&self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError> {
        let query = sqlx::query(COMMAND).bind(id.0.hyphenated());
        self.fetch_optional(query, rows::command).await
    }

    async fn rejected(
        &self,
        task: Option<TaskId>,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, EventStoreError> {
        let page = PageSize::of(limit);
        let query = sqlx::query(REJECTED)
            .bind(task.map(|task| task.0.hyphenated()))
            .bind(after.map(|command| command.0.hyphenated()))
            .bind(page.rows_to_read());
        let found = self.fetch(query, rows::command).await?;
        let (commands, next_after) = page.cut(found, |row| row.command_id);
        Ok(CommandPage {
            commands,
            next_after,
        })
    }
}
