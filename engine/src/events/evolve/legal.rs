//! Which events are legal in which status of the task.

use crate::{
    events::WorkflowEvent,
    state::{StateTransitionError, TaskStatus, WorkflowSnapshot},
};

/// The table of legal events by status, mainly for a task that is not running.
pub(super) fn require_status(
    state: &WorkflowSnapshot,
    event: &WorkflowEvent,
) -> Result<(), StateTransitionError> {
    use TaskStatus::{Archived, Cancelled, Completed, Failed, Paused, Running};
    // Parent-child messages are recorded in any status.
    let between_tasks = matches!(
        event,
        WorkflowEvent::ChildNotified { .. }
            | WorkflowEvent::ChildStartFailed { .. }
            | WorkflowEvent::ChildEnded(_)
    );
    // Notification hooks outlast the task.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a hook is over by these events alone"
    )]
    let notifies = match event {
        WorkflowEvent::HookEnded(ended) => !ended.hook.stage.blocks_step(),
        WorkflowEvent::HandlerFailed {
            step_id, visit, n, ..
        } => {
            let visit = state.visit(step_id, *visit);
            visit.is_some_and(|visit| visit.notifications.iter().any(|call| call.n == *n))
        }
        _ => false,
    };
    let by_status = match (state.status, event) {
        (Running, event) => !matches!(
            event,
            WorkflowEvent::WorkflowResumed { step_id: None, .. } | WorkflowEvent::ParentNotified {}
        ),
        (
            Paused,
            WorkflowEvent::WorkflowResumed { step_id: None, .. }
            | WorkflowEvent::WorkflowCancelled { .. }
            | WorkflowEvent::WorkflowMigrated(_)
            | WorkflowEvent::TaskDetailsSupplied { .. }
            | WorkflowEvent::GoldScored { .. }
            | WorkflowEvent::TaskReleased { .. }
            | WorkflowEvent::IncidentResolved { .. }
            | WorkflowEvent::StepWithdrawn { .. },
        )
        | (
            Completed | Failed | Cancelled,
            WorkflowEvent::TaskDetailsSupplied { .. }
            | WorkflowEvent::GoldScored { .. }
            | WorkflowEvent::ParentNotified {},
        ) => true,
        (Paused | Completed | Failed | Cancelled | Archived, _) => false,
    };
    if between_tasks || by_status || (notifies && state.status.is_final()) {
        Ok(())
    } else {
        Err(StateTransitionError::WrongStatus {
            event: event.event_type(),
            status: state.status,
        })
    }
}
