//! Several people label the item.

use serde_json::Value;

use crate::{
    config::{
        AgreementMethod, ConsensusConfig, DisagreementStrategy, Fallback, Metric, StepConfig,
        TieBreaker,
    },
    events::{ConsensusCalculated, ConsensusMethod},
    executor::{
        AgreementReport, Closing, ExecutionContext, ExecutionResult, ExecutorError, StepExecutor,
        agreement::{boxes, spans},
        measure_agreement,
        value::value_at,
        vote::{merge_boxes, merge_spans, tally, tied},
    },
    ids::StepId,
    state::{ResolvedBy, ResultKind, StepResult, Visit},
};

/// Waits for the count, then makes one value of the annotations.
pub(super) struct AnnotationExecutor;

impl StepExecutor for AnnotationExecutor {
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError> {
        let visit = context.visit;
        let full = visit
            .places
            .is_some_and(|places| visit.annotations.len() as u64 >= u64::from(places));
        if !full && context.closing.is_none() {
            return Ok(ExecutionResult::Waiting {
                reason: waiting(visit),
            });
        }
        // A manual step ends by an `advance`; an early close is one before the count is reached.
        let exhausted = !full && visit.places.is_some();
        if let Some(Closing::Advance(Some(output))) = context.closing {
            return Ok(ExecutionResult::completed(given(visit, output.clone())));
        }
        let Some(consensus) = &context.step.consensus else {
            return Ok(ExecutionResult::completed(as_they_are(
                context.step,
                visit,
                exhausted,
            )));
        };
        let mut calculated = resolve(&context.step.id, visit.number, consensus, visit, exhausted);
        if let Some(places) = more_places(context.step, visit, &calculated, exhausted) {
            calculated.more = Some(places - visit.places.unwrap_or(0));
            return Ok(ExecutionResult::NeedsMore {
                places,
                consensus: Box::new(calculated),
            });
        }
        Ok(ExecutionResult::Completed {
            result: StepResult {
                kind: ResultKind::Consensus,
                value: calculated.value.clone(),
                agreement: calculated.agreement,
                resolved_by: calculated.resolved_by,
                decision: None,
                annotations: annotation_ids(visit),
            },
            consensus: Some(Box::new(calculated)),
        })
    }
}

pub(super) fn annotation_ids(visit: &Visit) -> Vec<uuid::Uuid> {
    visit.annotations.iter().map(|a| a.annotation_id).collect()
}

fn waiting(visit: &Visit) -> String {
    let (got, reserved) = (visit.annotations.len(), visit.assignments.len());
    let asked = visit
        .places
        .map_or_else(String::new, |places| format!(" of {places}"));
    let held = if reserved > 0 {
        format!(", {reserved} claimed")
    } else {
        String::new()
    };
    format!("{got}{asked} annotations{held}")
}

/// An operator's or machine's own outcome stands in for the annotations.
fn given(visit: &Visit, value: Value) -> StepResult {
    StepResult {
        kind: ResultKind::Annotation,
        value: (!value.is_null()).then_some(value),
        agreement: None,
        resolved_by: Some(ResolvedBy::Exhausted),
        decision: None,
        annotations: annotation_ids(visit),
    }
}

/// Without a consensus rule: one annotation is the value; several are a list in order of acceptance.
fn as_they_are(step: &StepConfig, visit: &Visit, exhausted: bool) -> StepResult {
    let field = step.field.as_deref();
    let mut values: Vec<Value> = visit
        .annotations
        .iter()
        .map(|a| value_at(&a.data, field).cloned().unwrap_or_default())
        .collect();
    let value = match values.len() {
        0 => None,
        1 => values.pop(),
        _ => Some(Value::Array(values)),
    };
    StepResult {
        kind: ResultKind::Annotation,
        resolved_by: value.is_some().then_some(if exhausted {
            ResolvedBy::Exhausted
        } else {
            ResolvedBy::Annotation
        }),
        value,
        agreement: None,
        decision: None,
        annotations: annotation_ids(visit),
    }
}

/// Compares the annotations of `judged` and finds their value, on behalf of visit `visit` of
/// `step_id`. `exhausted`: the visit is closed early, so that the best answer there is decides.
pub(in crate::executor) fn resolve(
    step_id: &StepId,
    visit: u32,
    consensus: &ConsensusConfig,
    judged: &Visit,
    exhausted: bool,
) -> ConsensusCalculated {
    let null = Value::Null;
    let field = consensus.field.as_deref();
    let values: Vec<&Value> = judged
        .annotations
        .iter()
        .map(|a| value_at(&a.data, field).unwrap_or(&null))
        .collect();
    let AgreementReport {
        agreement,
        note,
        units,
        pairs,
    } = measure_agreement(consensus.metric, consensus.level, &values);
    // An undefined agreement is no disagreement: one annotation, or no variation at all.
    let agreed = agreement.is_none_or(|a| a >= consensus.threshold);
    let method = if agreed {
        ConsensusMethod::Agreement(consensus.on_agreement.method)
    } else {
        ConsensusMethod::Disagreement(consensus.on_disagreement.strategy)
    };
    let votes = tally(&values);
    let tied = tied(&votes);
    let majority = || -> Option<(Value, ResolvedBy)> {
        if !tied {
            return Some((votes.first()?.value.clone(), ResolvedBy::MajorityVote));
        }
        // Regions that overlap enough are one answer though their edges differ.
        let merged = agreed
            .then(|| merge_regions(consensus.metric, &values))
            .flatten()?;
        Some((merged, ResolvedBy::MajorityVote))
    };
    let found = match method {
        _ if exhausted => majority().map(|(value, _)| (value, ResolvedBy::Exhausted)),
        // Weighted votes are refused when a workflow is created, until weights exist.
        ConsensusMethod::Agreement(
            AgreementMethod::MajorityVote | AgreementMethod::WeightedVote,
        )
        | ConsensusMethod::Disagreement(
            DisagreementStrategy::MajorityVote | DisagreementStrategy::WeightedVote,
        ) => majority(),
        ConsensusMethod::Agreement(AgreementMethod::Unanimous) => match votes.as_slice() {
            [only] => Some((only.value.clone(), ResolvedBy::Unanimous)),
            _ => None,
        },
        ConsensusMethod::Disagreement(
            DisagreementStrategy::Adjudication | DisagreementStrategy::Escalate,
        ) => None,
        // What decides when nobody else may be asked.
        ConsensusMethod::Disagreement(DisagreementStrategy::AdditionalAnnotators) => {
            match consensus.on_disagreement.fallback {
                Some(Fallback::MajorityVote | Fallback::WeightedVote) => majority(),
                None | Some(Fallback::Adjudication | Fallback::Escalate) => None,
            }
        }
    };
    let (value, resolved_by) = found.unzip();
    ConsensusCalculated {
        step_id: step_id.clone(),
        visit,
        metric: consensus.metric,
        level: consensus.level,
        field: consensus.field.clone(),
        agreement,
        note,
        threshold: consensus.threshold,
        units,
        pairs,
        agreed,
        method,
        votes,
        tied,
        more: None,
        value,
        resolved_by,
    }
}

/// People asked in addition at most, where the file names no `max_additional`.
const ADDITIONAL_DEFAULT: u32 = 1;

/// The places of a visit whose annotators do not settle it, where one more person may be asked:
/// always one at a time, so that nobody is asked for an answer that is already sure.
fn more_places(
    step: &StepConfig,
    visit: &Visit,
    calculated: &ConsensusCalculated,
    exhausted: bool,
) -> Option<u32> {
    let (consensus, places) = (step.consensus.as_ref()?, visit.places?);
    let asks_on = ConsensusMethod::Disagreement(DisagreementStrategy::AdditionalAnnotators);
    let breaks_tie = calculated.tied
        && calculated.value.is_none()
        && consensus.tie_breaker == TieBreaker::AdditionalAnnotator;
    if exhausted || (calculated.method != asks_on && !breaks_tie) {
        return None;
    }
    let additional = consensus
        .on_disagreement
        .max_additional
        .unwrap_or(ADDITIONAL_DEFAULT);
    let most = step.places()?.saturating_add(additional);
    (places < most).then_some(places + 1)
}

fn merge_regions(metric: Metric, values: &[&Value]) -> Option<Value> {
    match metric {
        Metric::SpanIou | Metric::SpanF1 => {
            serde_json::to_value(merge_spans(&spans(values).ok()?)).ok()
        }
        Metric::BoxIou => serde_json::to_value(merge_boxes(&boxes(values).ok()?)).ok(),
        Metric::PercentAgreement
        | Metric::CohenKappa
        | Metric::FleissKappa
        | Metric::KrippendorffAlpha
        | Metric::GwetAc1
        | Metric::TokenF1 => None,
    }
}
