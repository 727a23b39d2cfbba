//! Calls to external handlers, and hooks.

use chrono::{DateTime, Utc};

use super::find::{active_visit, known_visit};
use crate::{
    config::{ExternalHandler, HookStage},
    events::{HandlerRequested, HookEnded, WorkflowEvent},
    ids::StepId,
    state::{FailedHook, PendingCall, StateTransitionError, Visit, WorkflowSnapshot},
};

/// An attempt at a call was requested.
pub(super) fn requested(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    requested: &HandlerRequested,
    now: DateTime<Utc>,
) -> Result<(), StateTransitionError> {
    let HandlerRequested {
        step_id, visit, n, ..
    } = requested;
    let notifies = requested.hook.is_some_and(|hook| !hook.stage.blocks_step());
    let visit = if notifies {
        known_visit(state, event, step_id, *visit)?
    } else {
        active_visit(state, event, step_id, *visit)?
    };
    visit.calls_made = visit.calls_made.max(*n);
    let before = take_call(visit, *n);
    // A job of a notification hook expects no answer: publishing it is enough.
    if !(notifies && requested.handler == ExternalHandler::Queue) {
        keep_call(
            visit,
            PendingCall {
                n: *n,
                handler: requested.handler,
                hook: requested.hook,
                attempt: requested.attempt,
                due_at: requested.due_at,
                since: before.as_ref().map_or(now, |call| call.since),
                last_error: before.and_then(|call| call.last_error),
            },
        );
    }
    Ok(())
}

/// An attempt at a call has failed; another one follows if `retry_at` is set.
pub(super) fn failed(
    visit: &mut Visit,
    n: u32,
    attempt: u32,
    error: &str,
    retry_at: Option<DateTime<Utc>>,
) {
    let failed = take_call(visit, n);
    let again = failed.filter(|_| retry_at.is_some());
    if let Some(call) = again {
        keep_call(
            visit,
            PendingCall {
                attempt: attempt + 1,
                due_at: retry_at,
                last_error: Some(error.to_owned()),
                ..call
            },
        );
    }
}

/// A hook is done or was abandoned.
pub(super) fn hook_ended(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    ended: &HookEnded,
    now: DateTime<Utc>,
) -> Result<(), StateTransitionError> {
    let when = ended.hook.stage;
    let visit = if when.blocks_step() {
        active_visit(state, event, &ended.step_id, ended.visit)?
    } else {
        known_visit(state, event, &ended.step_id, ended.visit)?
    };
    if let Some(n) = ended.n {
        take_call(visit, n);
    }
    if let Some(error) = &ended.error {
        visit.hooks_failed.push(FailedHook {
            hook: ended.hook,
            error: error.clone(),
            at: now,
        });
    }
    if when.blocks_step() {
        visit.call = None;
        visit.hooks_done += 1;
    }
    if let Some(output) = &ended.output {
        match (when, &mut visit.found) {
            (HookStage::PreProcess, _) => visit.prepared = Some(output.clone()),
            (HookStage::PostProcess, Some(found)) => found.result.value = Some(output.clone()),
            (HookStage::PostProcess | HookStage::OnStart | HookStage::OnComplete, _) => {}
        }
    }
    Ok(())
}

/// Removes the call with that number from the visit.
fn take_call(visit: &mut Visit, n: u32) -> Option<PendingCall> {
    let of_step = visit.call.take_if(|call| call.n == n);
    let notified = visit.notifications.iter().position(|call| call.n == n);
    of_step.or_else(|| notified.map(|at| visit.notifications.remove(at)))
}

fn keep_call(visit: &mut Visit, call: PendingCall) {
    match call.hook {
        Some(hook) if !hook.stage.blocks_step() => visit.notifications.push(call),
        Some(_) | None => visit.call = Some(call),
    }
}

/// The visit that made a call. It may have ended if the call is a notification.
pub(super) fn calling_visit<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
    number: u32,
    n: Option<u32>,
) -> Result<&'s mut Visit, StateTransitionError> {
    let visit = known_visit(state, event, step_id, number)?;
    if visit.notifications.iter().any(|call| Some(call.n) == n) {
        return known_visit(state, event, step_id, number);
    }
    active_visit(state, event, step_id, number)
}
