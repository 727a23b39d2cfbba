//! Completion by confidence: people are asked one by one until the answer is certain enough.

use serde_json::Value;

use super::comparison::not_compared;
use crate::{
    config::ConsensusConfig,
    events::{ConsensusCalculated, ConsensusMethod, PosteriorCalculated, PosteriorMethod},
    executor::{
        AgreementReport, ExecutionContext, ExecutionResult,
        annotators::{Annotators, ModelKey},
        measure_agreement, value_at,
        vote::{tally, tied},
    },
    ids::{TaskId, UserId},
    reliability::{ClassError, Posterior, class_of, value_of},
    state::{ResolvedBy, ResultKind, SoftLabels, StepResult, Visit},
};

/// Ends a visit if its best answer is probable enough, or if nobody else may be asked; otherwise
/// asks for one more. `exhausted`: the visit is closed early, with the best answer available.
pub(super) fn decide(
    context: &ExecutionContext<'_>,
    key: &ModelKey,
    exhausted: bool,
) -> ExecutionResult {
    let (step, visit) = (context.step, context.visit);
    let target = step.confidence_target();
    let most = step.most_submissions().unwrap_or(u32::MAX);
    let labels = usable_labels(visit, key);
    let item = (context.state.task_id, visit.number);
    let mut calculated = compared(context, key);
    let mut posterior = None;
    match context.annotators.evidence(key, item, &labels) {
        Ok((evidence, model_position)) if !labels.is_empty() => {
            let found = evidence.posterior();
            calculated.posterior = Some(Box::new(PosteriorCalculated {
                target,
                max: most,
                soft_labels: soft_labels(&found),
                position: model_position.position,
                beyond: model_position.beyond,
                evidence,
            }));
            posterior = Some(found);
        }
        Ok(_) => calculated.note = Some("no annotation gives an answer".to_owned()),
        Err(error) => calculated.note = Some(error.to_string()),
    }
    let sure = posterior.as_ref().is_some_and(|p| p.confidence >= target);
    let submitted = u32::try_from(visit.annotations.len()).unwrap_or(u32::MAX);
    if !sure && !exhausted && submitted < most {
        calculated.more = Some(1);
        return ExecutionResult::NeedsMore {
            slots: submitted + 1,
            consensus: Box::new(calculated),
        };
    }
    let best = posterior.as_ref().and_then(|p| p.best.as_deref());
    calculated.value = best.map(value_of);
    calculated.resolved_by = best.map(|_| {
        if exhausted {
            ResolvedBy::Exhausted
        } else {
            ResolvedBy::Posterior
        }
    });
    ExecutionResult::Completed {
        result: StepResult {
            kind: ResultKind::Consensus,
            value: calculated.value.clone(),
            agreement: calculated.agreement,
            resolved_by: calculated.resolved_by,
            decision: None,
            annotations: visit.annotation_ids(),
            posterior: posterior.map(|p| Box::new(soft_labels(&p))),
        },
        consensus: Some(Box::new(calculated)),
    }
}

/// Annotator and class of each label. Omits labels the step would reject now: they were submitted
/// under another revision, which asked another question.
fn usable_labels(visit: &Visit, key: &ModelKey) -> Vec<(String, String)> {
    let fits = |class: &String| key.classes.as_ref().is_none_or(|all| all.contains(class));
    visit
        .annotations
        .iter()
        .filter_map(|annotation| {
            let value = value_at(&annotation.data, key.field.as_deref())?;
            let class = class_of(value).ok().filter(fits)?;
            Some((annotation.user_id.to_string(), class))
        })
        .collect()
}

/// Checks that a step that completes by confidence can accept `data` beside the visit's labels.
///
/// # Errors
///
/// What is wrong with it, and how to fix it.
pub(crate) fn admit(
    key: &ModelKey,
    annotators: Annotators<'_>,
    (task, visit): (TaskId, &Visit),
    (user, data): (UserId, &Value),
) -> Result<(), String> {
    let field = key.field.as_deref();
    let place = field.map_or("`annotation.data`".to_owned(), |field| format!("`{field}`"));
    let value = value_at(data, field).unwrap_or(&Value::Null);
    let class = class_of(value).map_err(|error| match (field, &error) {
        (None, ClassError::NotScalar { .. }) => {
            format!("{place}: {error}, or name the answer's place in the step's `field`")
        }
        _ => format!("{place}: {error}"),
    })?;
    let mut labels = usable_labels(visit, key);
    labels.push((user.to_string(), class));
    match annotators.evidence(key, (task, visit.number), &labels) {
        Ok(_) => Ok(()),
        Err(error) => Err(match &key.classes {
            Some(classes) => format!("{place}: {error}, which are {}", classes.join(", ")),
            None => format!(
                "{place}: {error} have been given already; an answer must be a category, whose \
                 `classes` the step may declare"
            ),
        }),
    }
}

fn soft_labels(posterior: &Posterior) -> SoftLabels {
    SoftLabels {
        confidence: posterior.confidence,
        classes: posterior.classes.iter().map(|c| value_of(c)).collect(),
        probabilities: posterior.probabilities.clone(),
        unseen: posterior.unseen,
    }
}

/// The agreement of the annotators, which is only reported.
fn compared(context: &ExecutionContext<'_>, key: &ModelKey) -> ConsensusCalculated {
    let default = ConsensusConfig::default();
    let consensus = context.step.consensus.as_ref().unwrap_or(&default);
    let field = key.field.as_deref();
    let annotations = &context.visit.annotations;
    let values: Vec<&Value> = annotations
        .iter()
        .map(|annotation| value_at(&annotation.data, field).unwrap_or(&Value::Null))
        .collect();
    let AgreementReport {
        agreement,
        note,
        readable,
        units,
        pairs,
    } = measure_agreement(consensus.metric, consensus.level, &values);
    let votes = tally(&values);
    ConsensusCalculated {
        field: key.field.clone(),
        agreement,
        note,
        units,
        pairs,
        agreed: readable && agreement.is_none_or(|a| a >= consensus.threshold),
        tied: tied(&votes),
        votes,
        ..not_compared(
            context,
            consensus,
            ConsensusMethod::Posterior(PosteriorMethod::Posterior),
        )
    }
}
