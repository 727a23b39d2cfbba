//! The inbox, for operators.

use async_trait::async_trait;

use super::{
    super::{
        CommandLog, CommandPage, CommandRow, EventStoreError, RecordedOutcome, RejectedFilter,
        page::PageSize,
    },
    data::MemoryStore,
};
use crate::ids::CommandId;

#[async_trait]
impl CommandLog for MemoryStore {
    async fn command(&self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError> {
        Ok(self.data().commands.get(&id).cloned())
    }

    async fn commands(&self, ids: &[CommandId]) -> Result<Vec<CommandRow>, EventStoreError> {
        let data = self.data();
        let known = ids.iter().filter_map(|id| data.commands.get(id).cloned());
        Ok(known.collect())
    }

    async fn rejected(
        &self,
        filter: &RejectedFilter,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, EventStoreError> {
        let data = self.data();
        let key = |row: &CommandRow| (row.decided_at, row.command_id);
        // After an unknown row the page is empty, as in SQL.
        let bound = after.map(|after| data.commands.get(&after).map(key));
        let beyond = |row: &CommandRow, bound| {
            if filter.oldest_first {
                key(row) > bound
            } else {
                key(row) < bound
            }
        };
        let of_workflow = |row: &CommandRow| {
            filter.workflow.as_ref().is_none_or(|workflow| {
                let task = row.task_id.and_then(|task| data.tasks.get(&task));
                task.is_some_and(|task| task.workflow.as_str() == workflow)
            })
        };
        let mut rows: Vec<_> = data
            .commands
            .values()
            .filter(|row| match &row.outcome {
                RecordedOutcome::Rejected { reason, .. } => {
                    filter.reason.as_ref().is_none_or(|wanted| wanted == reason)
                }
                RecordedOutcome::Applied { .. } => false,
            })
            .filter(|row| {
                if filter.not_exported {
                    row.payload.is_some() && !data.exported.contains(&row.command_id)
                } else {
                    !data.dropped.contains(&row.command_id)
                }
            })
            .filter(|row| filter.task.is_none_or(|task| row.task_id == Some(task)))
            .filter(|row| of_workflow(row))
            .filter(|row| bound.is_none_or(|bound| bound.is_some_and(|bound| beyond(row, bound))))
            .cloned()
            .collect();
        rows.sort_by_key(key);
        if !filter.oldest_first {
            rows.reverse();
        }
        let (commands, next_after) = PageSize::of(limit).cut(rows, |row| row.command_id);
        Ok(CommandPage {
            commands,
            next_after,
        })
    }

    async fn drop_rejected(&self, ids: &[CommandId], _: &str) -> Result<u64, EventStoreError> {
        let mut data = self.data();
        let mut dropped = 0;
        for id in ids {
            let rejected = data
                .commands
                .get(id)
                .is_some_and(|row| matches!(row.outcome, RecordedOutcome::Rejected { .. }));
            if rejected && data.dropped.insert(*id) {
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    async fn mark_exported(&self, ids: &[CommandId], _: &str) -> Result<u64, EventStoreError> {
        let mut data = self.data();
        let mut marked = 0;
        for id in ids {
            let rejected = data
                .commands
                .get(id)
                .is_some_and(|row| matches!(row.outcome, RecordedOutcome::Rejected { .. }));
            if rejected && data.exported.insert(*id) {
                marked += 1;
            }
        }
        Ok(marked)
    }
}
