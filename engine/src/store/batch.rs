//! The transaction of a batch: the streams it locks and everything it writes.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    commands::{CommandRecord, CommandRow},
    error::EventStoreError,
    log::{EventPage, LogEntry, ReliabilityStore},
    outbox::{NewMessage, OutboxMessage, PublisherId},
    timers::Timer,
};
use crate::{
    events::{LogPosition, StoredEvent},
    ids::{CommandId, LogId, RevisionId, StepId, TaskId, UserId, WorkflowId},
    state::{Draft, SlotsChange, TaskStatus, WorkflowPause, WorkflowSnapshot},
};

/// What a batch touches.
#[derive(Clone, Debug, Default)]
pub struct OpenRequest {
    /// The streams, each once, with the version the caller already has (0 for none). Events after
    /// that version are read under the lock.
    pub tasks: HashMap<TaskId, u64>,
    /// When the last event of those versions was decided, for streams of which the caller has the
    /// state. A server may have lost events that somebody has seen, and have others of the same
    /// versions since: a standby that lacked them has taken over, or a backup was restored. Such a
    /// stream is read from its beginning.
    pub last_decided: HashMap<TaskId, DateTime<Utc>>,
    /// The command ids, looked up under the lock.
    pub commands: Vec<CommandId>,
    /// The publisher of the messages this batch writes; `None` leaves them to the relay.
    pub publisher: Option<PublisherId>,
    /// The person a slot is claimed for. Claims of one person run one at a time, and the person's
    /// claimed slots are counted under that lock.
    pub claimant: Option<UserId>,
    /// Workflows on which a task may start that is numbered, and up to which number. Their started
    /// tasks are counted; other batches that ask the same wait until this one has ended.
    pub counted: BTreeMap<WorkflowId, u32>,
    /// What to do where another transaction has locked a stream.
    pub on_locked: OnLocked,
}

/// What a batch does where another transaction has locked the head of one of its streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLocked {
    /// Waits for it, as long as the store does.
    #[default]
    Wait,
    /// Waits for it so long at the most, and then fails as [`SplitReason::Blocked`](super::SplitReason::Blocked).
    WaitAtMost(Duration),
    /// Opens the other streams only, and names this one in [`OpenBatch::passed_over`].
    PassOver {
        /// How long to wait for other locks than those of streams, at the most.
        others: Option<Duration>,
    },
}

impl OnLocked {
    /// The longest wait for a lock; `None` leaves it to the store.
    pub(super) fn wait(self) -> Option<Duration> {
        match self {
            Self::Wait => None,
            Self::WaitAtMost(wait) => Some(wait),
            Self::PassOver { others } => others,
        }
    }

    /// Whether locked streams are passed over.
    pub(super) fn passes_over(self) -> bool {
        matches!(self, Self::PassOver { .. })
    }
}

impl OpenRequest {
    /// What has to be read of a stream with this head.
    pub(super) fn to_read(&self, task: TaskId, head: HeadOfStream) -> ToRead {
        // The caller's state of an archived task may be from before.
        if head.archived {
            return ToRead::All;
        }
        let claimed = self.tasks.get(&task).copied().unwrap_or_default();
        let Some(seen) = self.last_decided.get(&task).filter(|_| claimed > 0) else {
            return match head.version {
                version if version <= claimed => ToRead::Nothing,
                _ if claimed == 0 => ToRead::All,
                _ => ToRead::After(claimed),
            };
        };
        match head.version.cmp(&claimed) {
            Ordering::Greater => ToRead::AfterIfSame(claimed, *seen),
            Ordering::Equal if head.decided.is_some_and(|at| is_same(at, *seen)) => ToRead::Nothing,
            Ordering::Equal | Ordering::Less => ToRead::AllAnew,
        }
    }
}

/// The head of a locked stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadOfStream {
    /// Its version; 0 if it does not exist.
    pub(super) version: u64,
    /// When its last event was decided.
    pub(super) decided: Option<DateTime<Utc>>,
    /// Whether the task is archived.
    pub(super) archived: bool,
}

/// What has to be read of a locked stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToRead {
    /// The caller has its state.
    Nothing,
    /// From its snapshot on.
    All,
    /// The same, because the caller's state is of events that are no longer there.
    AllAnew,
    /// The events after a version.
    After(u64),
    /// The same, if the event of that version was decided at that time; if not, [`Self::AllAnew`].
    AfterIfSame(u64, DateTime<Utc>),
}

impl ToRead {
    /// The version after which events are read, where they are not read from the snapshot on.
    pub(super) fn after(self) -> Option<u64> {
        match self {
            Self::Nothing | Self::All | Self::AllAnew => None,
            Self::After(version) => Some(version),
            // With the last one that the caller has seen.
            Self::AfterIfSame(version, _) => Some(version - 1),
        }
    }

    /// Takes from the events that were read the one that was only read to be compared. False if it
    /// is another one.
    pub(super) fn compare(self, tail: &mut Vec<StoredEvent>) -> bool {
        let Self::AfterIfSame(version, at) = self else {
            return true;
        };
        let is_last =
            |event: &StoredEvent| event.version == version && is_same(event.occurred_at, at);
        let same = tail.first().is_some_and(is_last);
        if same {
            tail.remove(0);
        }
        same
    }
}

/// Not every store keeps more than microseconds.
fn is_same(one: DateTime<Utc>, other: DateTime<Utc>) -> bool {
    one.timestamp_micros() == other.timestamp_micros()
}

/// One locked stream.
#[derive(Clone, Debug, Default)]
pub struct OpenedTask {
    /// Whether the caller's state is of events that are no longer there, and counts for nothing:
    /// snapshot and tail are the whole stream.
    pub anew: bool,
    /// A snapshot, if the whole stream was read and a snapshot exists.
    pub snapshot: Option<WorkflowSnapshot>,
    /// The events after the snapshot, or after the caller's version.
    pub tail: Vec<StoredEvent>,
    /// The version of the stream; 0 if it does not exist.
    pub version: u64,
    /// Whether older messages of the task wait for another publisher. If so, the new messages go to
    /// the relay, behind the older ones.
    pub relay_only: bool,
}

/// The search row of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskRow {
    /// The task.
    pub task_id: TaskId,
    /// The workflow's id.
    pub workflow: WorkflowId,
    /// The revision's number.
    pub revision: u32,
    /// The revision's UUID.
    #[serde(rename = "workflow_id")]
    pub revision_id: RevisionId,
    /// The version of its stream.
    pub version: u64,
    /// The status of the task as a whole.
    pub status: TaskStatus,
    /// The active steps, sorted by id.
    pub current_steps: Vec<StepId>,
    /// Key-value pairs for search.
    pub labels: BTreeMap<String, String>,
    /// The number of open incidents.
    pub incidents: u32,
    /// When its first event happened.
    pub started_at: DateTime<Utc>,
    /// When its last event happened.
    pub updated_at: DateTime<Utc>,
}

impl From<&WorkflowSnapshot> for TaskRow {
    fn from(state: &WorkflowSnapshot) -> Self {
        Self {
            task_id: state.task_id,
            workflow: state.workflow.workflow.clone(),
            revision: state.workflow.revision,
            revision_id: state.workflow.revision_id,
            version: state.version,
            status: state.status,
            current_steps: state.current_steps(),
            labels: state.labels.clone(),
            incidents: u32::try_from(state.incidents.len()).unwrap_or(u32::MAX),
            started_at: state.started_at,
            updated_at: state.updated_at,
        }
    }
}

/// A state at a version, stored with a checksum.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRow {
    /// The task.
    pub task_id: TaskId,
    /// The version.
    pub version: u64,
    /// The state.
    pub state: WorkflowSnapshot,
}

/// The schema version of snapshots this build writes; snapshots of any other version are ignored.
pub const SNAPSHOT_SCHEMA_VERSION: u16 = 1;

/// Everything a batch writes for one task, in the same transaction as the other tasks of the batch.
#[derive(Clone, Debug)]
pub struct TaskWrite {
    /// The stream.
    pub task_id: TaskId,
    /// The version the decision was based on; checked again when the row is updated.
    pub expected_version: u64,
    /// New events, ordered by version; may be empty.
    pub events: Vec<StoredEvent>,
    /// The search row after the new events; `None` if there are none.
    pub task: Option<TaskRow>,
    /// Inbox rows.
    pub commands: Vec<CommandRecord>,
    /// Messages, in order.
    pub outbox: Vec<NewMessage>,
    /// Timers to write or to move.
    pub timers_set: Vec<Timer>,
    /// Timers to delete.
    pub timers_unset: Vec<Uuid>,
    /// Open and claimed slots that have changed.
    pub slots: SlotsChange,
    /// Drafts to keep.
    pub drafts: Vec<Draft>,
    /// A snapshot, if it is time for one.
    pub snapshot: Option<SnapshotRow>,
}

impl TaskWrite {
    /// Checks the write against the version of the locked head, before anything is written: event
    /// versions follow the head without a gap, the search row is present exactly if there are
    /// events, messages of events are in their order, and no command id occurs twice. A failed
    /// check is a bug in the caller.
    pub(super) fn check(
        &self,
        head: u64,
        mut is_new: impl FnMut(CommandId) -> bool,
    ) -> Result<(), EventStoreError> {
        let conflict = |expected| {
            Err(EventStoreError::VersionConflict {
                task_id: self.task_id,
                expected,
                actual: head,
            })
        };
        if self.expected_version != head {
            return conflict(self.expected_version);
        }
        let mut version = head;
        for event in &self.events {
            if event.version != version + 1 || event.task_id != self.task_id {
                return conflict(event.version.saturating_sub(1));
            }
            version = event.version;
        }
        let row_version = self.task.as_ref().map_or(head, |task| task.version);
        if row_version != version || self.events.is_empty() != self.task.is_none() {
            return conflict(row_version);
        }
        let mut told = head;
        for message in &self.outbox {
            let Some(of_event) = message.version else {
                continue;
            };
            if of_event <= told || of_event > version || message.task_id != Some(self.task_id) {
                return conflict(of_event.saturating_sub(1));
            }
            told = of_event;
        }
        if self
            .commands
            .iter()
            .all(|command| is_new(command.command_id))
        {
            Ok(())
        } else {
            conflict(head)
        }
    }
}

/// Streams of events.
#[async_trait]
pub trait EventStore: ReliabilityStore + Send + Sync {
    /// Begins the transaction of a batch. Locks the heads of all its streams that have one, in id
    /// order, as [`OnLocked`] says. Then reads, under the lock, the events after the caller's versions
    /// and the command ids that are already known.
    async fn open(&self, request: OpenRequest) -> Result<OpenBatch, EventStoreError>;

    /// Whether the store answers on another connection than those at work.
    async fn ping(&self) -> Result<(), EventStoreError>;

    /// The states of tasks, read without a lock; tasks without events are omitted.
    async fn load(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError>;

    /// Events of one stream after a version, oldest first.
    async fn events(
        &self,
        task: TaskId,
        after: u64,
        limit: u32,
    ) -> Result<EventPage, EventStoreError>;

    /// Events of all streams after a position, in the order of the log: none is ever skipped. At
    /// most `limit`, and fewer where they are large; none at the end of the log only.
    async fn read_log(
        &self,
        after: LogPosition,
        limit: u32,
    ) -> Result<Vec<LogEntry>, EventStoreError>;
}

/// The open transaction of a batch, with everything read under its locks. Dropping it without
/// [`commit`](Self::commit) writes nothing.
pub struct OpenBatch {
    /// The store's clock, read under the lock, in whole microseconds: the `now` of every decision.
    pub now: DateTime<Utc>,
    /// The log to which the events of the batch will belong.
    pub log: LogId,
    /// What was read for each stream of the request.
    pub tasks: HashMap<TaskId, OpenedTask>,
    /// The streams that another transaction has locked, where the request passes over them. Nothing
    /// of them was read, and nothing may be written to them.
    pub passed_over: HashSet<TaskId>,
    /// The inbox rows of the request's commands that are already known.
    pub known: HashMap<CommandId, CommandRow>,
    /// Pauses of workflows, read under the locks: every pause not recorded as ended, and every
    /// pause that ended after the last event of the batch's least recently active task.
    pub pauses: Vec<WorkflowPause>,
    /// How many slots the claimant of [`OpenRequest`] has claimed; 0 if there is no claimant.
    pub claimed_by_claimant: u32,
    /// How many tasks have started on each workflow that is counted; no more than the number up to
    /// which the request asked.
    pub started: BTreeMap<WorkflowId, u32>,
    /// Holds the locks.
    pub tx: Box<dyn BatchTx>,
}

impl fmt::Debug for OpenBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBatch")
            .field("now", &self.now)
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl OpenBatch {
    /// Takes what was read for a stream; every task of the request is present.
    pub fn take_task(&mut self, task: TaskId) -> OpenedTask {
        self.tasks.remove(&task).unwrap_or_default()
    }

    /// The inbox row of a command, if it is known.
    pub fn known(&self, command: CommandId) -> Option<&CommandRow> {
        self.known.get(&command)
    }

    /// Writes everything and commits; see [`BatchTx::commit`].
    pub async fn commit(
        self,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxMessage>, EventStoreError> {
        self.tx.commit(writes).await
    }
}

/// The transaction of an [`OpenBatch`]: it holds the locks until it is committed or dropped.
#[async_trait]
pub trait BatchTx: Send {
    /// Writes everything and commits. Returns the messages whose rows are now leased to the
    /// publisher of [`OpenRequest`], in the order of writing. Those of a task that is `relay_only`,
    /// and all if there is no publisher, are left to the relay.
    ///
    /// Where another batch has started one of the new tasks meanwhile, nothing is written, and the
    /// error is one of [`SplitReason::Conflict`](super::SplitReason::Conflict).
    ///
    /// Runs to its end even if the caller is cancelled: an abandoned COMMIT has usually happened.
    async fn commit(
        self: Box<Self>,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxMessage>, EventStoreError>;
}
