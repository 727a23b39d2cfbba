//! Completion by confidence: people are asked one by one until the answer is certain enough.

use serde_json::Value;

use super::comparison::{GivenAnswers, known_answers, not_compared, people_of, votes};
use crate::{
    answer::{Answer, Question, Work},
    config::{AskedOn, OnUnsure},
    events::{ConsensusCalculated, ConsensusMethod, PosteriorCalculated, PosteriorMethod},
    executor::{
        ExecutionContext, ExecutionResult,
        annotators::{Annotators, GivenLabel, ModelKey},
    },
    ids::TaskId,
    limits::CLASS_BYTES_MAX,
    reliability::value_of,
    state::{
        AnnotationData, AuditResult, AuditVote, AuditedAnswer, ResolvedBy, ResultKind, SoftLabels,
        StepResult, Visit,
    },
};

/// Ends a visit if its best answer is probable enough, or if nobody else may be asked; otherwise
/// asks for one more. `exhausted`: the visit is closed early, with the best answer available.
///
/// The value is always an answer that somebody gave. If all give the same one, it is theirs, even
/// where the model finds another one more probable; the target is not reached then.
///
/// A task that belongs to a sample ([`Sampling`](crate::config::Sampling)) asks on when the answer is
/// sure: one of the first tasks ends with what all labels say, an audited one with the answer that
/// was sure first.
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
    let mut best = None;
    match context.annotators.evidence(key, item, &labels) {
        Ok((evidence, position)) if !labels.is_empty() => {
            let found = evidence.posterior();
            let target = step.confidence_target(found.best.as_deref());
            best = found.best_given(&evidence.labels).map(str::to_owned);
            calculated.posterior = Some(Box::new(PosteriorCalculated {
                target,
                max: most,
                soft_labels: SoftLabels::from(&found),
                position,
                evidence,
            }));
            posterior = Some(found);
        }
        Ok(_) => calculated.note = Some("no annotation gives an answer".to_owned()),
        Err(error) => calculated.note = Some(error.to_string()),
    }
    let target = step.confidence_target(best.as_deref());
    let sure = posterior
        .as_ref()
        .is_some_and(|found| best.is_some() && best == found.best && found.confidence >= target);
    let value = best.as_deref().map(value_of);
    let soft_labels = posterior.as_ref().map(SoftLabels::from);
    calculated.reached = Some(sure);
    calculated.tied = posterior.is_some() && best.is_none();
    let submitted = u32::try_from(visit.annotations.len()).unwrap_or(u32::MAX);
    let reliability = &context.workflow.reliability;
    let asked_on = context.state.sampling.asks_on(reliability);
    let asked_on = asked_on.filter(|_| sure || visit.audited.is_some());
    if (!sure || asked_on.is_some()) && !exhausted && submitted < most {
        calculated.more = Some(1);
        calculated.asked_on = asked_on;
        if asked_on == Some(AskedOn::Audit) && visit.audited.is_none() {
            let audited = value.zip(soft_labels);
            calculated.audited = audited.map(|(value, posterior)| {
                Box::new(AuditedAnswer {
                    value,
                    agreement: calculated.agreement,
                    posterior,
                    submissions: visit.annotations.len(),
                })
            });
        }
        return ExecutionResult::NeedsMore {
            slots: submitted + 1,
            consensus: Box::new(calculated),
        };
    }
    let mut result = StepResult {
        agreement: calculated.agreement,
        annotations: visit.annotation_ids(),
        reached: Some(sure),
        ..StepResult::new(ResultKind::Consensus)
    };
    let by = if let Some(audited) = &visit.audited {
        result.audit = soft_labels.map(|posterior| {
            Box::new(AuditResult {
                votes: later_votes(&given, audited.submissions),
                value,
                posterior,
            })
        });
        result.value = Some(audited.value.clone());
        result.agreement = audited.agreement;
        result.annotations.truncate(audited.submissions);
        result.posterior = Some(Box::new(audited.posterior.clone()));
        result.reached = Some(true);
        ResolvedBy::Posterior
    } else {
        let ends_with_best = sure || step.on_unsure() == OnUnsure::Best;
        result.value = value.filter(|_| ends_with_best);
        result.posterior = soft_labels.map(Box::new);
        if exhausted {
            ResolvedBy::Exhausted
        } else {
            ResolvedBy::Posterior
        }
    };
    result.resolved_by = result.value.as_ref().map(|_| by);
    calculated.value.clone_from(&result.value);
    calculated.resolved_by = result.resolved_by;
    ExecutionResult::Completed {
        result,
        consensus: Some(Box::new(calculated)),
    }
}

/// The labels that count. Omits those the step would reject now: they were submitted under another
/// revision, which asked another question.
fn usable_labels(question: &Question, given: &GivenAnswers<'_>) -> Vec<GivenLabel> {
    let given = given.with_annotations();
    given
        .filter_map(|(annotation, answer)| {
            Some(GivenLabel::new(annotation, question.class(answer)?))
        })
        .collect()
}

/// The answers after the first `submissions`.
fn later_votes(given: &GivenAnswers<'_>, submissions: usize) -> Vec<AuditVote> {
    let first = u32::try_from(submissions).unwrap_or(u32::MAX);
    let later = given.whole().into_iter();
    let later: Vec<_> = later.filter(|(place, _)| *place >= first).collect();
    let votes = votes(&later, None).into_iter();
    votes
        .map(|vote| AuditVote {
            value: vote.value,
            count: vote.count,
        })
        .collect()
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
    (annotation, answer): (&AnnotationData, &Answer),
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
    labels.push(GivenLabel::new(annotation, class));
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
