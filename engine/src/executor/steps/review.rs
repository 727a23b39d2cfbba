//! Review: one person approves, rejects, requests changes or fixes the work of others.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::comparison::value_of;
use crate::{
    executor::{ExecutionContext, ExecutionResult, ExecutorError, StepExecutor},
    state::{AnnotationData, ResolvedBy, ResultKind, ReviewDecision, StepResult},
};

/// Waits for a reviewer's decision.
pub(super) struct ReviewExecutor;

/// The reviewer's replacement for the value under review: the data without the decision and its
/// reason, if the data contain them; null if nothing else is left.
pub(crate) fn corrected(annotation: &AnnotationData) -> Cow<'_, Value> {
    let own = annotation.data.as_object();
    let Some(fields) = own.filter(|_| annotation.decision.is_none()) else {
        return Cow::Borrowed(&annotation.data);
    };
    let is_own = |key: &String| matches!(key.as_str(), "decision" | "reason");
    let fields = fields.iter().filter(|(key, _)| !is_own(key));
    let fields: Map<String, Value> = fields.map(|(k, v)| (k.clone(), v.clone())).collect();
    Cow::Owned(if fields.is_empty() {
        Value::Null
    } else {
        Value::Object(fields)
    })
}

impl StepExecutor for ReviewExecutor {
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError> {
        let waiting = || {
            Ok(ExecutionResult::Waiting {
                reason: context.waiting_for_person("review"),
            })
        };
        let Some(annotation) = context.visit.annotations.last() else {
            return waiting();
        };
        // A submission without a decision was rejected before it was accepted.
        let Some(decision) = annotation.review_decision() else {
            return waiting();
        };
        let value = match decision {
            ReviewDecision::Approve => context.subject_value().cloned(),
            ReviewDecision::Fix => {
                let question = context.question();
                value_of(&question, &corrected(annotation), None, context.input())
            }
            ReviewDecision::Reject | ReviewDecision::RequestChanges => None,
        };
        Ok(ExecutionResult::completed(StepResult {
            resolved_by: value.is_some().then_some(ResolvedBy::Review),
            value,
            agreement: context.reviewed_agreement(),
            decision: Some(decision.as_str().to_owned()),
            annotations: context.visit.annotation_ids(),
            ..StepResult::new(ResultKind::Review)
        }))
    }
}
