//! Commands to a task from operators and machines.

use chrono::SubsecRound;
use serde_json::Value;

use super::{decision::Refusal, submission::require_active, work::Work};
use crate::{
    command::{Advance, Control, Pause, RejectionCode},
    config::{AdvanceNeeds, CompletionType, StepConfig},
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
            .is_some_and(|visit| closable(step, visit, command.output.as_ref()))
    };
    let step = work
        .target_step(command.step_id.as_deref(), can_close)?
        .clone();
    work.require_running()?;
    work.require_step_running(&step.id)?;
    let visit = require_active(&step.id, work.current().current_visit(&step.id))?;
    if !closable(&step, visit, command.output.as_ref()) {
        let detail = if step.kind.spec().advance == AdvanceNeeds::Output {
            format!(
                "step `{}` waits for a child task: only an `output` can stand in for it",
                step.id
            )
        } else {
            format!(
                "step `{}` waits for people: {} of the {} submissions that it needs at least",
                step.id,
                visit.annotations.len(),
                step.min_required()
            )
        };
        return Err(Refusal::rejected(RejectionCode::NotWaiting, detail));
    }
    let hook = visit.current_hook();
    let n = visit.call.as_ref().map(|call| call.n);
    work.subject = Some(step.id.clone());
    work.resolve_incidents(Some(&step.id), "advance");
    if let Some(hook) = hook {
        work.end_hook(&step, hook, n, command.output.clone());
        work.go_on(&step, None);
        return Ok(());
    }
    work.go_on(&step, Some(Closing::Advance(command.output.as_ref())));
    Ok(())
}

/// Whether an `advance` may end the visit, or replace the hook that it waits for. True for
/// automatic, manual and external steps, and for an annotation step with enough submissions.
fn closable(step: &StepConfig, visit: &Visit, output: Option<&Value>) -> bool {
    if visit.current_hook().is_some() {
        return true;
    }
    match step.kind.spec().advance {
        AdvanceNeeds::Nothing => true,
        AdvanceNeeds::Output => output.is_some(),
        AdvanceNeeds::Person => false,
        AdvanceNeeds::Submissions => {
            step.completion_type() == CompletionType::Manual
                || u32::try_from(visit.annotations.len()).is_ok_and(|n| n >= step.min_required())
        }
    }
}

pub(super) fn pause(work: &mut Work<'_>, command: &Pause) -> Result<(), Refusal> {
    let step_id = named_step(work, command.step_id.as_deref())?;
    // Allowed while the workflow is paused: the task's own pause may outlast that one.
    work.require_status_running()?;
    if let Some(step_id) = &step_id {
        require_active(step_id, work.current().current_visit(step_id))?;
        work.require_step_running(step_id)?;
    }
    if command.until.is_some_and(|until| until <= work.now) {
        return Err(Refusal::rejected(
            RejectionCode::NotWaiting,
            "`until` is not in the future: there would be nothing to wait for",
        ));
    }
    work.subject.clone_from(&step_id);
    work.emit(WorkflowEvent::WorkflowPaused {
        step_id,
        reason: command.reason.clone(),
        // Stores keep whole microseconds.
        until: command.until.map(|until| until.trunc_subsecs(6)),
        by_parent: false,
    });
    Ok(())
}

pub(super) fn resume(work: &mut Work<'_>, command: &Control) -> Result<(), Refusal> {
    let step_id = named_step(work, command.step_id.as_deref())?;
    let state = work.current();
    if state.status.is_final() {
        work.require_status_running()?;
    }
    let is_paused = match &step_id {
        Some(step_id) => {
            // A step cannot resume while its task is paused: so the two pauses are nested or do not
            // overlap, and each gives back its own time.
            work.require_status_running()?;
            let visit = require_active(step_id, state.current_visit(step_id))?;
            visit.pause.is_some()
        }
        None => state.status == TaskStatus::Paused,
    };
    if !is_paused {
        let what = match &step_id {
            Some(step_id) => format!("step `{step_id}` is not paused"),
            None => "the task is not paused".to_owned(),
        };
        return Err(Refusal::rejected(RejectionCode::NotWaiting, what));
    }
    work.subject.clone_from(&step_id);
    go_on_after_pause(work, step_id, command.reason.clone());
    Ok(())
}

/// Ends the pause of a task or of one of its steps. Steps that people work on are checked again: a
/// migration during the pause may have lowered the number of submissions they need.
pub(super) fn go_on_after_pause(
    work: &mut Work<'_>,
    step_id: Option<StepId>,
    reason: Option<String>,
) {
    let waiting: Vec<StepId> = match &step_id {
        Some(step_id) => vec![step_id.clone()],
        None => work.current().active_steps().cloned().collect(),
    };
    work.emit(WorkflowEvent::WorkflowResumed { step_id, reason });
    if work.workflow_pause().is_some() {
        return;
    }
    for step_id in waiting {
        let step = work.step(&step_id).clone();
        let visit = work.visit(&step_id);
        let goes_on = visit.status == VisitStatus::Active
            && visit.pause.is_none()
            && work.current().incident_of(&step_id).is_none();
        if step.kind.takes_submissions() && goes_on {
            work.go_on(&step, None);
        }
    }
    if work.current().pause.is_none() {
        work.begin_ready_joins();
    }
}

/// The step that a command names, which the workflow must have; none for the whole task.
fn named_step(work: &Work<'_>, step_id: Option<&str>) -> Result<Option<StepId>, Refusal> {
    work.state()?;
    let Some(step) = step_id else { return Ok(None) };
    let step = work.target_step(Some(step), |_| true)?;
    Ok(Some(step.id.clone()))
}

pub(super) fn cancel(work: &mut Work<'_>, command: &Control) -> Result<(), Refusal> {
    // A cancel ends the whole task. A step that it names must exist, or it was meant for another
    // task.
    named_step(work, command.step_id.as_deref())?;
    if work.current().status.is_final() {
        work.require_running()?;
    }
    work.cancel(command.reason.clone());
    Ok(())
}

pub(super) fn retry(work: &mut Work<'_>, command: &Control) -> Result<(), Refusal> {
    work.state()?;
    if let Some(step) = command.step_id.as_deref() {
        work.target_step(Some(step), |_| true)?;
    }
    work.require_running()?;
    if let Some(step) = command.step_id.as_deref() {
        work.require_step_running(step)?;
    }
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
        .filter(|incident| work.require_step_running(&incident.step_id).is_ok())
        .cloned()
        .collect();
    if held.is_empty() {
        return Err(Refusal::rejected(
            RejectionCode::NotWaiting,
            "no incident is open: there is nothing to try again",
        ));
    }
    work.retries = true;
    let mut steps: Vec<StepId> = held.into_iter().map(|incident| incident.step_id).collect();
    steps.dedup();
    for step_id in steps {
        // Advancing one step can end the task or withdraw another step.
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
