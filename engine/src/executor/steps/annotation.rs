//! Annotation: several people label the item.

use serde_json::Value;

use super::{
    comparison::{ComparedVisit, Comparison, compare},
    confidence,
};
use crate::{
    answer::{Question, value_at},
    config::{DisagreementStrategy, StepConfig, TieBreaker},
    events::{ConsensusCalculated, ConsensusMethod, FieldCalculated},
    executor::{
        Closing, ExecutionContext, ExecutionResult, ExecutorError, StepExecutor,
        annotators::ModelKey,
    },
    state::{ResolvedBy, ResultKind, StepResult, Visit},
};

/// Waits for the required number of annotations, then makes one value of them.
pub(super) struct AnnotationExecutor;

impl StepExecutor for AnnotationExecutor {
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError> {
        let visit = context.visit;
        let full = visit
            .slots
            .is_some_and(|slots| visit.annotations.len() as u64 >= u64::from(slots));
        if !full && context.closing.is_none() {
            return Ok(ExecutionResult::Waiting {
                reason: waiting(visit),
            });
        }
        // A manual step ends by an `advance`; an early close is one before the number is reached.
        let exhausted = !full && visit.slots.is_some();
        if let Some(Closing::Advance(Some(output))) = context.closing {
            return Ok(ExecutionResult::completed(given(visit, output.clone())));
        }
        let question = context.question();
        if let Some(key) = ModelKey::of_confidence(&context.workflow.id, context.step, &question) {
            return Ok(confidence::decide(
                context,
                &question,
                &key,
                context.closing.is_some(),
            ));
        }
        let Some(consensus) = &context.step.consensus else {
            return Ok(ExecutionResult::completed(as_they_are(
                &question, visit, exhausted,
            )));
        };
        let compared = ComparedVisit {
            step: context.step,
            visit,
            question: &question,
        };
        let Comparison {
            mut calculated,
            agreed,
            disputed,
        } = compare(context, consensus, compared, exhausted);
        if let Some(slots) = more_slots(context.step, visit, &calculated, exhausted) {
            calculated.more = Some(1);
            return Ok(ExecutionResult::NeedsMore {
                slots,
                consensus: Box::new(calculated),
            });
        }
        Ok(ExecutionResult::Completed {
            result: StepResult {
                value: calculated.value.clone(),
                agreement: calculated.agreement,
                resolved_by: calculated.resolved_by,
                annotations: visit.annotation_ids(),
                agreed,
                disputed,
                ..StepResult::new(ResultKind::Consensus)
            },
            consensus: Some(Box::new(calculated)),
        })
    }
}

fn waiting(visit: &Visit) -> String {
    let (got, reserved) = (visit.annotations.len(), visit.assignments.len());
    let asked = visit
        .slots
        .map_or_else(String::new, |slots| format!(" of {slots}"));
    let held = if reserved > 0 {
        format!(", {reserved} claimed")
    } else {
        String::new()
    };
    format!("{got}{asked} annotations{held}")
}

/// An outcome supplied by an operator or a machine replaces the annotations.
fn given(visit: &Visit, value: Value) -> StepResult {
    StepResult {
        value: (!value.is_null()).then_some(value),
        resolved_by: Some(ResolvedBy::Exhausted),
        annotations: visit.annotation_ids(),
        ..StepResult::new(ResultKind::Annotation)
    }
}

/// Without a consensus rule: one annotation is the value; several become a list in order of
/// acceptance.
fn as_they_are(question: &Question, visit: &Visit, exhausted: bool) -> StepResult {
    let mut values: Vec<Value> = visit
        .annotations
        .iter()
        .map(|a| {
            value_at(&a.data, question.field())
                .cloned()
                .unwrap_or_default()
        })
        .collect();
    let value = match values.len() {
        0 => None,
        1 => values.pop(),
        _ => Some(Value::Array(values)),
    };
    StepResult {
        resolved_by: value.is_some().then_some(if exhausted {
            ResolvedBy::Exhausted
        } else {
            ResolvedBy::Annotation
        }),
        value,
        annotations: visit.annotation_ids(),
        ..StepResult::new(ResultKind::Annotation)
    }
}

/// How many additional people are asked at most if the file has no `max_additional`.
const ADDITIONAL_DEFAULT: u32 = 1;

/// The slots of a visit whose annotators do not settle it, if one more person may be asked. Always
/// one at a time, so nobody is asked for an answer that is already settled.
fn more_slots(
    step: &StepConfig,
    visit: &Visit,
    calculated: &ConsensusCalculated,
    exhausted: bool,
) -> Option<u32> {
    let consensus = step.consensus.as_ref()?;
    // After a migration the visit may have more annotations than the step now asks for.
    let given = u32::try_from(visit.annotations.len()).unwrap_or(u32::MAX);
    let slots = visit.slots?.max(given);
    let asks_on = ConsensusMethod::Disagreement(DisagreementStrategy::AdditionalAnnotators);
    let open = |field: &FieldCalculated| field.tied && field.value.is_none();
    let no_value = calculated.value.is_none() || calculated.fields.iter().any(open);
    let breaks_tie =
        calculated.tied && no_value && consensus.tie_breaker == TieBreaker::AdditionalAnnotator;
    if exhausted || (calculated.method != asks_on && !breaks_tie) {
        return None;
    }
    let additional = consensus
        .on_disagreement
        .max_additional
        .unwrap_or(ADDITIONAL_DEFAULT);
    let most = step.slots()?.saturating_add(additional);
    (slots < most).then_some(slots + 1)
}
