//! The transaction of a batch: the streams that it locks, and everything that it writes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
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
    outbox::{NewOutboxRow, OutboxRow, PublisherId},
    timers::Timer,
};
use crate::{
    events::{LogPosition, StoredEvent},
    ids::{CommandId, RevisionId, StepId, TaskId, UserId, WorkflowId},
    state::{Draft, SlotsChange, TaskStatus, WorkflowPause, WorkflowSnapshot},
};

/// What a batch touches.
#[derive(Clone, Debug, Default)]
pub struct OpenRequest {
    /// The streams, each once, with the version the caller already holds (0 for none).
    /// Everything after that version is read under the lock.
    pub tasks: HashMap<TaskId, u64>,
    /// The command ids, looked up under the lock.
    pub commands: Vec<CommandId>,
    /// Who will publish what this batch writes; `None` leaves it to the relay.
    pub publisher: Option<PublisherId>,
    /// For whom a slot is claimed.
    pub claimant: Option<Claimant>,
}

/// Whoever claims a slot: claims of one person run one at a time, and what the person holds is
/// read under that lock.
#[derive(Clone, Copy, Debug)]
pub struct Claimant {
    /// The person.
    pub user_id: UserId,
    /// Whether to wait for a stream that somebody else is just writing to. If not, such a stream
    /// may be answered as if it did not exist: there are others to claim.
    pub waits: bool,
}

/// One locked stream.
#[derive(Clone, Debug, Default)]
pub struct OpenedTask {
    /// A snapshot, where the caller held nothing and there is one.
    pub snapshot: Option<WorkflowSnapshot>,
    /// The events after the snapshot, or after the version the caller held.
    pub tail: Vec<StoredEvent>,
    /// The version of the stream; 0 where it does not exist.
    pub version: u64,
    /// Whether older messages of the task wait for another publisher; if so, the new ones go to
    /// the relay, behind them.
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
    /// Where it is as a whole.
    pub status: TaskStatus,
    /// The steps where it stands, sorted by id.
    pub current_steps: Vec<StepId>,
    /// Key-value pairs for search.
    pub labels: BTreeMap<String, String>,
    /// Incidents that hold it.
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

/// A state at a version, with what proves it whole.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRow {
    /// The task.
    pub task_id: TaskId,
    /// The version.
    pub version: u64,
    /// The state.
    pub state: WorkflowSnapshot,
}

/// The form in which snapshots are written; one of any other form is passed over.
pub const SNAPSHOT_SCHEMA_VERSION: u16 = 1;

/// Everything that a batch writes for one task, in one transaction with its neighbours.
#[derive(Clone, Debug)]
pub struct TaskWrite {
    /// The stream.
    pub task_id: TaskId,
    /// The version that was decided on; compared again where the row is set.
    pub expected_version: u64,
    /// New events, in order of version; may be empty.
    pub events: Vec<StoredEvent>,
    /// The search row after them; none where there are no new events.
    pub task: Option<TaskRow>,
    /// Inbox rows.
    pub commands: Vec<CommandRecord>,
    /// Messages, in order.
    pub outbox: Vec<NewOutboxRow>,
    /// FireTimer work to write or to move.
    pub timers_set: Vec<Timer>,
    /// FireTimer work to delete.
    pub timers_unset: Vec<Uuid>,
    /// Free and claimed slots that have changed.
    pub slots: SlotsChange,
    /// Drafts to keep.
    pub drafts: Vec<Draft>,
    /// A snapshot, where one is due.
    pub snapshot: Option<SnapshotRow>,
}

impl TaskWrite {
    /// Checks it against the version of the head that is locked, before anything is written:
    /// versions follow the head without a gap, the search row is there exactly where there are
    /// events, and no command id comes twice. What this finds is a bug of the caller.
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
    /// Begins the transaction of a batch: locks the heads of all its streams in id order (a head
    /// is made for a stream that has none yet), then reads, under the lock, what lies after the
    /// versions that the caller holds, and which command ids are known.
    async fn open(&self, request: OpenRequest) -> Result<OpenBatch, EventStoreError>;

    /// The states of tasks, without a lock; tasks without events are left out.
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

    /// Events of all streams in the order of the log, after a position and below the point where
    /// an open transaction could still write: nothing is ever skipped.
    async fn read_log(
        &self,
        after: LogPosition,
        limit: u32,
    ) -> Result<Vec<LogEntry>, EventStoreError>;
}

/// The open transaction of a batch, with what was read under its locks. Dropping it without
/// [`commit`](Self::commit) writes nothing.
pub struct OpenBatch {
    /// The store's clock at the lock, in whole microseconds: the `now` of every decision.
    pub now: DateTime<Utc>,
    /// What was read of each stream of the request.
    pub tasks: HashMap<TaskId, OpenedTask>,
    /// What the inbox knows of the commands of the request.
    pub known: HashMap<CommandId, CommandRow>,
    /// Pauses of workflows, read under the locks: all that have not been recorded as ended, and
    /// those that ended after the task of the batch that has rested longest did something last.
    pub pauses: Vec<WorkflowPause>,
    /// How many slots the claimant named in [`OpenRequest`] holds; 0 where none was named.
    pub claimed_by_claimant: u32,
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
    /// Takes what was read of a stream; every task of the request is there.
    pub fn take_task(&mut self, task: TaskId) -> OpenedTask {
        self.tasks.remove(&task).unwrap_or_default()
    }

    /// What the inbox knows of a command.
    pub fn known(&self, command: CommandId) -> Option<&CommandRow> {
        self.known.get(&command)
    }

    /// Writes everything and commits, as [`BatchTx::commit`] says.
    pub async fn commit(self, writes: Vec<TaskWrite>) -> Result<Vec<OutboxRow>, EventStoreError> {
        self.tx.commit(writes).await
    }
}

/// The transaction of an [`OpenBatch`]: it holds the locks until it is committed or dropped.
#[async_trait]
pub trait BatchTx: Send {
    /// Writes everything and commits. Answers the outbox rows that the publisher named in
    /// [`OpenRequest`] now holds, in order of writing; rows of a task that is `relay_only` (and
    /// all, where no publisher was named) are left to the relay.
    ///
    /// Runs to its end even if the caller goes away: an abandoned COMMIT has usually happened.
    async fn commit(
        self: Box<Self>,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxRow>, EventStoreError>;
}
