//! The variables that an expression can read.

use std::{
    iter::successors,
    sync::{Arc, OnceLock},
};

use serde_json::{Map, Value, json};

use crate::{
    config::{StepConfig, WorkflowConfig},
    expression::{Variable, Variables},
    state::{AnnotationData, StepResult, Visit, WorkflowSnapshot},
};

/// The variables of an expression at a visit. Each is made when an expression names it; the task's
/// own data is lent.
pub(crate) struct Scope<'a> {
    workflow: &'a WorkflowConfig,
    state: &'a WorkflowSnapshot,
    step: &'a StepConfig,
    visit: &'a Visit,
    result: OnceLock<Value>,
    steps: OnceLock<Value>,
}

/// The variables of an expression: `agreement`, `threshold` and `result` of the step left,
/// `annotation` (the last one's data) and `annotations` (the data of all), `step`, `context`,
/// `input`, `labels` and the task's id.
pub(crate) fn variables<'a>(
    workflow: &'a WorkflowConfig,
    state: &'a WorkflowSnapshot,
    step: &'a StepConfig,
    visit: &'a Visit,
) -> Scope<'a> {
    Scope {
        workflow,
        state,
        step,
        visit,
        result: OnceLock::new(),
        steps: OnceLock::new(),
    }
}

impl Variables for Scope<'_> {
    fn variable(&self, name: &str) -> Option<Variable<'_>> {
        let task_id = || self.state.task_id.to_string();
        Some(match name {
            "agreement" => Variable::Made(json!(self.left().and_then(|r| r.agreement))),
            "threshold" => Variable::Made(json!(self.threshold())),
            "result" => Variable::Value(
                self.result
                    .get_or_init(|| self.left().map_or(Value::Null, result_json)),
            ),
            "annotation" => match self.annotations().last() {
                Some(last) => Variable::Value(&last.data),
                None => Variable::Made(Value::Null),
            },
            "annotations" => {
                Variable::List(self.annotations().iter().map(|given| &given.data).collect())
            }
            "step" => Variable::Value(
                self.steps
                    .get_or_init(|| steps_json(self.workflow, self.state).into()),
            ),
            "context" => Variable::Mapping(&self.state.context),
            "input" => match &self.state.input {
                Some(input) => Variable::Value(input),
                None => Variable::Made(Value::Null),
            },
            "labels" => Variable::Made(json!(self.state.labels)),
            "task" => Variable::Made(json!({"id": task_id()})),
            "task_id" => Variable::Made(task_id().into()),
            _ => return None,
        })
    }
}

impl<'a> Scope<'a> {
    /// The result that the expression reads. A step without a result of its own (a conditional step
    /// evaluates before it ends) reads the result of the step that led to it, whatever other branches
    /// have reached. If that step has no result, it reads the most recent result of the task.
    fn left(&self) -> Option<&'a StepResult> {
        let before = || {
            let from = self.state.steps.get(self.visit.entered_from.as_ref()?)?;
            from.last_completed()?.result.as_ref()
        };
        let result = self.visit.result.as_ref().or_else(before);
        result.or_else(|| last_result(self.state))
    }

    fn threshold(&self) -> Option<f64> {
        let of_subject = || {
            let subject = self.workflow.step(&self.visit.reviewed.as_ref()?.step_id)?;
            subject.consensus.as_ref()
        };
        let consensus = self.step.consensus.as_ref().or_else(of_subject);
        consensus.map(|consensus| consensus.threshold)
    }

    /// The annotations of the visit or, where it has none, of the nearest subject before it that has
    /// some. A step without people is thus asked about the people before it.
    fn annotations(&self) -> &'a [Arc<AnnotationData>] {
        let before = |visit: &&'a Visit| {
            let subject = visit.reviewed.as_ref()?;
            self.state.visit(&subject.step_id, subject.visit)
        };
        let visits = self.state.steps.values().map(|step| step.visits.len());
        successors(Some(self.visit), before)
            .take(1 + visits.sum::<usize>())
            .find(|visit| !visit.annotations.is_empty())
            .map_or(&[], |visit| &visit.annotations)
    }
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
/// value. `posterior` alone is present only where the step completes by confidence.
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
    if let Some(audit) = &result.audit {
        fields["audit"] = json!(audit);
    }
    for (key, part) in [("agreed", &result.agreed), ("disputed", &result.disputed)] {
        if let Some(part) = part {
            fields[key] = part.clone();
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        expression::Fields,
        state::{AuditResult, ResultKind, SoftLabels},
    };

    #[test]
    fn expressions_know_the_keys_of_a_result() {
        let mut result = StepResult {
            reached: Some(false),
            agreed: Some(json!([])),
            disputed: Some(json!([])),
            audit: Some(Box::new(AuditResult {
                votes: Vec::new(),
                value: None,
                posterior: SoftLabels::default(),
            })),
            posterior: Some(Box::new(SoftLabels::default())),
            ..StepResult::new(ResultKind::Annotation)
        };
        let sorted = |mut keys: Vec<&str>| {
            keys.sort_unstable();
            keys.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let keys_of = |value: &Value| {
            sorted(
                value
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(String::as_str)
                    .collect(),
            )
        };
        let full = result_json(&result);
        assert_eq!(keys_of(&full), sorted(Fields::Result.keys().to_vec()));
        let posterior = &full["posterior"];
        assert_eq!(
            keys_of(posterior),
            sorted(Fields::Posterior.keys().to_vec())
        );
        result.posterior = None;
        assert_eq!(result_json(&result).get("posterior"), None);
    }
}
