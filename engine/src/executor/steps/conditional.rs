//! A step whose expression chooses the path.

use crate::{
    executor::{Closing, ExecutionContext, ExecutionResult, ExecutorError, StepExecutor},
    state::{ResultKind, StepResult},
    transition::variables,
};

/// Evaluates the expression. The verdict is the result's `decision`; there is no value, so a
/// condition never replaces an answer.
pub(super) struct ConditionalExecutor;

impl StepExecutor for ConditionalExecutor {
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError> {
        let step = context.step;
        let verdict = match (context.closing, context.expression) {
            // An operator may supply the verdict if the expression cannot be evaluated.
            (Some(Closing::Advance(Some(serde_json::Value::Bool(verdict)))), _) => *verdict,
            (_, None) => {
                return Err(ExecutorError::MissingKey {
                    step_id: step.id.clone(),
                    key: "condition.expression",
                });
            }
            (_, Some(expression)) => expression
                .evaluate_bool(&variables(
                    context.workflow,
                    context.state,
                    step,
                    context.visit,
                ))
                .map_err(|source| ExecutorError::Expression {
                    step_id: step.id.clone(),
                    expression: expression.source().to_owned(),
                    source,
                })?,
        };
        Ok(ExecutionResult::completed(StepResult {
            decision: Some(verdict.to_string()),
            ..StepResult::new(ResultKind::Conditional)
        }))
    }
}
