//! Visits of steps from start to end, and the transitions between them.

use chrono::{DateTime, Utc};

use super::find::active_visit;
use crate::{
    config::Target,
    events::{StepActivated, TransitionOccurred, WorkflowEvent},
    ids::StepId,
    state::{
        FoundResult, JoinHold, PendingJoin, StateTransitionError, StepResult, StepVisit, Visit,
        VisitStatus, WorkflowSnapshot,
    },
};

/// A visit of a step has begun.
pub(super) fn activated(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    activated: &StepActivated,
    now: DateTime<Utc>,
) -> Result<(), StateTransitionError> {
    let step = state.steps.entry(activated.step_id.clone()).or_default();
    let visits = step.visits.len();
    if u32::try_from(visits + 1) != Ok(activated.visit) || step.is_active() {
        return Err(StateTransitionError::UnknownVisit {
            event: event.event_type(),
            step_id: activated.step_id.clone(),
            visit: activated.visit,
            visits,
        });
    }
    state.joins.remove(&activated.step_id);
    state
        .joins
        .retain(|join, _| !activated.discards.contains(join));
    step.visits.push(Visit {
        number: activated.visit,
        status: VisitStatus::Active,
        entered_from: activated.from_step.clone(),
        reviewed: activated.reviewed.clone(),
        reviewed_with: activated.reviewed_with.clone(),
        subject: activated.subject.clone(),
        arrived: activated.arrived.clone(),
        looped: activated.looped,
        not_who_did: activated.not_who_did.clone(),
        slots: activated.slots,
        activated_at: now,
        ended_at: None,
        annotations: Vec::new(),
        assignments: Vec::new(),
        assignments_made: 0,
        excluded: Vec::new(),
        released: Vec::new(),
        closes_at: None,
        audited: None,
        pause: None,
        child: None,
        result: None,
        call: None,
        notifications: Vec::new(),
        calls_made: 0,
        opening: activated.opening,
        hooks_done: 0,
        prepared: None,
        found: None,
        hooks_failed: Vec::new(),
    });
    Ok(())
}

/// The `pre_process` hooks are done, and the visit is open.
pub(super) fn opened(visit: &mut Visit) {
    visit.opening = false;
    visit.call = None;
    visit.hooks_done = 0;
}

/// The step has a result, which hooks may refine before it is final.
pub(super) fn result_found(visit: &mut Visit, found: &FoundResult) {
    visit.found = Some(found.clone());
    visit.call = None;
    visit.hooks_done = 0;
    visit.assignments.clear();
    visit.closes_at = None;
}

/// The step has its result.
pub(super) fn completed(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    (step_id, visit): (&StepId, u32),
    result: &StepResult,
    now: DateTime<Utc>,
) -> Result<(), StateTransitionError> {
    let ended = end(state, event, (step_id, visit), VisitStatus::Completed, now)?;
    ended.result = Some(result.clone());
    let step_id = step_id.clone();
    state.completed.push(StepVisit { step_id, visit });
    Ok(())
}

/// A branch went on to another step, or waits at a join.
pub(super) fn went_on(
    state: &mut WorkflowSnapshot,
    transition: &TransitionOccurred,
    now: DateTime<Utc>,
) {
    if let (Some(index), true) = (transition.transition, transition.looped) {
        *state.loops.entry(index).or_default() += 1;
    }
    if let (true, Target::Step(join)) = (transition.waits, &transition.to_step) {
        let pending = state
            .joins
            .entry(join.clone())
            .or_insert_with(|| PendingJoin {
                arrived: Vec::new(),
                expires_at: transition.join_expires_at,
                hold: (!transition.held_by.is_empty()).then(|| JoinHold {
                    by: transition.held_by.clone(),
                    since: now,
                }),
            });
        let (step_id, visit) = (transition.from_step.clone(), transition.from_visit);
        pending.arrived.push(StepVisit { step_id, visit });
    }
}

/// Ends a visit, and drops the slots still claimed in it.
pub(super) fn end<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    (step_id, number): (&StepId, u32),
    status: VisitStatus,
    now: DateTime<Utc>,
) -> Result<&'s mut Visit, StateTransitionError> {
    let visit = active_visit(state, event, step_id, number)?;
    visit.status = status;
    visit.ended_at = Some(now);
    visit.assignments.clear();
    visit.closes_at = None;
    visit.pause = None;
    visit.call = None;
    visit.found = None;
    if status == VisitStatus::Withdrawn {
        // The notification of its start is no longer of interest.
        visit.notifications.clear();
    }
    Ok(visit)
}
