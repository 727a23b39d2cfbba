//! A handler works without a person.

use serde_json::Value;

use crate::{
    config::CompletionType,
    executor::{
        Closing, ExecutionContext, ExecutionResult, ExecutorError, HandlerInput, StepExecutor,
    },
    state::{ResolvedBy, ResultKind, StepResult},
};

/// Calls the handler; an `advance` with an output stands in for it.
pub(super) struct AutoProcessExecutor;

impl StepExecutor for AutoProcessExecutor {
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError> {
        let step = context.step;
        if let Some(Closing::Advance(Some(output))) = context.closing {
            return Ok(ExecutionResult::completed(given(output)));
        }
        if step.completion_type() == CompletionType::Manual && context.closing.is_none() {
            return Ok(ExecutionResult::Waiting {
                reason: "an `advance`".to_owned(),
            });
        }
        let missing = || ExecutorError::MissingKey {
            step_id: step.id.clone(),
            key: "handler",
        };
        let name = step.handler.as_deref().ok_or_else(missing)?;
        let handler = context
            .handlers
            .get(name)
            .ok_or_else(|| ExecutorError::UnknownHandler {
                step_id: step.id.clone(),
                handler: name.to_owned(),
            })?;
        let config = step.config.as_ref().unwrap_or(&Value::Null);
        let output = handler
            .run(&HandlerInput { config, context })
            .map_err(|source| ExecutorError::Handler {
                step_id: step.id.clone(),
                handler: name.to_owned(),
                source,
            })?;
        Ok(ExecutionResult::Completed {
            result: StepResult {
                kind: output.kind,
                resolved_by: output.value.as_ref().and(output.resolved_by),
                value: output.value,
                agreement: output.agreement,
                decision: None,
                annotations: Vec::new(),
            },
            consensus: output.consensus,
        })
    }
}

fn given(output: &Value) -> StepResult {
    StepResult {
        kind: ResultKind::Auto,
        value: (!output.is_null()).then(|| output.clone()),
        agreement: None,
        resolved_by: (!output.is_null()).then_some(ResolvedBy::Handler),
        decision: None,
        annotations: Vec::new(),
    }
}
