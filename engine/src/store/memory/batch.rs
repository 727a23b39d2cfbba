//! The open batch and its writes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::OwnedMutexGuard;

use super::{
    super::{
        BatchTx, EventStoreError, OUTBOX_LEASE, OpenBatch, OpenRequest, OpenedTask, OutboxMessage,
        PublisherId, TaskWrite, WorkflowPause,
    },
    data::{Data, MemoryStore, later, lock, refuse_nul},
};
use crate::ids::{CommandId, LogId, TaskId};

/// Begins a batch, after the previous one has ended.
pub(super) async fn open(store: &MemoryStore, request: OpenRequest) -> OpenBatch {
    let writer = store.writer.clone().lock_owned().await;
    let now = store.now();
    let data = store.data();
    let mut tasks = HashMap::with_capacity(request.tasks.len());
    let mut relay_only = HashSet::new();
    let rows = request.tasks.keys().filter_map(|task| data.tasks.get(task));
    let rested_since = rows.map(|row| row.updated_at).min();
    let matters = |pause: &&WorkflowPause| {
        pause
            .ended_at
            .is_none_or(|ended| rested_since.is_some_and(|since| since < ended))
    };
    let pauses = data.pauses.values().filter(matters).cloned().collect();
    let claimed = data.claimed.iter();
    let claimant = request.claimant.map(|claimant| claimant.user_id);
    let claimed = claimed.filter(|claimed| Some(claimed.user_id) == claimant);
    let claimed_by_claimant = u32::try_from(claimed.count()).unwrap_or(u32::MAX);
    for (task, claimed) in request.tasks {
        let version = data.version(task);
        let snapshot = if claimed == 0 || data.archived.contains_key(&task) {
            data.newest_snapshot(task)
        } else {
            None
        };
        let after = snapshot
            .as_ref()
            .map_or(claimed, |snapshot| snapshot.version);
        let mut opened = OpenedTask {
            tail: data.tail(task, after, usize::MAX),
            snapshot,
            version,
            relay_only: false,
        };
        if data.relay_only(task, request.publisher, now) {
            opened.relay_only = true;
            relay_only.insert(task);
        }
        tasks.insert(task, opened);
    }
    let known = request
        .commands
        .into_iter()
        .filter_map(|id| Some((id, data.commands.get(&id)?.clone())))
        .collect();
    let started = request.counted.into_iter().map(|(workflow, most)| {
        let of_workflow = data.tasks.values().filter(|row| row.workflow == workflow);
        let most_rows = usize::try_from(most).unwrap_or(usize::MAX);
        let count = of_workflow.take(most_rows).count();
        (workflow, u32::try_from(count).unwrap_or(most))
    });
    let started = started.collect();
    drop(data);
    OpenBatch {
        now,
        log: LogId::default(),
        tasks,
        known,
        pauses,
        claimed_by_claimant,
        started,
        tx: Box::new(MemoryBatch {
            data: store.data.clone(),
            publisher: request.publisher,
            now,
            relay_only,
            _writer: writer,
        }),
    }
}

struct MemoryBatch {
    data: Arc<Mutex<Data>>,
    publisher: Option<PublisherId>,
    now: DateTime<Utc>,
    relay_only: HashSet<TaskId>,
    /// Released when the batch ends.
    _writer: OwnedMutexGuard<()>,
}

#[async_trait]
impl BatchTx for MemoryBatch {
    async fn commit(
        self: Box<Self>,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxMessage>, EventStoreError> {
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
    /// Rejects what the other stores reject, before anything is written.
    fn check(
        &self,
        write: &TaskWrite,
        ids: &mut HashSet<CommandId>,
    ) -> Result<(), EventStoreError> {
        write.check(self.version(write.task_id), |id| {
            !self.commands.contains_key(&id) && ids.insert(id)
        })?;
        for event in &write.events {
            refuse_nul(event)?;
        }
        for command in &write.commands {
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

    fn write(
        &mut self,
        write: TaskWrite,
        owner: Option<PublisherId>,
        now: DateTime<Utc>,
    ) -> Vec<OutboxMessage> {
        let task = write.task_id;
        if !write.events.is_empty() {
            if let Some(row) = &write.task {
                let events = write.events.iter();
                self.log
                    .extend(events.map(|event| Some((row.workflow.clone(), event.clone()))));
            }
            self.streams.entry(task).or_default().extend(write.events);
        }
        self.tasks.extend(write.task.map(|row| (task, row)));
        for command in write.commands {
            self.commands.insert(command.command_id, command.into());
        }
        for id in write.timers_unset {
            self.due.remove(&id);
        }
        self.due.extend(
            write
                .timers_set
                .into_iter()
                .map(|row| (row.id, (row, None))),
        );
        self.change_slots(task, write.slots);
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
        let lease = owner.map(|owner| (owner, later(now, OUTBOX_LEASE)));
        for message in write
            .outbox
            .iter()
            .filter(|message| message.version.is_none())
        {
            self.say(message);
        }
        let queued = self.queue(task, write.outbox, lease, now);
        if lease.is_some() { queued } else { Vec::new() }
    }
}
