//! The batch that is open, and what it writes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::OwnedMutexGuard;

use super::{
    super::{
        COMMIT_LEASE, CommandRow, EventStoreError, OpenBatch, OpenedTask, OutboxRow, PublisherId,
        TaskWrite, WorkflowPause,
    },
    data::{Data, later, lock, refuse_nul},
};
use crate::ids::{CommandId, TaskId};

pub(super) struct MemoryBatch {
    pub(super) data: Arc<Mutex<Data>>,
    pub(super) publisher: Option<PublisherId>,
    pub(super) now: DateTime<Utc>,
    pub(super) tasks: HashMap<TaskId, OpenedTask>,
    pub(super) relay_only: HashSet<TaskId>,
    pub(super) known: HashMap<CommandId, CommandRow>,
    pub(super) pauses: Vec<WorkflowPause>,
    pub(super) held_by_claimant: u32,
    /// Ends with the batch.
    pub(super) _writer: OwnedMutexGuard<()>,
}

#[async_trait]
impl OpenBatch for MemoryBatch {
    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn take_task(&mut self, task: TaskId) -> OpenedTask {
        self.tasks.remove(&task).unwrap_or_default()
    }

    fn known(&self, command: CommandId) -> Option<&CommandRow> {
        self.known.get(&command)
    }

    fn pauses(&self) -> &[WorkflowPause] {
        &self.pauses
    }

    fn held_by_claimant(&self) -> u32 {
        self.held_by_claimant
    }

    async fn commit(
        self: Box<Self>,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let mut data = lock(&self.data);
        let mut ids = HashSet::new();
        for write in &writes {
            data.check(write, &mut ids)?;
        }
        let mut rows = Vec::new();
        for write in writes {
            let owner = self
                .publisher
                .filter(|_| !self.relay_only.contains(&write.task_id));
            rows.extend(data.write(write, owner, self.now));
        }
        Ok(rows)
    }
}

impl Data {
    /// Refuses what the other stores refuse, before anything is written.
    pub(super) fn check(
        &self,
        write: &TaskWrite,
        ids: &mut HashSet<CommandId>,
    ) -> Result<(), EventStoreError> {
        let actual = self.version(write.task_id);
        let conflict = |expected| {
            Err(EventStoreError::VersionConflict {
                task_id: write.task_id,
                expected,
                actual,
            })
        };
        if write.expected_version != actual {
            return conflict(write.expected_version);
        }
        let mut version = actual;
        for event in &write.events {
            if event.version != version + 1 || event.task_id != write.task_id {
                return conflict(event.version.saturating_sub(1));
            }
            version = event.version;
            refuse_nul(event)?;
        }
        let head = write.task.as_ref().map_or(actual, |task| task.version);
        if head != version || write.events.is_empty() != write.task.is_none() {
            return conflict(head);
        }
        for command in &write.commands {
            if self.commands.contains_key(&command.command_id) || !ids.insert(command.command_id) {
                return conflict(actual);
            }
            refuse_nul(&(&command.outcome, &command.payload))?;
        }
        for row in &write.outbox {
            refuse_nul(&(&row.routing_key, &*row.body))?;
        }
        for draft in &write.drafts {
            refuse_nul(&draft.draft)?;
        }
        write
            .task
            .as_ref()
            .map_or(Ok(()), |task| refuse_nul(&task.labels))
    }

    pub(super) fn write(
        &mut self,
        write: TaskWrite,
        owner: Option<PublisherId>,
        now: DateTime<Utc>,
    ) -> Vec<OutboxRow> {
        let task = write.task_id;
        if !write.events.is_empty() {
            if let Some(row) = &write.task {
                let events = write.events.iter();
                self.log
                    .extend(events.map(|event| (row.workflow.clone(), event.clone())));
            }
            self.streams.entry(task).or_default().extend(write.events);
        }
        self.tasks.extend(write.task.map(|row| (task, row)));
        for command in write.commands {
            self.commands.insert(command.command_id, command.into());
        }
        for id in write.due_unset {
            self.due.remove(&id);
        }
        self.due
            .extend(write.due_set.into_iter().map(|row| (row.id, (row, None))));
        self.change_places(task, write.places);
        for draft in write.drafts {
            let key = (
                draft.task_id,
                draft.step_id.clone(),
                draft.visit,
                draft.user_id,
            );
            self.drafts.insert(key, draft);
        }
        if let Some(snapshot) = write.snapshot {
            let states = self.snapshots.entry(snapshot.task_id).or_default();
            states.insert(snapshot.version, snapshot.state);
        }
        let lease = owner.map(|owner| (owner, later(now, COMMIT_LEASE)));
        let rows = write
            .outbox
            .into_iter()
            .map(|row| self.queue(row, lease, now));
        rows.filter(|_| lease.is_some()).collect()
    }
}
