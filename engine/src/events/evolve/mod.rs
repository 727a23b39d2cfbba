//! The only writer of state. Live decisions and replay go through the same fold.

//!
//! [`change`] has one arm for each event: it finds the part of the state to change and calls the
//! function that changes it, which is in the file of the event's family.

mod calls;
mod children;
mod claims;
mod find;
mod legal;
mod pauses;
mod task;
mod visits;

use chrono::{DateTime, Utc};

use self::find::{active_visit, child_of, known_visit};
use super::{StoredEvent, WorkflowEvent};
use crate::{
    ids::TaskId,
    state::{
        Assignment, Incident, Pause, StateTransitionError, TaskStatus, VisitStatus,
        WorkflowSnapshot,
    },
};

/// Brings `state` from one version to the next.
///
/// Checks only structure (next version, a visit that exists and is active, a status that allows
/// the event). Business rules are in `decide`, so that they can change while old streams still
/// replay. On error `state` is unchanged.
pub fn evolve(
    state: &mut Option<WorkflowSnapshot>,
    event: &StoredEvent,
) -> Result<(), StateTransitionError> {
    match (&mut *state, &event.event) {
        (None, WorkflowEvent::WorkflowStarted(started)) => {
            check_version(event.task_id, 0, event.version)?;
            *state = Some(task::begin(event.task_id, event.occurred_at, started));
            Ok(())
        }
        (None, other) => Err(StateTransitionError::NotStarted {
            task_id: event.task_id,
            event: other.event_type(),
        }),
        (Some(_), WorkflowEvent::WorkflowStarted(_)) => Err(StateTransitionError::AlreadyStarted {
            task_id: event.task_id,
            version: event.version,
        }),
        (Some(state), other) => {
            check_version(event.task_id, state.version, event.version)?;
            change(state, other, event.occurred_at)?;
            state.version = event.version;
            state.updated_at = event.occurred_at;
            Ok(())
        }
    }
}

fn check_version(task_id: TaskId, at: u64, version: u64) -> Result<(), StateTransitionError> {
    if version == at + 1 {
        Ok(())
    } else {
        Err(StateTransitionError::VersionGap {
            task_id,
            at,
            version,
        })
    }
}

/// Applies one event to the state of a task that has started.
fn change(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    now: DateTime<Utc>,
) -> Result<(), StateTransitionError> {
    use WorkflowEvent as E;

    legal::require_status(state, event)?;
    match event {
        // Handled by the caller: a stream starts only once.
        E::WorkflowStarted(_) => {}

        // The task as a whole.
        E::TaskDetailsSupplied {
            input,
            labels,
            expected,
            parent,
        } => {
            let (input, expected) = (input.as_ref(), expected.as_ref());
            task::details_supplied(state, input, labels, expected, parent.as_ref());
        }
        E::WorkflowMigrated(migrated) => task::migrated(state, migrated, now),
        E::IncidentOpened {
            incident_id,
            step_id,
            visit,
            code,
            reason,
            escalated,
        } => {
            let incident = Incident {
                incident_id: *incident_id,
                step_id: step_id.clone(),
                visit: *visit,
                code: *code,
                reason: reason.clone(),
                opened_at: now,
                escalated: *escalated,
            };
            task::incident_opened(state, incident);
        }
        E::IncidentResolved { incident_id, .. } => task::incident_resolved(state, *incident_id),
        E::WorkflowCompleted { output } => {
            task::ended(state, TaskStatus::Completed);
            state.output = Some(output.clone());
        }
        E::WorkflowFailed { error } => {
            task::ended(state, TaskStatus::Failed);
            state.error = Some(error.clone());
        }
        E::WorkflowCancelled { reason } => {
            task::ended(state, TaskStatus::Cancelled);
            state.pause = None;
            state.error.clone_from(reason);
        }

        // Visits of steps.
        E::StepActivated(activated) => visits::activated(state, event, activated, now)?,
        E::StepOpened(opened) => {
            visits::opened(active_visit(state, event, &opened.step_id, opened.visit)?);
        }
        E::ResultFound {
            step_id,
            visit,
            found,
        } => visits::result_found(active_visit(state, event, step_id, *visit)?, found),
        E::StepCompleted {
            step_id,
            visit,
            result,
            context,
            judgement: _,
        } => {
            visits::completed(state, event, (step_id, *visit), result, now)?;
            state.context.extend(context.clone());
        }
        E::StepFailed { step_id, visit, .. } => {
            visits::end(state, event, (step_id, *visit), VisitStatus::Failed, now)?;
        }
        E::StepSkipped { step_id, visit, .. } => {
            visits::end(state, event, (step_id, *visit), VisitStatus::Skipped, now)?;
        }
        E::StepWithdrawn { step_id, visit, .. } => {
            visits::end(state, event, (step_id, *visit), VisitStatus::Withdrawn, now)?;
        }
        E::TransitionOccurred(transition) => visits::went_on(state, transition, now),

        // People who work on visits.
        E::TaskAssigned {
            step_id,
            visit,
            n,
            user_id,
            roles,
            expires_at,
            offered: _,
        } => {
            let assignment = Assignment {
                n: *n,
                user_id: *user_id,
                roles: roles.clone(),
                assigned_at: now,
                expires_at: *expires_at,
            };
            claims::assigned(active_visit(state, event, step_id, *visit)?, assignment);
        }
        E::ActivityRecorded {
            step_id,
            visit,
            user_id,
            expires_at,
            ..
        } => {
            let visit = active_visit(state, event, step_id, *visit)?;
            claims::active(visit, *user_id, *expires_at);
        }
        E::TaskReleased {
            step_id,
            visit,
            user_id,
            cause,
            ..
        } => claims::released(
            active_visit(state, event, step_id, *visit)?,
            *user_id,
            *cause,
        ),
        E::AnnotationSubmitted {
            step_id,
            visit,
            annotation,
            closes_at,
        } => {
            let visit = active_visit(state, event, step_id, *visit)?;
            claims::submitted(visit, annotation, *closes_at);
        }
        E::SlotsAdded {
            step_id,
            visit,
            slots,
        } => active_visit(state, event, step_id, *visit)?.slots = Some(*slots),
        // A fact about a visit that changes nothing in its state.
        E::TaskStalled { step_id, visit, .. } => {
            active_visit(state, event, step_id, *visit)?;
        }
        // Its numbers change nothing; an audit that begins keeps the answer.
        E::ConsensusCalculated(calculated) => {
            let visit = active_visit(state, event, &calculated.step_id, calculated.visit)?;
            if calculated.audited.is_some() {
                visit.audited.clone_from(&calculated.audited);
            }
        }
        // A figure about the annotator: the task's state does not change.
        E::GoldScored { step_id, visit, .. } => {
            known_visit(state, event, step_id, *visit)?;
        }

        // Calls and hooks.
        E::HandlerRequested(requested) => calls::requested(state, event, requested, now)?,
        E::HandlerFailed {
            step_id,
            visit,
            n,
            attempt,
            error,
            retry_at,
        } => {
            let visit = calls::calling_visit(state, event, step_id, *visit, Some(*n))?;
            calls::failed(visit, *n, *attempt, error, *retry_at);
        }
        E::HookEnded(ended) => calls::hook_ended(state, event, ended, now)?,

        // Child tasks, and the parent.
        E::ChildRequested(requested) => {
            let visit = active_visit(state, event, &requested.step_id, requested.visit)?;
            children::requested(visit, requested, now);
        }
        E::ChildNotified {
            step_id,
            visit,
            order,
            n,
        } => children::notified(child_of(state, event, step_id, *visit)?, *order, *n),
        E::ChildStartFailed {
            step_id,
            visit,
            n,
            retry_at,
            ..
        } => children::start_failed(child_of(state, event, step_id, *visit)?, *n, *retry_at),
        E::ChildEnded(ended) => {
            let child = child_of(state, event, &ended.step_id, ended.visit)?;
            children::ended(child, ended);
            state.context.extend(ended.context.clone());
        }
        E::ParentNotified {} => state.report_due = None,

        // Pauses.
        E::WorkflowPaused {
            step_id,
            reason,
            until,
            by_parent,
            holds,
        } => {
            let pause = Pause {
                reason: reason.clone(),
                since: now,
                by_parent: *by_parent,
                until: *until,
            };
            pauses::pause(state, event, (step_id.as_ref(), holds), pause)?;
        }
        E::WorkflowResumed { step_id, .. } => {
            pauses::resume(state, event, step_id.as_ref(), now)?;
        }
        E::TimersRearmed { paused_micros } => pauses::give_back(state, *paused_micros),
    }
    pauses::release_joins(state, now);
    children::report_end(state, event, now);
    children::order_children(state, event, now);
    Ok(())
}
