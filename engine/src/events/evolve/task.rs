//! The task as a whole: its start, details, revision, incidents and end.

use std::{collections::BTreeMap, mem::take};

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    events::{WorkflowMigrated, WorkflowStarted},
    ids::{StepId, TaskId},
    state::{Incident, JoinHold, ParentTask, TaskStatus, WorkflowSnapshot},
};

/// The initial state of a task.
pub(super) fn begin(
    task_id: TaskId,
    now: DateTime<Utc>,
    started: &WorkflowStarted,
) -> WorkflowSnapshot {
    WorkflowSnapshot {
        task_id,
        workflow: started.workflow.clone(),
        parent: started.parent.clone(),
        report_due: None,
        version: 1,
        status: TaskStatus::Running,
        started_at: now,
        updated_at: now,
        awaits_details: started.by_submission,
        input: started.input.clone(),
        labels: started.labels.clone(),
        expected: started.expected.clone(),
        sampling: started.sampling,
        context: started.context.clone(),
        steps: BTreeMap::new(),
        completed: Vec::new(),
        loops: BTreeMap::new(),
        joins: BTreeMap::new(),
        incidents: Vec::new(),
        incidents_opened: 0,
        pause: None,
        output: None,
        error: None,
        archived: None,
    }
}

/// Details that the producer supplied after the start; details that are set already stay.
pub(super) fn details_supplied(
    state: &mut WorkflowSnapshot,
    input: Option<&Value>,
    labels: &BTreeMap<String, String>,
    expected: Option<&Value>,
    parent: Option<&ParentTask>,
) {
    state.awaits_details = false;
    state.parent = state.parent.take().or_else(|| parent.cloned());
    state.input = state.input.take().or_else(|| input.cloned());
    state.expected = state.expected.take().or_else(|| expected.cloned());
    for (key, value) in labels {
        state
            .labels
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
}

/// Moves the history of a task to the step ids of another revision.
///
/// A call that may be under way becomes due again, because its answer would be to the old
/// revision's request.
pub(super) fn migrated(
    state: &mut WorkflowSnapshot,
    migrated: &WorkflowMigrated,
    now: DateTime<Utc>,
) {
    let pause = state.pause.clone();
    let new_id = |old: &StepId| migrated.steps.get(old).unwrap_or(old).clone();
    state.workflow = migrated.workflow.clone();
    state.loops.clone_from(&migrated.loops);
    state.steps = take(&mut state.steps)
        .into_iter()
        .map(|(id, s)| (new_id(&id), s))
        .collect();
    state.joins = take(&mut state.joins)
        .into_iter()
        .map(|(id, j)| (new_id(&id), j))
        .collect();
    for visit in state.steps.values_mut().flat_map(|step| &mut step.visits) {
        visit.entered_from = visit.entered_from.as_ref().map(new_id);
        // On resume the length of the pause is added, so count from when the pause began.
        let pause = visit.pause.as_ref().or(pause.as_ref());
        let asked_at = pause.map_or(now, |pause| pause.since);
        for call in visit.call.iter_mut().chain(&mut visit.notifications) {
            call.due_at = call.due_at.map(|due_at| due_at.max(asked_at));
        }
        let named = visit.reviewed.iter_mut().chain(&mut visit.reviewed_with);
        for before in named.chain(&mut visit.arrived) {
            before.step_id = new_id(&before.step_id);
        }
        for did in &mut visit.not_who_did {
            *did = new_id(did);
        }
    }
    for (join, expires_at) in &migrated.joins {
        if let Some(pending) = state.joins.get_mut(join) {
            pending.expires_at = *expires_at;
        }
    }
    let holds = state.joins.values_mut().filter_map(|j| j.hold.as_mut());
    for step_id in holds.flat_map(|hold| &mut hold.by) {
        *step_id = new_id(step_id);
    }
    let since = pause.as_ref().map_or(now, |pause| pause.since);
    for (join, by) in &migrated.held {
        if let Some(pending) = state.joins.get_mut(join) {
            let by = by.clone();
            // Without steps the join is released, and gets the time until now back.
            match &mut pending.hold {
                Some(hold) => hold.by = by,
                hold @ None => *hold = Some(JoinHold { by, since }),
            }
        }
    }
    let arrived = state.joins.values_mut().flat_map(|join| &mut join.arrived);
    for passed in state.completed.iter_mut().chain(arrived) {
        passed.step_id = new_id(&passed.step_id);
    }
    for incident in &mut state.incidents {
        incident.step_id = new_id(&incident.step_id);
    }
    for (step_id, slots) in &migrated.slots {
        if let Some(visit) = state
            .steps
            .get_mut(step_id)
            .and_then(|s| s.visits.last_mut())
        {
            visit.slots = *slots;
        }
    }
    for (step_id, closes_at) in &migrated.closes {
        if let Some(visit) = state
            .steps
            .get_mut(step_id)
            .and_then(|s| s.visits.last_mut())
        {
            visit.closes_at = *closes_at;
        }
    }
}

/// A step of the task cannot advance until the incident is resolved.
pub(super) fn incident_opened(state: &mut WorkflowSnapshot, incident: Incident) {
    state.incidents_opened += 1;
    state.incidents.push(incident);
}

/// An incident was resolved.
pub(super) fn incident_resolved(state: &mut WorkflowSnapshot, incident_id: Uuid) {
    state
        .incidents
        .retain(|incident| incident.incident_id != incident_id);
}

/// The task has ended.
pub(super) fn ended(state: &mut WorkflowSnapshot, status: TaskStatus) {
    state.status = status;
    state.joins.clear();
}
