//! What goes into a store and comes out of it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    config::WorkflowConfig,
    events::{LogPosition, StoredEvent},
    ids::{CommandId, RevisionId, Slug, StepId, TaskId, UserId, WorkflowId},
    state::{Draft, PlacesChange, TaskStatus, WorkflowPause, WorkflowSnapshot},
};

/// Who publishes outbox rows: one process (or one life of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublisherId(pub Uuid);

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
    /// For whom a place is claimed.
    pub claimant: Option<Claimant>,
}

/// Whoever claims a place: claims of one person run one at a time, and what the person holds is
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

/// What a command came to, as the inbox keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RecordedOutcome {
    /// Its effect is in the log.
    Applied {
        /// What the caller was told.
        result: Value,
    },
    /// The state or the rules forbade it.
    Rejected {
        /// The code.
        reason: String,
        /// For people.
        detail: String,
    },
}

/// One row of the inbox, to be written.
#[derive(Clone, Debug)]
pub struct CommandRecord {
    /// The idempotency key.
    pub command_id: CommandId,
    /// The task; none for operators' acts on a workflow or goal.
    pub task_id: Option<TaskId>,
    /// The command's type.
    pub command_type: &'static str,
    /// Hash of the command as read.
    pub content_hash: [u8; 32],
    /// What it came to.
    pub outcome: RecordedOutcome,
    /// The command as read, kept where it was rejected and of operators' acts.
    pub payload: Option<Value>,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

/// One row of the inbox, as found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommandRow {
    /// The idempotency key.
    pub command_id: CommandId,
    /// The task.
    pub task_id: Option<TaskId>,
    /// The command's type.
    #[serde(rename = "type")]
    pub command_type: String,
    /// Hash of the command as read.
    #[serde(skip)]
    pub content_hash: [u8; 32],
    /// What it came to.
    #[serde(flatten)]
    pub outcome: RecordedOutcome,
    /// The command as read, kept where it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

impl From<CommandRecord> for CommandRow {
    fn from(record: CommandRecord) -> Self {
        Self {
            command_id: record.command_id,
            task_id: record.task_id,
            command_type: record.command_type.to_owned(),
            content_hash: record.content_hash,
            outcome: record.outcome,
            payload: record.payload,
            decided_at: record.decided_at,
        }
    }
}

/// A pause of one annotator in a workflow, derived from acts: no place is offered to the person
/// meanwhile. Pauses of one person in one workflow do not overlap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotatorPause {
    /// The act that began it.
    pub pause_id: CommandId,
    /// The workflow, in all its revisions.
    pub workflow: WorkflowId,
    /// Who.
    pub user_id: UserId,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether a rule of the workflow began it, and so may end it.
    pub by_rule: bool,
    /// When it began.
    pub since: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether an operator ended it: answers from before count no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub judged_anew: bool,
}

impl AnnotatorPause {
    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.ended_at.is_none()
    }

    /// What tells which of two began later.
    pub(crate) fn age(&self) -> (DateTime<Utc>, CommandId) {
        (self.since, self.pause_id)
    }
}

/// Pauses that follow from acts, each kind in the order in which they are to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pauses {
    /// Of whole workflows.
    pub workflows: Vec<WorkflowPause>,
    /// Of annotators.
    pub annotators: Vec<AnnotatorPause>,
}

/// Whom or what an operator's act is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActSubject {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The annotator, where it is about one.
    pub user_id: Option<UserId>,
}

/// What an operator's act is decided on, read under the lock of all acts.
#[derive(Clone, Debug)]
pub struct ActFacts {
    /// The store's clock.
    pub now: DateTime<Utc>,
    /// The pause of the act's workflow that has not been recorded as ended.
    pub pause: Option<WorkflowPause>,
    /// The newest pause of the act's annotator in that workflow, whether or not it has ended.
    pub annotator: Option<AnnotatorPause>,
}

/// Everything that an operator's act writes, in one transaction.
#[derive(Clone, Debug)]
pub struct ActWrite {
    /// Its row of the inbox, without a task and with its payload.
    pub record: CommandRecord,
    /// Pauses to write or to change.
    pub pauses: Pauses,
    /// Messages that it causes.
    pub messages: Vec<NewOutboxRow>,
}

/// Decides an operator's act on what was read under the lock.
pub type ActDecision = Box<dyn FnOnce(ActFacts) -> ActWrite + Send>;

/// An act that is ready to be decided.
pub struct PlannedAct {
    /// Its idempotency key.
    pub id: CommandId,
    /// Whom or what it is about.
    pub subject: ActSubject,
    /// Decides it.
    pub decide: ActDecision,
}

impl fmt::Debug for PlannedAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedAct")
            .field("id", &self.id)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// Finds the pauses from all applied acts, oldest first.
pub type DerivePauses = fn(&[CommandRow]) -> Pauses;

/// A message to be published, written with the events that cause it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewOutboxRow {
    /// The message's id: the event's, or derived from what caused it.
    pub message_id: Uuid,
    /// The task whose order it keeps.
    pub task_id: Option<TaskId>,
    /// The routing key without prefix, as `step.completed.sentiment-dual.annotate`.
    pub routing_key: String,
    /// The message's kind, as `step.completed`.
    pub message_type: &'static str,
    /// The whole body.
    pub body: Arc<str>,
}

/// A message that waits to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// Its place: within a task, ascending positions are ascending versions.
    pub position: i64,
    /// The message's id.
    pub message_id: Uuid,
    /// The task whose order it keeps.
    pub task_id: Option<TaskId>,
    /// The routing key without prefix.
    pub routing_key: String,
    /// The message's kind.
    pub message_type: String,
    /// The whole body.
    pub body: Arc<str>,
    /// Failed attempts so far.
    pub attempts: i32,
}

/// State of the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OutboxStats {
    /// Rows that wait.
    pub pending: i64,
    /// Age of the oldest, in seconds; 0 where there is none.
    pub oldest_seconds: f64,
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

/// The kinds of due work.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DueKind {
    /// A claimed place is given up unless its holder was active.
    AssignmentTimeout,
    /// A paused task goes on.
    Resume,
    /// A join goes on with the branches that have arrived.
    JoinTimeout,
    /// A handler outside is called.
    HandlerCall,
    /// A child task begins.
    ChildStart,
    /// A child task waits with its parent.
    ChildPause,
    /// A child task goes on with its parent.
    ChildResume,
    /// A child task that nobody waits for any more ends.
    ChildCancel,
    /// A parent learns how its child ended.
    ChildReport,
    /// A step whose child ended while the task could not go on does so.
    ChildEnded,
    /// A job that went unanswered is published again, or given up.
    JobTimeout,
}

/// How due work is run: calls that may take a minute never hold up what is due beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueLane {
    /// Decisions, at most with a command to another task before them.
    Decisions,
    /// Calls to the world outside.
    Calls,
}

impl DueKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::AssignmentTimeout,
        Self::Resume,
        Self::JoinTimeout,
        Self::HandlerCall,
        Self::ChildStart,
        Self::ChildPause,
        Self::ChildResume,
        Self::ChildCancel,
        Self::ChildReport,
        Self::ChildEnded,
        Self::JobTimeout,
    ];

    /// Whether something is to be done, outside any transaction, before a row of this kind is
    /// decided.
    pub fn has_effect(self) -> bool {
        match self {
            Self::AssignmentTimeout
            | Self::Resume
            | Self::JoinTimeout
            | Self::JobTimeout
            | Self::ChildEnded => false,
            Self::HandlerCall
            | Self::ChildStart
            | Self::ChildPause
            | Self::ChildResume
            | Self::ChildCancel
            | Self::ChildReport => true,
        }
    }

    /// Whether it carries something from a parent to a child, or from a child to its parent.
    pub fn is_between_tasks(self) -> bool {
        match self {
            Self::ChildStart
            | Self::ChildPause
            | Self::ChildResume
            | Self::ChildCancel
            | Self::ChildReport => true,
            Self::AssignmentTimeout
            | Self::Resume
            | Self::JoinTimeout
            | Self::HandlerCall
            | Self::JobTimeout
            | Self::ChildEnded => false,
        }
    }

    /// How rows of this kind are run. The stores name the calls in their statements.
    pub fn lane(self) -> DueLane {
        match self {
            Self::AssignmentTimeout
            | Self::Resume
            | Self::JoinTimeout
            | Self::ChildStart
            | Self::ChildPause
            | Self::ChildResume
            | Self::ChildCancel
            | Self::ChildReport
            | Self::ChildEnded
            | Self::JobTimeout => DueLane::Decisions,
            Self::HandlerCall => DueLane::Calls,
        }
    }

    /// The name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AssignmentTimeout => "assignment_timeout",
            Self::Resume => "resume",
            Self::JoinTimeout => "join_timeout",
            Self::HandlerCall => "handler_call",
            Self::ChildStart => "child_start",
            Self::ChildPause => "child_pause",
            Self::ChildResume => "child_resume",
            Self::ChildCancel => "child_cancel",
            Self::ChildReport => "child_report",
            Self::ChildEnded => "child_ended",
            Self::JobTimeout => "job_timeout",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Something that must happen later, derived from a task's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DueRow {
    /// Derived from task, step, visit, kind and number.
    pub id: Uuid,
    /// The task.
    pub task_id: TaskId,
    /// The step.
    pub step_id: Option<StepId>,
    /// The visit.
    pub visit: u32,
    /// What is to happen.
    pub kind: DueKind,
    /// Number within the visit.
    pub n: u32,
    /// When, by the database's clock.
    pub due_at: DateTime<Utc>,
}

/// State of due work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DueStats {
    /// Rows whose time has come.
    pub due: i64,
    /// Rows in all.
    pub total: i64,
}

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
    /// Due work to write or to move.
    pub due_set: Vec<DueRow>,
    /// Due work to delete.
    pub due_unset: Vec<Uuid>,
    /// Free and claimed places that have changed.
    pub places: PlacesChange,
    /// Drafts to keep.
    pub drafts: Vec<Draft>,
    /// A snapshot, where one is due.
    pub snapshot: Option<SnapshotRow>,
}

/// An event in the order of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Its place.
    pub position: LogPosition,
    /// The workflow of its task. A migration changes the revision, never the workflow.
    pub workflow: WorkflowId,
    /// When the first event of its task happened.
    pub started_at: DateTime<Utc>,
    /// The event.
    pub event: StoredEvent,
}

/// Which events of the log are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter {
    /// Those of this workflow's tasks.
    pub workflow: WorkflowId,
    /// Those of these types.
    pub event_types: Vec<&'static str>,
}

/// Some events of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    /// Those asked for with their places, in order.
    pub entries: Vec<(LogPosition, StoredEvent)>,
    /// The last event looked at; the position asked for, where there was none after it.
    pub through: LogPosition,
    /// How many events were looked at.
    pub read: u32,
}

/// A model of annotators at a place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LearntRow {
    /// Derived from what it is about.
    pub model: Uuid,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step_id: StepId,
    /// How far in the log it was learnt.
    pub position: LogPosition,
    /// The model, as JSON.
    pub state: String,
}

/// A page of a task's history.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<StoredEvent>,
    /// The version to go on after; none on the last page.
    pub next_after: Option<u64>,
}

/// What a search asks for.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// The workflow.
    pub workflow: Option<WorkflowId>,
    /// The status.
    pub status: Option<TaskStatus>,
    /// A step that waits.
    pub step: Option<StepId>,
    /// Labels, all of which must match.
    pub labels: BTreeMap<String, String>,
    /// The last task of the page before.
    pub after: Option<TaskId>,
    /// Rows at most; [`PAGE_MAX`](crate::limits::PAGE_MAX) bounds it.
    pub limit: u32,
}

/// A step of a revision in which tasks wait for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenStep {
    /// The revision.
    pub revision_id: RevisionId,
    /// The step.
    pub step_id: StepId,
}

/// Which free places of a step come first; of equals, those that have waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceOrder {
    /// Those of tasks on which the fewest people are or were at work.
    FewestPeople,
    /// Only those of tasks to which somebody has submitted, in the order in which they wait.
    OldestBegun,
}

/// Which free places of a step are asked for.
#[derive(Clone, Debug)]
pub struct PlaceQuery {
    /// The step.
    pub step: OpenStep,
    /// Gold tasks, or the others.
    pub gold: bool,
    /// Who asks: places that the person may not take are left out.
    pub user: UserId,
    /// Whether who has submitted to the judged step is kept from this one.
    pub prevents_reassignment: bool,
    /// Which come first.
    pub order: PlaceOrder,
    /// Places at most.
    pub limit: u32,
}

/// A page of tasks, sorted by id.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRow>,
    /// The task to go on after; none on the last page.
    pub next_after: Option<TaskId>,
}

/// A page of the inbox, newest first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CommandPage {
    /// The rows.
    pub commands: Vec<CommandRow>,
    /// The row to go on after; none on the last page.
    pub next_after: Option<CommandId>,
}

/// A stored revision of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct WorkflowRow {
    /// The revision's UUID.
    pub id: RevisionId,
    /// The workflow's id.
    pub workflow: WorkflowId,
    /// The revision's number, from 1.
    pub revision: u32,
    /// Hash of its content.
    pub content_hash: String,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

/// What a reached goal sets off outside.
#[derive(Clone, Debug, PartialEq)]
pub struct NewGoalAction {
    /// Derived from goal, epoch and action.
    pub id: Uuid,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal.
    pub goal: Slug,
    /// The epoch in which it was reached.
    pub epoch: u32,
    /// What is to be done.
    pub action: String,
    /// All that is needed to do it.
    pub payload: Value,
}

/// Where an action is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalActionStatus {
    /// It waits for its next attempt.
    Waiting,
    /// It is done.
    Done,
    /// It was given up.
    Failed,
}

impl GoalActionStatus {
    /// The name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Done, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}

/// An action with what has become of it.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalActionRow {
    /// What is to be done.
    pub action: NewGoalAction,
    /// Where it is.
    pub status: GoalActionStatus,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// When its status last changed.
    pub changed_at: DateTime<Utc>,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoalActionOutcome {
    /// It is done.
    Done,
    /// It failed and is tried again.
    Retry {
        /// Why.
        error: String,
        /// After how long.
        after: Duration,
    },
    /// It failed and is given up.
    Failed {
        /// Why.
        error: String,
    },
}

/// The rows of a projection, by key: plain JSON, whose form is the projection's own affair.
pub type ProjectionRows = BTreeMap<String, Value>;

/// What a step of a projection writes, in one transaction.
#[derive(Debug, Default)]
pub struct ProjectionWrite {
    /// Rows that changed, by key; none where a row is gone.
    pub rows: BTreeMap<String, Option<Value>>,
    /// Messages; one that waits already is left as it is.
    pub messages: Vec<NewOutboxRow>,
    /// Messages that are sent once for ever, however often the log is read: their ids are kept.
    pub once: Vec<NewOutboxRow>,
    /// What is to be done outside; one that is known already is left as it is.
    pub actions: Vec<NewGoalAction>,
    /// Acts of rules; one that is known already is left as it is.
    pub acts: Vec<PlannedAct>,
}

/// What a rebuild did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RebuildReport {
    /// Streams replayed.
    pub tasks: u64,
    /// Events replayed.
    pub events: u64,
    /// Task rows that differed from the log.
    pub tasks_changed: u64,
    /// Snapshots written, deleted or changed.
    pub snapshots_changed: u64,
    /// Due work written, deleted or changed.
    pub due_changed: u64,
    /// Whether the pauses of workflows differed from operators' acts.
    pub pauses_changed: bool,
    /// Models of annotators learnt anew.
    pub models_learnt: u64,
}

/// The form in which snapshots are written; one of any other form is passed over.
pub const SNAPSHOT_SCHEMA_VERSION: u16 = 1;

/// How long a message belongs to the publisher whose commit wrote it, unless the lease is renewed.
pub const COMMIT_LEASE: Duration = Duration::from_secs(30);

/// The UUID of a revision, the same in every store.
pub fn revision_id(workflow: &WorkflowId, revision: u32) -> RevisionId {
    let name = format!("glyph/workflows/{workflow}@{revision}");
    RevisionId(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()))
}

/// What tells whether two configurations are the same, in hexadecimal.
pub fn content_hash(config: &WorkflowConfig) -> String {
    hex(&crate::parser::content_hash(config))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}
