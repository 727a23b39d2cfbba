//! Adjudication: one person decides where annotators disagree.

use super::comparison::value_of;
use crate::{
    executor::{Closing, ExecutionContext, ExecutionResult, ExecutorError, StepExecutor, settled},
    state::{ResolvedBy, ResultKind, StepResult},
};

/// Waits for an adjudicator's value.
pub(super) struct AdjudicationExecutor;

impl StepExecutor for AdjudicationExecutor {
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError> {
        let (value, resolved_by) = match (context.visit.annotations.last(), context.closing) {
            (_, Some(Closing::Advance(Some(output)))) => {
                (Some(output.clone()), ResolvedBy::Exhausted)
            }
            (Some(annotation), _) => {
                let agreed = settled(context.step, context.visit).map(|(agreed, _)| agreed);
                let question = context.question();
                let value = value_of(&question, &annotation.data, agreed, context.input());
                (value, ResolvedBy::Adjudication)
            }
            (None, _) => {
                return Ok(ExecutionResult::Waiting {
                    reason: context.waiting_for_person("adjudication"),
                });
            }
        };
        Ok(ExecutionResult::completed(StepResult {
            resolved_by: value.is_some().then_some(resolved_by),
            value,
            agreement: context.reviewed_agreement(),
            annotations: context.visit.annotation_ids(),
            ..StepResult::new(ResultKind::Adjudication)
        }))
    }
}
