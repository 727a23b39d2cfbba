//! The inbox, for operators.

use async_trait::async_trait;

use super::{
    super::{
        CommandLog, CommandPage, CommandRow, EventStoreError, RejectedFilter, page::PageSize, rows,
    },
    connection::{SqliteEventStore, commit, detached},
    query::fetch,
    rows::{array, micros, plain},
};
use crate::ids::CommandId;

pub(super) const COMMAND: &str = "SELECT * FROM commands WHERE command_id = ?1";

const COMMANDS: &str = "
    SELECT * FROM commands WHERE command_id IN (SELECT value FROM json_each(?1))";

/// Rejected commands beyond another one, in an order.
macro_rules! rejected {
    ($beyond:literal, $order:literal) => {
        concat!(
            "
            SELECT * FROM commands
            WHERE outcome = 'rejected'
              AND (?1 IS NULL OR task_id = ?1)
              AND (?2 IS NULL OR (decided_at, command_id) ",
            $beyond,
            " (SELECT decided_at, command_id FROM commands WHERE command_id = ?2))
              AND (?4 IS NULL OR reason = ?4)
              AND (?5 IS NULL OR EXISTS (
                  SELECT 1 FROM tasks AS t WHERE t.task_id = commands.task_id AND t.workflow = ?5))
              AND CASE WHEN ?6 THEN payload IS NOT NULL AND NOT EXISTS (
                  SELECT 1 FROM exported_rejections AS x WHERE x.command_id = commands.command_id)
              ELSE NOT EXISTS (
                  SELECT 1 FROM dropped_rejections AS d WHERE d.command_id = commands.command_id) END
            ORDER BY decided_at ",
            $order,
            ", command_id ",
            $order,
            " LIMIT ?3"
        )
    };
}

const REJECTED_NEWEST: &str = rejected!("<", "DESC");
const REJECTED_OLDEST: &str = rejected!(">", "ASC");

const DROP: &str = "
    INSERT INTO dropped_rejections (command_id, actor, dropped_at)
    SELECT command_id, ?2, ?3 FROM commands
    WHERE command_id IN (SELECT value FROM json_each(?1)) AND outcome = 'rejected'
    ON CONFLICT (command_id) DO NOTHING
    RETURNING command_id";

const MARK_EXPORTED: &str = "
    INSERT INTO exported_rejections (command_id, actor, exported_at)
    SELECT command_id, ?2, ?3 FROM commands
    WHERE command_id IN (SELECT value FROM json_each(?1)) AND outcome = 'rejected'
    ON CONFLICT (command_id) DO NOTHING
    RETURNING command_id";

/// Ids for `json_each`.
fn texts(ids: &[CommandId]) -> Result<String, EventStoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.0.hyphenated().to_string()).collect();
    array(&ids)
}

#[async_trait]
impl CommandLog for SqliteEventStore {
    async fn command(&self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError> {
        let query = sqlx::query(COMMAND).bind(id.0.hyphenated());
        self.fetch_optional(query, rows::command).await
    }

    async fn commands(&self, ids: &[CommandId]) -> Result<Vec<CommandRow>, EventStoreError> {
        let query = sqlx::query(COMMANDS).bind(texts(ids)?);
        self.fetch(query, rows::command).await
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
            .bind(filter.task.map(|task| task.0.hyphenated()))
            .bind(after.map(|command| command.0.hyphenated()))
            .bind(page.rows_to_read())
            .bind(filter.reason.clone())
            .bind(filter.workflow.clone())
            .bind(filter.not_exported);
        let found = self.fetch(query, rows::command).await?;
        let (commands, next_after) = page.cut(found, |row| row.command_id);
        Ok(CommandPage {
            commands,
            next_after,
        })
    }

    async fn drop_rejected(&self, ids: &[CommandId], actor: &str) -> Result<u64, EventStoreError> {
        self.mark(DROP, ids, actor).await
    }

    async fn mark_exported(&self, ids: &[CommandId], actor: &str) -> Result<u64, EventStoreError> {
        self.mark(MARK_EXPORTED, ids, actor).await
    }
}

impl SqliteEventStore {
    /// Marks commands by a statement that returns a row for each that was not marked yet.
    async fn mark(
        &self,
        sql: &'static str,
        ids: &[CommandId],
        actor: &str,
    ) -> Result<u64, EventStoreError> {
        let store = self.clone();
        let (ids, actor) = (texts(ids)?, plain(actor)?.to_owned());
        detached(async move {
            let mut tx = store.begin().await?;
            let query = sqlx::query(sql)
                .bind(ids)
                .bind(actor)
                .bind(micros(store.now()));
            let marked = fetch(&mut *tx, query, |_| Ok(())).await?;
            commit(tx).await?;
            Ok(marked.len() as u64)
        })
        .await
    }
}
