//! The output of a task.

use serde_json::{Map, Value, json};

use crate::{
    state::{ResultKind, WorkflowSnapshot},
    transition::result_json,
};

/// The output: the value of the last completed step that has one, and which step that was; null
/// where a review has refused that value since. Then the agreement of the last consensus step
/// passed, the method that found the value, every step's last result, and the context.
pub(crate) fn task_output(state: &WorkflowSnapshot) -> Value {
    let results = || state.completed_results().map(|(_, result)| result);
    let last = state.last_value();
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
        "result": last.and_then(|(_, result)| result.value.clone()),
        "result_of": last.map(|(at, _)| json!({"step": at.step_id, "visit": at.visit})),
        "agreement": agreement,
        "resolved_by": last.and_then(|(_, result)| result.resolved_by),
        "steps": steps,
        "context": state.context,
    })
}
