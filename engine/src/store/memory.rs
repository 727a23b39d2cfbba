//! A store in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{
    ActFacts, ActLog, AnnotatorPause, COMMIT_LEASE, CommandLog, CommandPage, CommandRow,
    DerivePauses, Draft, DueLane, DueQueue, DueRow, DueStats, EventPage, EventStore,
    EventStoreError, GoalActionOutcome, GoalActionRow, GoalActionStatus, GoalStore, LearntRow,
    LogEntry, LogFilter, LogPage, LogPosition, NewGoalAction, NewOutboxRow, OpenBatch,
    OpenProjection, OpenRequest, OpenStep, OpenedTask, Outbox, OutboxRow, OutboxStats, Pauses,
    PlaceIndex, PlaceOrder, PlaceQuery, PlannedAct, ProjectionRows, ProjectionStore,
    ProjectionWrite, PublisherId, Rebuild, RecordedOutcome, ReliabilityStore, SnapshotRow,
    StorageError, TaskFilter, TaskIndex, TaskPage, TaskRow, TaskWrite, WorkflowConfigStore,
    WorkflowPause, WorkflowRow, content_hash, revision_id,
};
use crate::{
    config::WorkflowConfig,
    events::{StateRebuilder, StoredEvent},
    ids::{CommandId, RevisionId, StepId, TaskId, UserId, WorkflowId, WorkflowSelector},
    limits::PAGE_MAX,
    state::{HeldPlace, OpenPlace, Places, PlacesChange, TaskStatus, WorkflowSnapshot},
};

/// What a [`MemoryStore`] reads the time from.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// A store in memory, for tests, examples and simulation: the semantics of the others, and nothing
/// left when it is dropped. Clones share their content.
///
/// Batches run one at a time: [`open`](EventStore::open) waits until the batch before has ended.
/// Everything else goes on beside an open batch and sees what was committed.
#[derive(Clone)]
pub struct MemoryStore {
    data: Arc<Mutex<Data>>,
    /// Held by the open batch.
    writer: Arc<tokio::sync::Mutex<()>>,
    clock: Clock,
}

impl MemoryStore {
    /// An empty store whose clock starts at the beginning of 2000 and goes on by a millisecond with
    /// each reading: what runs on it is the same every time.
    pub fn new() -> Self {
        /// 2000-01-01T00:00:00Z, in microseconds since 1970.
        const BEGINNING: i64 = 946_684_800_000_000;
        let micros = AtomicI64::new(BEGINNING);
        Self::with_clock(Arc::new(move || {
            let now = micros.fetch_add(1_000, Ordering::Relaxed);
            DateTime::from_timestamp_micros(now).unwrap_or_default()
        }))
    }

    /// An empty store with a clock of the caller's.
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            data: Arc::default(),
            writer: Arc::default(),
            clock,
        }
    }

    fn now(&self) -> DateTime<Utc> {
        (self.clock)().trunc_subsecs(6)
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        lock(&self.data)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data();
        f.debug_struct("MemoryStore")
            .field("tasks", &data.tasks.len())
            .field("events", &data.log.len())
            .finish_non_exhaustive()
    }
}

/// Every change is checked before it begins, so a panic in between leaves nothing half done.
fn lock(data: &Mutex<Data>) -> MutexGuard<'_, Data> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Data {
    streams: BTreeMap<TaskId, Vec<StoredEvent>>,
    /// All events in order of commit, with the workflow of each: position `n` is element `n - 1`.
    log: Vec<(WorkflowId, StoredEvent)>,
    snapshots: HashMap<TaskId, BTreeMap<u64, WorkflowSnapshot>>,
    tasks: BTreeMap<TaskId, TaskRow>,
    commands: HashMap<CommandId, CommandRow>,
    outbox: BTreeMap<i64, Message>,
    /// The last position given.
    outbox_position: i64,
    due: BTreeMap<Uuid, (DueRow, Option<DateTime<Utc>>)>,
    drafts: BTreeMap<(TaskId, StepId, u32, UserId), Draft>,
    workflows: Vec<(WorkflowRow, WorkflowConfig)>,
    /// Messages that are sent once for ever; a rebuild does not forget them.
    said_once: HashSet<Uuid>,
    /// What goals set off, and until when nobody else does it.
    goal_actions: HashMap<Uuid, (GoalActionRow, DateTime<Utc>)>,
    /// Projections by name: events read, and rows by key.
    projections: HashMap<String, (usize, ProjectionRows)>,
    places: BTreeMap<(TaskId, StepId), OpenPlace>,
    held: BTreeSet<HeldPlace>,
    /// By workflow and beginning.
    pauses: BTreeMap<(WorkflowId, CommandId), WorkflowPause>,
    annotator_pauses: BTreeMap<CommandId, AnnotatorPause>,
    learnt: HashMap<Uuid, LearntRow>,
}

struct Message {
    row: OutboxRow,
    lease: Option<(PublisherId, DateTime<Utc>)>,
    next_attempt_at: Option<DateTime<Utc>>,
    last_error: String,
    created_at: DateTime<Utc>,
}

impl Message {
    fn is_leased(&self, now: DateTime<Utc>) -> bool {
        self.lease.is_some_and(|(_, until)| until > now)
    }

    fn backs_off(&self, now: DateTime<Utc>) -> bool {
        self.next_attempt_at.is_some_and(|at| at > now)
    }
}

impl Data {
    fn version(&self, task: TaskId) -> u64 {
        self.streams
            .get(&task)
            .map_or(0, |events| events.len() as u64)
    }

    fn tail(&self, task: TaskId, after: u64) -> Vec<StoredEvent> {
        let events = self.streams.get(&task).map_or(&[][..], Vec::as_slice);
        events
            .iter()
            .filter(|event| event.version > after)
            .cloned()
            .collect()
    }

    fn newest_snapshot(&self, task: TaskId) -> Option<WorkflowSnapshot> {
        self.snapshots.get(&task)?.values().next_back().cloned()
    }

    /// Whether messages of the task wait that are not, or not safely, the publisher's own.
    fn relay_only(&self, task: TaskId, publisher: Option<PublisherId>, now: DateTime<Utc>) -> bool {
        self.outbox
            .values()
            .filter(|message| message.row.task_id == Some(task))
            .any(|message| {
                !message.is_leased(now) || message.lease.map(|(owner, _)| owner) != publisher
            })
    }

    fn queue(
        &mut self,
        row: NewOutboxRow,
        lease: Option<(PublisherId, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) -> OutboxRow {
        self.outbox_position += 1;
        let row = OutboxRow {
            position: self.outbox_position,
            message_id: row.message_id,
            task_id: row.task_id,
            routing_key: row.routing_key,
            message_type: row.message_type.to_owned(),
            body: row.body,
            attempts: 0,
        };
        self.outbox.insert(
            row.position,
            Message {
                row: row.clone(),
                lease,
                next_attempt_at: None,
                last_error: String::new(),
                created_at: now,
            },
        );
        row
    }

    fn change_places(&mut self, task: TaskId, change: PlacesChange) {
        for step in change.open_unset {
            self.places.remove(&(task, step));
        }
        let set = change.open_set.into_iter();
        self.places
            .extend(set.map(|place| ((task, place.step_id.clone()), place)));
        for held in &change.held_unset {
            self.held.remove(held);
        }
        self.held.extend(change.held_set);
    }

    fn put_pauses(&mut self, pauses: Pauses) {
        self.pauses.extend(
            pauses
                .workflows
                .into_iter()
                .map(|pause| ((pause.workflow.clone(), pause.pause_id), pause)),
        );
        let annotators = pauses.annotators.into_iter();
        self.annotator_pauses
            .extend(annotators.map(|pause| (pause.pause_id, pause)));
    }

    /// Decides an act and writes what it leads to, unless it is known.
    fn act(&mut self, act: PlannedAct, now: DateTime<Utc>) -> Result<CommandRow, EventStoreError> {
        let PlannedAct {
            id,
            subject,
            decide,
        } = act;
        if let Some(known) = self.commands.get(&id) {
            return Ok(known.clone());
        }
        let pause = self
            .open_pauses()
            .find(|pause| pause.workflow == subject.workflow)
            .cloned();
        let annotators = self.annotator_pauses.values();
        let annotator = annotators
            .filter(|p| p.workflow == subject.workflow && Some(p.user_id) == subject.user_id)
            .max_by_key(|pause| pause.age())
            .cloned();
        let write = decide(ActFacts {
            now,
            pause,
            annotator,
        });
        refuse_nul(&(&write.record.outcome, &write.record.payload))?;
        let row = CommandRow::from(write.record);
        self.commands.insert(id, row.clone());
        self.put_pauses(write.pauses);
        self.enqueue(write.messages, now);
        Ok(row)
    }

    /// Pauses that have not been recorded as ended.
    fn open_pauses(&self) -> impl Iterator<Item = &WorkflowPause> {
        self.pauses
            .values()
            .filter(|pause| pause.ended_at.is_none())
    }

    /// Whether the workflow of a task is paused.
    fn is_held(&self, task: TaskId, now: DateTime<Utc>) -> bool {
        let workflow = self.tasks.get(&task).map(|row| &row.workflow);
        self.open_pauses()
            .any(|pause| Some(&pause.workflow) == workflow && pause.holds_at(now))
    }

    fn acts(&self) -> Vec<CommandRow> {
        let applied = |row: &&CommandRow| {
            row.task_id.is_none() && matches!(row.outcome, RecordedOutcome::Applied { .. })
        };
        let mut acts: Vec<_> = self.commands.values().filter(applied).cloned().collect();
        acts.sort_by_key(|row| (row.decided_at, row.command_id));
        acts
    }

    /// Messages that nobody owns; known ids are left as they are.
    fn enqueue(&mut self, rows: Vec<NewOutboxRow>, now: DateTime<Utc>) {
        for row in rows {
            if !self
                .outbox
                .values()
                .any(|message| message.row.message_id == row.message_id)
            {
                self.queue(row, None, now);
            }
        }
    }

    /// Refuses what the other stores refuse, before anything is written.
    fn check(
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

    fn write(
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

/// A time some duration after another.
fn later(now: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(duration)
        .ok()
        .and_then(|d| now.checked_add_signed(d))
        .unwrap_or(now)
}

/// A page of at most `limit` rows, and whether there are more.
fn page<T>(rows: impl Iterator<Item = T>, limit: u32) -> (Vec<T>, bool) {
    let limit = limit.clamp(1, PAGE_MAX) as usize;
    let mut rows: Vec<T> = rows.take(limit + 1).collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    (rows, more)
}

/// A text holds U+0000, which no database keeps.
#[derive(Debug, thiserror::Error)]
#[error("a text holds U+0000")]
struct Nul;

fn refuse_nul(content: &impl Serialize) -> Result<(), EventStoreError> {
    fn has_nul(value: &Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
            Value::String(text) => text.contains('\0'),
            Value::Array(values) => values.iter().any(has_nul),
            Value::Object(map) => map.iter().any(|(key, v)| key.contains('\0') || has_nul(v)),
        }
    }
    let value =
        serde_json::to_value(content).map_err(|error| EventStoreError::Data(Box::new(error)))?;
    if has_nul(&value) {
        Err(EventStoreError::Data(Box::new(Nul)))
    } else {
        Ok(())
    }
}

struct MemoryBatch {
    data: Arc<Mutex<Data>>,
    publisher: Option<PublisherId>,
    now: DateTime<Utc>,
    tasks: HashMap<TaskId, OpenedTask>,
    relay_only: HashSet<TaskId>,
    known: HashMap<CommandId, CommandRow>,
    pauses: Vec<WorkflowPause>,
    held_by_claimant: u32,
    /// Ends with the batch.
    _writer: OwnedMutexGuard<()>,
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

#[async_trait]
impl EventStore for MemoryStore {
    async fn open(&self, request: OpenRequest) -> Result<Box<dyn OpenBatch>, EventStoreError> {
        let writer = self.writer.clone().lock_owned().await;
        let now = self.now();
        let data = self.data();
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
        let held = data.held.iter();
        let claimant = request.claimant.map(|claimant| claimant.user_id);
        let held = held.filter(|held| Some(held.user_id) == claimant);
        let held_by_claimant = u32::try_from(held.count()).unwrap_or(u32::MAX);
        for (task, held) in request.tasks {
            let version = data.version(task);
            let snapshot = if held == 0 {
                data.newest_snapshot(task)
            } else {
                None
            };
            let after = snapshot.as_ref().map_or(held, |snapshot| snapshot.version);
            let mut opened = OpenedTask {
                tail: data.tail(task, after),
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
        drop(data);
        Ok(Box::new(MemoryBatch {
            data: self.data.clone(),
            publisher: request.publisher,
            now,
            tasks,
            relay_only,
            known,
            pauses,
            held_by_claimant,
            _writer: writer,
        }))
    }

    async fn load(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
        let data = self.data();
        let mut states = HashMap::with_capacity(tasks.len());
        for task in tasks {
            let snapshot = data.newest_snapshot(*task);
            let after = snapshot.as_ref().map_or(0, |snapshot| snapshot.version);
            let mut rebuilder =
                snapshot.map_or_else(StateRebuilder::new, StateRebuilder::from_snapshot);
            for event in data.tail(*task, after) {
                rebuilder.apply(&event)?;
            }
            states.extend(rebuilder.finish().map(|state| (*task, state)));
        }
        Ok(states)
    }

    async fn events(
        &self,
        task: TaskId,
        after: u64,
        limit: u32,
    ) -> Result<EventPage, EventStoreError> {
        let (events, more) = page(self.data().tail(task, after).into_iter(), limit);
        let next_after = events.last().filter(|_| more).map(|event| event.version);
        Ok(EventPage { events, next_after })
    }

    async fn read_log(
        &self,
        after: LogPosition,
        limit: u32,
    ) -> Result<Vec<LogEntry>, EventStoreError> {
        let after = usize::try_from(after.position).unwrap_or_default();
        Ok(entries(&self.data(), after, limit))
    }
}

fn entries(data: &Data, after: usize, limit: u32) -> Vec<LogEntry> {
    (1_i64..)
        .zip(&data.log)
        .skip(after)
        .take(limit as usize)
        .map(|(position, (workflow, event))| LogEntry {
            position: LogPosition {
                transaction: 0,
                position,
            },
            workflow: workflow.clone(),
            started_at: data
                .streams
                .get(&event.task_id)
                .and_then(|events| events.first())
                .map_or(event.occurred_at, |first| first.occurred_at),
            event: event.clone(),
        })
        .collect()
}

#[async_trait]
impl ReliabilityStore for MemoryStore {
    async fn read_workflow_log(
        &self,
        filter: LogFilter,
        after: LogPosition,
        limit: u32,
    ) -> Result<LogPage, EventStoreError> {
        let data = self.data();
        let skip = usize::try_from(after.position).unwrap_or_default();
        let mut page = LogPage {
            entries: Vec::new(),
            through: after,
            read: 0,
        };
        for (position, (workflow, event)) in
            (1_i64..).zip(&data.log).skip(skip).take(limit as usize)
        {
            page.read += 1;
            page.through = LogPosition {
                transaction: 0,
                position,
            };
            let asked = filter.event_types.contains(&event.event.event_type());
            if asked && *workflow == filter.workflow {
                page.entries.push((page.through, event.clone()));
            }
        }
        Ok(page)
    }

    async fn learnt(&self, model: Uuid) -> Result<Option<LearntRow>, EventStoreError> {
        Ok(self.data().learnt.get(&model).cloned())
    }

    async fn learnt_position(&self, model: Uuid) -> Result<Option<LogPosition>, EventStoreError> {
        Ok(self.data().learnt.get(&model).map(|row| row.position))
    }

    async fn keep_learnt(&self, row: LearntRow) -> Result<(), EventStoreError> {
        let mut data = self.data();
        let further = |kept: &LearntRow| kept.position >= row.position;
        if !data.learnt.get(&row.model).is_some_and(further) {
            data.learnt.insert(row.model, row);
        }
        Ok(())
    }

    async fn forget_learnt(&self) -> Result<(), EventStoreError> {
        self.data().learnt.clear();
        Ok(())
    }
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn enqueue(&self, rows: Vec<NewOutboxRow>) -> Result<(), EventStoreError> {
        let now = self.now();
        self.data().enqueue(rows, now);
        Ok(())
    }

    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let mut closed = HashSet::new();
        let mut claimed = Vec::new();
        for message in data.outbox.values_mut() {
            if claimed.len() == limit as usize {
                break;
            }
            let free = !message.is_leased(now) && !message.backs_off(now);
            let task = message.row.task_id;
            if free && task.is_none_or(|task| !closed.contains(&task)) {
                message.lease = Some((publisher, later(now, lease)));
                message.next_attempt_at = None;
                claimed.push(message.row.clone());
            } else if message.backs_off(now)
                || message
                    .lease
                    .is_some_and(|(owner, until)| owner != publisher && until > now)
            {
                closed.extend(task);
            }
        }
        Ok(claimed)
    }

    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError> {
        let mut data = self.data();
        for position in positions {
            data.outbox.remove(position);
        }
        Ok(())
    }

    async fn release(
        &self,
        positions: &[i64],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        for position in positions {
            let Some(message) = data.outbox.get_mut(position) else {
                continue;
            };
            message.lease = None;
            message.next_attempt_at = None;
            if let Some((error, back_off)) = &failed {
                message.row.attempts = message.row.attempts.saturating_add(1);
                message.last_error.clone_from(error);
                message.next_attempt_at = Some(later(now, *back_off));
            }
        }
        Ok(())
    }

    async fn held(
        &self,
        publisher: PublisherId,
        after: i64,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let data = self.data();
        let beyond = data.outbox.values().filter(|m| m.row.position > after);
        let held = beyond.filter(|m| m.lease.is_some_and(|(owner, _)| owner == publisher));
        Ok(held.map(|message| message.row.clone()).collect())
    }

    async fn renew(&self, publisher: PublisherId, lease: Duration) -> Result<(), EventStoreError> {
        let now = self.now();
        for message in self.data().outbox.values_mut() {
            if message.is_leased(now) && message.lease.is_some_and(|(owner, _)| owner == publisher)
            {
                message.lease = Some((publisher, later(now, lease)));
            }
        }
        Ok(())
    }

    async fn outbox_stats(&self) -> Result<OutboxStats, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let oldest = data
            .outbox
            .values()
            .map(|message| now - message.created_at)
            .max();
        Ok(OutboxStats {
            pending: i64::try_from(data.outbox.len()).unwrap_or(i64::MAX),
            oldest_seconds: oldest.map_or(0.0, seconds),
        })
    }

    async fn outbox_failed(&self, limit: u32) -> Result<Vec<(OutboxRow, String)>, EventStoreError> {
        let data = self.data();
        let failed = data
            .outbox
            .values()
            .filter(|message| message.row.attempts > 0);
        let (rows, _) = page(failed.map(|m| (m.row.clone(), m.last_error.clone())), limit);
        Ok(rows)
    }
}

fn seconds(delta: TimeDelta) -> f64 {
    delta
        .to_std()
        .map_or(0.0, |duration| duration.as_secs_f64())
}

#[async_trait]
impl DueQueue for MemoryStore {
    async fn claim_due(
        &self,
        lane: DueLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<DueRow>, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let held: HashSet<TaskId> = data
            .due
            .values()
            .map(|(row, _)| row.task_id)
            .filter(|task| data.is_held(*task, now))
            .collect();
        let mut due: Vec<_> = data
            .due
            .values_mut()
            .filter(|(row, leased)| {
                row.kind.lane() == lane
                    && row.due_at <= now
                    && leased.is_none_or(|until| until <= now)
            })
            .filter(|(row, _)| !held.contains(&row.task_id))
            .collect();
        due.sort_by_key(|(row, _)| (row.due_at, row.id));
        due.truncate(limit as usize);
        Ok(due
            .into_iter()
            .map(|(row, leased)| {
                *leased = Some(later(now, lease));
                row.clone()
            })
            .collect())
    }

    async fn drop_due(&self, ids: &[Uuid]) -> Result<(), EventStoreError> {
        let mut data = self.data();
        for id in ids {
            data.due.remove(id);
        }
        Ok(())
    }

    async fn due_stats(&self) -> Result<DueStats, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let due = data
            .due
            .values()
            .filter(|(row, _)| row.due_at <= now)
            .count();
        Ok(DueStats {
            due: i64::try_from(due).unwrap_or(i64::MAX),
            total: i64::try_from(data.due.len()).unwrap_or(i64::MAX),
        })
    }
}

#[async_trait]
impl TaskIndex for MemoryStore {
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, EventStoreError> {
        Ok(self.data().tasks.get(&task).cloned())
    }

    async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage, EventStoreError> {
        let data = self.data();
        let found = data.tasks.values().filter(|row| {
            filter.after.is_none_or(|after| row.task_id > after)
                && filter
                    .workflow
                    .as_ref()
                    .is_none_or(|workflow| row.workflow == *workflow)
                && filter.status.is_none_or(|status| row.status == status)
                && filter
                    .step
                    .as_ref()
                    .is_none_or(|step| row.current_steps.contains(step) && !row.status.is_final())
                && filter
                    .labels
                    .iter()
                    .all(|(key, value)| row.labels.get(key) == Some(value))
        });
        let (tasks, more) = page(found.cloned(), filter.limit);
        let next_after = tasks.last().filter(|_| more).map(|task| task.task_id);
        Ok(TaskPage { tasks, next_after })
    }

    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError> {
        let mut counts: BTreeMap<_, _> = TaskStatus::ALL
            .into_iter()
            .map(|status| (status, 0))
            .collect();
        for row in self.data().tasks.values() {
            *counts.entry(row.status).or_default() += 1;
        }
        Ok(counts)
    }

    async fn waiting_oldest(&self) -> Result<Vec<(RevisionId, String, f64)>, EventStoreError> {
        let now = self.now();
        let mut oldest: BTreeMap<(RevisionId, String), f64> = BTreeMap::new();
        let data = self.data();
        for row in data
            .tasks
            .values()
            .filter(|row| row.status == TaskStatus::Running)
        {
            for step in &row.current_steps {
                let waits = oldest
                    .entry((row.revision_id, step.to_string()))
                    .or_default();
                *waits = waits.max(seconds(now - row.updated_at));
            }
        }
        Ok(oldest
            .into_iter()
            .map(|((id, step), seconds)| (id, step, seconds))
            .collect())
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

#[async_trait]
impl PlaceIndex for MemoryStore {
    async fn open_steps(
        &self,
        workflow: Option<&WorkflowId>,
        step: Option<&StepId>,
    ) -> Result<Vec<OpenStep>, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let steps: BTreeSet<_> = data
            .places
            .values()
            .filter(|place| workflow.is_none_or(|workflow| place.workflow == *workflow))
            .filter(|place| step.is_none_or(|step| place.step_id == *step))
            .filter(|place| !data.is_held(place.task_id, now))
            .map(|place| OpenStep {
                revision_id: place.revision_id,
                step_id: place.step_id.clone(),
            })
            .collect();
        Ok(steps.into_iter().collect())
    }

    async fn open_places(&self, query: PlaceQuery) -> Result<Vec<OpenPlace>, EventStoreError> {
        let data = self.data();
        let wanted = |place: &&OpenPlace| {
            place.revision_id == query.step.revision_id
                && place.step_id == query.step.step_id
                && place.gold == query.gold
                && !place.barred.contains(&query.user)
                && !(query.prevents_reassignment && place.judged.contains(&query.user))
                && (query.order == PlaceOrder::FewestPeople || place.submitted > 0)
        };
        let mut places: Vec<_> = data.places.values().filter(wanted).cloned().collect();
        places.sort_by_key(|place| {
            let people = match query.order {
                PlaceOrder::FewestPeople => place.taken(),
                PlaceOrder::OldestBegun => 0,
            };
            (people, place.waiting_since, place.task_id)
        });
        places.truncate(query.limit as usize);
        Ok(places)
    }

    async fn held_places(&self, user: UserId) -> Result<Vec<HeldPlace>, EventStoreError> {
        let data = self.data();
        let held = data.held.iter().filter(|held| held.user_id == user);
        Ok(held.cloned().collect())
    }
}

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
        // After an unknown row comes nothing, as in SQL.
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
        let (commands, more) = page(rows.into_iter(), limit);
        let next_after = commands.last().filter(|_| more).map(|row| row.command_id);
        Ok(CommandPage {
            commands,
            next_after,
        })
    }
}

#[async_trait]
impl ActLog for MemoryStore {
    async fn act(&self, act: PlannedAct) -> Result<CommandRow, EventStoreError> {
        let _writer = self.writer.lock().await;
        let now = self.now();
        self.data().act(act, now)
    }

    async fn acts(&self) -> Result<Vec<CommandRow>, EventStoreError> {
        Ok(self.data().acts())
    }

    async fn workflow_pauses(
        &self,
    ) -> Result<(Vec<WorkflowPause>, Vec<WorkflowPause>), EventStoreError> {
        let now = self.now();
        let data = self.data();
        Ok(data
            .open_pauses()
            .cloned()
            .partition(|pause| pause.holds_at(now)))
    }

    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError> {
        let data = self.data();
        let pauses = data.annotator_pauses.values();
        let mut found: Vec<_> = pauses
            .filter(|pause| user.is_none_or(|user| pause.user_id == user))
            .cloned()
            .collect();
        found.sort_by_key(AnnotatorPause::age);
        Ok(found)
    }

    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError> {
        let _writer = self.writer.lock().await;
        let mut data = self.data();
        let wanted = derive(&data.acts());
        let found = std::mem::take(&mut data.pauses);
        let annotators = std::mem::take(&mut data.annotator_pauses);
        data.put_pauses(wanted);
        Ok(data.pauses != found || data.annotator_pauses != annotators)
    }
}

#[async_trait]
impl WorkflowConfigStore for MemoryStore {
    async fn save(&self, config: &WorkflowConfig) -> Result<Uuid, StorageError> {
        let hash = content_hash(config);
        refuse_nul(config)?;
        let now = self.now();
        let mut data = self.data();
        let newest = data
            .workflows
            .iter()
            .map(|(row, _)| row)
            .rfind(|r| r.workflow == config.id);
        let revision = match newest {
            Some(row) if row.content_hash == hash => return Ok(row.id.0),
            Some(row) => row.revision.saturating_add(1),
            None => 1,
        };
        let id = revision_id(&config.id, revision);
        let row = WorkflowRow {
            id,
            workflow: config.id.clone(),
            revision,
            content_hash: hash,
            created_at: now,
        };
        let mut config = config.clone();
        config.revision_id = id;
        config.revision = revision;
        data.workflows.push((row, config));
        Ok(id.0)
    }

    async fn load(&self, id: Uuid) -> Result<Option<WorkflowConfig>, StorageError> {
        let data = self.data();
        let found = data.workflows.iter().find(|(row, _)| row.id.0 == id);
        Ok(found.map(|(_, config)| config.clone()))
    }

    async fn load_by_name(&self, name: &str) -> Result<Option<WorkflowConfig>, StorageError> {
        let data = self.data();
        let found = data
            .workflows
            .iter()
            .rfind(|(row, _)| row.workflow == *name);
        Ok(found.map(|(_, config)| config.clone()))
    }

    async fn resolve(
        &self,
        selectors: &[WorkflowSelector],
    ) -> Result<HashMap<WorkflowSelector, RevisionId>, StorageError> {
        let data = self.data();
        let find = |selector: &WorkflowSelector| {
            data.workflows
                .iter()
                .map(|(row, _)| row)
                .rfind(|row| match selector {
                    WorkflowSelector::Latest(id) => row.workflow == *id,
                    WorkflowSelector::Numbered(id, revision) => {
                        row.workflow == *id && row.revision == *revision
                    }
                    WorkflowSelector::Revision(id) => row.id == *id,
                })
        };
        Ok(selectors
            .iter()
            .filter_map(|s| Some((s.clone(), find(s)?.id)))
            .collect())
    }

    async fn revisions(
        &self,
        workflow: Option<&WorkflowId>,
    ) -> Result<Vec<WorkflowRow>, StorageError> {
        let data = self.data();
        let mut rows: Vec<_> = data
            .workflows
            .iter()
            .map(|(row, _)| row)
            .filter(|row| workflow.is_none_or(|workflow| row.workflow == *workflow))
            .cloned()
            .collect();
        rows.sort_by(|a, b| (&a.workflow, b.revision).cmp(&(&b.workflow, a.revision)));
        Ok(rows)
    }
}

#[async_trait]
impl GoalStore for MemoryStore {
    async fn claim_goal_actions(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<GoalActionRow>, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let due = data
            .goal_actions
            .values_mut()
            .filter(|(row, due)| row.status == GoalActionStatus::Waiting && *due <= now);
        let claimed = due.take(limit as usize).map(|(row, due)| {
            *due = later(now, lease);
            row.clone()
        });
        Ok(claimed.collect())
    }

    async fn settle_goal_action(
        &self,
        id: Uuid,
        outcome: GoalActionOutcome,
    ) -> Result<(), EventStoreError> {
        let now = self.now();
        if let Some((row, due)) = self.data().goal_actions.get_mut(&id) {
            row.changed_at = now;
            match outcome {
                GoalActionOutcome::Done => row.status = GoalActionStatus::Done,
                GoalActionOutcome::Retry { error, after } => {
                    row.attempts += 1;
                    row.last_error = Some(error);
                    *due = later(now, after);
                }
                GoalActionOutcome::Failed { error } => {
                    row.attempts += 1;
                    row.last_error = Some(error);
                    row.status = GoalActionStatus::Failed;
                }
            }
        }
        Ok(())
    }

    async fn goal_actions(&self) -> Result<Vec<GoalActionRow>, EventStoreError> {
        let data = self.data();
        let mut rows: Vec<_> = data
            .goal_actions
            .values()
            .map(|(row, _)| row.clone())
            .collect();
        rows.sort_by_key(|row| {
            let NewGoalAction {
                workflow,
                goal,
                epoch,
                action,
                id,
                ..
            } = &row.action;
            (workflow.clone(), goal.clone(), *epoch, action.clone(), *id)
        });
        Ok(rows)
    }
}

#[async_trait]
impl ProjectionStore for MemoryStore {
    /// Waits while a batch is open, as a store with one writer does: its events come later and are
    /// no younger than what is settled.
    async fn open_projection(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Option<Box<dyn OpenProjection>>, EventStoreError> {
        let writer = self.writer.clone().lock_owned().await;
        let now = self.now();
        let data = self.data();
        let (read, rows) = data.projections.get(name).cloned().unwrap_or_default();
        let entries = entries(&data, read, limit);
        let settled = if read + entries.len() == data.log.len() {
            now
        } else {
            DateTime::UNIX_EPOCH
        };
        drop(data);
        Ok(Some(Box::new(MemoryProjection {
            data: self.data.clone(),
            name: name.to_owned(),
            now,
            settled,
            read,
            entries,
            rows,
            _writer: writer,
        })))
    }

    async fn projection_rows(&self, name: &str) -> Result<ProjectionRows, EventStoreError> {
        let data = self.data();
        Ok(data
            .projections
            .get(name)
            .map(|(_, rows)| rows.clone())
            .unwrap_or_default())
    }

    async fn reset_projection(&self, name: &str) -> Result<(), EventStoreError> {
        let _writer = self.writer.lock().await;
        self.data().projections.remove(name);
        Ok(())
    }
}

/// A step of a projection; the only writer while it is open.
struct MemoryProjection {
    data: Arc<Mutex<Data>>,
    name: String,
    now: DateTime<Utc>,
    settled: DateTime<Utc>,
    read: usize,
    entries: Vec<LogEntry>,
    rows: ProjectionRows,
    _writer: OwnedMutexGuard<()>,
}

#[async_trait]
impl OpenProjection for MemoryProjection {
    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn settled(&self) -> DateTime<Utc> {
        self.settled
    }

    fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    fn at_beginning(&self) -> bool {
        self.read == 0
    }

    fn take_rows(&mut self) -> ProjectionRows {
        std::mem::take(&mut self.rows)
    }

    async fn commit(self: Box<Self>, write: ProjectionWrite) -> Result<(), EventStoreError> {
        refuse_nul(&write.rows)?;
        for message in write.messages.iter().chain(&write.once) {
            refuse_nul(&(&message.routing_key, &*message.body))?;
        }
        let mut data = lock(&self.data);
        for act in write.acts {
            data.act(act, self.now)?;
        }
        let (read, rows) = data.projections.entry(self.name).or_default();
        *read = self.read + self.entries.len();
        for (key, row) in write.rows {
            match row {
                Some(row) => {
                    rows.insert(key, row);
                }
                None => {
                    rows.remove(&key);
                }
            }
        }
        let once = write.once.into_iter();
        let mut messages = write.messages;
        messages.extend(once.filter(|message| data.said_once.insert(message.message_id)));
        data.enqueue(messages, self.now);
        for action in write.actions {
            data.goal_actions.entry(action.id).or_insert_with(|| {
                let row = GoalActionRow {
                    action,
                    status: GoalActionStatus::Waiting,
                    attempts: 0,
                    last_error: None,
                    changed_at: self.now,
                };
                (row, self.now)
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Rebuild for MemoryStore {
    async fn stream_ids(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError> {
        let data = self.data();
        let ids = data
            .streams
            .keys()
            .filter(|task| after.is_none_or(|after| **task > after));
        Ok(page(ids.copied(), limit).0)
    }

    async fn replace_derived(
        &self,
        task: TaskRow,
        places: Places,
        snapshots: Vec<SnapshotRow>,
        due: Vec<DueRow>,
    ) -> Result<(bool, bool, bool), EventStoreError> {
        let _writer = self.writer.lock().await;
        let mut data = self.data();
        let id = task.task_id;
        let actual = data.version(id);
        if actual != task.version {
            let expected = task.version;
            return Err(EventStoreError::VersionConflict {
                task_id: id,
                expected,
                actual,
            });
        }
        let row_changed = data.tasks.get(&id) != Some(&task);
        data.tasks.insert(id, task);
        let found = Places {
            open: data
                .places
                .values()
                .filter(|place| place.task_id == id)
                .cloned()
                .collect(),
            held: data
                .held
                .iter()
                .filter(|held| held.task_id == id)
                .cloned()
                .collect(),
        };
        let change = places.since(&found);
        let task_changed = row_changed || !change.is_empty();
        data.change_places(id, change);

        let snapshots: BTreeMap<_, _> = snapshots
            .into_iter()
            .map(|row| (row.version, row.state))
            .collect();
        let found = data
            .snapshots
            .insert(id, snapshots.clone())
            .unwrap_or_default();
        let snapshots_changed = found != snapshots;

        let wanted: BTreeMap<_, _> = due.into_iter().map(|row| (row.id, row)).collect();
        let found = data
            .due
            .values()
            .map(|(row, _)| row)
            .filter(|row| row.task_id == id);
        let found: BTreeMap<_, _> = found.map(|row| (row.id, row.clone())).collect();
        let due_changed = found != wanted;
        if due_changed {
            data.due.retain(|_, (row, _)| row.task_id != id);
            data.due
                .extend(wanted.into_iter().map(|(id, row)| (id, (row, None))));
        }
        Ok((task_changed, snapshots_changed, due_changed))
    }
}
