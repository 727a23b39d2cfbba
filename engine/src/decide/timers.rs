//! Timers that are due.

use super::{builder::DecisionBuilder, call, child, control, decision::Refusal};
use crate::{
    command::FireTimer,
    config::TimeoutAction,
    events::{ReleaseReason, WorkflowEvent},
    executor::Closing,
    ids::{StepId, UserId},
    state::{IncidentCode, TaskStatus, VisitStatus},
    store::{Timer, TimerKind},
    timers,
};

/// Applies a timer if the state still has it; a lapsed timer is applied without events.
pub(super) fn fire(builder: &mut DecisionBuilder<'_>, command: &FireTimer) -> Result<(), Refusal> {
    builder.state()?;
    let row = &command.row;
    if is_suspended(builder, row) {
        // The row was leased just before the pause. A recorded outcome would settle this row for
        // ever, so none is recorded, and the row fires again after the resume.
        return Err(Refusal::Paused);
    }
    match row.kind {
        TimerKind::AssignmentTimeout => {
            if let Some(user) = inactive_holder(builder, row) {
                stall(builder, row, user);
            }
        }
        TimerKind::ProceedTimeout => {
            if let Some(step_id) = visit_to_close(builder, row) {
                let step = builder.step(&step_id);
                builder.subject = Some(step_id);
                builder.go_on(step, Some(Closing::Timeout));
            }
        }
        TimerKind::Resume => {
            let state = builder.current();
            let pause = match &row.step_id {
                Some(step) => state.visit(step, row.visit).and_then(|v| v.pause.as_ref()),
                None => state.pause.as_ref(),
            };
            let until = pause.and_then(|pause| pause.until);
            if until.is_some_and(|until| until <= builder.now) {
                let reason = Some("the pause has run out".to_owned());
                control::go_on_after_pause(builder, row.step_id.clone(), reason);
            }
        }
        TimerKind::ChildStart
        | TimerKind::ChildPause
        | TimerKind::ChildResume
        | TimerKind::ChildCancel => {
            return child::order_fired(builder, command);
        }
        TimerKind::ChildReport => return child::report_due(builder, command),
        TimerKind::ChildEnded => child::ended_timers(builder, row),
        TimerKind::HandlerCall => return call::answered(builder, command),
        TimerKind::JobTimeout => call::unanswered(builder, command),
        TimerKind::JoinTimeout => {
            let state = builder.current();
            let waits = |step: &StepId| state.joins.get(step)?.expires_at;
            let over = row
                .step_id
                .as_ref()
                .and_then(waits)
                .is_some_and(|at| at <= builder.now);
            if let (true, TaskStatus::Running, Some(step)) = (over, state.status, &row.step_id) {
                builder.expire_join(step.clone());
            }
        }
    }
    Ok(())
}

/// Whether the row is suspended because its workflow, task or step is paused, or a step that its
/// join waits for. A timer that ends a task's pause, and parent-child messages, are suspended by the
/// workflow's pause alone; a timer that ends a step's pause by the task's too.
fn is_suspended(builder: &DecisionBuilder<'_>, row: &Timer) -> bool {
    let state = builder.current();
    let ends_pause = row.kind == TimerKind::Resume && row.step_id.is_none();
    if row.kind.is_between_tasks() {
        return builder.workflow_pause().is_some();
    }
    builder.workflow_pause().is_some()
        || (state.status == TaskStatus::Paused && !ends_pause)
        || timers::is_suspended(state, row)
}

/// The person whose claim on the slot of this row has expired, if it is still claimed.
fn inactive_holder(builder: &DecisionBuilder<'_>, row: &Timer) -> Option<UserId> {
    let state = builder.current();
    if state.status != TaskStatus::Running {
        return None;
    }
    let visit = state.current_visit(row.step_id.as_ref()?)?;
    if visit.number != row.visit || visit.status != VisitStatus::Active {
        return None;
    }
    let assignment = visit
        .assignments
        .iter()
        .find(|assignment| assignment.n == row.n)?;
    (assignment.expires_at <= builder.now).then_some(assignment.user_id)
}

/// The step of this row, if its visit is open and nobody has submitted in time.
fn visit_to_close(builder: &DecisionBuilder<'_>, row: &Timer) -> Option<StepId> {
    let state = builder.current();
    let step_id = row.step_id.as_ref()?;
    let visit = state.current_visit(step_id)?;
    let is_due = visit.closes_at.is_some_and(|at| at <= builder.now);
    let waits = state.status == TaskStatus::Running && visit.number == row.visit && visit.is_open();
    (waits && is_due).then(|| step_id.clone())
}

fn stall(builder: &mut DecisionBuilder<'_>, row: &Timer, user_id: UserId) {
    let Some(step_id) = row.step_id.clone() else {
        return;
    };
    let step = builder.step(&step_id);
    let visit = row.visit;
    let action = step.timeout_action();
    builder.subject = Some(step_id.clone());
    builder.emit(WorkflowEvent::TaskStalled {
        step_id: step_id.clone(),
        visit,
        user_id,
        action,
    });
    builder.emit(WorkflowEvent::TaskReleased {
        step_id: step_id.clone(),
        visit,
        user_id,
        cause: match action {
            TimeoutAction::Reassign => ReleaseReason::Reassigned,
            TimeoutAction::Requeue
            | TimeoutAction::Proceed
            | TimeoutAction::Escalate
            | TimeoutAction::Fail => ReleaseReason::Inactivity,
        },
        reason: None,
    });
    match action {
        TimeoutAction::Requeue | TimeoutAction::Reassign => {}
        TimeoutAction::Proceed => {
            let submitted = builder.visit(&step_id).annotations.len();
            if u32::try_from(submitted).is_ok_and(|n| n >= step.min_required()) {
                builder.go_on(step, Some(Closing::Timeout));
            }
        }
        TimeoutAction::Escalate => {
            let reason = format!("annotator {user_id} held a slot and was inactive for too long");
            builder.escalate(&step_id, IncidentCode::InactivityTimeout, reason);
        }
        TimeoutAction::Fail => {
            let error = format!("annotator {user_id} was inactive for too long");
            builder.emit(WorkflowEvent::StepFailed {
                step_id,
                visit,
                error: error.clone(),
            });
            builder.fail(error);
        }
    }
}
