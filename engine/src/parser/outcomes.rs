//! How the steps of a file can end, and which of their transitions then fire.
//!
//! [`StepConfig::endings`] says how a step can end: with or without a value, with which agreement,
//! and a review with a decision. Conditions other than expressions read nothing else. Thresholds
//! divide the range of agreement into a few intervals, so one sample of each interval is enough. An
//! expression is settled with what a sample knows; if that does not decide it, both answers are
//! assumed possible.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

use serde_json::Value;

use super::{
    draft::{Draft, Goal, StepDraft, TransitionDraft},
    ways::{By, Way, Ways},
};
use crate::{
    config::{
        ConditionConfig, ConditionType, Ending, EndingAgreement, EndingValue, EndsWith,
        InternalHandler, OnError, StepConfig,
    },
    expression::{Expression, ExpressionError, Fields, Known, KnownVariables, Settled},
};

/// A step with more transitions than this is not analysed.
const TRANSITIONS_MAX: usize = 100;

/// The expressions of a file, by source.
pub(super) type Expressions = HashMap<String, Result<Expression, ExpressionError>>;

/// One possible ending of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) has_value: bool,
    pub(super) agreement: Option<f64>,
    /// The decision of a review, or the verdict of a conditional step.
    pub(super) decision: Option<&'static str>,
    /// Whether it is a review that refuses the value.
    pub(super) refuses: bool,
    /// Whether the step is skipped after an error. It then has no result, and expressions read an
    /// earlier one.
    pub(super) skipped: bool,
}

impl Outcome {
    const SKIPPED: Self = Self {
        has_value: false,
        agreement: None,
        decision: None,
        refuses: false,
        skipped: true,
    };
}

/// Whether a condition matches an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// Depends on what the sample does not know.
    Perhaps,
    /// The expression fails.
    Fails,
}

impl Match {
    /// Whether the transition may fire.
    pub(super) fn may(self) -> bool {
        matches!(self, Self::Yes | Self::Perhaps)
    }
}

/// How a step can end, and which of its transitions then match.
pub(super) struct Endings {
    pub(super) outcomes: Vec<Outcome>,
    /// For each outcome, whether each transition that leaves the step matches, in the order in
    /// which they are tried. Empty where a branch of a conditional step decides before they are
    /// tried.
    pub(super) answers: Vec<Vec<Match>>,
}

impl Endings {
    /// The outcomes for which transitions are tried, with the answers.
    pub(super) fn tried(&self) -> impl Iterator<Item = (&Outcome, &Vec<Match>)> {
        let all = self.outcomes.iter().zip(&self.answers);
        all.filter(|(_, row)| !row.is_empty())
    }

    /// The answers of one transition.
    pub(super) fn column(&self, at: usize) -> impl Iterator<Item = Match> {
        self.tried().map(move |(_, row)| row[at])
    }
}

/// What an expression was asked with: its source, what it reads of an outcome, and the threshold of
/// its step.
type Asked<'d> = (&'d str, OutcomeKey, Option<u64>);
/// An outcome as the key of a table.
type OutcomeKey = (bool, Option<u64>, Option<&'static str>, bool);

/// The transitions of every step, and how the steps can end.
pub(super) struct Ends<'d, 'a> {
    pub(super) draft: &'d Draft<'a>,
    pub(super) ways: &'d Ways<'a>,
    pub(super) expressions: &'d Expressions,
    /// Whether every matching transition fires, instead of only the first.
    pub(super) parallel: bool,
    /// For each step, the transitions that leave it, in the order in which they are tried.
    pub(super) leaving: Vec<Vec<&'d TransitionDraft<'a>>>,
    /// For each step, the edges that lead to it.
    pub(super) entering: Vec<Vec<&'d Way<'a>>>,
    /// `None` where a part of a step cannot be read, or too many transitions leave it.
    pub(super) endings: Vec<Option<Endings>>,
    /// The program's own handlers.
    handlers: &'d [&'d str],
    /// For each expression, the numbers that it compares the agreement with.
    bounds: HashMap<&'d str, Option<Vec<f64>>>,
    /// For each step, how it can end by its own keys; `None` where a part of it cannot be read.
    by_keys: Vec<Option<Vec<Ending>>>,
    /// Answers of expressions that were asked before.
    asked: RefCell<HashMap<Asked<'d>, Match>>,
    /// For each step, the agreement that its subject can carry.
    of_subject: Vec<Vec<EndingAgreement>>,
    /// Steps whose subject may have no value.
    without_subject: Vec<bool>,
}

impl<'d, 'a> Ends<'d, 'a> {
    pub(super) fn of(
        draft: &'d Draft<'a>,
        ways: &'d Ways<'a>,
        expressions: &'d Expressions,
        handlers: &'d [&'d str],
    ) -> Self {
        let count = draft.steps.len();
        let mut entering = vec![Vec::new(); count];
        for way in &ways.all {
            if let Goal::Step(to) = way.to {
                entering[to].push(way);
            }
        }
        let bounds = expressions
            .iter()
            .filter_map(|(source, compiled)| {
                let compiled = compiled.as_ref().ok()?;
                Some((source.as_str(), compiled.agreement_bounds()))
            })
            .collect();
        let mut ends = Self {
            draft,
            ways,
            expressions,
            parallel: draft.is_parallel(),
            leaving: draft.all_leaving(),
            entering,
            endings: Vec::new(),
            handlers,
            bounds,
            by_keys: Vec::new(),
            asked: RefCell::default(),
            of_subject: vec![Vec::new(); count],
            without_subject: vec![false; count],
        };
        ends.by_keys = draft
            .steps
            .iter()
            .map(|step| ends.endings_by_keys(step.config.as_ref()?).into())
            .collect();
        for at in 0..count {
            ends.of_subject[at] = ends.agreements_of_subject(at);
        }
        ends.endings = (0..count).map(|at| ends.endings_of(at)).collect();
        ends.find_missing_subjects();
        ends
    }

    fn config(&self, at: usize) -> Option<&'d StepConfig> {
        self.draft.steps[at].config.as_ref()
    }

    /// The endings of a step by its keys.
    fn endings_by_keys(&self, config: &StepConfig) -> Vec<Ending> {
        let handler = config.handler.as_deref();
        if handler.is_some_and(|handler| self.handlers.contains(&handler)) {
            return Ending::of_any_handler();
        }
        config.endings()
    }

    /// The agreement that the subject of a step can carry: that of the steps with annotations or a
    /// child before it.
    fn agreements_of_subject(&self, at: usize) -> Vec<EndingAgreement> {
        let mut found = Vec::new();
        let mut seen = vec![false; self.entering.len()];
        let mut waiting = vec![at];
        while let Some(at) = waiting.pop() {
            if self.draft.entry.is_none_or(|entry| entry == at) {
                found.push(EndingAgreement::Undefined);
            }
            for way in &self.entering[at] {
                match self.config(way.from) {
                    None => found.push(EndingAgreement::Any),
                    Some(config) if config.kind.spec().makes_subject() => {
                        let endings = self.by_keys[way.from].iter().flatten();
                        found.extend(endings.map(|ending| ending.agreement));
                    }
                    Some(_) if !std::mem::replace(&mut seen[way.from], true) => {
                        waiting.push(way.from);
                    }
                    Some(_) => {}
                }
            }
        }
        if found.is_empty() {
            // Nothing leads to the step, which is reported.
            found.push(EndingAgreement::Any);
        }
        found
    }

    /// Marks the steps whose subject may have no value: nothing made one before, or what made it
    /// can end without a value and lead here.
    fn find_missing_subjects(&mut self) {
        let mut waiting: Vec<usize> = (0..self.endings.len()).rev().collect();
        while let Some(at) = waiting.pop() {
            let begins = self.draft.entry == Some(at);
            let missing = begins || self.entering[at].iter().any(|way| self.brings_nothing(way));
            if missing && !std::mem::replace(&mut self.without_subject[at], true) {
                self.endings[at] = self.endings_of(at);
                let next = self.ways.all.iter().filter(|way| way.from == at);
                waiting.extend(next.filter_map(|way| match way.to {
                    Goal::Step(to) => Some(to),
                    Goal::Complete | Goal::Failed | Goal::Unknown => None,
                }));
            }
        }
    }

    /// Whether a task can come along an edge without a value to review.
    fn brings_nothing(&self, way: &Way<'_>) -> bool {
        let Some(config) = self.config(way.from) else {
            return true;
        };
        let Some(endings) = &self.endings[way.from] else {
            // An adjudicator always gives a value.
            return config.kind.spec().ends_with != EndsWith::Value;
        };
        let ended_without = (0..endings.outcomes.len())
            .any(|at| !endings.outcomes[at].has_value && self.can_take(endings, at, way.by));
        // Other steps pass on the subject that they have.
        ended_without && (config.kind.spec().makes_subject() || self.without_subject[way.from])
    }

    /// Whether an edge can be taken after an outcome of its step.
    pub(super) fn can_take(&self, endings: &Endings, outcome: usize, by: By) -> bool {
        let row = &endings.answers[outcome];
        match by {
            By::Branch(verdict) => {
                let outcome = endings.outcomes[outcome];
                outcome.decision == Some(if verdict { "true" } else { "false" })
            }
            By::Transition(at) | By::Exhausted(at) => row.get(at).is_some_and(|answer| {
                answer.may() && (self.parallel || !row[..at].contains(&Match::Yes))
            }),
        }
    }

    /// The outcomes after which an edge can be taken; `None` where they are not known.
    pub(super) fn taken_after(&self, way: &Way<'_>) -> Option<Vec<Outcome>> {
        let endings = self.endings[way.from].as_ref()?;
        let taken = (0..endings.outcomes.len()).filter(|at| self.can_take(endings, *at, way.by));
        Some(taken.map(|at| endings.outcomes[at]).collect())
    }

    /// Whether nothing follows the step, so that its branch ends there.
    pub(super) fn is_last(&self, at: usize) -> bool {
        let step = &self.draft.steps[at];
        self.leaving[at].is_empty() && step.true_branch.is_none() && step.false_branch.is_none()
    }

    /// The outcomes of the steps from which a task can come to a step; `None` where they are not
    /// known.
    pub(super) fn outcomes_before(&self, at: usize) -> Option<Vec<Outcome>> {
        let ways = self.entering[at].iter();
        let outcomes: Option<Vec<_>> = ways.map(|way| self.taken_after(way)).collect();
        Some(outcomes?.concat())
    }

    fn endings_of(&self, at: usize) -> Option<Endings> {
        let leaving = &self.leaving[at];
        // Unreadable parts justify no warning, and comparing hundreds of transitions costs too
        // much.
        let unread = |t: &&TransitionDraft<'_>| t.config.is_none() || !t.node.is_whole();
        if leaving.len() > TRANSITIONS_MAX || leaving.iter().any(unread) {
            return None;
        }
        if self.ways.unread || !self.draft.steps[at].node.is_whole() {
            return None;
        }
        let config = self.config(at)?;
        let outcomes = self.possible(at, config);
        let step = &self.draft.steps[at];
        let answers = outcomes
            .iter()
            .map(|outcome| {
                let branch = match outcome.decision {
                    Some("true") => step.true_branch,
                    Some("false") => step.false_branch,
                    Some(_) | None => None,
                };
                let tried = leaving.iter().filter(|_| branch.is_none());
                let conditions = tried.map(|transition| condition_of(transition));
                let answers = conditions.map(|asked| self.matches(asked, *outcome, config));
                answers.collect()
            })
            .collect();
        Some(Endings { outcomes, answers })
    }

    fn matches(
        &self,
        condition: Option<&'d ConditionConfig>,
        outcome: Outcome,
        step: &StepConfig,
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
                let threshold = step.consensus.as_ref().map(|consensus| consensus.threshold);
                return self.asked(source, outcome, threshold);
            }
        };
        if answer { Match::Yes } else { Match::No }
    }

    /// The answer of an expression; each different question is asked once.
    fn asked(&self, source: &'d str, outcome: Outcome, threshold: Option<f64>) -> Match {
        let read = Outcome {
            agreement: outcome
                .agreement
                .map(|a| self.interval(source, threshold, a)),
            ..outcome
        };
        let key = (
            source,
            (
                read.has_value,
                read.agreement.map(f64::to_bits),
                read.decision,
                read.skipped,
            ),
            threshold.map(f64::to_bits),
        );
        if let Some(answer) = self.asked.borrow().get(&key) {
            return *answer;
        }
        let mut known = self.known(source, read);
        if let Some(threshold) = threshold {
            known.insert("threshold", Known::Is(threshold.into()));
        }
        let answer = match self.settle(source, &known) {
            Settled::Is(Value::Bool(true)) => Match::Yes,
            Settled::Is(Value::Bool(false)) => Match::No,
            Settled::Is(_) | Settled::Fails(_) => Match::Fails,
            Settled::Open => Match::Perhaps,
        };
        self.asked.borrow_mut().insert(key, answer);
        answer
    }

    /// One number for all agreements that an expression does not tell apart.
    fn interval(&self, source: &str, threshold: Option<f64>, agreement: f64) -> f64 {
        let bounds = self.bounds.get(source).and_then(Option::as_ref);
        let (mut from, mut to) = (-2.0_f64, 2.0_f64);
        for bound in bounds.into_iter().flatten().chain(threshold.as_ref()) {
            if *bound <= agreement {
                from = bound.max(from);
            }
            if *bound >= agreement {
                to = bound.min(to);
            }
        }
        f64::midpoint(from, to)
    }

    /// What an expression yields with these variables.
    pub(super) fn settle(&self, source: &str, known: &KnownVariables) -> Settled {
        match self.expressions.get(source) {
            Some(Ok(expression)) => expression.settle(known),
            Some(Err(_)) | None => Settled::Open,
        }
    }

    /// The variables that an expression gets after an outcome of the step that the task leaves, as
    /// far as they are known.
    pub(super) fn known(&self, source: &str, outcome: Outcome) -> KnownVariables {
        if outcome.skipped {
            return KnownVariables::new();
        }
        // A sample stands for the other agreements of its interval only where the expression does
        // nothing with an agreement but compare it with numbers.
        let exact = matches!(self.bounds.get(source), Some(Some(_)));
        let agreement = match outcome.agreement {
            None => Known::Is(Value::Null),
            Some(agreement) if exact => Known::Is(agreement.into()),
            Some(_) => Known::Open,
        };
        let result = result_of(outcome.decision, outcome.has_value, agreement.clone());
        KnownVariables::from([("agreement", agreement), ("result", result)])
    }
}

/// The variables at the beginning of a task, before any step has ended.
pub(super) fn known_at_start() -> KnownVariables {
    let none = || Known::Is(Value::Null);
    ["agreement", "threshold", "result", "annotation"]
        .map(|name| (name, none()))
        .into()
}

/// The `result` of a step that has ended so.
pub(super) fn result_of(decision: Option<&str>, has_value: bool, agreement: Known) -> Known {
    let keys = Fields::Result.keys().iter();
    let mut keys: BTreeMap<String, Known> =
        keys.map(|key| ((*key).to_owned(), Known::Open)).collect();
    keys.insert("agreement".to_owned(), agreement);
    keys.insert("decision".to_owned(), Known::Is(decision.into()));
    if !has_value {
        keys.insert("value".to_owned(), Known::Is(Value::Null));
    }
    Known::Keys(keys)
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

impl Ends<'_, '_> {
    /// The possible endings of a step, one sample for each interval between the thresholds.
    fn possible(&self, at: usize, step: &StepConfig) -> Vec<Outcome> {
        let samples = self.samples(at);
        let mut outcomes: Vec<Outcome> = Vec::new();
        for ending in self.by_keys[at].iter().flatten() {
            let of_subject = [ending.agreement];
            let agreements = match ending.agreement {
                EndingAgreement::OfSubject => self.of_subject[at].as_slice(),
                EndingAgreement::Undefined
                | EndingAgreement::Below(_)
                | EndingAgreement::AtLeast(_)
                | EndingAgreement::Any => &of_subject,
            };
            let values: &[bool] = match ending.value {
                EndingValue::OfSubject if self.without_subject[at] => &[true, false],
                EndingValue::Made | EndingValue::OfSubject => &[true],
                EndingValue::Absent => &[false],
            };
            let decides = step.kind.spec().ends_with == EndsWith::Decision;
            let refuses = decides && ending.value == EndingValue::Absent;
            for agreement in &samples {
                if !agreements.iter().any(|of| of.admits(*agreement)) {
                    continue;
                }
                let with = |has_value: &bool| Outcome {
                    has_value: *has_value,
                    agreement: *agreement,
                    decision: ending.decision,
                    refuses,
                    skipped: false,
                };
                outcomes.extend(values.iter().map(with));
            }
        }
        if self.can_be_skipped(step) {
            outcomes.push(Outcome::SKIPPED);
        }
        outcomes
    }

    /// One agreement of every interval between the numbers that matter at a step, and none.
    fn samples(&self, at: usize) -> Vec<Option<f64>> {
        let own = self.by_keys[at].iter().flatten();
        let own = own.map(|ending| ending.agreement);
        let of_endings = own.chain(self.of_subject[at].iter().copied());
        let of_endings = of_endings.filter_map(|agreement| match agreement {
            EndingAgreement::Below(bound) | EndingAgreement::AtLeast(bound) => Some(bound),
            EndingAgreement::Undefined | EndingAgreement::Any | EndingAgreement::OfSubject => None,
        });
        let conditions = || self.leaving[at].iter().filter_map(|t| condition_of(t));
        let thresholds = conditions().filter_map(|condition| condition.threshold);
        let sources = conditions().filter_map(|condition| condition.expression.as_deref());
        let compared = sources.filter_map(|source| self.bounds.get(source)?.as_ref());
        let compared: Vec<f64> = compared.flatten().copied().collect();
        let mut samples: Vec<f64> = of_endings
            .chain(thresholds)
            .chain(compared.iter().copied())
            .flat_map(|bound| [bound - 1e-6, bound])
            .chain(compared.iter().map(|bound| bound + 1e-6))
            .chain([-1.0, 1.0])
            .filter(|sample| (-1.0..=1.0).contains(sample))
            .collect();
        samples.sort_by(f64::total_cmp);
        samples.dedup();
        samples.into_iter().map(Some).chain([None]).collect()
    }

    /// Whether the step may be skipped when its handler, expression or child fails.
    fn can_be_skipped(&self, step: &StepConfig) -> bool {
        let on_error = step.on_error.or_else(|| self.draft.on_error());
        on_error == Some(OnError::Skip) && !step.kind.takes_submissions()
    }

    /// Whether what the step makes replaces the value that a review later keeps.
    pub(super) fn makes_value(&self, at: usize) -> bool {
        let Some(config) = self.config(at) else {
            return true;
        };
        let spec = config.kind.spec();
        let passes_on = config.calls(InternalHandler::Finalize)
            && !self.handlers.contains(&InternalHandler::Finalize.as_str());
        match spec.ends_with {
            EndsWith::Annotations | EndsWith::Value | EndsWith::Decision => true,
            EndsWith::ValueOrNone => !passes_on,
            EndsWith::Verdict => false,
        }
    }
}
