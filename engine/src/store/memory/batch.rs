//! The open batch and its writes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout_at};

use super::{
    super::{
        BatchTx, EventStoreError, OUTBOX_LEASE, OpenBatch, OpenRequest, OpenedTask, OutboxMessage,
        PublisherId, SplitReason, TaskWrite, WorkflowPause,
        batch::{HeadOfStream, ToRead},
    },
    data::{Data, MemoryStore, later, lock, refuse_nul},
    locks::{Held, Lock},
};
use crate::ids::{CommandId, TaskId};

/// The locks of a batch: the claimant's, those of the heads that exist, and those of the workflows
/// whose started tasks are counted.
struct BatchLocks {
    heads: HashSet<TaskId>,
    /// Heads that others hold.
    passed_over: HashSet<TaskId>,
    held: Vec<Held>,
}

impl BatchLocks {
    /// Takes them in order. A head that is made meanwhile is not among them.
    async fn take(store: &MemoryStore, request: &OpenRequest) -> Result<Self, EventStoreError> {
        let heads: BTreeSet<TaskId> = {
            let data = store.data();
            let tasks = request.tasks.keys().copied();
            tasks.filter(|task| data.tasks.contains_key(task)).collect()
        };
        let mut locks = Self {
            heads: HashSet::new(),
            passed_over: HashSet::new(),
            held: Vec::new(),
        };
        let patience = request.on_locked.wait();
        let patience = patience.map(|wait| Instant::now() + wait);
        let names = request.claimant.map(Lock::Claimant).into_iter();
        let names = names.chain(heads.iter().copied().map(Lock::Head));
        let names = names.chain(request.counted.keys().cloned().map(Lock::Started));
        for name in names {
            let head = match &name {
                Lock::Head(task) => Some(*task),
                Lock::Claimant(_) | Lock::Started(_) | Lock::Projection(_) => None,
            };
            let free = store.locks.try_take(name.clone());
            if let (None, Some(task), true) = (&free, head, request.on_locked.passes_over()) {
                locks.passed_over.insert(task);
                continue;
            }
            let taken = match (free, patience) {
                (Some(taken), _) => taken,
                (None, None) => store.locks.take(name).await,
                (None, Some(patience)) => {
                    match timeout_at(patience, store.locks.take(name)).await {
                        Ok(taken) => taken,
                        Err(_) => return Err(blocked(store, &locks.heads, &heads)),
                    }
                }
            };
            locks.held.push(taken);
            locks.heads.extend(head);
        }
        Ok(locks)
    }
}

/// A batch could not lock all of its heads in time; names those that others hold now.
fn blocked(
    store: &MemoryStore,
    own: &HashSet<TaskId>,
    wanted: &BTreeSet<TaskId>,
) -> EventStoreError {
    let others = wanted.iter().filter(|task| !own.contains(task));
    let tasks = others.filter(|task| store.locks.try_take(Lock::Head(**task)).is_none());
    EventStoreError::Hindered {
        reason: SplitReason::Blocked,
        tasks: tasks.copied().collect(),
        source: "others hold locks of the batch".into(),
    }
}

/// Begins a batch, once it has its locks.
pub(super) async fn open(
    store: &MemoryStore,
    request: OpenRequest,
) -> Result<OpenBatch, EventStoreError> {
    let mut locks = BatchLocks::take(store, &request).await?;
    let mut data = store.data();
    // Under the lock: a projection that has read without this batch has read an earlier clock.
    let now = store.now();
    let mut tasks = HashMap::with_capacity(request.tasks.len());
    let mut relay_only = HashSet::new();
    let rows = locks.heads.iter().filter_map(|task| data.tasks.get(task));
    let rested_since = rows.map(|row| row.updated_at).min();
    let matters = |pause: &&WorkflowPause| {
        pause
            .ended_at
            .is_none_or(|ended| rested_since.is_some_and(|since| since < ended))
    };
    let pauses = data.pauses.values().filter(matters).cloned().collect();
    let claimed = data.claimed.iter();
    let claimed = claimed.filter(|claimed| Some(claimed.user_id) == request.claimant);
    let claimed_by_claimant = u32::try_from(claimed.count()).unwrap_or(u32::MAX);
    for task in request.tasks.keys().copied() {
        let mut opened = OpenedTask::default();
        if locks.heads.contains(&task) {
            let head = HeadOfStream {
                version: data.version(task),
                decided: data.tasks.get(&task).map(|row| row.updated_at),
                archived: data.archived.contains_key(&task),
            };
            opened.version = head.version;
            let to_read = request.to_read(task, head);
            let mut whole = to_read == ToRead::All;
            if let Some(after) = to_read.after() {
                opened.tail = data.tail(task, after, usize::MAX);
            }
            if to_read == ToRead::AllAnew || !to_read.compare(&mut opened.tail) {
                (opened.anew, whole) = (true, true);
            }
            if whole {
                opened.snapshot = data.newest_snapshot(task);
                let after = opened.snapshot.as_ref().map_or(0, |state| state.version);
                opened.tail = data.tail(task, after, usize::MAX);
            }
        } else {
            let nothing = request.to_read(task, HeadOfStream::default());
            opened.anew = nothing == ToRead::AllAnew;
        }
        if data.relay_only(task, request.publisher, now) {
            opened.relay_only = true;
            relay_only.insert(task);
        }
        tasks.insert(task, opened);
    }
    let known: HashMap<_, _> = request
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
    let log = data.log_ids.present;
    data.opened += 1;
    let number = data.opened;
    data.open.insert(number, now);
    drop(data);
    Ok(OpenBatch {
        now,
        log,
        tasks,
        passed_over: std::mem::take(&mut locks.passed_over),
        claimed_by_claimant,
        pauses,
        started,
        tx: Box::new(MemoryBatch {
            data: store.data.clone(),
            publisher: request.publisher,
            now,
            number,
            relay_only,
            known: known.keys().copied().collect(),
            locks,
        }),
        known,
    })
}

struct MemoryBatch {
    data: Arc<Mutex<Data>>,
    publisher: Option<PublisherId>,
    now: DateTime<Utc>,
    /// Its number among the open batches.
    number: u64,
    relay_only: HashSet<TaskId>,
    /// Commands that were known when it was opened.
    known: HashSet<CommandId>,
    locks: BatchLocks,
}

impl Drop for MemoryBatch {
    fn drop(&mut self) {
        lock(&self.data).open.remove(&self.number);
        self.locks.held.clear();
    }
}

#[async_trait]
impl BatchTx for MemoryBatch {
    async fn commit(
        self: Box<Self>,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxMessage>, EventStoreError> {
        let mut data = lock(&self.data);
        if let Some(lost) = self.lost_race(&data, &writes) {
            return Err(EventStoreError::hindered(SplitReason::Conflict, lost));
        }
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

impl MemoryBatch {
    /// What another batch has committed first: one of the new tasks, or the same command on another
    /// task.
    fn lost_race(&self, data: &Data, writes: &[TaskWrite]) -> Option<String> {
        writes.iter().find_map(|write| {
            let task = write.task_id;
            if !self.locks.heads.contains(&task) && data.version(task) > 0 {
                return Some(format!("task {task} was started by others meanwhile"));
            }
            let ids = write.commands.iter().map(|command| command.command_id);
            let mut new = ids.filter(|id| !self.known.contains(id));
            let id = new.find(|id| data.commands.contains_key(id))?;
            Some(format!("command {id} was decided by others meanwhile"))
        })
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
