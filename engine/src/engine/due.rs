//! Due work, derived from a task's state.
//!
//! Nothing sets or clears a timer by hand: after every decision the rows that the new state asks
//! for are compared with those of the old one, and the difference is written with the events. So a
//! rebuild from the log finds the same rows.

use uuid::Uuid;

use crate::{
    ids::{CommandId, StepId, TaskId},
    state::{TaskStatus, VisitStatus, WorkflowSnapshot},
    store::{DueKind, DueRow},
};

/// All due work of a task in this state, sorted by id.
///
/// While a task is paused its inactivity timers do not run; what was left of them is due again
/// after the resume.
pub fn due_work(state: &WorkflowSnapshot) -> Vec<DueRow> {
    let mut rows = match state.status {
        TaskStatus::Running => assignment_timeouts(state)
            .into_iter()
            .chain(join_timeouts(state))
            .collect(),
        TaskStatus::Paused => resume(state).into_iter().collect(),
        TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled => Vec::new(),
    };
    rows.sort_by_key(|row| row.id);
    rows
}

/// The id of the command that a row becomes when it is due: the same however often the row is
/// claimed, another once the row has moved to another time.
pub fn due_command_id(row: &DueRow) -> CommandId {
    CommandId(Uuid::new_v5(
        &row.id,
        &row.due_at.timestamp_micros().to_be_bytes(),
    ))
}

fn assignment_timeouts(state: &WorkflowSnapshot) -> Vec<DueRow> {
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
                let kind = DueKind::AssignmentTimeout;
                DueRow {
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

fn join_timeouts(state: &WorkflowSnapshot) -> impl Iterator<Item = DueRow> {
    state.joins.iter().filter_map(|(step_id, join)| {
        // Numbered by the visit that the join will begin: each fires once.
        let visits = state.steps.get(step_id).map_or(0, |step| step.visits.len());
        let visit = u32::try_from(visits + 1).ok()?;
        let kind = DueKind::JoinTimeout;
        Some(DueRow {
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

fn resume(state: &WorkflowSnapshot) -> Option<DueRow> {
    let due_at = state.pause.as_ref()?.until?;
    Some(DueRow {
        id: row_id(state.task_id, None, 0, DueKind::Resume, 0),
        task_id: state.task_id,
        step_id: None,
        visit: 0,
        kind: DueKind::Resume,
        n: 0,
        due_at,
    })
}

fn row_id(task: TaskId, step: Option<&StepId>, visit: u32, kind: DueKind, n: u32) -> Uuid {
    let step = step.map_or("", StepId::as_str);
    Uuid::new_v5(
        &task.0,
        format!("due/{step}/{visit}/{}/{n}", kind.as_str()).as_bytes(),
    )
}
