//! Timers, derived from a task's state.
//!
//! No code sets or clears a timer directly. After every decision, the timers of the new state are
//! compared with those of the old one, and the difference is written with the events. So a rebuild
//! from the log finds the same rows.

use uuid::Uuid;

use crate::{
    config::ExternalHandler,
    ids::{CommandId, StepId, TaskId},
    state::{ChildOrder, Pause, TaskStatus, VisitStatus, WorkflowSnapshot},
    store::{Timer, TimerKind},
};

/// All timers of a task in this state, sorted by id.
///
/// While a task or a step is paused, its timers do not run and no handler is called. The remaining
/// time runs on after the resume.
pub fn derive_timers(state: &WorkflowSnapshot) -> Vec<Timer> {
    let mut rows: Vec<Timer> = match state.status {
        TaskStatus::Running => assignment_timeouts(state)
            .into_iter()
            .chain(proceed_timeouts(state))
            .chain(join_timeouts(state))
            .chain(ended_children(state))
            .chain(calls(state))
            .chain(step_resumes(state))
            .collect(),
        TaskStatus::Paused => resume(state.task_id, None, state.pause.as_ref())
            .into_iter()
            .collect(),
        // Notification hooks (`on_start`, `on_complete`) outlast the task.
        TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled => {
            calls(state).collect()
        }
        TaskStatus::Archived => return Vec::new(),
    };
    rows.retain(|row: &Timer| !is_suspended(state, row));
    // Parent-child messages are delivered even after either task has ended.
    rows.extend(child_orders(state));
    rows.extend(child_report(state));
    rows.sort_by_key(|row| row.id);
    rows
}

/// Whether the row's step is paused, or a step that the row's join waits for. The timer that ends
/// the pause is not suspended.
pub(crate) fn is_suspended(state: &WorkflowSnapshot, row: &Timer) -> bool {
    if row.kind == TimerKind::JoinTimeout {
        let join = row.step_id.as_ref().and_then(|step| state.joins.get(step));
        return join.is_some_and(|join| join.hold.is_some());
    }
    let visit = row
        .step_id
        .as_ref()
        .and_then(|step| state.visit(step, row.visit));
    row.kind != TimerKind::Resume && visit.is_some_and(|visit| visit.pause.is_some())
}

/// Timers that end the pauses of single steps.
fn step_resumes(state: &WorkflowSnapshot) -> impl Iterator<Item = Timer> {
    state.steps.iter().filter_map(|(step_id, step)| {
        let visit = step.current()?;
        let of = Some((step_id, visit.number));
        resume(state.task_id, of, visit.pause.as_ref())
    })
}

/// The id of the command that fires a row: the same however often the row is leased, and a new one
/// once the row has moved to another time.
pub fn timer_command_id(row: &Timer) -> CommandId {
    CommandId(Uuid::new_v5(
        &row.id,
        &row.due_at.timestamp_micros().to_be_bytes(),
    ))
}

fn assignment_timeouts(state: &WorkflowSnapshot) -> Vec<Timer> {
    let active = state.steps.iter().filter_map(|(id, step)| {
        Some((
            id,
            step.current()
                .filter(|visit| visit.status == VisitStatus::Active)?,
        ))
    });
    active
        .flat_map(|(step_id, visit)| {
            visit.assignments.iter().map(move |assignment| {
                let kind = TimerKind::AssignmentTimeout;
                Timer {
                    id: row_id(
                        state.task_id,
                        Some(step_id),
                        visit.number,
                        kind,
                        assignment.n,
                    ),
                    task_id: state.task_id,
                    step_id: Some(step_id.clone()),
                    visit: visit.number,
                    kind,
                    n: assignment.n,
                    due_at: assignment.expires_at,
                }
            })
        })
        .collect()
}

/// Visits that have enough submissions to be closed early.
fn proceed_timeouts(state: &WorkflowSnapshot) -> impl Iterator<Item = Timer> {
    state.steps.iter().filter_map(|(step_id, step)| {
        let visit = step.current().filter(|visit| visit.is_open())?;
        let kind = TimerKind::ProceedTimeout;
        Some(Timer {
            id: row_id(state.task_id, Some(step_id), visit.number, kind, 0),
            task_id: state.task_id,
            step_id: Some(step_id.clone()),
            visit: visit.number,
            kind,
            n: 0,
            due_at: visit.closes_at?,
        })
    })
}

/// Attempts at webhooks, and timeouts of jobs.
fn calls(state: &WorkflowSnapshot) -> impl Iterator<Item = Timer> {
    let visits = state
        .steps
        .iter()
        .flat_map(|(step_id, step)| step.visits.iter().map(move |visit| (step_id, visit)));
    visits.flat_map(|(step_id, visit)| {
        let calls = visit.call.iter().chain(&visit.notifications);
        calls.filter_map(|call| {
            let kind = match call.handler {
                ExternalHandler::Webhook => TimerKind::HandlerCall,
                ExternalHandler::Queue => TimerKind::JobTimeout,
            };
            Some(Timer {
                id: row_id(state.task_id, Some(step_id), visit.number, kind, call.n),
                task_id: state.task_id,
                step_id: Some(step_id.clone()),
                visit: visit.number,
                kind,
                n: call.n,
                due_at: call.due_at?,
            })
        })
    })
}

fn join_timeouts(state: &WorkflowSnapshot) -> impl Iterator<Item = Timer> {
    state.joins.iter().filter_map(|(step_id, join)| {
        // Numbered by the visit that the join will begin, so that each fires once.
        let visits = state.steps.get(step_id).map_or(0, |step| step.visits.len());
        let visit = u32::try_from(visits + 1).ok()?;
        let kind = TimerKind::JoinTimeout;
        Some(Timer {
            id: row_id(state.task_id, Some(step_id), visit, kind, 0),
            task_id: state.task_id,
            step_id: Some(step_id.clone()),
            visit,
            kind,
            n: 0,
            due_at: join.expires_at?,
        })
    })
}

/// The timer that ends a pause of a visit or of the whole task.
fn resume(task_id: TaskId, of: Option<(&StepId, u32)>, pause: Option<&Pause>) -> Option<Timer> {
    let due_at = pause?.until?;
    let (step_id, visit) = of.map_or((None, 0), |(step_id, visit)| (Some(step_id), visit));
    Some(Timer {
        id: row_id(task_id, step_id, visit, TimerKind::Resume, 0),
        task_id,
        step_id: step_id.cloned(),
        visit,
        kind: TimerKind::Resume,
        n: 0,
        due_at,
    })
}

fn child_orders(state: &WorkflowSnapshot) -> impl Iterator<Item = Timer> {
    state.steps.iter().flat_map(|(step_id, step)| {
        step.visits.iter().filter_map(|visit| {
            let order = visit.child.as_ref()?.order.as_ref()?;
            let kind = order_kind(order.order);
            Some(Timer {
                id: row_id(state.task_id, Some(step_id), visit.number, kind, order.n),
                task_id: state.task_id,
                step_id: Some(step_id.clone()),
                visit: visit.number,
                kind,
                n: order.n,
                due_at: order.due_at,
            })
        })
    })
}

pub(crate) fn order_kind(order: ChildOrder) -> TimerKind {
    match order {
        ChildOrder::Start => TimerKind::ChildStart,
        ChildOrder::Pause => TimerKind::ChildPause,
        ChildOrder::Resume => TimerKind::ChildResume,
        ChildOrder::Cancel => TimerKind::ChildCancel,
    }
}

/// Steps that still wait although their child has ended, because the task was paused at that time.
fn ended_children(state: &WorkflowSnapshot) -> impl Iterator<Item = Timer> {
    state.steps.iter().filter_map(|(step_id, step)| {
        let visit = step.current()?;
        let child = visit.child.as_ref()?;
        let unused = visit.is_open() && child.outcome.is_some();
        let kind = TimerKind::ChildEnded;
        (unused && state.incident_of(step_id).is_none()).then(|| Timer {
            id: row_id(state.task_id, Some(step_id), visit.number, kind, child.n),
            task_id: state.task_id,
            step_id: Some(step_id.clone()),
            visit: visit.number,
            kind,
            n: child.n,
            // Due as soon as the task may continue. A child ends once, so its number makes the row
            // unique.
            due_at: visit.activated_at,
        })
    })
}

fn child_report(state: &WorkflowSnapshot) -> Option<Timer> {
    Some(Timer {
        id: row_id(state.task_id, None, 0, TimerKind::ChildReport, 0),
        task_id: state.task_id,
        step_id: None,
        visit: 0,
        kind: TimerKind::ChildReport,
        n: 0,
        due_at: state.report_due?,
    })
}

fn row_id(task: TaskId, step: Option<&StepId>, visit: u32, kind: TimerKind, n: u32) -> Uuid {
    let step = step.map_or("", StepId::as_str);
    Uuid::new_v5(
        &task.0,
        format!("due/{step}/{visit}/{}/{n}", kind.as_str()).as_bytes(),
    )
}
