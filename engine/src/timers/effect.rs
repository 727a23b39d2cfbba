//! Effects: the work that a timer performs before its decision.
//!
//! Most timers need only a decision. Some also need work that takes time or may fail: a call to an
//! external handler, or a command to another task. This effect is performed without a transaction
//! or a lock, and its outcome is sent with the [`FireTimer`] command. A crash in between repeats
//! the effect but never the decision, because the command's id is derived from the row.
//!
//! [`FireTimer`]: crate::command::FireTimer

use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::children;
use crate::{
    command::CommandEnvelope,
    config::{ExternalHandler, HookId, HookStage, StepConfig, WorkflowConfig},
    ids::{StepId, TaskId},
    state::{PendingCall, StepResult, TaskStatus, Visit, WorkflowRef, WorkflowSnapshot},
    store::{Timer, TimerKind},
    transition::CompiledWorkflow,
};

/// What must be done for a timer before its decision.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Call an external handler.
    Call(HandlerCall),
    /// Send a command to another task. Its id makes a repetition harmless.
    Command(Box<CommandEnvelope>),
}

/// A call to an external handler. The serialized fields are the request that the handler gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandlerCall {
    /// The same for every attempt of this call, so a handler can recognize work it has done.
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
    /// The hook that is called; none for the step's own work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookStage>,
    /// The kind of handler, e.g. `webhook`.
    #[serde(skip)]
    pub handler: String,
    /// The handler's own settings, from the workflow file.
    #[serde(skip)]
    pub config: Value,
    /// The input of the handler.
    pub input: Value,
}

impl HandlerCall {
    /// The idempotency key of a call: derived from its position, the same for every attempt.
    pub fn key(task: TaskId, step: &StepId, visit: u32, call: u32) -> Uuid {
        Uuid::new_v5(&task.0, format!("call/{step}/{visit}/{call}").as_bytes())
    }
}

fn notify(command: Option<CommandEnvelope>) -> Option<Effect> {
    command.map(|envelope| Effect::Command(Box::new(envelope)))
}

/// What must be done for `row` before it is decided; none if the state no longer needs the row, or
/// if the row needs only a decision.
pub fn effect_of(
    state: &WorkflowSnapshot,
    workflow: &CompiledWorkflow,
    row: &Timer,
) -> Option<Effect> {
    match row.kind {
        TimerKind::HandlerCall => handler_call(state, workflow.config(), row).map(Effect::Call),
        TimerKind::AssignmentTimeout
        | TimerKind::Resume
        | TimerKind::JoinTimeout
        | TimerKind::ChildEnded
        | TimerKind::JobTimeout
        | TimerKind::ProceedTimeout => None,
        TimerKind::ChildStart
        | TimerKind::ChildPause
        | TimerKind::ChildResume
        | TimerKind::ChildCancel => notify(children::order(state, row)),
        TimerKind::ChildReport => notify(children::report(state, row)),
    }
}

fn handler_call(
    state: &WorkflowSnapshot,
    workflow: &WorkflowConfig,
    row: &Timer,
) -> Option<HandlerCall> {
    let (step_id, call) = pending_call(state, row)?;
    // After a migration, the step of that id may no longer have this call.
    let (handler, config) = asked(workflow.step(step_id)?, call.hook)?;
    if handler != call.handler {
        return None;
    }
    Some(HandlerCall {
        idempotency_key: HandlerCall::key(state.task_id, step_id, row.visit, call.n),
        task_id: state.task_id,
        workflow: state.workflow.clone(),
        step_id: step_id.clone(),
        visit: row.visit,
        call: call.n,
        attempt: call.attempt,
        hook: call.hook.map(|hook| hook.stage),
        handler: handler.as_str().to_owned(),
        config: config.cloned().unwrap_or_default(),
        input: call_input(state, state.visit(step_id, row.visit)?),
    })
}

/// The external handler that a step has for a call, and its settings.
pub(crate) fn asked(
    step: &StepConfig,
    hook: Option<HookId>,
) -> Option<(ExternalHandler, Option<&Value>)> {
    match hook {
        None => Some((step.external_handler()?, step.config.as_ref())),
        Some(hook) => {
            let hook = step.hook(hook)?;
            Some((hook.external_handler()?, hook.config.as_ref()))
        }
    }
}

/// The call of a row, if the state still waits for it: in this visit, with this number, due at this
/// time. After a pause, a retry or a migration the call is due at another time, and an older row no
/// longer matches.
pub(crate) fn pending_call<'s>(
    state: &'s WorkflowSnapshot,
    row: &Timer,
) -> Option<(&'s StepId, &'s PendingCall)> {
    let (step_id, step) = state.steps.get_key_value(row.step_id.as_ref()?)?;
    let visit = step.visits.iter().find(|visit| visit.number == row.visit)?;
    let call = visit.pending_call(row.n)?;
    let notifies = call.hook.is_some_and(|hook| !hook.stage.blocks_step());
    let held = match state.status {
        TaskStatus::Running => visit.pause.is_some(),
        TaskStatus::Paused | TaskStatus::Archived => true,
        TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled => !notifies,
    };
    if held {
        return None;
    }
    // Stores keep whole microseconds.
    let same_time = call.due_at?.timestamp_micros() == row.due_at.timestamp_micros();
    same_time.then_some((step_id, call))
}

/// The input of an external handler: the task's input and context, the last result of each step,
/// and what the visit has so far (the prepared data, and a result that may not be final yet).
pub(crate) fn call_input(state: &WorkflowSnapshot, visit: &Visit) -> Value {
    // Plain data with string keys always serializes.
    let plain = |result: &StepResult| serde_json::to_value(result).unwrap_or_default();
    let results: Map<String, Value> = state
        .steps
        .iter()
        .filter_map(|(id, step)| {
            let result = step.last_completed()?.result.as_ref()?;
            Some((id.to_string(), plain(result)))
        })
        .collect();
    let mut input = json!({
        "input": state.input,
        "context": state.context,
        "results": results,
    });
    if let Some(prepared) = &visit.prepared {
        input["prepared"] = prepared.clone();
    }
    let found = visit.found.as_ref().map(|found| &found.result);
    if let Some(result) = found.or(visit.result.as_ref()) {
        input["result"] = plain(result);
    }
    input
}
