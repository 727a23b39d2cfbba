//! What due work asks the world to do, before its decision.
//!
//! Most due work is a decision and nothing else. Some asks for something that takes time or may
//! fail: a call to a handler outside, a command to another task. Its effect is performed without a
//! transaction or a lock, and what it came to goes back as the outcome of the [`Due`] command. A
//! crash in between repeats the effect, never the decision: the command's id follows from the row.
//!
//! [`Due`]: super::command::Due

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{children, command::CommandEnvelope};
use crate::{
    ids::{StepId, TaskId},
    state::{WorkflowRef, WorkflowSnapshot},
    store::{DueKind, DueRow},
    transition::CompiledWorkflow,
};

/// What is to be done for a row of due work.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A handler outside is to be called.
    Call(HandlerCall),
    /// Another task is to be told something. Its id makes a repetition harmless.
    Command(Box<CommandEnvelope>),
}

/// A call to a handler outside. The fields that are not skipped are what the handler is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandlerCall {
    /// The same for every attempt of this call: whoever has seen it has done the work.
    pub idempotency_key: Uuid,
    /// The task.
    pub task_id: TaskId,
    /// The revision that the task runs on.
    #[serde(flatten)]
    pub workflow: WorkflowRef,
    /// The step.
    pub step_id: StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// Number of the call within the visit, from 1.
    pub call: u32,
    /// The attempt at this call, from 1.
    pub attempt: u32,
    /// The kind of handler, as `webhook`.
    #[serde(skip)]
    pub handler: String,
    /// The handler's own settings, from the workflow file.
    #[serde(skip)]
    pub config: Value,
    /// What it works on.
    pub input: Value,
}

impl HandlerCall {
    /// The idempotency key of a call: derived from what it is for, the same for every attempt.
    pub fn key(task: TaskId, step: &StepId, visit: u32, call: u32) -> Uuid {
        Uuid::new_v5(&task.0, format!("call/{step}/{visit}/{call}").as_bytes())
    }
}

fn tell(command: Option<CommandEnvelope>) -> Option<Effect> {
    command.map(|envelope| Effect::Command(Box::new(envelope)))
}

/// What is to be done for `row` before it is decided; none where the state no longer asks for the
/// row, or where it is a decision and nothing else.
pub fn effect_of(
    state: &WorkflowSnapshot,
    workflow: &CompiledWorkflow,
    row: &DueRow,
) -> Option<Effect> {
    let _ = (state, workflow);
    match row.kind {
        DueKind::AssignmentTimeout
        | DueKind::Resume
        | DueKind::JoinTimeout
        | DueKind::ChildEnded
        | DueKind::HandlerCall => None,
        DueKind::ChildStart | DueKind::ChildPause | DueKind::ChildResume | DueKind::ChildCancel => {
            tell(children::order(state, row))
        }
        DueKind::ChildReport => tell(children::report(state, row)),
    }
}
