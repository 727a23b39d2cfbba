//! The inbox, for operators.

use async_trait::async_trait;

use super::{
    super::{CommandLog, CommandPage, CommandRow, EventStoreError},
    connection::SqliteEventStore,
    rows,
};
use crate::{
    ids::{CommandId, TaskId},
    limits::PAGE_MAX,
};

const COMMAND: &str = "SELECT * FROM commands WHERE command_id = ?1";

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
        sqlx::query(COMMAND)
            .bind(id.0.hyphenated())
            .fetch_optional(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?
            .as_ref()
            .map(rows::command)
            .transpose()
    }

    async fn rejected(
        &self,
        task: Option<TaskId>,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, EventStoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut rows = sqlx::query(REJECTED)
            .bind(task.map(|task| task.0.hyphenated()))
            .bind(after.map(|command| command.0.hyphenated()))
            .bind(i64::from(limit) + 1)
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?;
        let more = rows.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            rows.pop();
        }
        let commands = rows
            .iter()
            .map(rows::command)
            .collect::<Result<Vec<_>, _>>()?;
        let next_after = if more {
            commands.last().map(|row| row.command_id)
        } else {
            None
        };
        Ok(CommandPage {
            commands,
            next_after,
        })
    }
}
