//! How the steps of a file can end, and which of their transitions then fire.
//!
//! A step ends with or without a value, with or without an agreement, and a review with a decision.
//! Conditions other than expressions read nothing else. Thresholds divide the range of agreement
//! into a few intervals, so one sample of each interval is enough. An expression is evaluated with
//! what a sample knows (the decision); if it reads more, both answers are assumed possible.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::draft::{Draft, Goal, StepDraft, TransitionDraft};
use crate::{
    config::{
        CompletionType, ConditionConfig, ConditionType, DisagreementStrategy, EndsWith, FieldMode,
        OnError, StepConfig,
    },
    expression::{Expression, ExpressionError},
};

/// A step with more transitions than this is not analysed.
const TRANSITIONS_MAX: usize = 100;

/// The expressions of a file, by source.
pub(super) type Expressions = HashMap<String, Result<Expression, ExpressionError>>;

/// One possible ending of a step.
#[derive(Clone, Copy)]
pub(super) struct Outcome {
    pub(super) has_value: bool,
    pub(super) agreement: Option<f64>,
    pub(super) decision: Option<&'static str>,
}

impl Outcome {
    fn new(has_value: bool, agreement: Option<f64>) -> Self {
        Self {
            has_value,
            agreement,
            decision: None,
        }
    }
}

/// Whether a condition matches an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// Depends on an expression that the sample cannot decide.
    Perhaps,
}

/// How a step can end, and which of its transitions then match.
pub(super) struct Endings {
    pub(super) outcomes: Vec<Outcome>,
    /// For each outcome, whether each transition that leaves the step matches, in the order in
    /// which they are tried.
    pub(super) answers: Vec<Vec<Match>>,
}

/// The transitions of every step, and how the steps can end.
pub(super) struct Ends<'d, 'a> {
    pub(super) draft: &'d Draft<'a>,
    /// Whether every matching transition fires, instead of only the first.
    pub(super) parallel: bool,
    /// For each step, the transitions that leave it, in the order in which they are tried.
    pub(super) leaving: Vec<Vec<&'d TransitionDraft<'a>>>,
    /// For each step, the steps with an edge to it.
    entering: Vec<Vec<usize>>,
    /// `None` where a part of a step cannot be read, or too many transitions leave it.
    pub(super) endings: Vec<Option<Endings>>,
}

impl<'d, 'a> Ends<'d, 'a> {
    pub(super) fn of(draft: &'d Draft<'a>, expressions: &Expressions) -> Self {
        let mut entering = vec![Vec::new(); draft.steps.len()];
        let mut enter = |from: usize, to: Option<Goal>| {
            if let Some(Goal::Step(to)) = to {
                entering[to].push(from);
            }
        };
        for (from, step) in draft.steps.iter().enumerate() {
            enter(from, step.true_branch);
            enter(from, step.false_branch);
        }
        for transition in &draft.transitions {
            if let Some(from) = transition.from {
                enter(from, Some(transition.to));
                enter(from, transition.on_exhausted);
            }
        }
        let mut ends = Self {
            draft,
            parallel: draft.is_parallel(),
            leaving: draft.all_leaving(),
            entering,
            endings: Vec::new(),
        };
        ends.endings = (0..draft.steps.len())
            .map(|at| ends.endings_of(at, expressions))
            .collect();
        ends
    }

    fn endings_of(&self, at: usize, expressions: &Expressions) -> Option<Endings> {
        let leaving = &self.leaving[at];
        // Unreadable parts justify no warning, and comparing hundreds of transitions costs too
        // much.
        let unread = |t: &&TransitionDraft<'_>| t.config.is_none() || !t.node.is_whole();
        if leaving.len() > TRANSITIONS_MAX || leaving.iter().any(unread) {
            return None;
        }
        if !self.draft.steps[at].node.is_whole() {
            return None;
        }
        let config = self.draft.steps[at].config.as_ref()?;
        let mut thresholds: Vec<f64> = leaving
            .iter()
            .filter_map(|transition| condition_of(transition)?.threshold)
            .collect();
        thresholds.extend(config.consensus.iter().map(|consensus| consensus.threshold));
        let outcomes = self.possible(at, config, &thresholds);
        let mut answers = Vec::with_capacity(outcomes.len());
        for outcome in &outcomes {
            let answer = |transition: &&TransitionDraft<'_>| {
                matches(condition_of(transition), *outcome, expressions)
            };
            answers.push(leaving.iter().map(answer).collect());
        }
        Some(Endings { outcomes, answers })
    }
}

pub(super) fn condition_of<'t>(transition: &'t TransitionDraft<'_>) -> Option<&'t ConditionConfig> {
    transition.config.as_ref()?.condition.as_ref()
}

/// The verdict that a conditional step with one branch leaves open, and the key of its branch.
pub(super) fn verdict_without_branch(step: &StepDraft<'_>) -> Option<(&'static str, &'static str)> {
    match (step.true_branch, step.false_branch) {
        (Some(_), None) => Some(("false", "false_branch")),
        (None, Some(_)) => Some(("true", "true_branch")),
        (None, None) | (Some(_), Some(_)) => None,
    }
}

fn matches(
    condition: Option<&ConditionConfig>,
    outcome: Outcome,
    expressions: &Expressions,
) -> Match {
    let Some(condition) = condition else {
        return Match::Yes;
    };
    let answer = match condition.kind {
        ConditionType::Always | ConditionType::OnComplete => true,
        ConditionType::OnAgreement | ConditionType::OnDisagreement => {
            let agrees = match condition.threshold {
                None => outcome.has_value,
                // An undefined agreement counts as agreement.
                Some(threshold) => outcome.agreement.is_none_or(|a| a >= threshold),
            };
            agrees == (condition.kind == ConditionType::OnAgreement)
        }
        ConditionType::Expression => {
            let source = condition.expression.as_deref().unwrap_or_default();
            let Some(Ok(expression)) = expressions.get(source) else {
                return Match::Perhaps;
            };
            match expression.evaluate_bool(&known(source, outcome)) {
                Ok(answer) => answer,
                Err(_) => return Match::Perhaps,
            }
        }
    };
    if answer { Match::Yes } else { Match::No }
}

/// The variables that an expression gets for an outcome: the decision of the result, if the
/// expression reads nothing else of it. A sample does not know the rest, and an expression that
/// reads it fails.
fn known(source: &str, outcome: Outcome) -> Value {
    let mut reads = source.split("result").skip(1);
    let only_decision = reads.all(|after| {
        after
            .strip_prefix(".decision")
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    });
    let mut variables = Map::new();
    if only_decision {
        let result = Map::from_iter([("decision".to_owned(), outcome.decision.into())]);
        variables.insert("result".to_owned(), result.into());
    }
    variables.into()
}

/// The decisions of a reviewer, and whether the step then ends with a value. `None`: an approved
/// step ends with the subject's value, if there is one.
const DECISIONS: [(&str, Option<bool>); 4] = [
    ("approve", None),
    ("fix", Some(true)),
    ("reject", Some(false)),
    ("request_changes", Some(false)),
];

impl Ends<'_, '_> {
    /// The possible endings of a step, one sample for each interval between the thresholds.
    fn possible(&self, at: usize, step: &StepConfig, thresholds: &[f64]) -> Vec<Outcome> {
        let mut agreements: Vec<f64> = vec![-1.0, 1.0];
        agreements.extend(thresholds.iter().flat_map(|t| [*t, t - 1e-6]));
        agreements.retain(|a| (-1.0..=1.0).contains(a));
        let agreements: Vec<Option<f64>> = agreements.into_iter().map(Some).chain([None]).collect();
        let with = |has_value: bool| agreements.iter().map(move |a| Outcome::new(has_value, *a));
        match step.kind.spec().ends_with {
            EndsWith::Annotations => annotated(step, &agreements),
            EndsWith::Value => with(true).collect(),
            EndsWith::ValueOrNone => with(true).chain(with(false)).collect(),
            EndsWith::Decision => {
                let reviews_nothing = self.may_review_nothing(at);
                let mut outcomes = Vec::new();
                for (decision, value) in DECISIONS {
                    let decided = |outcome| Outcome {
                        decision: Some(decision),
                        ..outcome
                    };
                    outcomes.extend(with(value.unwrap_or(true)).map(decided));
                    if value.is_none() && reviews_nothing {
                        outcomes.extend(with(false).map(decided));
                    }
                }
                outcomes
            }
            EndsWith::Verdict => {
                let verdict = |verdict| Outcome {
                    decision: Some(verdict),
                    ..Outcome::new(false, None)
                };
                let on_error = step.on_error.or_else(|| self.draft.on_error());
                let skipped = on_error == Some(OnError::Skip);
                // Transitions are tried only for a verdict without a branch.
                let verdicts: &[&str] = match verdict_without_branch(&self.draft.steps[at]) {
                    Some(("true", _)) => &["true"],
                    Some(_) => &["false"],
                    None => &["true", "false"],
                };
                verdicts
                    .iter()
                    .map(|decision| verdict(*decision))
                    .chain(skipped.then_some(Outcome::new(false, None)))
                    .collect()
            }
        }
    }

    /// Whether a review can get a subject without a value: an annotation step can end without a
    /// value and lead to the review, directly or through other reviews and automatic steps.
    fn may_review_nothing(&self, review: usize) -> bool {
        let mut seen = vec![false; self.entering.len()];
        let mut waiting = vec![review];
        while let Some(at) = waiting.pop() {
            for &from in &self.entering[at] {
                let Some(config) = &self.draft.steps[from].config else {
                    return true;
                };
                let spec = config.kind.spec();
                if spec.makes_subject() {
                    let counted = spec.ends_with == EndsWith::Annotations;
                    if !counted || self.leads_without_value(from, config, at) {
                        return true;
                    }
                } else if !std::mem::replace(&mut seen[from], true) {
                    waiting.push(from);
                }
            }
        }
        false
    }

    fn leads_without_value(&self, from: usize, config: &StepConfig, to: usize) -> bool {
        let goal = Goal::Step(to);
        let unknown = Expressions::new();
        let leads = |outcome: Outcome| {
            for transition in &self.leaving[from] {
                let answer = matches(condition_of(transition), outcome, &unknown);
                let here = transition.to == goal || transition.on_exhausted == Some(goal);
                if here && answer != Match::No {
                    return true;
                }
                if answer == Match::Yes && !self.parallel {
                    return false;
                }
            }
            false
        };
        annotated(config, &[Some(-1.0), Some(1.0), None])
            .into_iter()
            .any(|outcome| !outcome.has_value && leads(outcome))
    }
}

fn annotated(step: &StepConfig, agreements: &[Option<f64>]) -> Vec<Outcome> {
    let completion = step.completion_type();
    let one = completion == CompletionType::AnnotationCount && step.slots() == Some(1);
    if completion == CompletionType::Confidence {
        // The most probable answer is a value, whatever the agreement.
        return agreements.iter().map(|a| Outcome::new(true, *a)).collect();
    }
    let Some(consensus) = step.consensus.as_ref().filter(|_| !one) else {
        // An `advance` can close a manual step before anyone has submitted.
        let values: &[bool] = match completion {
            CompletionType::Manual => &[true, false],
            CompletionType::AnnotationCount
            | CompletionType::Confidence
            | CompletionType::ReviewDecision
            | CompletionType::Auto => &[true],
        };
        return values.iter().map(|v| Outcome::new(*v, None)).collect();
    };
    // A step that leaves disagreement to adjudicators has no value below its threshold. The
    // thresholds of single fields imply nothing about the mean over all fields.
    let mean_decides = consensus.per_field.is_none() || consensus.mode == Some(FieldMode::Weighted);
    let adjudicates =
        mean_decides && consensus.on_disagreement.strategy == DisagreementStrategy::Adjudication;
    let ends = |agreement: &Option<f64>| {
        let disagrees = agreement.is_some_and(|a| a < consensus.threshold);
        let values: &[bool] = if disagrees && adjudicates {
            &[false]
        } else {
            &[true, false]
        };
        let agreement = *agreement;
        values.iter().map(move |v| Outcome::new(*v, agreement))
    };
    agreements.iter().flat_map(ends).collect()
}
