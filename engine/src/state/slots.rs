//! Slots that people can claim, and those that they hold: found from the state of a task alone.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TaskStatus, Visit, VisitStatus, WorkflowSnapshot};
use crate::ids::{RevisionId, StepId, TaskId, UserId, WorkflowId};

/// What people can do and are doing about a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slots {
    /// Steps with a free slot.
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
    /// Whether the answer is known beforehand.
    pub gold: bool,
    /// Submissions in the visit.
    pub submitted: u32,
    /// Claimed slots in the visit.
    pub reserved: u32,
    /// When the visit began.
    pub waiting_since: DateTime<Utc>,
    /// Who is in the visit already, or is not offered a slot in it again; sorted.
    pub barred: Vec<UserId>,
    /// Who has submitted to the step that the visit judges, in any visit; sorted.
    #[serde(rename = "judged")]
    pub authors: Vec<UserId>,
}

impl OpenSlot {
    /// How many people have done the task or are at it.
    pub fn taken(&self) -> u32 {
        self.submitted.saturating_add(self.reserved)
    }
}

/// A slot that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ClaimedSlot {
    /// Who.
    pub user_id: UserId,
    /// The task.
    pub task_id: TaskId,
    /// The step.
    pub step_id: StepId,
}

impl From<&WorkflowSnapshot> for Slots {
    /// Nobody can claim a slot of a task or step that is paused; what was claimed stays so.
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
            // Whether people work on the step stands in its revision; who offers slots asks there.
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

/// What must be written so that the slots found before become those found after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotsChange {
    /// Steps whose row is new or differs.
    pub open_set: Vec<OpenSlot>,
    /// Steps that have no free slot any more.
    pub open_unset: Vec<StepId>,
    /// Slots claimed.
    pub claims_set: Vec<ClaimedSlot>,
    /// Slots no longer held.
    pub claims_unset: Vec<ClaimedSlot>,
}

impl Slots {
    /// What makes `self` of `before`.
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

/// Those of `all` that are not in `others`.
fn without<T: Clone + PartialEq>(all: &[T], others: &[T]) -> Vec<T> {
    all.iter()
        .filter(|one| !others.contains(one))
        .cloned()
        .collect()
}

impl SlotsChange {
    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.open_set.is_empty()
            && self.open_unset.is_empty()
            && self.claims_set.is_empty()
            && self.claims_unset.is_empty()
    }
}

fn open_slot(state: &WorkflowSnapshot, step_id: &StepId, visit: &Visit) -> OpenSlot {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let submitters = |visit: &Visit| {
        visit
            .annotations
            .iter()
            .map(|annotation| annotation.user_id)
            .collect::<Vec<_>>()
    };
    let mut barred = submitters(visit);
    barred.extend(visit.assignments.iter().map(|claimed| claimed.user_id));
    barred.extend(&visit.excluded);
    let reviewed = visit
        .reviewed
        .as_ref()
        .and_then(|reviewed| state.steps.get(&reviewed.step_id));
    let mut authors: Vec<UserId> = reviewed
        .map_or(&[][..], |step| &step.visits)
        .iter()
        .flat_map(submitters)
        .collect();
    for people in [&mut barred, &mut authors] {
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
        authors,
    }
}
