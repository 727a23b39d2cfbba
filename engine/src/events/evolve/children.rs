//! Child tasks in their parent's state, and the report that a child sends.

use chrono::{DateTime, Utc};

use crate::{
    events::{ChildEnded, ChildRequested, WorkflowEvent},
    state::{
        ChildOrder, ChildTask, PendingOrder, TaskStatus, Visit, VisitStatus, WorkflowSnapshot,
    },
};

/// A child was requested.
pub(super) fn requested(visit: &mut Visit, requested: &ChildRequested, now: DateTime<Utc>) {
    let n = visit.child.as_ref().map_or(0, |child| child.orders) + 1;
    visit.child = Some(ChildTask {
        task_id: requested.task_id,
        workflow: requested.workflow.clone(),
        n: requested.n,
        input: requested.input.clone(),
        labels: requested.labels.clone(),
        holders: requested.holders.clone(),
        depth_max: requested.depth_max,
        correlation_id: requested.correlation_id.clone(),
        notified: None,
        order: Some(PendingOrder {
            order: ChildOrder::Start,
            n,
            due_at: now,
            failures: 0,
        }),
        orders: n,
        outcome: None,
    });
}

/// An order has reached the child.
pub(super) fn notified(child: &mut ChildTask, order: ChildOrder, n: u32) {
    if child.order.as_ref().is_some_and(|order| order.n == n) {
        child.notified = Some(order);
        child.order = None;
        child.input = None;
        child.labels.clear();
        child.holders.clear();
    }
}

/// An order has not reached the child, and is retried.
pub(super) fn start_failed(child: &mut ChildTask, n: u32, retry_at: DateTime<Utc>) {
    for order in child.order.iter_mut().filter(|order| order.n == n) {
        order.failures += 1;
        order.due_at = retry_at;
    }
}

/// The child has ended.
pub(super) fn ended(child: &mut ChildTask, ended: &ChildEnded) {
    child.order = None;
    child.outcome = Some(ended.outcome.clone());
}

/// Makes the report to the parent due when a child ends.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a task ends by these events alone"
)]
pub(super) fn report_end(state: &mut WorkflowSnapshot, event: &WorkflowEvent, now: DateTime<Utc>) {
    let ends = match event {
        WorkflowEvent::WorkflowCompleted { .. }
        | WorkflowEvent::WorkflowFailed { .. }
        | WorkflowEvent::WorkflowCancelled { .. } => true,
        // A person's submission came before the parent's start, and the task has ended already.
        WorkflowEvent::TaskDetailsSupplied { parent, .. } => {
            parent.is_some() && state.status.is_final()
        }
        _ => false,
    };
    if ends && state.parent.is_some() {
        state.report_due = Some(now);
    }
}

/// Sets the next order of every child that has none on its way: a child is cancelled once its visit
/// has ended, and otherwise pauses and resumes with the task and its step.
pub(super) fn order_children(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    now: DateTime<Utc>,
) {
    use ChildOrder::{Cancel, Pause, Resume, Start};
    let may_follow = matches!(
        event,
        WorkflowEvent::ChildNotified { .. }
            | WorkflowEvent::StepCompleted { .. }
            | WorkflowEvent::StepFailed { .. }
            | WorkflowEvent::StepSkipped { .. }
            | WorkflowEvent::StepWithdrawn { .. }
            | WorkflowEvent::WorkflowPaused { .. }
            | WorkflowEvent::WorkflowResumed { .. }
    );
    if !may_follow {
        return;
    }
    let paused = state.status == TaskStatus::Paused;
    for visit in state.steps.values_mut().flat_map(|step| &mut step.visits) {
        let over = visit.status != VisitStatus::Active;
        let Some(child) = visit.child.as_mut() else {
            continue;
        };
        if child.order.is_some() || child.outcome.is_some() {
            continue;
        }
        let paused = paused || visit.pause.is_some();
        let order = match child.notified {
            Some(Start | Pause | Resume) if over => Cancel,
            Some(Start | Resume) if paused => Pause,
            Some(Pause) if !paused => Resume,
            None | Some(Start | Pause | Resume | Cancel) => continue,
        };
        child.orders += 1;
        child.order = Some(PendingOrder {
            order,
            n: child.orders,
            due_at: now,
            failures: 0,
        });
    }
}
