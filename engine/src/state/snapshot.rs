//! The full state of a task at one version.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Incident, ParentTask, Pause, PendingCall, StepResult, StepState, StepVisit, TaskStatus, Visit,
    WorkflowRef,
};
use crate::{
    config::Sampling,
    ids::{StepId, TaskId, UserId},
};

/// The full state of a task at one version of its stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowSnapshot {
    /// The task.
    pub task_id: TaskId,
    /// The revision it runs on.
    #[serde(flatten)]
    pub workflow: WorkflowRef,
    /// The visit whose sub-workflow this task runs; none for a task without a parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentTask>,
    /// When the report of this task's end to its parent became due; none once it is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_due: Option<DateTime<Utc>>,
    /// Events so far.
    pub version: u64,
    /// Status of the whole task.
    pub status: TaskStatus,
    /// When the first event happened.
    pub started_at: DateTime<Utc>,
    /// When the last event happened.
    pub updated_at: DateTime<Utc>,
    /// Whether a submission started it and no `start` has supplied the details since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_details: bool,
    /// The item to label, from the producer.
    pub input: Option<Value>,
    /// Key-value pairs for search.
    pub labels: BTreeMap<String, String>,
    /// The known answer of a gold task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
    /// The samples that it belongs to.
    #[serde(default, skip_serializing_if = "Sampling::is_default")]
    pub sampling: Sampling,
    /// Values shared by the steps.
    pub context: Map<String, Value>,
    /// The steps that have been visited.
    pub steps: BTreeMap<StepId, StepState>,
    /// Completed visits, in order of completion.
    pub completed: Vec<StepVisit>,
    /// How often each bounded transition (by position in the file) has fired.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub loops: BTreeMap<usize, u32>,
    /// Joins with waiting branches, by the step that they lead to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub joins: BTreeMap<StepId, PendingJoin>,
    /// Open incidents, oldest first.
    pub incidents: Vec<Incident>,
    /// Incidents opened so far; numbers the next one.
    #[serde(default)]
    pub incidents_opened: u32,
    /// Why and until when it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Its output, once completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why it failed or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was archived, and how it had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<Archived>,
}

/// When a task was archived, and how it had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Archived {
    /// When.
    pub at: DateTime<Utc>,
    /// The status with which it had ended.
    pub ended: TaskStatus,
}

impl WorkflowSnapshot {
    /// The last state of a task, once it is archived.
    #[must_use]
    pub fn archived_at(self, at: DateTime<Utc>) -> Self {
        let ended = self.ended();
        Self {
            status: TaskStatus::Archived,
            archived: Some(Archived { at, ended }),
            ..self
        }
    }

    /// The status with which the task has ended, whether or not it is archived; its status, if it
    /// has not ended.
    pub fn ended(&self) -> TaskStatus {
        self.archived.map_or(self.status, |archived| archived.ended)
    }

    /// The steps that wait for something, sorted by id.
    pub fn active_steps(&self) -> impl Iterator<Item = &StepId> {
        self.steps
            .iter()
            .filter(|(_, state)| state.is_active())
            .map(|(id, _)| id)
    }

    /// The steps that are paused themselves, sorted by id.
    pub fn paused_steps(&self) -> impl Iterator<Item = &StepId> {
        let is_paused = |state: &StepState| state.current().is_some_and(|v| v.pause.is_some());
        self.steps
            .iter()
            .filter(move |(_, state)| is_paused(state))
            .map(|(id, _)| id)
    }

    /// The current steps of the task: active ones and those with an open incident, sorted by id.
    pub fn current_steps(&self) -> Vec<StepId> {
        let held = |id: &StepId| self.incident_of(id).is_some();
        self.steps
            .iter()
            .filter(|(id, state)| state.is_active() || (held(id) && !self.status.is_final()))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Whether the time of a claimed slot, a job, a join or a visit that may be closed early is
    /// running. Paused steps do not count, nor do joins that wait for them.
    pub fn has_timers(&self) -> bool {
        let runs_out = |state: &StepState| {
            let running = state.current().filter(|visit| visit.pause.is_none());
            running.is_some_and(|visit| {
                let call = visit.call.as_ref();
                !visit.assignments.is_empty()
                    || visit.closes_at.is_some()
                    || call.is_some_and(PendingCall::runs_out)
            })
        };
        let runs = |join: &PendingJoin| join.expires_at.is_some() && join.hold.is_none();
        self.joins.values().any(runs) || self.steps.values().any(runs_out)
    }

    /// The results of completed visits, last first.
    pub fn completed_results(&self) -> impl Iterator<Item = (&StepVisit, &StepResult)> {
        self.completed.iter().rev().filter_map(|completed| {
            let visit = self.visit(&completed.step_id, completed.visit)?;
            Some((completed, visit.result.as_ref()?))
        })
    }

    /// The last value, and the visit that ended with it; none where a review has refused it and no
    /// step has ended with a value since.
    pub fn last_value(&self) -> Option<(&StepVisit, &StepResult)> {
        let says =
            |(_, result): &(&StepVisit, &StepResult)| result.value.is_some() || result.is_refusal();
        let last = self.completed_results().find(says);
        last.filter(|(_, result)| result.value.is_some())
    }

    /// Everyone who has submitted to the task or to its children, sorted.
    pub fn people(&self) -> Vec<UserId> {
        let visits = self.steps.values().flat_map(|step| &step.visits);
        let mut people: BTreeSet<UserId> = BTreeSet::new();
        for visit in visits {
            people.extend(visit.annotations.iter().map(|given| given.user_id));
            let child = visit
                .child
                .as_ref()
                .and_then(|child| child.outcome.as_ref());
            people.extend(child.into_iter().flat_map(|outcome| &outcome.people));
        }
        people.into_iter().collect()
    }

    /// The last visit of a step.
    pub fn current_visit(&self, step: &str) -> Option<&Visit> {
        self.steps.get(step)?.current()
    }

    /// One visit.
    pub fn visit(&self, step: &str, number: u32) -> Option<&Visit> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.steps.get(step)?.visits.get(index)
    }

    /// The open incident of a step.
    pub fn incident_of(&self, step: &str) -> Option<&Incident> {
        self.incidents
            .iter()
            .find(|incident| incident.step_id == *step)
    }
}

/// Branches that wait at a join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PendingJoin {
    /// The visits whose branches have arrived, in order of arrival.
    pub arrived: Vec<StepVisit>,
    /// When the join proceeds with the branches that have arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// The pause of steps that it waits for: meanwhile its time does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<JoinHold>,
}

/// Paused steps that a join waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JoinHold {
    /// The paused steps, sorted by id.
    pub by: Vec<StepId>,
    /// Since when at least one of them is paused.
    pub since: DateTime<Utc>,
}
