//! What every store promises. One conformance suite runs against all of them.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    AnnotatorPause, CommandPage, CommandRow, DerivePauses, Draft, DueLane, DueRow, DueStats,
    EventPage, EventStoreError, GoalActionOutcome, GoalActionRow, LearntRow, LogEntry, LogFilter,
    LogPage, LogPosition, NewOutboxRow, OpenRequest, OpenStep, OpenedTask, OutboxRow, OutboxStats,
    PlaceQuery, PlannedAct, ProjectionRows, ProjectionWrite, PublisherId, StorageError, TaskFilter,
    TaskPage, TaskRow, TaskWrite, WorkflowPause, WorkflowRow,
};
use crate::{
    config::WorkflowConfig,
    ids::{CommandId, RevisionId, StepId, TaskId, UserId, WorkflowId, WorkflowSelector},
    state::{HeldPlace, OpenPlace, Places, TaskStatus, WorkflowSnapshot},
};

/// What models of annotators are learnt from, and how far they have come.
#[async_trait]
pub trait ReliabilityStore: Send + Sync {
    /// Looks through at most `limit` events after a position, in the order of the log and as safe
    /// from gaps as [`EventStore::read_log`]; answers those of one workflow and of some types.
    async fn read_workflow_log(
        &self,
        filter: LogFilter,
        after: LogPosition,
        limit: u32,
    ) -> Result<LogPage, EventStoreError>;

    /// A model as it was kept last; none where there is none, or it is not whole.
    async fn learnt(&self, model: Uuid) -> Result<Option<LearntRow>, EventStoreError>;

    /// How far that model had come.
    async fn learnt_position(&self, model: Uuid) -> Result<Option<LogPosition>, EventStoreError>;

    /// Keeps a model, unless one that has come as far or further is kept.
    async fn keep_learnt(&self, row: LearntRow) -> Result<(), EventStoreError>;

    /// Forgets all models: they are learnt anew from the log.
    async fn forget_learnt(&self) -> Result<(), EventStoreError>;
}

/// Streams of events.
#[async_trait]
pub trait EventStore: ReliabilityStore + Send + Sync {
    /// Begins the transaction of a batch: locks the heads of all its streams in id order (a head
    /// is made for a stream that has none yet), then reads, under the lock, what lies after the
    /// versions that the caller holds, and which command ids are known.
    async fn open(&self, request: OpenRequest) -> Result<Box<dyn OpenBatch>, EventStoreError>;

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

/// The open transaction of a batch. Dropping it without `commit` writes nothing.
#[async_trait]
pub trait OpenBatch: Send {
    /// The store's clock at the lock, in whole microseconds: the `now` of every decision.
    fn now(&self) -> DateTime<Utc>;

    /// Takes what was read of a stream; every task of the request is there.
    fn take_task(&mut self, task: TaskId) -> OpenedTask;

    /// What the inbox knows of a command.
    fn known(&self, command: CommandId) -> Option<&CommandRow>;

    /// Pauses of workflows, read under the locks: all that have not been recorded as ended, and
    /// those that ended after the task of the batch that has rested longest did something last.
    fn pauses(&self) -> &[WorkflowPause];

    /// How many places the claimant named in [`OpenRequest`] holds; 0 where none was named.
    fn held_by_claimant(&self) -> u32;

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

/// Messages between commit and confirm.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Writes messages that belong to no task's batch (goals); known ids are left as they are.
    async fn enqueue(&self, rows: Vec<NewOutboxRow>) -> Result<(), EventStoreError>;

    /// Leases rows that nobody holds, or whose holder's lease has run out, to `publisher`: oldest
    /// first, and of one task only what has no older row held by someone else or backing off.
    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, EventStoreError>;

    /// Deletes confirmed rows.
    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError>;

    /// Gives rows back to the relay; where `failed`, counts an attempt and backs off.
    async fn release(
        &self,
        positions: &[i64],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError>;

    /// What `publisher` holds beyond a position, oldest first. So a publisher that got no answer
    /// to a commit or a claim finds out what it was given; else it would hold it for ever, as it
    /// renews its leases.
    async fn held(
        &self,
        publisher: PublisherId,
        after: i64,
    ) -> Result<Vec<OutboxRow>, EventStoreError>;

    /// Prolongs the leases of everything that `publisher` holds.
    async fn renew(&self, publisher: PublisherId, lease: Duration) -> Result<(), EventStoreError>;

    /// How much waits, and for how long.
    async fn outbox_stats(&self) -> Result<OutboxStats, EventStoreError>;

    /// Rows that failed at least once, with the last error, oldest first.
    async fn outbox_failed(&self, limit: u32) -> Result<Vec<(OutboxRow, String)>, EventStoreError>;
}

/// Work whose time has come.
#[async_trait]
pub trait DueQueue: Send + Sync {
    /// Leases rows of one lane whose time has come by the store's clock; a lease that runs out
    /// frees them. Rows of tasks whose workflow is paused stay where they are until it goes on. They
    /// are passed over on every call, which costs a look at each: parking them would spare that and
    /// could lose one that is parked while the workflow is being resumed.
    async fn claim_due(
        &self,
        lane: DueLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<DueRow>, EventStoreError>;

    /// Deletes a row whose command turned out to be settled before (the id is in the inbox).
    async fn drop_due(&self, ids: &[Uuid]) -> Result<(), EventStoreError>;

    /// How much is due.
    async fn due_stats(&self) -> Result<DueStats, EventStoreError>;
}

/// Search over tasks.
#[async_trait]
pub trait TaskIndex: Send + Sync {
    /// One task's row.
    async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, EventStoreError>;

    /// A page of tasks, sorted by id.
    async fn tasks(&self, filter: TaskFilter) -> Result<TaskPage, EventStoreError>;

    /// Tasks by status; every status is there.
    async fn task_counts(&self) -> Result<BTreeMap<TaskStatus, i64>, EventStoreError>;

    /// Seconds that the longest-waiting running task has waited, by the steps it waits in:
    /// workflow, step id, seconds.
    async fn waiting_oldest(&self) -> Result<Vec<(RevisionId, String, f64)>, EventStoreError>;

    /// Drafts of a task, oldest first.
    async fn drafts(&self, task: TaskId) -> Result<Vec<Draft>, EventStoreError>;
}

/// Free places, for those who look for work.
#[async_trait]
pub trait PlaceIndex: Send + Sync {
    /// Steps in which tasks wait for people, sorted; those of paused workflows are left out.
    async fn open_steps(
        &self,
        workflow: Option<&WorkflowId>,
        step: Option<&StepId>,
    ) -> Result<Vec<OpenStep>, EventStoreError>;

    /// Free places of a step that a person may take, in the order that the query names. Read
    /// without a lock, so another person may be faster.
    async fn open_places(&self, query: PlaceQuery) -> Result<Vec<OpenPlace>, EventStoreError>;

    /// Places that a person holds, by task.
    async fn held_places(&self, user: UserId) -> Result<Vec<HeldPlace>, EventStoreError>;
}

/// The inbox, for operators.
#[async_trait]
pub trait CommandLog: Send + Sync {
    /// One command.
    async fn command(&self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError>;

    /// Rejected commands, newest first.
    async fn rejected(
        &self,
        task: Option<TaskId>,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, EventStoreError>;
}

/// What operators do that belongs to no task.
#[async_trait]
pub trait ActLog: Send + Sync {
    /// Decides an act under the lock of all acts and writes what it leads to, unless its id is in
    /// the inbox: then nothing is written. Answers the row that is in the inbox now.
    ///
    /// One lock for all acts: they are rare, and so their times ascend in the order in which they
    /// were committed.
    async fn act(&self, act: PlannedAct) -> Result<CommandRow, EventStoreError>;

    /// All applied acts, oldest first.
    async fn acts(&self) -> Result<Vec<CommandRow>, EventStoreError>;

    /// Pauses of workflows that have not been recorded as ended, by workflow: those that hold now,
    /// then those whose `until` has come.
    async fn workflow_pauses(
        &self,
    ) -> Result<(Vec<WorkflowPause>, Vec<WorkflowPause>), EventStoreError>;

    /// Pauses of one annotator, or of all, the oldest first; those that have ended are among them.
    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError>;

    /// Replaces all pauses by what `derive` makes of all applied acts, under the lock of acts.
    /// Leaves equal rows untouched and answers whether something changed.
    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError>;
}

/// Revisions of workflows.
#[async_trait]
pub trait WorkflowConfigStore: Send + Sync {
    /// Stores a new revision and answers its UUID; content equal to the newest revision answers
    /// that one instead. Concurrent saves of one workflow get distinct numbers.
    async fn save(&self, config: &WorkflowConfig) -> Result<Uuid, StorageError>;

    /// The revision of that UUID.
    async fn load(&self, id: Uuid) -> Result<Option<WorkflowConfig>, StorageError>;

    /// The newest revision of the workflow of that id, never from a cache.
    async fn load_by_name(&self, name: &str) -> Result<Option<WorkflowConfig>, StorageError>;

    /// Which revision each selector means now, never from a cache; unknown ones are left out.
    async fn resolve(
        &self,
        selectors: &[WorkflowSelector],
    ) -> Result<HashMap<WorkflowSelector, RevisionId>, StorageError>;

    /// All revisions, or those of one workflow: by id, newest first.
    async fn revisions(
        &self,
        workflow: Option<&WorkflowId>,
    ) -> Result<Vec<WorkflowRow>, StorageError>;
}

/// What reached goals set off outside: kept for good, each done once.
#[async_trait]
pub trait GoalStore: Send + Sync {
    /// Leases actions whose time has come by the store's clock; a lease that runs out frees them.
    async fn claim_goal_actions(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<GoalActionRow>, EventStoreError>;

    /// Notes what became of an attempt, and frees the action.
    async fn settle_goal_action(
        &self,
        id: Uuid,
        outcome: GoalActionOutcome,
    ) -> Result<(), EventStoreError>;

    /// All actions, by workflow, goal, epoch and action.
    async fn goal_actions(&self) -> Result<Vec<GoalActionRow>, EventStoreError>;
}

/// What is folded from the log: projections, each under a name, with rows of its own by key.
#[async_trait]
pub trait ProjectionStore: Send + Sync {
    /// Begins a step of a projection: takes its lock, and reads its rows and the next events after
    /// its checkpoint, at most `limit`. One process at a time; `None` where another one is at it.
    ///
    /// Between opening and committing, the caller may read from the store and must not write to
    /// it: a store in one file has one writer, and that is the step.
    async fn open_projection(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Option<Box<dyn OpenProjection>>, EventStoreError>;

    /// The rows of a projection, by key.
    async fn projection_rows(&self, name: &str) -> Result<ProjectionRows, EventStoreError>;

    /// Forgets the rows of a projection and its checkpoint. What it has said once stays said.
    async fn reset_projection(&self, name: &str) -> Result<(), EventStoreError>;
}

/// An open step of a projection. Dropping it without `commit` writes nothing.
#[async_trait]
pub trait OpenProjection: Send {
    /// The store's clock when the step was opened.
    fn now(&self) -> DateTime<Utc>;

    /// The time up to which everything is known: whatever was decided, stored or done by then is
    /// in the log up to the end of [`entries`](Self::entries), or can be read from the store.
    /// At most [`now`](Self::now), and before it while transactions are open, or while there are
    /// more events to read.
    fn settled(&self) -> DateTime<Utc>;

    /// The events, in the order of the log.
    fn entries(&self) -> &[LogEntry];

    /// Whether the projection begins with the log.
    fn at_beginning(&self) -> bool;

    /// Takes the rows of the projection, by key.
    fn take_rows(&mut self) -> ProjectionRows;

    /// Writes rows, messages and the checkpoint behind `entries`, and commits.
    async fn commit(self: Box<Self>, write: ProjectionWrite) -> Result<(), EventStoreError>;
}

/// Everything derived, made anew from the log.
#[async_trait]
pub trait Rebuild: Send + Sync {
    /// Ids of streams after `after`, in id order.
    async fn stream_ids(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError>;

    /// Replaces what is derived of one task, under its lock: the search row with its places,
    /// snapshots and due work. Leaves equal rows untouched and answers whether (row or places,
    /// snapshots, due work) changed.
    async fn replace_derived(
        &self,
        task: TaskRow,
        places: Places,
        snapshots: Vec<super::SnapshotRow>,
        due: Vec<DueRow>,
    ) -> Result<(bool, bool, bool), EventStoreError>;
}

/// A whole store.
pub trait Store:
    EventStore
    + Outbox
    + DueQueue
    + TaskIndex
    + PlaceIndex
    + CommandLog
    + ActLog
    + WorkflowConfigStore
    + GoalStore
    + ProjectionStore
    + Rebuild
{
}

impl<T> Store for T where
    T: EventStore
        + Outbox
        + DueQueue
        + TaskIndex
        + PlaceIndex
        + CommandLog
        + ActLog
        + WorkflowConfigStore
        + GoalStore
        + ProjectionStore
        + Rebuild
{
}
