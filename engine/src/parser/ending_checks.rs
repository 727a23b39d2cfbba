//! Warnings about how steps end: transitions that can never fire, and outcomes that no transition
//! matches. Also the errors of expressions that fail however a step ends.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    draft::{StepDraft, TransitionDraft},
    fault::Faults,
    graph::has_both_branches,
    outcomes::{
        Endings, Ends, Match, Outcome, condition_of, known_at_start, verdict_without_branch,
    },
    report::DiagnosticCode as Code,
    tree::Node,
    validate::always_fails,
};
use crate::{
    config::{CompletionType, ConditionConfig, ConditionType, EndingValue, EndsWith, StepConfig},
    expression::{Expression, Settled, one_is_true},
};

/// Adds the faults of every step.
pub(super) fn check(ends: &Ends<'_, '_>, faults: &mut Faults) {
    for (at, step) in ends.draft.steps.iter().enumerate() {
        asks_in_vain(ends, at, faults);
        if let Some(endings) = &ends.endings[at] {
            let checker = Checker {
                ends,
                step,
                leaving: &ends.leaving[at],
                endings,
            };
            checker.check(faults);
        }
    }
}

/// Reports the expressions of a step that fail however a task comes to it: the condition of a
/// conditional step, and the input of a child.
fn asks_in_vain(ends: &Ends<'_, '_>, at: usize, faults: &mut Faults) {
    let step = ends.draft.steps[at].node;
    let condition = step.below(&["condition", "expression"]);
    let mapping = step.below(&["input_mapping"]).and_then(Node::map);
    let inputs = mapping.into_iter().flatten().map(|(_, node)| (node, false));
    let asked: Vec<(&Node, bool)> = condition
        .map(|node| (node, true))
        .into_iter()
        .chain(inputs)
        .collect();
    if asked.is_empty() {
        return;
    }
    let Some(before) = ends.outcomes_before(at) else {
        return;
    };
    let begins = ends.draft.entry == Some(at);
    for (node, is_condition) in asked {
        let Some(source) = node.as_str() else {
            continue;
        };
        let start = begins.then(known_at_start);
        let known = before.iter().map(|outcome| ends.known(source, *outcome));
        let reasons: Option<Vec<String>> = start
            .into_iter()
            .chain(known)
            .map(|known| match ends.settle(source, &known) {
                Settled::Fails(error) => Some(error.to_string()),
                Settled::Is(Value::Bool(_)) | Settled::Open => None,
                Settled::Is(_) => is_condition.then(|| NO_ANSWER.to_owned()),
            })
            .collect();
        if let Some(reason) = reasons.and_then(|reasons| reasons.into_iter().next()) {
            fails(ends, node, &reason, faults);
        }
    }
}

const NO_ANSWER: &str = "it yields neither true nor false";

/// Reports an expression that fails at its place.
fn fails(ends: &Ends<'_, '_>, node: &Node, reason: &str, faults: &mut Faults) {
    let source = node.as_str().unwrap_or_default();
    let Some(Ok(expression)) = ends.expressions.get(source) else {
        return;
    };
    // One that fails everywhere has been reported.
    if always_fails(expression).is_some() {
        return;
    }
    let message = format!("the expression fails whenever it is asked here: {reason}");
    let fault = faults
        .add(Code::BadExpression, &node.origin, message)
        .value(source);
    if expression.variables().contains(&"agreement") {
        fault.suggest(
            "`agreement` is null where no annotations are compared: ask for it behind a step with \
             several annotators and `consensus`",
        );
    } else {
        fault.suggest("read only what the step before always has, or check for it first");
    }
}

/// The checks of one step.
struct Checker<'c, 'd, 'a> {
    ends: &'c Ends<'d, 'a>,
    step: &'d StepDraft<'a>,
    leaving: &'c [&'d TransitionDraft<'a>],
    endings: &'c Endings,
}

impl Checker<'_, '_, '_> {
    fn check(&self, faults: &mut Faults) {
        if has_both_branches(self.step.node) {
            for transition in self.leaving {
                let why = "the step's branches decide before it is asked";
                dead(transition, why, "remove it, or one of the branches", faults);
            }
            return;
        }
        for at in 0..self.leaving.len() {
            self.transition(at, faults);
        }
        if !self.leaving.is_empty() {
            self.unhandled(faults);
        } else if let Some((verdict, branch)) = verdict_without_branch(self.step) {
            let message =
                format!("nothing follows when the condition is {verdict}: the task then completes");
            faults
                .add(Code::UnhandledOutcome, &self.step.node.origin, message)
                .suggest(format!("add `{branch}: _complete` if that is meant"));
        } else if self.ends_empty() {
            let message = "nothing follows when the step ends without a value: the task then \
                           completes without a result from it";
            faults
                .add(Code::UnhandledOutcome, &self.step.node.origin, message)
                .suggest(
                    "add transitions with `on_agreement` and `on_disagreement`, or one to \
                     `_complete` if that is meant",
                );
        }
    }

    /// Whether annotators who disagree leave the step without a value.
    fn ends_empty(&self) -> bool {
        let Some(config) = &self.step.config else {
            return false;
        };
        // A manual step without a rule ends without a value only if an operator closes it unused.
        let is_unused =
            config.completion_type() == CompletionType::Manual && config.consensus.is_none();
        config.kind.spec().ends_with == EndsWith::Annotations
            && !is_unused
            && self
                .endings
                .outcomes
                .iter()
                .any(|outcome| !outcome.has_value)
    }

    fn conditions(&self) -> Vec<Option<&ConditionConfig>> {
        let leaving = self.leaving.iter();
        leaving.map(|transition| condition_of(transition)).collect()
    }

    /// Whether a transition fires after this row of answers, with the transitions in this order.
    fn fires(&self, order: &[usize], place: usize, row: &[Match]) -> bool {
        let before = &order[..place];
        row[order[place]].may()
            && (self.ends.parallel || before.iter().all(|earlier| row[*earlier] != Match::Yes))
    }

    fn can_fire(&self, order: &[usize], place: usize) -> bool {
        let mut rows = self.endings.tried();
        rows.any(|(_, row)| self.fires(order, place, row))
    }

    fn transition(&self, at: usize, faults: &mut Faults) {
        let transition = self.leaving[at];
        let conditions = self.conditions();
        let order: Vec<usize> = (0..self.leaving.len()).collect();
        if self.fails(at) {
            if let Some(node) = transition.node.below(&["condition", "expression"]) {
                let reason = self.reason(at, node.as_str().unwrap_or_default());
                fails(self.ends, node, &reason, faults);
            }
            return;
        }
        if self.endings.column(at).all(|answer| !answer.may()) {
            let (why, how) = self.never(conditions[at]);
            dead(transition, &why, how, faults);
            return;
        }
        if self.ends.parallel || self.can_fire(&order, at) {
            return;
        }
        if conditions[..at].contains(&conditions[at]) {
            let why = "an earlier transition has the same condition";
            dead(transition, why, "remove one of the two", faults);
            return;
        }
        // A final `always` is common practice, not a mistake.
        let is_last_resort = self.endings.column(at).all(|answer| answer == Match::Yes)
            && !conditions[..at]
                .iter()
                .any(|earlier| is_unconditional(*earlier));
        if is_last_resort {
            return;
        }
        let mut first = order.clone();
        first[..=at].rotate_right(1);
        let others_fire = (0..order.len())
            .filter(|other| *other != at && self.can_fire(&order, *other))
            .all(|other| {
                let place = first.iter().position(|moved| *moved == other);
                place.is_some_and(|place| self.can_fire(&first, place))
            });
        let how = if others_fire {
            "raise its `priority`, or remove it"
        } else {
            "remove it, or what makes it superfluous"
        };
        let why = "the transitions before it match whenever it does";
        dead(transition, why, how, faults);
    }

    /// Whether the transition's expression fails whenever it is asked.
    fn fails(&self, at: usize) -> bool {
        let asked = |row: &&Vec<Match>| self.ends.parallel || !row[..at].contains(&Match::Yes);
        let rows = self.endings.tried().map(|(_, row)| row).filter(asked);
        let mut answers = rows.map(|row| row[at]).peekable();
        answers.peek().is_some() && answers.all(|answer| answer == Match::Fails)
    }

    fn reason(&self, at: usize, source: &str) -> String {
        let mut rows = self.endings.tried();
        let failing = rows.find(|(_, row)| row[at] == Match::Fails);
        let known = failing.map(|(outcome, _)| self.ends.known(source, *outcome));
        match known.map(|known| self.ends.settle(source, &known)) {
            Some(Settled::Fails(error)) => error.to_string(),
            Some(Settled::Is(_) | Settled::Open) | None => NO_ANSWER.to_owned(),
        }
    }

    /// Why a condition never holds, and what to do about it.
    fn never(&self, condition: Option<&ConditionConfig>) -> (String, &'static str) {
        let other = "the step never ends in the way it asks for".to_owned();
        let Some(condition) = condition else {
            return (other, "remove it");
        };
        let has_value = |wanted: bool| {
            let mut outcomes = self.endings.outcomes.iter();
            outcomes.all(|outcome| outcome.has_value == wanted)
        };
        match condition.kind {
            ConditionType::OnDisagreement if condition.threshold.is_none() && has_value(true) => {
                let why = "the step always ends with a value".to_owned();
                let compares = self.step.config.as_ref().is_some_and(could_compare);
                if compares {
                    (why, "remove it, or let `consensus` compare the annotations")
                } else {
                    (why, "remove it")
                }
            }
            ConditionType::OnAgreement if condition.threshold.is_none() && has_value(false) => {
                ("the step never ends with a value".to_owned(), "remove it")
            }
            ConditionType::OnAgreement | ConditionType::OnDisagreement
                if self.endings.outcomes.iter().all(|o| o.agreement.is_none()) =>
            {
                let why = "the step has no agreement, which counts as agreement".to_owned();
                (why, "remove it, or its `threshold`")
            }
            ConditionType::Always
            | ConditionType::OnComplete
            | ConditionType::OnAgreement
            | ConditionType::OnDisagreement
            | ConditionType::Expression => (other, "remove it, or change its condition"),
        }
    }

    fn unhandled(&self, faults: &mut Faults) {
        let conditions = self.conditions();
        let mut complete: HashMap<Vec<usize>, bool> = HashMap::new();
        let mut is_open = |row: &Vec<Match>| {
            // An expression that fails opens an incident of its own.
            if row.contains(&Match::Yes) || row.contains(&Match::Fails) {
                return false;
            }
            let perhaps: Vec<usize> = (0..row.len())
                .filter(|at| row[*at] == Match::Perhaps)
                .collect();
            let known = complete.entry(perhaps).or_insert_with_key(|perhaps| {
                let asked = perhaps
                    .iter()
                    .filter_map(|at| self.expression(conditions[*at]));
                one_is_true(&asked.collect::<Vec<_>>())
            });
            !*known
        };
        let Some((outcome, row)) = self.endings.tried().find(|(_, row)| is_open(row)) else {
            return;
        };
        let message = Self::open_outcome(&conditions, *outcome, row);
        let suggestion = if self.ends.parallel {
            Self::missing_condition(&conditions, *outcome, row)
        } else {
            "add a transition for it, or a last one without condition".to_owned()
        };
        faults
            .add(Code::UnhandledOutcome, &self.step.node.origin, message)
            .suggest(suggestion);
    }

    fn expression(&self, condition: Option<&ConditionConfig>) -> Option<&Expression> {
        let source = condition?.expression.as_deref()?;
        self.ends.expressions.get(source)?.as_ref().ok()
    }

    fn open_outcome(
        conditions: &[Option<&ConditionConfig>],
        outcome: Outcome,
        row: &[Match],
    ) -> String {
        let has = |kind| {
            let mut conditions = conditions.iter().flatten();
            conditions.any(|condition| condition.kind == kind)
        };
        if has(ConditionType::Expression) && conditions.len() == 1 {
            "no transition matches when the expression is false".to_owned()
        } else if row.contains(&Match::Perhaps) {
            "no transition matches when no expression is true".to_owned()
        } else if let (Some(decision), true) = (outcome.decision, has(ConditionType::Expression)) {
            format!("no transition matches when the decision is `{decision}`")
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
        }
    }

    /// The condition of a transition that would take what is left over. Where every match fires, a
    /// transition without a condition would fork instead.
    fn missing_condition(
        conditions: &[Option<&ConditionConfig>],
        outcome: Outcome,
        row: &[Match],
    ) -> String {
        let open = (0..row.len()).filter(|at| row[*at] == Match::Perhaps);
        let negated: Vec<String> = open
            .filter_map(|at| conditions[at]?.expression.as_deref())
            .map(|source| format!("!({source})"))
            .collect();
        let has_threshold = conditions.iter().flatten().any(|c| c.threshold.is_some());
        if !negated.is_empty() {
            format!("add a transition for the rest: `{}`", negated.join(" && "))
        } else if has_threshold || outcome.decision.is_some() {
            "add a transition whose condition holds then".to_owned()
        } else if outcome.has_value {
            "add a transition with `condition: { type: on_agreement }`".to_owned()
        } else {
            "add a transition with `condition: { type: on_disagreement }`".to_owned()
        }
    }
}

/// Whether `consensus` would let the step end without a value.
fn could_compare(config: &StepConfig) -> bool {
    config.kind.spec().ends_with == EndsWith::Annotations
        && config.consensus.is_none()
        && config.asks_several()
        && config
            .endings()
            .iter()
            .all(|ending| ending.value == EndingValue::Made)
}

fn dead(transition: &TransitionDraft<'_>, why: &str, how: &str, faults: &mut Faults) {
    faults
        .add(
            Code::DeadTransition,
            &transition.node.origin,
            format!("the transition can never fire: {why}"),
        )
        .suggest(how)
        .value_of(transition.node);
}

fn is_unconditional(condition: Option<&ConditionConfig>) -> bool {
    condition.is_none_or(|c| matches!(c.kind, ConditionType::Always | ConditionType::OnComplete))
}
