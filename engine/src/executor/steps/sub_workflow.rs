//! A step that runs another workflow as a child task.

use crate::{
    executor::{Closing, ExecutionContext, ExecutionResult, ExecutorError, StepExecutor},
    state::{ChildOutcome, ResolvedBy, ResultKind, StepResult, TaskStatus},
};

/// Waits for the child's outcome; an `advance` with an output replaces it.
pub(super) struct SubWorkflowExecutor;

impl StepExecutor for SubWorkflowExecutor {
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError> {
        let result = |value: Option<_>, agreement, resolved_by| {
            ExecutionResult::completed(StepResult {
                resolved_by: value.is_some().then_some(resolved_by),
                value,
                agreement,
                ..StepResult::new(ResultKind::SubWorkflow)
            })
        };
        if let Some(Closing::Advance(Some(output))) = context.closing {
            return Ok(result(Some(output.clone()), None, ResolvedBy::Exhausted));
        }
        let Some(child) = &context.visit.child else {
            return Ok(waiting("a child task".to_owned()));
        };
        match &child.outcome {
            None => Ok(waiting(child.describe())),
            Some(ChildOutcome {
                status: TaskStatus::Completed,
                value,
                agreement,
                ..
            }) => Ok(result(value.clone(), *agreement, ResolvedBy::SubWorkflow)),
            Some(ended) => Err(ExecutorError::Child {
                step_id: context.step.id.clone(),
                child: child.task_id,
                status: ended.status,
                reason: ended
                    .error
                    .clone()
                    .unwrap_or_else(|| "no reason given".to_owned()),
            }),
        }
    }
}

fn waiting(reason: String) -> ExecutionResult {
    ExecutionResult::Waiting { reason }
}
