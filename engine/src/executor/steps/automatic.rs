//! A step that a handler does without a person.

use serde_json::Value;

use crate::{
    config::{CompletionType, ExternalHandler},
    executor::{
        Closing, ExecutionContext, ExecutionResult, ExecutorError, HandlerInput, StepExecutor,
        run_handler,
    },
    state::{PendingCall, ResolvedBy, ResultKind, StepResult},
};

/// Calls the handler; an `advance` with an output replaces it.
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
        let Some(handler) = context.handlers.get(name) else {
            let outside = step.external_handler();
            let handler = outside.ok_or_else(|| ExecutorError::UnknownHandler {
                step_id: step.id.clone(),
                handler: name.to_owned(),
            })?;
            return Ok(external_handler(context, handler));
        };
        let config = step.config.as_ref().unwrap_or(&Value::Null);
        let input = HandlerInput { config, context };
        let output = run_handler(&**handler, &input).map_err(|source| ExecutorError::Handler {
            step_id: step.id.clone(),
            handler: name.to_owned(),
            source,
        })?;
        Ok(ExecutionResult::Completed {
            result: StepResult {
                resolved_by: output.value.as_ref().and(output.resolved_by),
                value: output.value,
                agreement: output.agreement,
                agreed: output.agreed,
                disputed: output.disputed,
                ..StepResult::new(output.kind)
            },
            consensus: output.consensus,
        })
    }
}

/// Waits for the reply of an external handler, after calling it. An `advance` without an output
/// ends the wait without a value.
fn external_handler(context: &ExecutionContext<'_>, handler: ExternalHandler) -> ExecutionResult {
    match &context.visit.call {
        Some(call) if call.handler == handler => match context.closing {
            None => ExecutionResult::Waiting {
                reason: waiting(call),
            },
            Some(_) => ExecutionResult::completed(given(&Value::Null)),
        },
        _ => ExecutionResult::NeedsCall { handler },
    }
}

fn waiting(call: &PendingCall) -> String {
    let PendingCall {
        handler, attempt, ..
    } = call;
    match &call.last_error {
        None => format!("the answer of `{handler}`"),
        Some(error) => format!("the answer of `{handler}`, attempt {attempt}, after: {error}"),
    }
}

fn given(output: &Value) -> StepResult {
    StepResult {
        value: (!output.is_null()).then(|| output.clone()),
        resolved_by: (!output.is_null()).then_some(ResolvedBy::Handler),
        ..StepResult::new(ResultKind::Auto)
    }
}
