//! Open and claimed slots, derived from the state of a task alone.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TaskStatus, Visit, VisitStatus, WorkflowSnapshot};
use crate::ids::{RevisionId, StepId, TaskId, UserId, WorkflowId};

/// The open and claimed slots of a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slots {
    /// Steps with an open slot.
    pub open: Vec<OpenSlot>,
    /// Claimed slots.
    pub claimed: Vec<ClaimedSlot>,
}

/// A step of a task with an open slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpenSlot {
    /// The task.
    pub task_id: TaskId,
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The revision that the task runs on.
    pub revision_id: RevisionId,
    /// Whether the task is gold: its answer is known.
    pub gold: bool,
    /// Submissions in the visit.
    pub submitted: u32,
    /// Claimed slots in the visit.
    pub reserved: u32,
    /// When the visit began.
    pub waiting_since: DateTime<Utc>,
    /// People who take part in the visit already, or are not offered a slot in it again; sorted.
    pub barred: Vec<UserId>,
    /// People who released a slot in the visit: it is offered to them after all others; sorted.
    pub released: Vec<UserId>,
    /// People who have submitted to the step under review or adjudication, in any visit; sorted.
    #[serde(rename = "judged")]
    pub authors: Vec<UserId>,
}

impl OpenSlot {
    /// How many people have submitted or claimed a slot in the visit.
    pub fn taken(&self) -> u32 {
        self.submitted.saturating_add(self.reserved)
    }
}

/// A slot that a person has claimed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ClaimedSlot {
    /// The person.
    pub user_id: UserId,
    /// The task.
    pub task_id: TaskId,
    /// The step.
    pub step_id: StepId,
}

impl From<&WorkflowSnapshot> for Slots {
    /// Slots of a paused task or step are not open; claimed slots stay claimed.
    fn from(state: &WorkflowSnapshot) -> Self {
        let mut slots = Self::default();
        for (step_id, step) in &state.steps {
            let Some(visit) = step.current().filter(|v| v.status == VisitStatus::Active) else {
                continue;
            };
            slots
                .claimed
                .extend(visit.assignments.iter().map(|claimed| ClaimedSlot {
                    user_id: claimed.user_id,
                    task_id: state.task_id,
                    step_id: step_id.clone(),
                }));
            // The revision defines whether people work on the step; the caller that offers slots
            // checks that.
            let free = visit.free_slots() != Some(0);
            if free
                && visit.is_open()
                && visit.pause.is_none()
                && state.status == TaskStatus::Running
            {
                slots.open.push(open_slot(state, step_id, visit));
            }
        }
        slots
    }
}

/// The writes that turn the slots before a change into those after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotsChange {
    /// Steps whose row is new or has changed.
    pub open_set: Vec<OpenSlot>,
    /// Steps that have no open slot any more.
    pub open_unset: Vec<StepId>,
    /// Slots claimed.
    pub claims_set: Vec<ClaimedSlot>,
    /// Slots no longer claimed.
    pub claims_unset: Vec<ClaimedSlot>,
}

impl Slots {
    /// The change from `before` to `self`.
    pub fn since(self, before: &Self) -> SlotsChange {
        let gone = |step: &StepId| self.open.iter().all(|slot| slot.step_id != *step);
        let steps = before.open.iter().map(|slot| &slot.step_id);
        SlotsChange {
            open_unset: steps.filter(|step| gone(step)).cloned().collect(),
            claims_unset: without(&before.claimed, &self.claimed),
            claims_set: without(&self.claimed, &before.claimed),
            open_set: without(&self.open, &before.open),
        }
    }
}

/// The elements of `all` that are not in `others`.
fn without<T: Clone + PartialEq>(all: &[T], others: &[T]) -> Vec<T> {
    all.iter()
        .filter(|one| !others.contains(one))
        .cloned()
        .collect()
}

impl SlotsChange {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.open_set.is_empty()
            && self.open_unset.is_empty()
            && self.claims_set.is_empty()
            && self.claims_unset.is_empty()
    }
}

fn open_slot(state: &WorkflowSnapshot, step_id: &StepId, visit: &Visit) -> OpenSlot {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let submitters = visit.annotations.iter().map(|given| given.user_id);
    let mut barred: Vec<UserId> = submitters.collect();
    barred.extend(state.excluded_by_work(visit));
    barred.extend(visit.assignments.iter().map(|claimed| claimed.user_id));
    barred.extend(&visit.excluded);
    let mut released = visit.released.clone();
    for people in [&mut barred, &mut released] {
        people.sort_unstable();
        people.dedup();
    }
    OpenSlot {
        task_id: state.task_id,
        step_id: step_id.clone(),
        visit: visit.number,
        workflow: state.workflow.workflow.clone(),
        revision_id: state.workflow.revision_id,
        gold: state.expected.is_some(),
        submitted: count(visit.annotations.len()),
        reserved: count(visit.assignments.len()),
        waiting_since: visit.activated_at,
        barred,
        released,
        authors: state.authors(visit),
    }
}
