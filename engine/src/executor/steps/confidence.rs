//! Completion by confidence: people are asked one by one until the answer is certain enough.

use serde_json::Value;

use super::comparison::{GivenAnswers, known_answers, not_compared, people_of, votes};
use crate::{
    answer::{Answer, Question, Work},
    config::OnUnsure,
    events::{ConsensusCalculated, ConsensusMethod, PosteriorCalculated, PosteriorMethod},
    executor::{
        ExecutionContext, ExecutionResult,
        annotators::{Annotators, ModelKey},
    },
    ids::{TaskId, UserId},
    limits::CLASS_BYTES_MAX,
    reliability::value_of,
    state::{ResolvedBy, ResultKind, SoftLabels, StepResult, Visit},
};

/// Ends a visit if its best answer is probable enough, or if nobody else may be asked; otherwise
/// asks for one more. `exhausted`: the visit is closed early, with the best answer available.
///
/// The value is always an answer that somebody gave. If all give the same one, it is theirs, even
/// where the model finds another one more probable; the target is not reached then.
pub(super) fn decide(
    context: &ExecutionContext<'_>,
    question: &Question,
    key: &ModelKey,
    exhausted: bool,
) -> ExecutionResult {
    let (step, visit) = (context.step, context.visit);
    let most = step.most_submissions().unwrap_or(u32::MAX);
    let given = GivenAnswers::read(question, &visit.annotations, context.input());
    let labels = usable_labels(question, &given);
    let item = (context.state.task_id, visit.number);
    let mut calculated = compared(context, question, &given);
    let mut posterior = None;
    match context.annotators.evidence(key, item, &labels) {
        Ok((evidence, model_position)) if !labels.is_empty() => {
            let found = evidence.posterior();
            let target = step.confidence_target(found.best.as_deref());
            calculated.posterior = Some(Box::new(PosteriorCalculated {
                target,
                max: most,
                soft_labels: SoftLabels::from(&found),
                position: model_position.position,
                beyond: model_position.beyond,
                evidence,
            }));
            posterior = Some(found);
        }
        Ok(_) => calculated.note = Some("no annotation gives an answer".to_owned()),
        Err(error) => calculated.note = Some(error.to_string()),
    }
    let best = posterior
        .as_ref()
        .and_then(|found| found.best_given(&labels));
    let most_probable = posterior.as_ref().and_then(|found| found.best.as_deref());
    let sure = best.is_some()
        && best == most_probable
        && posterior
            .as_ref()
            .is_some_and(|p| p.confidence >= step.confidence_target(best));
    calculated.reached = Some(sure);
    calculated.tied = posterior.is_some() && best.is_none();
    let submitted = u32::try_from(visit.annotations.len()).unwrap_or(u32::MAX);
    if !sure && !exhausted && submitted < most {
        calculated.more = Some(1);
        return ExecutionResult::NeedsMore {
            slots: submitted + 1,
            consensus: Box::new(calculated),
        };
    }
    let ends_with_best = sure || step.on_unsure() == OnUnsure::Best;
    let value = best.filter(|_| ends_with_best).map(value_of);
    calculated.resolved_by = value.as_ref().map(|_| {
        if exhausted {
            ResolvedBy::Exhausted
        } else {
            ResolvedBy::Posterior
        }
    });
    calculated.value.clone_from(&value);
    ExecutionResult::Completed {
        result: StepResult {
            value,
            agreement: calculated.agreement,
            resolved_by: calculated.resolved_by,
            annotations: visit.annotation_ids(),
            posterior: posterior.map(|p| Box::new(SoftLabels::from(&p))),
            reached: Some(sure),
            ..StepResult::new(ResultKind::Consensus)
        },
        consensus: Some(Box::new(calculated)),
    }
}

/// Annotator and class of each label. Omits labels the step would reject now: they were submitted
/// under another revision, which asked another question.
fn usable_labels(question: &Question, given: &GivenAnswers<'_>) -> Vec<(String, String)> {
    let label =
        |(user, answer): (UserId, &Answer)| Some((user.to_string(), question.class(answer)?));
    given.by_user().filter_map(label).collect()
}

/// Checks that a step that completes by confidence can accept `answer` beside the visit's labels.
///
/// # Errors
///
/// What is wrong with it, and how to fix it.
pub(crate) fn admit(
    (question, key): (&Question, &ModelKey),
    annotators: Annotators<'_>,
    (task, visit, input): (TaskId, &Visit, &Value),
    (user, answer): (UserId, &Answer),
) -> Result<(), String> {
    let place = question.field().unwrap_or("annotation.data");
    let Some(class) = question.class(answer) else {
        let hint = if question.field().is_none() {
            ", or name the answer's place in `answer.field`"
        } else {
            ""
        };
        return Err(format!(
            "`{place}`: it is no category: give a text of at most {CLASS_BYTES_MAX} bytes, a \
             number, true or false{hint}"
        ));
    };
    let given = GivenAnswers::read(question, &visit.annotations, input);
    let mut labels = usable_labels(question, &given);
    labels.push((user.to_string(), class));
    match annotators.evidence(key, (task, visit.number), &labels) {
        Ok(_) => Ok(()),
        Err(error) => Err(match &key.classes {
            Some(classes) => format!("`{place}`: {error}, which are {}", classes.join(", ")),
            None => format!(
                "`{place}`: {error} have been given already; an answer must be a category, whose \
                 `values` the step may list"
            ),
        }),
    }
}

/// The agreement of the annotators, which is only reported.
fn compared(
    context: &ExecutionContext<'_>,
    question: &Question,
    given: &GivenAnswers<'_>,
) -> ConsensusCalculated {
    let answers = given.answers();
    let found = question.agreement(&answers, &mut Work::of_decision());
    let votes = votes(&given.whole(), None);
    let plain = not_compared(
        context,
        question,
        ConsensusMethod::Posterior(PosteriorMethod::Posterior),
    );
    ConsensusCalculated {
        known: known_answers(question, &votes),
        annotators: people_of(context.visit, plain.again),
        field: question.field().map(str::to_owned),
        agreement: found.agreement,
        note: found.note.or_else(|| given.note()),
        units: found.units,
        pairs: found.pairs,
        agreed: found.agreed,
        votes,
        ..plain
    }
}
