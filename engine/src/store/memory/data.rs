//! The content of an in-memory store, its clock and its lock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{
    super::{
        AnnotatorPause, CommandRow, Draft, EventStoreError, GoalActionRow, JobItem, JobRow,
        LoggedMessage, ModelCheckpoint, OutboxRow, ProjectionRows, PublisherId, TaskRow, Timer,
        WorkflowPause, WorkflowRow, nul,
    },
    locks::Locks,
};
use crate::{
    config::WorkflowConfig,
    events::StoredEvent,
    ids::{CommandId, LogIds, StepId, TaskId, UserId, WorkflowId},
    state::{ClaimedSlot, OpenSlot, WorkflowSnapshot},
};

/// The source of time of a [`MemoryStore`].
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// A store in memory, for tests, examples and simulation. It has the semantics of the other stores;
/// its content is lost when it is dropped. Clones share their content.
///
/// Batches lock the heads of their tasks, as in Postgres: those of other tasks run beside them, and
/// of two that start the same task the second one loses. Everything else sees what was committed.
#[derive(Clone)]
pub struct MemoryStore {
    pub(super) data: Arc<Mutex<Data>>,
    pub(super) locks: Arc<Locks>,
    pub(super) clock: Clock,
}

impl MemoryStore {
    /// An empty store whose clock starts at the beginning of 2000 and advances by a millisecond
    /// with each reading, so runs are reproducible.
    pub fn new() -> Self {
        /// 2000-01-01T00:00:00Z, in microseconds since 1970.
        const BEGINNING: i64 = 946_684_800_000_000;
        let micros = AtomicI64::new(BEGINNING);
        Self::with_clock(Arc::new(move || {
            let now = micros.fetch_add(1_000, Ordering::Relaxed);
            DateTime::from_timestamp_micros(now).unwrap_or_default()
        }))
    }

    /// An empty store with the caller's clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            data: Arc::default(),
            locks: Arc::default(),
            clock,
        }
    }

    /// A copy of all that is stored.
    pub fn dump(&self) -> MemoryDump {
        MemoryDump(self.data().clone())
    }

    /// Puts the content back to what it was at the dump. Nobody may be at work; batches that somebody has
    /// left open may end later.
    /// [`Deployment::restored`](super::super::Deployment::restored) makes it fit to go on.
    pub fn restore(&self, dump: &MemoryDump) {
        let mut data = self.data();
        let (open, opened) = (std::mem::take(&mut data.open), data.opened);
        *data = dump.0.clone();
        (data.open, data.opened) = (open, opened);
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        (self.clock)().trunc_subsecs(6)
    }

    pub(super) fn data(&self) -> MutexGuard<'_, Data> {
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

/// Every change is checked before it begins, so a panic leaves nothing half done.
pub(super) fn lock(data: &Mutex<Data>) -> MutexGuard<'_, Data> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a [`MemoryStore`] held at a time.
pub struct MemoryDump(Data);

impl fmt::Debug for MemoryDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDump").finish_non_exhaustive()
    }
}

#[derive(Clone, Default)]
pub(super) struct Data {
    pub(super) log_ids: LogIds,
    pub(super) streams: BTreeMap<TaskId, Vec<StoredEvent>>,
    /// All events in order of commit, with the workflow of each: entry `n` is element `n - 1`. Those
    /// that are in an archive alone are none.
    pub(super) log: Vec<Option<(WorkflowId, StoredEvent)>>,
    /// The last states of archived tasks.
    pub(super) archived: HashMap<TaskId, WorkflowSnapshot>,
    pub(super) snapshots: HashMap<TaskId, BTreeMap<u64, WorkflowSnapshot>>,
    pub(super) tasks: BTreeMap<TaskId, TaskRow>,
    pub(super) commands: HashMap<CommandId, CommandRow>,
    /// Rejected commands that were taken out of the list.
    pub(super) dropped: HashSet<CommandId>,
    /// Rejected commands that are marked as exported.
    pub(super) exported: HashSet<CommandId>,
    pub(super) jobs: BTreeMap<Uuid, HeldJob>,
    pub(super) outbox: BTreeMap<i64, WaitingRow>,
    /// The last position assigned.
    pub(super) outbox_position: i64,
    pub(super) due: BTreeMap<Uuid, (Timer, Option<DateTime<Utc>>)>,
    pub(super) drafts: BTreeMap<(TaskId, StepId, u32, UserId), Draft>,
    pub(super) workflows: Vec<(WorkflowRow, WorkflowConfig)>,
    /// Messages that no event stands for, each with the number of events before it.
    pub(super) log_messages: Vec<(usize, LoggedMessage)>,
    /// External actions of goals, each with the end of its lease.
    pub(super) goal_actions: HashMap<Uuid, (GoalActionRow, DateTime<Utc>)>,
    /// Projections by name: events read, and rows by key.
    pub(super) projections: HashMap<String, (usize, ProjectionRows)>,
    pub(super) slots: BTreeMap<(TaskId, StepId), OpenSlot>,
    pub(super) claimed: BTreeSet<ClaimedSlot>,
    /// Keyed by workflow and the command that began the pause.
    pub(super) pauses: BTreeMap<(WorkflowId, CommandId), WorkflowPause>,
    pub(super) annotator_pauses: BTreeMap<CommandId, AnnotatorPause>,
    pub(super) learnt: HashMap<Uuid, ModelCheckpoint>,
    /// The time of each open batch, which decides at that time, by a number of its own.
    pub(super) open: BTreeMap<u64, DateTime<Utc>>,
    /// The number of the last batch that was opened.
    pub(super) opened: u64,
}

/// A job, its items by ordinal, and who has it until when.
#[derive(Clone)]
pub(super) struct HeldJob {
    pub(super) row: JobRow,
    pub(super) items: BTreeMap<i64, JobItem>,
    pub(super) lease: Option<(Uuid, DateTime<Utc>)>,
}

/// A row of the outbox.
#[derive(Clone)]
pub(super) struct WaitingRow {
    pub(super) row: OutboxRow,
    pub(super) lease: Option<(PublisherId, DateTime<Utc>)>,
    pub(super) next_attempt_at: Option<DateTime<Utc>>,
    pub(super) last_error: String,
    pub(super) created_at: DateTime<Utc>,
}

impl WaitingRow {
    pub(super) fn is_leased(&self, now: DateTime<Utc>) -> bool {
        self.lease.is_some_and(|(_, until)| until > now)
    }

    pub(super) fn backs_off(&self, now: DateTime<Utc>) -> bool {
        self.next_attempt_at.is_some_and(|at| at > now)
    }
}

/// A time some duration after another.
pub(super) fn later(now: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(duration)
        .ok()
        .and_then(|d| now.checked_add_signed(d))
        .unwrap_or(now)
}

/// Refuses content with U+0000 in a text, as Postgres does.
pub(super) fn refuse_nul(content: &impl Serialize) -> Result<(), EventStoreError> {
    let json =
        serde_json::to_string(content).map_err(|error| EventStoreError::Data(Box::new(error)))?;
    nul::refuse_nul(&json)
}

pub(super) fn seconds(delta: TimeDelta) -> f64 {
    delta
        .to_std()
        .map_or(0.0, |duration| duration.as_secs_f64())
}
