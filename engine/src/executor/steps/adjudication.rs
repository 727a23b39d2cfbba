//! Adjudication: one person decides where annotators disagree.

use crate::{
    executor::{Closing, ExecutionContext, ExecutionResult, ExecutorError, StepExecutor},
    state::{ResolvedBy, ResultKind, StepResult},
};

/// Waits for an adjudicator's value.
pub(super) struct AdjudicationExecutor;

impl StepExecutor for AdjudicationExecutor {
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError> {
        let judged = context
            .reviewed_visit()
            .and_then(|visit| visit.result.as_ref());
        let (value, resolved_by) = match (context.visit.annotations.last(), context.closing) {
            (_, Some(Closing::Advance(Some(output)))) => {
                (Some(output.clone()), ResolvedBy::Exhausted)
            }
            (Some(annotation), _) => (
                context.selection().value(&annotation.data),
                ResolvedBy::Adjudication,
            ),
            (None, _) => {
                return Ok(ExecutionResult::Waiting {
                    reason: context.waiting_for_person("adjudication"),
                });
            }
        };
        Ok(ExecutionResult::completed(StepResult {
            kind: ResultKind::Adjudication,
            resolved_by: value.is_some().then_some(resolved_by),
            value,
            agreement: judged.and_then(|result| result.agreement),
            decision: None,
            annotations: context.visit.annotation_ids(),
            posterior: None,
        }))
    }
}
