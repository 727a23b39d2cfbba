//! Pauses of a task and of its steps, and the timers that are extended by them.

use chrono::{DateTime, TimeDelta, Utc};

use super::find::last_active_visit;
use crate::{
    events::WorkflowEvent,
    ids::StepId,
    state::{
        JoinHold, Pause, PendingCall, StateTransitionError, StepState, TaskStatus, Visit,
        WorkflowSnapshot,
    },
};

/// Pauses a step, which holds the joins that wait for it, or the whole task.
pub(super) fn pause(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    (step_id, holds): (Option<&StepId>, &[StepId]),
    pause: Pause,
) -> Result<(), StateTransitionError> {
    if let Some(step_id) = step_id {
        let since = pause.since;
        last_active_visit(state, event, step_id)?.pause = Some(pause);
        for join in holds {
            hold_join(state, join, step_id, since);
        }
    } else {
        state.status = TaskStatus::Paused;
        state.pause = Some(pause);
    }
    Ok(())
}

/// Stops the time of a join while a step that it waits for is paused.
fn hold_join(state: &mut WorkflowSnapshot, join: &StepId, step_id: &StepId, since: DateTime<Utc>) {
    let Some(pending) = state.joins.get_mut(join) else {
        return;
    };
    let by = Vec::new();
    let hold = pending.hold.get_or_insert(JoinHold { by, since });
    hold.by.push(step_id.clone());
    hold.by.sort_unstable();
    hold.by.dedup();
}

/// Lets the time of joins run on once no step that they wait for is paused any more: it has
/// resumed, or its visit has ended.
pub(super) fn release_joins(state: &mut WorkflowSnapshot, now: DateTime<Utc>) {
    // On resume of the task the length of its own pause is added, so count until that began.
    let now = state.pause.as_ref().map_or(now, |pause| pause.since);
    let steps = &state.steps;
    let is_paused = |step_id: &StepId| {
        let visit = steps.get(step_id).and_then(StepState::current);
        visit.is_some_and(|visit| visit.pause.is_some())
    };
    for join in state.joins.values_mut() {
        let Some(hold) = &mut join.hold else {
            continue;
        };
        hold.by.retain(is_paused);
        if hold.by.is_empty() {
            let held_for = (now - hold.since).max(TimeDelta::zero());
            join.expires_at = join.expires_at.map(|expires_at| expires_at + held_for);
            join.hold = None;
        }
    }
}

/// Resumes a step or the whole task.
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

/// Extends the task's timers by the length of a pause of the whole workflow.
pub(super) fn give_back(state: &mut WorkflowSnapshot, paused_micros: u64) {
    let micros = i64::try_from(paused_micros).unwrap_or(i64::MAX);
    rearm(state, TimeDelta::microseconds(micros), Attempts::Kept);
}

/// What happens to the due times of attempts at calls.
#[derive(Clone, Copy)]
enum Attempts {
    /// They move, so that an attempt under way no longer matches its call.
    Moved,
    /// They stay: an attempt that was not leased during the pause is merely late.
    Kept,
}

/// Extends timers by the length of a pause: the timeouts of slots, visits, jobs and joins do not
/// run during it.
fn rearm(state: &mut WorkflowSnapshot, paused_for: TimeDelta, attempts: Attempts) {
    // A join that is held for a paused step gets all of that pause back when the step resumes.
    for join in state.joins.values_mut().filter(|j| j.hold.is_none()) {
        join.expires_at = join.expires_at.map(|expires_at| expires_at + paused_for);
    }
    // Visits that have ended may still have pending notifications.
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
    visit.closes_at = visit.closes_at.map(|closes_at| closes_at + paused_for);
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
