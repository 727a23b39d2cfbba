//! What operators and machines ask of a task.

use super::{Refusal, submission::require_active, work::Work};
use crate::{
    config::{CompletionType, StepConfig, StepType},
    engine::{
        command::{Advance, Control, Pause},
        outcome::RejectionCode,
    },
    events::WorkflowEvent,
    executor::Closing,
    ids::StepId,
    state::{Incident, TaskStatus, Visit, VisitStatus},
};

pub(super) fn advance(work: &mut Work<'_>, command: &Advance) -> Result<(), Refusal> {
    let state = work.state()?;
    let can_close = |step: &StepConfig| {
        state
            .current_visit(&step.id)
            .is_some_and(|visit| closable(step, visit))
    };
    let step = work
        .target_step(command.step_id.as_deref(), can_close)?
        .clone();
    work.require_running()?;
    let visit = require_active(&step.id, work.current().current_visit(&step.id))?;
    if !closable(&step, visit) {
        return Err(Refusal::rejected(
            RejectionCode::NotWaiting,
            format!(
                "step `{}` waits for people: {} of the {} submissions that it needs at least",
                step.id,
                visit.annotations.len(),
                step.min_required()
            ),
        ));
    }
    work.subject = Some(step.id.clone());
    work.resolve_incidents(Some(&step.id), "advance");
    work.go_on(&step, Some(Closing::Advance(command.output.as_ref())));
    Ok(())
}

/// Whether an `advance` may end the visit: automatic, manual and external steps, and an annotation
/// step with enough submissions.
fn closable(step: &StepConfig, visit: &Visit) -> bool {
    match step.kind {
        StepType::AutoProcess | StepType::Conditional | StepType::SubWorkflow => true,
        StepType::Annotation => {
            step.completion_type() == CompletionType::Manual
                || u32::try_from(visit.annotations.len()).is_ok_and(|n| n >= step.min_required())
        }
        StepType::Review | StepType::Adjudication => {
            step.completion_type() == CompletionType::Manual
        }
    }
}

pub(super) fn pause(work: &mut Work<'_>, command: &Pause) -> Result<(), Refusal> {
    require_whole_task(work, command.step_id.as_deref())?;
    // Not held by the workflow's pause: the task's own outlasts it.
    work.require_status_running()?;
    if command.until.is_some_and(|until| until <= work.now) {
        return Err(Refusal::rejected(
            RejectionCode::NotWaiting,
            "`until` is not in the future: there would be nothing to wait for",
        ));
    }
    work.emit(WorkflowEvent::WorkflowPaused {
        reason: command.reason.clone(),
        until: command.until,
    });
    Ok(())
}

pub(super) fn resume(work: &mut Work<'_>, command: &Control) -> Result<(), Refusal> {
    require_whole_task(work, command.step_id.as_deref())?;
    match work.state()?.status {
        TaskStatus::Paused => {}
        TaskStatus::Running => {
            return Err(Refusal::rejected(
                RejectionCode::NotWaiting,
                "the task is not paused",
            ));
        }
        TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled => {
            work.require_running()?;
        }
    }
    work.emit(WorkflowEvent::WorkflowResumed {
        reason: command.reason.clone(),
    });
    Ok(())
}

/// Pausing or resuming one step of several comes with steps that run side by side; until then a
/// task has one, and whoever names it would wait for something that never differs.
fn require_whole_task(work: &Work<'_>, step_id: Option<&str>) -> Result<(), Refusal> {
    work.state()?;
    let Some(step) = step_id else { return Ok(()) };
    work.target_step(Some(step), |_| true)?;
    Err(Refusal::rejected(
        RejectionCode::NotWaiting,
        "single steps cannot be paused or resumed: leave out `step_id` to hold the task",
    ))
}

pub(super) fn cancel(work: &mut Work<'_>, command: &Control) -> Result<(), Refusal> {
    if work.state()?.status.is_final() {
        work.require_running()?;
    }
    work.resolve_incidents(None, "cancel");
    work.withdraw_active("the task was cancelled");
    work.emit(WorkflowEvent::WorkflowCancelled {
        reason: command.reason.clone(),
    });
    Ok(())
}

pub(super) fn retry(work: &mut Work<'_>, command: &Control) -> Result<(), Refusal> {
    work.state()?;
    if let Some(step) = command.step_id.as_deref() {
        work.target_step(Some(step), |_| true)?;
    }
    work.require_running()?;
    let held: Vec<Incident> = work
        .current()
        .incidents
        .iter()
        .filter(|incident| {
            command
                .step_id
                .as_deref()
                .is_none_or(|s| incident.step_id == *s)
        })
        .cloned()
        .collect();
    if held.is_empty() {
        return Err(Refusal::rejected(
            RejectionCode::NotWaiting,
            "no incident is open: there is nothing to try again",
        ));
    }
    let mut steps: Vec<StepId> = held.into_iter().map(|incident| incident.step_id).collect();
    steps.dedup();
    for step_id in steps {
        // What one step goes on to can end the task, or withdraw another one.
        let state = work.current();
        if state.status.is_final() || state.incident_of(&step_id).is_none() {
            continue;
        }
        work.subject = Some(step_id.clone());
        work.resolve_incidents(Some(&step_id), "retry");
        let step = work.step(&step_id).clone();
        match work.visit(&step_id).status {
            VisitStatus::Active => work.go_on(&step, None),
            VisitStatus::Completed | VisitStatus::Skipped => work.leave(step_id),
            VisitStatus::Failed | VisitStatus::Withdrawn => {}
        }
    }
    Ok(())
}
