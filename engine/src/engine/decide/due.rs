//! Work whose time has come.

use super::{Refusal, work::Work};
use crate::{
    config::TimeoutAction,
    engine::command::Due,
    events::{ReleaseReason, WorkflowEvent},
    executor::Closing,
    ids::{StepId, UserId},
    state::{IncidentCode, TaskStatus, VisitStatus},
    store::{DueKind, DueRow},
};

/// Applies a due row if the state still asks for it; a lapsed one is applied without events.
pub(super) fn due(work: &mut Work<'_>, command: &Due) -> Result<(), Refusal> {
    work.state()?;
    let row = &command.row;
    if work.workflow_pause().is_some() {
        // Claimed just before the pause. Without an outcome, the row stays as it is and is claimed
        // again once the workflow goes on.
        return Err(Refusal::WorkflowPaused);
    }
    match row.kind {
        DueKind::AssignmentTimeout => {
            if let Some(user) = inactive_holder(work, row) {
                stall(work, row, user);
            }
        }
        DueKind::Resume => {
            let until = work.current().pause.as_ref().and_then(|pause| pause.until);
            if until.is_some_and(|until| until <= work.now) {
                work.emit(WorkflowEvent::WorkflowResumed {
                    reason: Some("the pause has run out".to_owned()),
                });
            }
        }
        DueKind::HandlerCall => {
            if command.outcome.is_none() {
                return Err(Refusal::NotPerformed);
            }
        }
        DueKind::JoinTimeout => {
            let state = work.current();
            let waits = |step: &StepId| state.joins.get(step)?.expires_at;
            let over = row
                .step_id
                .as_ref()
                .and_then(waits)
                .is_some_and(|at| at <= work.now);
            if let (true, TaskStatus::Running, Some(step)) = (over, state.status, &row.step_id) {
                work.expire_join(step.clone());
            }
        }
    }
    Ok(())
}

/// Who still holds the place of this row although its time is over.
fn inactive_holder(work: &Work<'_>, row: &DueRow) -> Option<UserId> {
    let state = work.current();
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
    (assignment.expires_at <= work.now).then_some(assignment.user_id)
}

fn stall(work: &mut Work<'_>, row: &DueRow, user_id: UserId) {
    let Some(step_id) = row.step_id.clone() else {
        return;
    };
    let step = work.step(&step_id).clone();
    let visit = row.visit;
    let action = step.timeout_action();
    work.subject = Some(step_id.clone());
    work.emit(WorkflowEvent::TaskStalled {
        step_id: step_id.clone(),
        visit,
        user_id,
        action,
    });
    work.emit(WorkflowEvent::TaskReleased {
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
            let submitted = work.visit(&step_id).annotations.len();
            if u32::try_from(submitted).is_ok_and(|n| n >= step.min_required()) {
                work.go_on(&step, Some(Closing::Timeout));
            }
        }
        TimeoutAction::Escalate => {
            let reason = format!("annotator {user_id} held a place and was inactive for too long");
            work.open_incident(&step_id, IncidentCode::InactivityTimeout, reason);
        }
        TimeoutAction::Fail => {
            let error = format!("annotator {user_id} was inactive for too long");
            work.emit(WorkflowEvent::StepFailed {
                step_id,
                visit,
                error: error.clone(),
            });
            work.fail(error);
        }
    }
}
