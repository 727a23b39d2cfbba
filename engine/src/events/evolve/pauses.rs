//! Pauses of a task and of its steps, and the time that they give back.

use chrono::{DateTime, TimeDelta, Utc};

use super::find::last_active_visit;
use crate::{
    events::WorkflowEvent,
    ids::StepId,
    state::{Pause, PendingCall, StateTransitionError, TaskStatus, Visit, WorkflowSnapshot},
};

/// Holds a step, or the whole task.
pub(super) fn pause(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: Option<&StepId>,
    pause: Pause,
) -> Result<(), StateTransitionError> {
    if let Some(step_id) = step_id {
        last_active_visit(state, event, step_id)?.pause = Some(pause);
    } else {
        state.status = TaskStatus::Paused;
        state.pause = Some(pause);
    }
    Ok(())
}

/// Lets a step, or the whole task, go on.
pub(super) fn resume(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: Option<&StepId>,
    now: DateTime<Utc>,
) -> Result<(), StateTransitionError> {
    if let Some(step_id) = step_id {
        let visit = last_active_visit(state, event, step_id)?;
        if let Some(pause) = visit.pause.take() {
            rearm_visit(visit, now - pause.since, Attempts::Moved);
        }
    } else {
        state.status = TaskStatus::Running;
        if let Some(pause) = state.pause.take() {
            rearm(state, now - pause.since, Attempts::Moved);
        }
    }
    Ok(())
}

/// Gives back the time of a pause of the whole workflow.
pub(super) fn give_back(state: &mut WorkflowSnapshot, paused_micros: u64) {
    let micros = i64::try_from(paused_micros).unwrap_or(i64::MAX);
    rearm(state, TimeDelta::microseconds(micros), Attempts::Kept);
}

/// What becomes of the times of attempts at calls.
#[derive(Clone, Copy)]
enum Attempts {
    /// An attempt under way is overtaken: it is due at another time now.
    Moved,
    /// What was not claimed meanwhile is late as it is.
    Kept,
}

/// Neither inactivity nor the patience with jobs and joins runs during a pause: what was left goes
/// on.
fn rearm(state: &mut WorkflowSnapshot, paused_for: TimeDelta, attempts: Attempts) {
    for join in state.joins.values_mut() {
        join.expires_at = join.expires_at.map(|expires_at| expires_at + paused_for);
    }
    // Visits that are over may still have something to tell.
    let visits = state.steps.values_mut().flat_map(|s| &mut s.visits);
    // A step that is paused itself gets all of its own pause back when it resumes.
    for visit in visits.filter(|visit| visit.pause.is_none()) {
        rearm_visit(visit, paused_for, attempts);
    }
}

fn rearm_visit(visit: &mut Visit, paused_for: TimeDelta, attempts: Attempts) {
    for assignment in &mut visit.assignments {
        assignment.expires_at += paused_for;
    }
    let moves = |call: &&mut PendingCall| match attempts {
        Attempts::Moved => true,
        Attempts::Kept => call.runs_out(),
    };
    for call in visit
        .call
        .iter_mut()
        .chain(&mut visit.notifications)
        .filter(moves)
    {
        call.due_at = call.due_at.map(|due_at| due_at + paused_for);
    }
}
