//! The variables that an expression can read.

use serde_json::{Map, Value, json};

use crate::{
    config::{StepConfig, WorkflowConfig},
    state::{StepResult, Visit, WorkflowSnapshot},
};

/// The variables of an expression: `agreement`, `threshold` and `result` of the step left,
/// `annotation` (the last one's data), `step`, `context` and `input`.
pub(crate) fn variables(
    workflow: &WorkflowConfig,
    state: &WorkflowSnapshot,
    step: &StepConfig,
    visit: &Visit,
) -> Value {
    // A step without a result of its own (a conditional step evaluates before it ends) reads the
    // result of the step that led to it, whatever other branches have reached. If that step has no
    // result, it reads the most recent result of the task.
    let left = || {
        let from = state.steps.get(visit.entered_from.as_ref()?)?;
        from.last_completed()?.result.as_ref()
    };
    let result = visit.result.as_ref().or_else(left);
    let result = result.or_else(|| last_result(state));
    let annotation = visit
        .annotations
        .last()
        .or_else(|| {
            let judged = visit.reviewed.as_ref()?;
            state
                .visit(&judged.step_id, judged.visit)?
                .annotations
                .last()
        })
        .map_or(Value::Null, |annotation| annotation.data.clone());
    let threshold = step
        .consensus
        .as_ref()
        .or_else(|| {
            workflow
                .step(&visit.reviewed.as_ref()?.step_id)?
                .consensus
                .as_ref()
        })
        .map(|consensus| consensus.threshold);
    json!({
        "agreement": result.and_then(|r| r.agreement),
        "threshold": threshold,
        "result": result.map_or(Value::Null, result_json),
        "annotation": annotation,
        "step": steps_json(workflow, state),
        "context": state.context,
        "input": state.input,
    })
}

fn last_result(state: &WorkflowSnapshot) -> Option<&StepResult> {
    let last = state.completed.last()?;
    state.visit(&last.step_id, last.visit)?.result.as_ref()
}

fn steps_json(workflow: &WorkflowConfig, state: &WorkflowSnapshot) -> Map<String, Value> {
    let of_step = |id: &str| {
        let step = state.steps.get(id);
        let completed = step.and_then(|s| s.last_completed());
        json!({
            "completed": completed.is_some(),
            "visits": step.map_or(0, |s| s.visits.len()),
            "prepared": step.and_then(|s| s.current()?.prepared.as_ref()),
            "result": completed.and_then(|v| v.result.as_ref()).map_or(Value::Null, result_json),
        })
    };
    workflow
        .steps
        .iter()
        .map(|step| (step.id.to_string(), of_step(&step.id)))
        .collect()
}

/// A result as expressions and outputs see it: every key is present, and null where there is no
/// value.
pub(crate) fn result_json(result: &StepResult) -> Value {
    let mut fields = json!({
        "kind": result.kind,
        "value": result.value,
        "agreement": result.agreement,
        "resolved_by": result.resolved_by,
        "decision": result.decision,
        "annotations": result.annotations,
    });
    if let Some(posterior) = &result.posterior {
        fields["posterior"] = json!(posterior);
    }
    if let Some(reached) = result.reached {
        fields["reached"] = json!(reached);
    }
    for (key, part) in [("agreed", &result.agreed), ("disputed", &result.disputed)] {
        if let Some(part) = part {
            fields[key] = part.clone();
        }
    }
    fields
}
