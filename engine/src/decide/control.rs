//! Commands to a task from operators and machines.

use chrono::SubsecRound;
use serde_json::Value;

use super::{builder::DecisionBuilder, decision::Refusal, submission::require_active};
use crate::{
    command::{Advance, Control, Pause, RejectionCode},
    config::{AdvanceNeeds, CompletionType, StepConfig},
    events::WorkflowEvent,
    executor::Closing,
    ids::StepId,
    state::{Incident, TaskStatus, Visit, VisitStatus},
};

pub(super) fn advance(builder: &mut DecisionBuilder<'_>, command: &Advance) -> Result<(), Refusal> {
    let state = builder.state()?;
    let can_close = |step: &StepConfig| {
        state
            .current_visit(&step.id)
            .is_some_and(|visit| closable(step, visit, command.output.as_ref()))
    };
    let step = builder.target_step(command.step_id.as_deref(), can_close)?;
    builder.require_running()?;
    builder.require_step_running(&step.id)?;
    let visit = require_active(&step.id, builder.current().current_visit(&step.id))?;
    if !closable(step, visit, command.output.as_ref()) {
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
    builder.subject = Some(step.id.clone());
    builder.resolve_incidents(Some(&step.id), "advance");
    if let Some(hook) = hook {
        builder.end_hook(step, hook, n, command.output.clone());
        builder.go_on(step, None);
        return Ok(());
    }
    builder.go_on(step, Some(Closing::Advance(command.output.as_ref())));
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

pub(super) fn pause(builder: &mut DecisionBuilder<'_>, command: &Pause) -> Result<(), Refusal> {
    let step_id = named_step(builder, command.step_id.as_deref())?;
    // Allowed while the workflow is paused: the task's own pause may outlast that one.
    builder.require_status_running()?;
    if let Some(step_id) = &step_id {
        require_active(step_id, builder.current().current_visit(step_id))?;
        builder.require_step_running(step_id)?;
    }
    if command.until.is_some_and(|until| until <= builder.now) {
        return Err(Refusal::rejected(
            RejectionCode::NotWaiting,
            "`until` is not in the future: there would be nothing to wait for",
        ));
    }
    builder.subject.clone_from(&step_id);
    let waits_for = |join: &&StepId| {
        let paused = step_id.as_ref();
        paused.is_some_and(|step| builder.workflow().leads(step, join))
    };
    let joins = builder.current().joins.keys();
    let holds = joins.filter(waits_for).cloned().collect();
    builder.emit(WorkflowEvent::WorkflowPaused {
        step_id,
        reason: command.reason.clone(),
        // Stores keep whole microseconds.
        until: command.until.map(|until| until.trunc_subsecs(6)),
        by_parent: false,
        holds,
    });
    Ok(())
}

pub(super) fn resume(builder: &mut DecisionBuilder<'_>, command: &Control) -> Result<(), Refusal> {
    let step_id = named_step(builder, command.step_id.as_deref())?;
    let state = builder.current();
    if state.status.is_final() {
        builder.require_status_running()?;
    }
    let is_paused = match &step_id {
        Some(step_id) => {
            // A step cannot resume while its task is paused: so the two pauses are nested or do not
            // overlap, and each gives back its own time.
            builder.require_status_running()?;
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
    builder.subject.clone_from(&step_id);
    go_on_after_pause(builder, step_id, command.reason.clone());
    Ok(())
}

/// Ends the pause of a task or of one of its steps. Steps that people work on are checked again: a
/// migration during the pause may have lowered the number of submissions they need.
pub(super) fn go_on_after_pause(
    builder: &mut DecisionBuilder<'_>,
    step_id: Option<StepId>,
    reason: Option<String>,
) {
    let waiting: Vec<StepId> = match &step_id {
        Some(step_id) => vec![step_id.clone()],
        None => builder.current().active_steps().cloned().collect(),
    };
    builder.emit(WorkflowEvent::WorkflowResumed { step_id, reason });
    if builder.workflow_pause().is_some() {
        return;
    }
    for step_id in waiting {
        let step = builder.step(&step_id);
        let visit = builder.visit(&step_id);
        let goes_on = visit.status == VisitStatus::Active
            && visit.pause.is_none()
            && builder.current().incident_of(&step_id).is_none();
        if step.kind.takes_submissions() && goes_on {
            builder.go_on(step, None);
        }
    }
    if builder.current().pause.is_none() {
        builder.begin_ready_joins();
    }
}

/// The step that a command names, which the workflow must have; none for the whole task.
fn named_step(
    builder: &DecisionBuilder<'_>,
    step_id: Option<&str>,
) -> Result<Option<StepId>, Refusal> {
    builder.state()?;
    let Some(step) = step_id else { return Ok(None) };
    let step = builder.target_step(Some(step), |_| true)?;
    Ok(Some(step.id.clone()))
}

pub(super) fn cancel(builder: &mut DecisionBuilder<'_>, command: &Control) -> Result<(), Refusal> {
    // A cancel ends the whole task. A step that it names must exist, or it was meant for another
    // task.
    named_step(builder, command.step_id.as_deref())?;
    if builder.current().status.is_final() {
        builder.require_running()?;
    }
    builder.cancel(command.reason.clone());
    Ok(())
}

pub(super) fn retry(builder: &mut DecisionBuilder<'_>, command: &Control) -> Result<(), Refusal> {
    builder.state()?;
    if let Some(step) = command.step_id.as_deref() {
        builder.target_step(Some(step), |_| true)?;
    }
    builder.require_running()?;
    if let Some(step) = command.step_id.as_deref() {
        builder.require_step_running(step)?;
    }
    let held: Vec<Incident> = builder
        .current()
        .incidents
        .iter()
        .filter(|incident| {
            command
                .step_id
                .as_deref()
                .is_none_or(|s| incident.step_id == *s)
        })
        .filter(|incident| builder.require_step_running(&incident.step_id).is_ok())
        .cloned()
        .collect();
    if held.is_empty() {
        return Err(Refusal::rejected(
            RejectionCode::NotWaiting,
            "no incident is open: there is nothing to try again",
        ));
    }
    builder.retries = true;
    let mut steps: Vec<StepId> = held.into_iter().map(|incident| incident.step_id).collect();
    steps.dedup();
    for step_id in steps {
        // Advancing one step can end the task or withdraw another step.
        let state = builder.current();
        if state.status.is_final() || state.incident_of(&step_id).is_none() {
            continue;
        }
        builder.subject = Some(step_id.clone());
        builder.resolve_incidents(Some(&step_id), "retry");
        let step = builder.step(&step_id);
        match builder.visit(&step_id).status {
            VisitStatus::Active => builder.go_on(step, None),
            VisitStatus::Completed | VisitStatus::Skipped => builder.leave(step_id),
            VisitStatus::Failed | VisitStatus::Withdrawn => {}
        }
    }
    Ok(())
}
