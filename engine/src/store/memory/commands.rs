//! The inbox, for operators.

use async_trait::async_trait;

use super::{
    super::{
        CommandLog, CommandPage, CommandRow, EventStoreError, RecordedOutcome, page::PageSize,
    },
    data::MemoryStore,
};
use crate::ids::{CommandId, TaskId};

#[async_trait]
impl CommandLog for MemoryStore {
    async fn command(&self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError> {
        Ok(self.data().commands.get(&id).cloned())
    }

    async fn rejected(
        &self,
        task: Option<TaskId>,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, EventStoreError> {
        let data = self.data();
        let key = |row: &CommandRow| (row.decided_at, row.command_id);
        // After an unknown row the page is empty, as in SQL.
        let bound = after.map(|after| data.commands.get(&after).map(key));
        let mut rows: Vec<_> = data
            .commands
            .values()
            .filter(|row| matches!(row.outcome, RecordedOutcome::Rejected { .. }))
            .filter(|row| task.is_none_or(|task| row.task_id == Some(task)))
            .filter(|row| bound.is_none_or(|bound| bound.is_some_and(|bound| key(row) < bound)))
            .cloned()
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(key(row)));
        let (commands, next_after) = PageSize::of(limit).cut(rows, |row| row.command_id);
        Ok(CommandPage {
            commands,
            next_after,
        })
    }
}
