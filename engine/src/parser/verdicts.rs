//! Warnings about what people decide on a value: reviews of nothing, refusals that nobody hears,
//! and late labels that become verdicts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    draft::Goal,
    fault::Faults,
    map::Map,
    outcomes::{Ends, condition_of, result_of},
    report::DiagnosticCode as Code,
    ways::{By, Way},
};
use crate::{
    config::{ConditionType, EndsWith, Performer, StepConfig, StepSet},
    expression::{Fields, Known, KnownVariables, Settled},
};

/// Adds the warnings.
pub(super) fn check(map: &Map<'_, '_>, ends: &Ends<'_, '_>, faults: &mut Faults) {
    let makes = |way: &Way<'_>| ends.makes_value(way.from);
    let before_any_value = ends.draft.entry.map(|entry| map.reached(entry, makes));
    for (at, step) in ends.draft.steps.iter().enumerate() {
        let Some(config) = &step.config else { continue };
        let spec = config.kind.spec();
        let reached = |steps: &StepSet| steps.has(at);
        if spec.has_subject() && before_any_value.as_ref().is_some_and(reached) {
            reviews_nothing(ends, at, spec.ends_with, faults);
        }
        match spec.ends_with {
            EndsWith::Decision => refused_outputs(map, ends, at, faults),
            EndsWith::Value => late_verdict(map, ends, at, config, faults),
            EndsWith::Annotations | EndsWith::ValueOrNone | EndsWith::Verdict => {}
        }
    }
}

/// Reports a review or adjudication to which a task can come before anything has made a value.
fn reviews_nothing(ends: &Ends<'_, '_>, at: usize, ends_with: EndsWith, faults: &mut Faults) {
    let (message, suggestion) = if ends_with == EndsWith::Value {
        (
            "a task can come here before anybody has annotated it: there is nothing to adjudicate",
            "let an `annotation` step come first, or make this one an `annotation`",
        )
    } else {
        (
            "a task can come here before anything has made a value: there is nothing to review, \
             and `approve` keeps nothing",
            "let an `annotation` step come first",
        )
    };
    let step = &ends.draft.steps[at];
    faults
        .add(Code::NothingToReview, &step.node.origin, message)
        .suggest(suggestion);
}

/// Reports the ways on which a task completes after a review has refused the value.
fn refused_outputs(map: &Map<'_, '_>, ends: &Ends<'_, '_>, at: usize, faults: &mut Faults) {
    let Some(endings) = &ends.endings[at] else {
        return;
    };
    let mut refusals: Vec<&'static str> = endings
        .outcomes
        .iter()
        .filter(|outcome| outcome.refuses)
        .filter_map(|outcome| outcome.decision)
        .collect();
    refusals.dedup();
    if ends.is_last(at) && !refusals.is_empty() {
        let message = "the task completes after `reject` and `request_changes` too, and its \
                       result is then null";
        faults
            .add(
                Code::RefusedOutput,
                &ends.draft.steps[at].node.origin,
                message,
            )
            .suggest(
                "add transitions: `on_agreement` to `_complete`, and `on_disagreement` to \
                 `_failed` or back to a step",
            );
        return;
    }
    for way in &map.leaving[at] {
        let way = map.ways[*way];
        let can_take = |decision: &str| {
            let mut outcomes = endings.outcomes.iter().enumerate();
            outcomes.any(|(outcome, known)| {
                known.decision == Some(decision) && ends.can_take(endings, outcome, way.by)
            })
        };
        let completing: Vec<&str> = refusals
            .iter()
            .copied()
            .filter(|decision| can_take(decision))
            .filter(|decision| Refused::new(ends, at, decision).completes(way.to))
            .collect();
        if completing.is_empty() {
            continue;
        }
        let decided = match way.by {
            By::Exhausted(_) => "once the loop has run out",
            By::Branch(_) | By::Transition(_) => "this way",
        };
        let decisions = completing.join("` or `");
        let message = format!(
            "after `{decisions}` a task can complete {decided}, and its result is then null"
        );
        faults
            .add(Code::RefusedOutput, way.origin, message)
            .suggest(
                "let only `on_agreement` lead there, and `on_disagreement` to `_failed` or back to \
                 a step",
            );
    }
}

/// A task whose value a review has refused.
struct Refused<'r, 'e, 'a> {
    ends: &'r Ends<'e, 'a>,
    /// What expressions read of the review directly behind it.
    behind: KnownVariables,
    /// What they read of it further on.
    later: KnownVariables,
}

impl<'r, 'e, 'a> Refused<'r, 'e, 'a> {
    fn new(ends: &'r Ends<'e, 'a>, review: usize, decision: &str) -> Self {
        let result = result_of(Some(decision), false, Known::Open);
        let open = |keys: &[&str]| -> BTreeMap<String, Known> {
            keys.iter()
                .map(|key| ((*key).to_owned(), Known::Open))
                .collect()
        };
        let mut step = open(Fields::Step.keys());
        step.insert("completed".to_owned(), Known::Is(true.into()));
        step.insert("result".to_owned(), result.clone());
        let mut steps = open(&ends.draft.ids());
        if let Some(id) = ends.draft.steps[review].id {
            steps.insert(id.to_owned(), Known::Keys(step));
        }
        let later = KnownVariables::from([("step", Known::Keys(steps))]);
        let mut behind = later.clone();
        behind.insert("result", result);
        Self {
            ends,
            behind,
            later,
        }
    }

    /// Whether the task can complete from here before another step says anything about the value.
    fn completes(&self, goal: Goal) -> bool {
        let mut seen = vec![[false; 2]; self.ends.leaving.len()];
        let mut waiting = vec![(goal, true)];
        while let Some((goal, is_behind)) = waiting.pop() {
            let at = match goal {
                Goal::Complete => return true,
                Goal::Failed | Goal::Unknown => continue,
                Goal::Step(at) => at,
            };
            let seen = &mut seen[at][usize::from(is_behind)];
            if self.ends.makes_value(at) || std::mem::replace(seen, true) {
                continue;
            }
            if self.ends.is_last(at) {
                return true;
            }
            let taken = self.taken(at, is_behind);
            waiting.extend(taken.into_iter().map(|goal| (goal, false)));
        }
        false
    }

    /// Where a step that passes on the refusal leads. It has no value of its own.
    fn taken(&self, at: usize, is_behind: bool) -> Vec<Goal> {
        let step = &self.ends.draft.steps[at];
        let asked = step
            .config
            .as_ref()
            .and_then(|config| config.condition.as_ref());
        let known = if is_behind { &self.behind } else { &self.later };
        let verdict = asked.and_then(|asked| self.answer(&asked.expression, known));
        let branches = [(true, step.true_branch), (false, step.false_branch)];
        let mut taken: Vec<Goal> = branches
            .into_iter()
            .filter(|(branch, _)| verdict.is_none_or(|verdict| verdict == *branch))
            .filter_map(|(_, goal)| goal)
            .collect();
        let is_decided = branches.iter().all(|(branch, goal)| {
            goal.is_some() || verdict.is_some_and(|verdict| verdict != *branch)
        });
        if is_decided {
            return taken;
        }
        for transition in &self.ends.leaving[at] {
            let matches = match condition_of(transition) {
                None => Some(true),
                Some(condition) => match condition.kind {
                    ConditionType::Always | ConditionType::OnComplete => Some(true),
                    ConditionType::OnAgreement => Some(condition.threshold.is_some()),
                    ConditionType::OnDisagreement => Some(condition.threshold.is_none()),
                    ConditionType::Expression => {
                        let source = condition.expression.as_deref().unwrap_or_default();
                        self.answer(source, &self.later)
                    }
                },
            };
            if matches != Some(false) {
                taken.push(transition.to);
                taken.extend(transition.on_exhausted);
            }
            if matches == Some(true) && !self.ends.parallel {
                break;
            }
        }
        taken
    }

    fn answer(&self, source: &str, known: &KnownVariables) -> Option<bool> {
        match self.ends.settle(source, known) {
            Settled::Is(Value::Bool(answer)) => Some(answer),
            Settled::Is(_) | Settled::Fails(_) | Settled::Open => None,
        }
    }
}

/// Reports an adjudication that takes the labels of annotators who come too late, unless a review
/// of its verdict follows in any case.
fn late_verdict(
    map: &Map<'_, '_>,
    ends: &Ends<'_, '_>,
    at: usize,
    config: &StepConfig,
    faults: &mut Faults,
) {
    let Some(late) = annotators_before(map, ends, at).into_iter().find(|from| {
        let annotation = ends.draft.steps[*from].config.as_ref();
        let roles = annotation.map_or(&[][..], StepConfig::required_roles);
        let wanted = config.required_roles();
        // Or everybody who may annotate has a role that may adjudicate.
        wanted.is_empty() || !roles.is_empty() && roles.iter().all(|role| wanted.contains(role))
    }) else {
        return;
    };
    let is_review = |step: usize| {
        let config = ends.draft.steps[step].config.as_ref();
        config.is_some_and(|config| config.kind.spec().ends_with == EndsWith::Decision)
    };
    let onward = map.reached(at, |way| is_review(way.from));
    let completes = |step: usize| {
        let mut leaving = map.leaving[step].iter();
        ends.is_last(step) || leaving.any(|way| map.ways[*way].to == Goal::Complete)
    };
    let ends_unreviewed =
        (0..map.leaving.len()).any(|step| onward.has(step) && !is_review(step) && completes(step));
    if !ends_unreviewed {
        return;
    }
    let step = &ends.draft.steps[at];
    let late = ends.draft.steps[late].id.unwrap_or_default();
    let message = format!(
        "an annotation for `{late}` that comes too late and names no step becomes the verdict \
         here: everybody who may annotate may adjudicate"
    );
    faults
        .add(Code::LateVerdict, &step.node.origin, message)
        .suggest("add `assignment: { required_roles: [adjudicator] }`, with a role of its own");
}

/// The annotation steps from which a task comes to a step without other people in between.
fn annotators_before(map: &Map<'_, '_>, ends: &Ends<'_, '_>, at: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut seen = StepSet::none(map.leaving.len());
    let mut waiting = vec![at];
    while let Some(at) = waiting.pop() {
        for way in &map.entering[at] {
            let from = map.ways[*way].from;
            let Some(config) = ends.draft.steps[from].config.as_ref() else {
                continue;
            };
            if !seen.add(from) {
                continue;
            }
            match config.kind.spec().performer {
                Performer::Annotators => found.push(from),
                Performer::Person => {}
                Performer::Handler | Performer::Expression | Performer::ChildTask => {
                    waiting.push(from);
                }
            }
        }
    }
    found.sort_unstable();
    found
}
