//! Search over tasks, and drafts.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    super::{
        Draft, EventStoreError, StepLoad, TaskFilter, TaskIndex, TaskPage, TaskRow, WaitingPage,
        page::PageSize, tasks::WaitingTask,
    },
    data::{MemoryStore, seconds},
};
use crate::{ids::TaskId, state::TaskStatus};

#[async_trait]
impl TaskIndex for MemoryStore {
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, EventStoreError> {
        Ok(self.data().tasks.get(&task).cloned())
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage, EventStoreError> {
        let data = self.data();
        let found = data.tasks.values().filter(|row| {
            let is_held_by = |user| {
                let mut claimed = data.claimed.iter();
                claimed.any(|slot| slot.task_id == row.task_id && slot.user_id == user)
            };
            (filter.oldest_first || filter.after.is_none_or(|after| row.task_id > after))
                && filter
                    .workflow
                    .as_ref()
                    .is_none_or(|workflow| row.workflow == *workflow)
                && filter.status.is_none_or(|status| {
                    row.status == status
                        || (filter.or_archived && row.status == TaskStatus::Archived)
                })
                && filter
                    .step
                    .as_ref()
                    .is_none_or(|step| row.current_steps.contains(step) && !row.status.is_final())
                && (!filter.incidents || row.incidents > 0)
                && filter.held_by.is_none_or(is_held_by)
                && filter
                    .labels
                    .iter()
                    .all(|(key, value)| row.labels.get(key) == Some(value))
        });
        let page = PageSize::of(filter.limit);
        let mut found: Vec<_> = found.cloned().collect();
        if filter.oldest_first {
            found.sort_by_key(|row| (row.updated_at, row.task_id));
        }
        found.truncate(page.rows_to_read() as usize);
        Ok(TaskPage::of(&filter, found))
    }

    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError> {
        let mut counts = BTreeMap::from(TaskStatus::ALL.map(|status| (status, 0)));
        for row in self.data().tasks.values() {
            *counts.entry(row.status).or_default() += 1;
        }
        Ok(counts)
    }

    async fn tasks_with_incidents(&self, up_to: u32) -> Result<u64, EventStoreError> {
        let data = self.data();
        let open = data.tasks.values().filter(|row| row.incidents > 0);
        Ok(open.take(up_to as usize).count() as u64)
    }

    async fn waiting(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<WaitingPage, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let running = data.tasks.values().filter(|row| {
            row.status == TaskStatus::Running && after.is_none_or(|after| row.task_id > after)
        });
        let page = PageSize::of(limit);
        let tasks = running.take(page.rows_to_read() as usize);
        let tasks = tasks.map(|row| WaitingTask {
            task_id: row.task_id,
            revision_id: row.revision_id,
            steps: row.current_steps.clone(),
            seconds: seconds(now - row.updated_at),
        });
        Ok(WaitingPage::of(tasks.collect(), page))
    }

    async fn step_loads(&self) -> Result<Vec<StepLoad>, EventStoreError> {
        let mut loads = BTreeMap::new();
        for row in self
            .data()
            .tasks
            .values()
            .filter(|row| !row.status.is_final())
        {
            for step in &row.current_steps {
                let key = (
                    row.workflow.clone(),
                    row.revision,
                    row.revision_id,
                    step.clone(),
                );
                let load = loads.entry(key).or_insert_with(|| StepLoad {
                    workflow: row.workflow.clone(),
                    revision_id: row.revision_id,
                    revision: row.revision,
                    step_id: step.clone(),
                    running: 0,
                    paused: 0,
                    with_incidents: 0,
                    oldest_at: None,
                });
                load.with_incidents += u64::from(row.incidents > 0);
                if row.status == TaskStatus::Running {
                    load.running += 1;
                    let oldest = load
                        .oldest_at
                        .map_or(row.updated_at, |at| at.min(row.updated_at));
                    load.oldest_at = Some(oldest);
                } else {
                    load.paused += 1;
                }
            }
        }
        Ok(loads.into_values().collect())
    }

    async fn drafts(&self, task: TaskId) -> Result<Vec<Draft>, EventStoreError> {
        let data = self.data();
        let mut drafts: Vec<_> = data
            .drafts
            .values()
            .filter(|draft| draft.task_id == task)
            .cloned()
            .collect();
        drafts.sort_by_key(|draft| draft.saved_at);
        Ok(drafts)
    }
}
