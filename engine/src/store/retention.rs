//! Retention: what operators delete, and what they move from the log into a file.
//!
//! An archived task keeps a row (its last state) and the events that somebody reads who reads the
//! whole log: projections, goals and annotator models come to the same, live and rebuilt. The rest
//! of its history is in the archive alone.

use std::collections::{BTreeMap, HashMap};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    batch::TaskRow,
    commands::{CommandRow, RecordedOutcome},
    error::EventStoreError,
    workflows::hex,
};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::{
    events::WorkflowEvent,
    ids::StepId,
    state::{AnnotationData, Visit},
};
use crate::{
    events::{EventMetadata, StateRebuilder, StoredEvent, UpcastError, upcast},
    ids::{CommandId, TaskId},
    state::{Draft, StateTransitionError, WorkflowSnapshot},
};

/// The types of events that stay in the log when their task is archived: those that projections,
/// goals and annotator models learn from, and those that say on which revision a task is and whose
/// child. The first and the last event of a task stay too, so the end of a stream and of the log can
/// be told.
pub const KEPT_EVENTS: [&str; 13] = [
    "workflow_started",
    "task_details_supplied",
    "annotation_submitted",
    "consensus_calculated",
    "gold_scored",
    "step_completed",
    "step_failed",
    "step_skipped",
    "step_withdrawn",
    "workflow_migrated",
    "workflow_completed",
    "workflow_failed",
    "workflow_cancelled",
];

/// What is of no further use, and may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// Snapshots of a task that are older than its newest one.
    Snapshots,
    /// Drafts of tasks that have ended.
    Drafts,
    /// Payloads of rejected commands that are marked as exported.
    RejectedPayloads,
}

/// What was found on a page of leftovers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftoverPage {
    /// Rows; payloads of [`Leftover::RejectedPayloads`].
    pub rows: u64,
    /// Bytes of their content, as the database keeps it.
    pub bytes: u64,
    /// Where the next page begins; none on the last page.
    pub next_after: Option<Uuid>,
}

/// An event with all its columns, its JSON as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WholeEvent {
    /// Its position in the stream.
    pub version: u64,
    /// Its id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Its content.
    pub event_data: Box<RawValue>,
    /// What caused it.
    pub metadata: Box<RawValue>,
    /// When it was decided.
    pub occurred_at: DateTime<Utc>,
    /// What its transaction has added to the log; 0 in a store that has no batches.
    pub batch: i64,
    /// Its position in the log, with the batch.
    pub position: i64,
}

impl WholeEvent {
    /// The event, of any schema version.
    pub(super) fn read(&self, task_id: TaskId) -> Result<StoredEvent, UpcastError> {
        let content = |source| UpcastError::Content {
            event_type: self.event_type.clone(),
            source,
        };
        let metadata: EventMetadata = serde_json::from_str(self.metadata.get()).map_err(content)?;
        Ok(StoredEvent {
            event_id: self.event_id,
            task_id,
            version: self.version,
            occurred_at: self.occurred_at,
            event: upcast(
                &self.event_type,
                metadata.schema_version,
                self.event_data.get(),
            )?,
            metadata,
        })
    }

    /// Where the event is: what tells whether two events are the same one.
    pub(super) fn place(&self) -> (u64, EventPlace) {
        let place = EventPlace {
            event_id: self.event_id,
            batch: self.batch,
            position: self.position,
        };
        (self.version, place)
    }
}

/// An event's id and its position in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventPlace {
    pub(super) event_id: Uuid,
    pub(super) batch: i64,
    pub(super) position: i64,
}

/// A row of the inbox with all its columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WholeCommand {
    /// The idempotency key.
    pub command_id: CommandId,
    /// The command's type.
    #[serde(rename = "type")]
    pub command_type: String,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: RecordedOutcome,
    /// SHA-256 of the command as read, in hexadecimal digits.
    pub content_hash: String,
    /// The command as read, where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

impl From<CommandRow> for WholeCommand {
    fn from(row: CommandRow) -> Self {
        Self {
            command_id: row.command_id,
            command_type: row.command_type,
            outcome: row.outcome,
            content_hash: hex(&row.content_hash),
            payload: row.payload,
            decided_at: row.decided_at,
        }
    }
}

impl WholeCommand {
    /// The hash; none if it is not written as one.
    pub(super) fn hash(&self) -> Option<[u8; 32]> {
        let digits = self.content_hash.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.map(byte).collect();
        bytes?.try_into().ok()
    }
}

/// Everything that a store holds of one task and that its archive takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WholeTask {
    /// Its row.
    pub task: TaskRow,
    /// Its events, oldest first.
    pub events: Vec<WholeEvent>,
    /// Its commands: those that caused its events, and those that were rejected.
    pub commands: Vec<WholeCommand>,
    /// Drafts that people have saved.
    pub drafts: Vec<Draft>,
}

/// What is archived does not make up a task.
#[derive(Debug, thiserror::Error)]
pub enum WholeTaskError {
    /// An event is missing or occurs twice.
    #[error("version {wanted} is missing")]
    Gap {
        /// The version that should be there.
        wanted: u64,
    },
    /// An event cannot be read.
    #[error(transparent)]
    Event(#[from] UpcastError),
    /// The events do not follow from each other.
    #[error("its events do not follow from each other")]
    Corrupt(#[from] StateTransitionError),
    /// A command has no readable hash.
    #[error("command {0} has no hash")]
    Hash(CommandId),
    /// The events lead to another state than its row says, or to one that is no end.
    #[error("its events do not lead to what its row says")]
    OtherRow,
}

impl WholeTask {
    /// The last state of the task, folded from all its events.
    ///
    /// # Errors
    ///
    /// The events are not all there, cannot be read, or lead to another row.
    pub fn last_state(&self) -> Result<WorkflowSnapshot, WholeTaskError> {
        let mut rebuilder = StateRebuilder::new();
        for (event, wanted) in self.events.iter().zip(1..) {
            if event.version != wanted {
                return Err(WholeTaskError::Gap { wanted });
            }
            rebuilder.apply(&event.read(self.task.task_id)?)?;
        }
        let state = rebuilder
            .finish()
            .ok_or(WholeTaskError::Gap { wanted: 1 })?;
        if let Some(bad) = self.commands.iter().find(|one| one.hash().is_none()) {
            return Err(WholeTaskError::Hash(bad.command_id));
        }
        if state.status.is_final() && TaskRow::from(&state) == self.task {
            Ok(state)
        } else {
            Err(WholeTaskError::OtherRow)
        }
    }

    /// The versions of the events that leave the log when the task is archived.
    pub fn leaving(&self) -> Vec<u64> {
        let last = self.task.version;
        let leaves = |event: &&WholeEvent| {
            let stays = KEPT_EVENTS.contains(&&*event.event_type);
            !stays && event.version != 1 && event.version != last
        };
        let leaving = self.events.iter().filter(leaves);
        leaving.map(|event| event.version).collect()
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn command_ids(&self) -> Vec<Uuid> {
        let commands = self.commands.iter();
        commands.map(|command| command.command_id.0).collect()
    }

    /// Whether events that are in a store are events of this task, in the same places.
    pub(super) fn has(&self, found: impl IntoIterator<Item = (u64, EventPlace)>) -> bool {
        let own: BTreeMap<_, _> = self.events.iter().map(WholeEvent::place).collect();
        found
            .into_iter()
            .all(|(version, place)| own.get(&version) == Some(&place))
    }
}

/// A task that is to be archived, with the state that it leaves.
#[derive(Clone, Debug)]
pub struct ToArchive {
    /// The task, as it was written to the archive.
    pub whole: WholeTask,
    /// Its last state.
    pub state: WorkflowSnapshot,
}

impl ToArchive {
    /// What its row is to keep.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn last_state(&self) -> Result<LastState, EventStoreError> {
        let leaving = self.whole.leaving();
        let stay = self.whole.events.iter();
        let stay = stay.filter(|event| !leaving.contains(&event.version));
        let stay = stay.map(|event| event.read(self.state.task_id));
        let stay = stay.collect::<Result<Vec<_>, _>>();
        let stay = stay.map_err(|error| EventStoreError::Data(error.into()))?;
        Ok(LastState::without(&self.state, &stay))
    }
}

/// The last state of an archived task, without what the events that stay in the log say too: else most
/// of it would be stored twice.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LastState {
    state: WorkflowSnapshot,
    /// Whether annotations, results, input and output are in the events. They are not where a migration
    /// has renamed steps, say; the state is then whole.
    in_events: bool,
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl LastState {
    fn without(state: &WorkflowSnapshot, events: &[StoredEvent]) -> Self {
        let mut bare = state.clone();
        let annotations = annotations(events);
        for (step_id, step) in &mut bare.steps {
            for visit in &mut step.visits {
                if annotations.get(&(step_id, visit.number)) == Some(&visit.annotations) {
                    visit.annotations = Vec::new();
                }
                visit.result = None;
            }
        }
        (bare.input, bare.output) = (None, None);
        let mut filled = bare.clone();
        fill(&mut filled, events);
        let in_events = filled == *state;
        Self {
            state: if in_events { bare } else { state.clone() },
            in_events,
        }
    }

    /// The state, with what the events that stayed say.
    pub(super) fn whole(self, events: &[StoredEvent], at: DateTime<Utc>) -> WorkflowSnapshot {
        let mut state = self.state;
        if self.in_events {
            fill(&mut state, events);
        }
        state.archived_at(at)
    }
}

/// The annotations of each visit, in order.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn annotations(events: &[StoredEvent]) -> HashMap<(&StepId, u32), Vec<Arc<AnnotationData>>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for event in events {
        if let WorkflowEvent::AnnotationSubmitted {
            step_id,
            visit,
            annotation,
            ..
        } = &event.event
        {
            let of_visit = found.entry((step_id, *visit)).or_default();
            of_visit.push(Arc::clone(annotation));
        }
    }
    found
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is left out of a last state comes with these events alone"
)]
fn fill(state: &mut WorkflowSnapshot, events: &[StoredEvent]) {
    for ((step, number), annotations) in annotations(events) {
        if let Some(visit) = visit_of(state, step, number)
            && visit.annotations.is_empty()
        {
            visit.annotations = annotations;
        }
    }
    for event in events {
        match &event.event {
            WorkflowEvent::WorkflowStarted(started) => state.input.clone_from(&started.input),
            WorkflowEvent::TaskDetailsSupplied { input, .. } => {
                state.input = state.input.take().or_else(|| input.clone());
            }
            WorkflowEvent::StepCompleted {
                step_id,
                visit,
                result,
                ..
            } => {
                if let Some(visit) = visit_of(state, step_id, *visit) {
                    visit.result = Some(result.clone());
                }
            }
            WorkflowEvent::WorkflowCompleted { output } => state.output = Some(output.clone()),
            _ => {}
        }
    }
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
fn visit_of<'s>(
    state: &'s mut WorkflowSnapshot,
    step: &StepId,
    number: u32,
) -> Option<&'s mut Visit> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    state.steps.get_mut(step)?.visits.get_mut(index)
}

/// What became of a task that an archive brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroughtBack {
    /// It was archived and is whole again.
    Restored,
    /// It is whole, and the same: nothing was changed.
    AlreadyWhole,
    /// There is no such task.
    NotThere,
    /// A task of that id is there, and its events are not those of the archive.
    Another,
}

/// Deletes what is of no further use, archives tasks and brings them back. Everything that deletes is
/// for the owner of the tables; the account of a worker cannot do it.
///
/// All of it may be interrupted anywhere and run again, while workers are at work.
#[async_trait]
pub trait Retention: Send + Sync {
    /// Fails with [`UnsuitableServer::NotOwner`](super::UnsuitableServer::NotOwner) unless the
    /// account may delete.
    async fn check_owner(&self) -> Result<(), EventStoreError>;

    /// Looks at the next `limit` rows, by task (or command) id, and counts the leftovers among them;
    /// deletes them if `delete`.
    async fn leftovers(
        &self,
        kind: Leftover,
        after: Option<Uuid>,
        limit: u32,
        delete: bool,
    ) -> Result<LeftoverPage, EventStoreError>;

    /// Tasks whose last event happened before a time, by id: those that have ended, have no timers
    /// and no message on its way, and are not archived.
    async fn archivable(
        &self,
        before: DateTime<Utc>,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError>;

    /// Everything of one task.
    async fn whole_task(&self, task: TaskId) -> Result<Option<WholeTask>, EventStoreError>;

    /// Archives tasks in one transaction: keeps their last states and the events of
    /// [`KEPT_EVENTS`], and deletes the other events, the commands, snapshots and drafts. Rejected
    /// commands with a payload that was not exported stay. A task that has moved since it was read,
    /// or at which somebody is at work, is left as it is. Returns those that were archived.
    async fn archive(&self, tasks: &[ToArchive]) -> Result<Vec<TaskId>, EventStoreError>;

    /// Brings one task back, whole: events in their places in the log, commands and drafts.
    async fn bring_back(&self, task: &WholeTask) -> Result<BroughtBack, EventStoreError>;

    /// Those of these tasks that are archived, and since when.
    async fn archived(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, DateTime<Utc>>, EventStoreError>;
}
