//! Warnings: transitions that can never fire, and outcomes that no transition matches.

use super::{
    draft::{StepDraft, TransitionDraft},
    fault::Faults,
    graph::has_both_branches,
    outcomes::{Endings, Ends, Match, condition_of, verdict_without_branch},
    report::DiagnosticCode as Code,
};
use crate::config::{ConditionConfig, ConditionType};

/// Adds the warnings of every step.
pub(super) fn check(ends: &Ends<'_, '_>, faults: &mut Faults) {
    let steps = ends.draft.steps.iter().zip(&ends.leaving);
    for ((step, leaving), endings) in steps.zip(&ends.endings) {
        if let Some(endings) = endings {
            check_step(step, leaving, endings, ends.parallel, faults);
        }
    }
}

fn check_step(
    step: &StepDraft<'_>,
    leaving: &[&TransitionDraft<'_>],
    endings: &Endings,
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
    let conditions: Vec<Option<&ConditionConfig>> =
        leaving.iter().map(|t| condition_of(t)).collect();
    let column = |at: usize| endings.answers.iter().map(move |row| row[at]);
    for (at, transition) in leaving.iter().enumerate() {
        if column(at).all(|answer| answer == Match::No) {
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
        let fires = |row: &Vec<Match>| row[at] != Match::No && !row[..at].contains(&Match::Yes);
        if !endings.answers.iter().any(fires) {
            // A final `always` is common practice, not a mistake.
            let is_last_resort = column(at).all(|answer| answer == Match::Yes)
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
        unhandled(step, &conditions, endings, faults);
    } else if let Some((verdict, branch)) = verdict_without_branch(step) {
        let message =
            format!("nothing follows when the condition is {verdict}: the task then completes");
        faults
            .add(Code::UnhandledOutcome, &step.node.origin, message)
            .suggest(format!("add `{branch}: _complete` if that is meant"));
    }
}

fn unhandled(
    step: &StepDraft<'_>,
    conditions: &[Option<&ConditionConfig>],
    endings: &Endings,
    faults: &mut Faults,
) {
    let open = |answers: &&Vec<Match>| {
        let perhaps = answers.iter().zip(conditions);
        let perhaps = perhaps.filter(|(answer, _)| **answer == Match::Perhaps);
        let expressions: Vec<&str> = perhaps
            .filter_map(|(_, condition)| condition.as_ref()?.expression.as_deref())
            .collect();
        !answers.contains(&Match::Yes) && !is_complete(&expressions)
    };
    let Some(at) = endings.answers.iter().position(|answers| open(&answers)) else {
        return;
    };
    let outcome = endings.outcomes[at];
    let has = |kind| {
        conditions
            .iter()
            .flatten()
            .any(|condition| condition.kind == kind)
    };
    let message = if has(ConditionType::Expression) && conditions.len() == 1 {
        "no transition matches when the expression is false".to_owned()
    } else if endings.answers[at].contains(&Match::Perhaps) {
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
    };
    faults
        .add(Code::UnhandledOutcome, &step.node.origin, message)
        .suggest("add a transition for it, or a last one without condition");
}

/// Whether one of the expressions must be true, judging by their form alone: two of them are
/// opposites, for example `a > 1` and `a <= 1`, or `x` and `!(x)`.
fn is_complete(expressions: &[&str]) -> bool {
    const OPPOSITES: [(&str, &str); 3] = [("==", "!="), (">=", "<"), ("<=", ">")];
    let plain = |source: &str| source.split_whitespace().collect::<Vec<_>>().join(" ");
    // The operator alone, not the first half of a longer one.
    let split = |source: &str, operator: &str| {
        let (left, right) = source.split_once(operator)?;
        let whole = !right.starts_with('=') && !left.ends_with(['<', '>', '!', '=']);
        let single = !source.contains("&&") && !source.contains("||") && !source.contains('?');
        (whole && single).then(|| (left.trim().to_owned(), right.trim().to_owned()))
    };
    let opposed = |one: &str, other: &str| {
        let negated = other.strip_prefix('!').map(str::trim);
        if negated.is_some_and(|inner| inner == one || inner == format!("({one})")) {
            return true;
        }
        OPPOSITES.iter().any(|(this, that)| {
            let sides = split(one, this);
            sides.is_some() && sides == split(other, that)
        })
    };
    let sources: Vec<String> = expressions.iter().map(|source| plain(source)).collect();
    sources
        .iter()
        .any(|one| sources.iter().any(|other| opposed(one, other)))
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
