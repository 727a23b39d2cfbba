//! The commands that timers carry between a parent and its child tasks.

use uuid::Uuid;

use super::derive::order_kind;
use crate::{
    command::{ChildCommand, ChildReport, ChildStart, Command, CommandEnvelope},
    ids::{TaskId, WorkflowSelector},
    state::{ChildOrder, ParentTask, WorkflowSnapshot},
    store::Timer,
};

/// The parent's command to its child for `row`; none if the order was delivered already.
pub(super) fn order(state: &WorkflowSnapshot, row: &Timer) -> Option<CommandEnvelope> {
    let step_id = row.step_id.as_ref()?;
    let child = state.visit(step_id, row.visit)?.child.as_ref()?;
    let pending = child.order.as_ref()?;
    if pending.n != row.n || order_kind(pending.order) != row.kind {
        return None;
    }
    let command = match pending.order {
        ChildOrder::Start => ChildCommand::Start(ChildStart {
            task_id: child.task_id,
            workflow: WorkflowSelector::Latest(child.workflow.clone()),
            input: child.input.clone(),
            labels: child.labels.clone(),
            holders: child.holders.clone(),
            parent: ParentTask {
                task_id: state.task_id,
                step_id: step_id.clone(),
                visit: row.visit,
                root_task_id: root(state),
                correlation_id: child.correlation_id.clone(),
                depth: state.parent.as_ref().map_or(0, |parent| parent.depth) + 1,
                depth_max: child.depth_max,
            },
        }),
        order @ (ChildOrder::Pause | ChildOrder::Resume | ChildOrder::Cancel) => {
            ChildCommand::Order {
                task_id: child.task_id,
                parent_task_id: state.task_id,
                order,
            }
        }
    };
    Some(envelope(row, command, child.correlation_id.clone()))
}

/// The child's report to its parent for `row`; none if the parent was notified already.
pub(super) fn report(state: &WorkflowSnapshot, row: &Timer) -> Option<CommandEnvelope> {
    let parent = state.parent.as_ref()?;
    if state.report_due != Some(row.due_at) {
        return None;
    }
    let report = ChildReport {
        task_id: parent.task_id,
        child_task_id: state.task_id,
        status: state.status,
        workflow: state.workflow.clone(),
        output: state.output.clone(),
        error: state.error.clone(),
        people: state.people(),
    };
    let command = ChildCommand::Report(report);
    Some(envelope(row, command, parent.correlation_id.clone()))
}

fn root(state: &WorkflowSnapshot) -> TaskId {
    let parent = state.parent.as_ref();
    parent.map_or(state.task_id, |parent| parent.root_task_id)
}

/// The id is derived from the row, and the content from state that is kept unchanged since the row
/// was written. So every process that fires the row sends the same command.
fn envelope(row: &Timer, command: ChildCommand, correlation_id: Option<String>) -> CommandEnvelope {
    let id = Uuid::new_v5(&row.id, b"command");
    CommandEnvelope {
        correlation_id,
        ..CommandEnvelope::new(id, Command::Child(command))
    }
}
