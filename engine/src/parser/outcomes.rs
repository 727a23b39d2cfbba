//! Warnings: transitions that can never fire, and outcomes that no transition matches.
//!
//! A step ends with a value or without, and with an agreement or none. Conditions without an
//! expression ask for nothing else, and thresholds cut the range of agreement into a few pieces, so
//! one sample of each piece decides every question here.

use super::{
    draft::{Draft, StepDraft, TransitionDraft},
    fault::Faults,
    graph::has_both_branches,
    report::DiagnosticCode as Code,
};
use crate::config::{
    CompletionType, ConditionConfig, ConditionType, DisagreementStrategy, FieldMode, StepConfig,
    StepType,
};

/// Transitions of one step up to which they are compared.
const TRANSITIONS_MAX: usize = 100;

/// A way a step can end.
#[derive(Clone, Copy)]
struct Outcome {
    has_value: bool,
    agreement: Option<f64>,
}

/// What a condition says about an outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// An expression decides.
    Perhaps,
}

/// Adds the warnings of every step.
pub(super) fn check(draft: &Draft<'_>, faults: &mut Faults) {
    let parallel = draft
        .body
        .below(&["settings", "allow_parallel_steps"])
        .is_some_and(|node| node.to_value() == true);
    for (at, step) in draft.steps.iter().enumerate() {
        let leaving = draft.leaving(at);
        // What cannot be read is no ground for a warning, and hundreds are more than work is worth.
        if leaving.len() > TRANSITIONS_MAX || leaving.iter().any(|t| t.config.is_none()) {
            continue;
        }
        let Some(config) = &step.config else { continue };
        check_step(step, config, &leaving, parallel, faults);
    }
}

fn check_step(
    step: &StepDraft<'_>,
    config: &StepConfig,
    leaving: &[&TransitionDraft<'_>],
    parallel: bool,
    faults: &mut Faults,
) {
    if has_both_branches(step.node) {
        for transition in leaving {
            dead(
                transition,
                "the step's branches decide before it is asked",
                faults,
            );
        }
        return;
    }
    let conditions: Vec<Option<&ConditionConfig>> = leaving
        .iter()
        .map(|t| {
            t.config
                .as_ref()
                .and_then(|config| config.condition.as_ref())
        })
        .collect();
    let mut thresholds: Vec<f64> = conditions
        .iter()
        .flatten()
        .filter_map(|condition| condition.threshold)
        .collect();
    thresholds.extend(config.consensus.iter().map(|consensus| consensus.threshold));
    let outcomes = possible(config, &thresholds);

    for (at, transition) in leaving.iter().enumerate() {
        let fires = |outcome: &Outcome| matches(conditions[at], *outcome) != Match::No;
        if !outcomes.iter().any(fires) {
            dead(
                transition,
                "the step never ends in the way it asks for",
                faults,
            );
            continue;
        }
        if parallel {
            continue;
        }
        if conditions[..at].contains(&conditions[at]) {
            dead(
                transition,
                "an earlier transition has the same condition",
                faults,
            );
            continue;
        }
        let covered = |outcome: &Outcome| {
            conditions[..at]
                .iter()
                .any(|earlier| matches(*earlier, *outcome) == Match::Yes)
        };
        if !outcomes
            .iter()
            .any(|outcome| fires(outcome) && !covered(outcome))
        {
            // A last `always` is a habit, not a slip.
            let is_last_resort = matches(conditions[at], outcomes[0]) == Match::Yes
                && outcomes
                    .iter()
                    .all(|outcome| matches(conditions[at], *outcome) == Match::Yes)
                && !conditions[..at]
                    .iter()
                    .any(|earlier| is_unconditional(*earlier));
            if !is_last_resort {
                dead(
                    transition,
                    "the transitions before it match whenever it does",
                    faults,
                );
            }
        }
    }
    if !leaving.is_empty() {
        unhandled(step, &conditions, &outcomes, faults);
    }
}

fn unhandled(
    step: &StepDraft<'_>,
    conditions: &[Option<&ConditionConfig>],
    outcomes: &[Outcome],
    faults: &mut Faults,
) {
    let open = |outcome: &Outcome| {
        let answers = || {
            conditions
                .iter()
                .map(|condition| matches(*condition, *outcome))
        };
        if answers().any(|answer| answer == Match::Yes) {
            return false;
        }
        // Several expressions, or one beside other conditions, are taken to complete each other.
        let expressions = answers().filter(|answer| *answer == Match::Perhaps).count();
        expressions == 0 || expressions == 1 && conditions.len() == 1
    };
    let Some(outcome) = outcomes.iter().find(|outcome| open(outcome)) else {
        return;
    };
    let has = |kind| {
        conditions
            .iter()
            .flatten()
            .any(|condition| condition.kind == kind)
    };
    let message = if has(ConditionType::Expression) && conditions.len() == 1 {
        "no transition matches when the expression is false".to_owned()
    } else if outcome.has_value && !has(ConditionType::OnAgreement) {
        "no transition matches when the step ends with a value".to_owned()
    } else if !outcome.has_value && !has(ConditionType::OnDisagreement) {
        "no transition matches when the step ends without a value".to_owned()
    } else {
        let agreement = outcome
            .agreement
            .map_or("no agreement".to_owned(), |agreement| {
                format!("an agreement of about {agreement:.2}")
            });
        let value = if outcome.has_value {
            "a value"
        } else {
            "no value"
        };
        format!("no transition matches when the step ends with {value} and {agreement}")
    };
    faults
        .add(Code::UnhandledOutcome, &step.node.origin, message)
        .suggest("add a transition for it, or a last one without condition");
}

fn dead(transition: &TransitionDraft<'_>, why: &str, faults: &mut Faults) {
    faults
        .add(
            Code::DeadTransition,
            &transition.node.origin,
            format!("the transition can never fire: {why}"),
        )
        .suggest("remove it, or raise its `priority`")
        .value_of(transition.node);
}

fn is_unconditional(condition: Option<&ConditionConfig>) -> bool {
    condition.is_none_or(|c| matches!(c.kind, ConditionType::Always | ConditionType::OnComplete))
}

fn matches(condition: Option<&ConditionConfig>, outcome: Outcome) -> Match {
    let Some(condition) = condition else {
        return Match::Yes;
    };
    let answer = match condition.kind {
        ConditionType::Always | ConditionType::OnComplete => true,
        ConditionType::OnAgreement | ConditionType::OnDisagreement => {
            let agrees = match condition.threshold {
                None => outcome.has_value,
                // No agreement at all counts as agreement.
                Some(threshold) => outcome.agreement.is_none_or(|a| a >= threshold),
            };
            agrees == (condition.kind == ConditionType::OnAgreement)
        }
        ConditionType::Expression => match condition.expression.as_deref().map(str::trim) {
            Some("true") => true,
            Some("false") => false,
            _ => return Match::Perhaps,
        },
    };
    if answer { Match::Yes } else { Match::No }
}

/// The ways a step can end, one sample for each piece between the thresholds.
fn possible(step: &StepConfig, thresholds: &[f64]) -> Vec<Outcome> {
    let annotates = step.kind == StepType::Annotation;
    let one = step.completion_type() == CompletionType::AnnotationCount && step.places() == Some(1);
    if annotates && (step.consensus.is_none() || one) {
        return vec![Outcome {
            has_value: true,
            agreement: None,
        }];
    }
    let mut agreements: Vec<f64> = vec![-1.0, 1.0];
    agreements.extend(thresholds.iter().flat_map(|t| [*t, t - 1e-6]));
    agreements.retain(|a| (-1.0..=1.0).contains(a));
    let mut outcomes = Vec::new();
    for agreement in agreements.into_iter().map(Some).chain([None]) {
        for has_value in [true, false] {
            let outcome = Outcome {
                has_value,
                agreement,
            };
            if is_possible(step, outcome) {
                outcomes.push(outcome);
            }
        }
    }
    outcomes
}

/// Below its threshold a step that leaves disagreement to adjudicators has no value.
fn is_possible(step: &StepConfig, outcome: Outcome) -> bool {
    let (Some(consensus), Some(agreement)) = (&step.consensus, outcome.agreement) else {
        return true;
    };
    let decides_itself = consensus.on_disagreement.strategy != DisagreementStrategy::Adjudication;
    // The thresholds of single fields say nothing about the mean over all of them.
    let mean_decides = consensus.per_field.is_none() || consensus.mode == Some(FieldMode::Weighted);
    !outcome.has_value || agreement >= consensus.threshold || decides_itself || !mean_decides
}
