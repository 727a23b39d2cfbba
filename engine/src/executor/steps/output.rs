//! The output of a task.

use serde_json::{Map, Value, json};

use crate::{
    state::{ResultKind, StepResult, WorkflowSnapshot},
    transition::result_json,
};

/// The output: the value of the last completed step that has one, the agreement of the last
/// consensus step passed, the method that found the value, every step's last result, and the
/// context.
pub(crate) fn task_output(state: &WorkflowSnapshot) -> Value {
    let results = || {
        state.completed.iter().rev().filter_map(|completed| {
            state
                .visit(&completed.step_id, completed.visit)?
                .result
                .as_ref()
        })
    };
    let last: Option<&StepResult> = results().find(|result| result.value.is_some());
    let agreement = results()
        .find(|result| result.kind == ResultKind::Consensus)
        .and_then(|result| result.agreement);
    let steps: Map<String, Value> = state
        .steps
        .iter()
        .filter_map(|(id, step)| {
            let result = step.last_completed()?.result.as_ref()?;
            Some((id.to_string(), result_json(result)))
        })
        .collect();
    json!({
        "result": last.and_then(|result| result.value.clone()),
        "agreement": agreement,
        "resolved_by": last.and_then(|result| result.resolved_by),
        "steps": steps,
        "context": state.context,
    })
}
