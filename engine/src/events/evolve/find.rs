//! Finds the visit or child that an event names. If the state lacks it, the stream is corrupt.

use crate::{
    events::WorkflowEvent,
    ids::StepId,
    state::{ChildTask, StateTransitionError, Visit, VisitStatus, WorkflowSnapshot},
};

/// The active visit of a step, whatever its number.
pub(super) fn last_active_visit<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
) -> Result<&'s mut Visit, StateTransitionError> {
    let last = state.current_visit(step_id).map_or(0, |visit| visit.number);
    active_visit(state, event, step_id, last)
}

pub(super) fn active_visit<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
    number: u32,
) -> Result<&'s mut Visit, StateTransitionError> {
    let visits = match state.steps.get_mut(step_id) {
        Some(step) => &mut step.visits,
        None => return Err(unknown_visit(event, step_id, number, 0)),
    };
    let count = visits.len();
    match visits.last_mut() {
        Some(visit) if visit.number == number && visit.status == VisitStatus::Active => Ok(visit),
        Some(visit) if visit.number == number => Err(StateTransitionError::VisitNotActive {
            event: event.event_type(),
            step_id: step_id.clone(),
            visit: number,
            status: visit.status,
        }),
        _ => Err(unknown_visit(event, step_id, number, count)),
    }
}

/// A visit, which may have ended.
pub(super) fn known_visit<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
    number: u32,
) -> Result<&'s mut Visit, StateTransitionError> {
    let visits = state.steps.get_mut(step_id).map(|step| &mut step.visits);
    let count = visits.as_ref().map_or(0, |visits| visits.len());
    visits
        .into_iter()
        .flatten()
        .find(|visit| visit.number == number)
        .ok_or_else(|| unknown_visit(event, step_id, number, count))
}

pub(super) fn unknown_visit(
    event: &WorkflowEvent,
    step_id: &StepId,
    visit: u32,
    visits: usize,
) -> StateTransitionError {
    StateTransitionError::UnknownVisit {
        event: event.event_type(),
        step_id: step_id.clone(),
        visit,
        visits,
    }
}

/// The child of a visit, which may have ended.
pub(super) fn child_of<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
    number: u32,
) -> Result<&'s mut ChildTask, StateTransitionError> {
    let count = state.steps.get(step_id).map_or(0, |step| step.visits.len());
    known_visit(state, event, step_id, number)?
        .child
        .as_mut()
        .ok_or_else(|| unknown_visit(event, step_id, number, count))
}
