//! One annotator's accuracy on gold tasks: the newest submissions, and the workflow's rule.
//!
//! A person is below the limit if so few right answers would come from somebody who is *at* the limit
//! in one case of twenty at most: an exact one-sided binomial test at 5 % over the window. A share below the
//! limit alone says little: of five answers of somebody who is right in nine of ten cases, three are
//! right or fewer in one case of twelve. The same test lets a person recover: it no longer finds them
//! below the limit.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    config::{GoldConfig, OnFall},
    consensus::binomial_at_most,
};

/// The minimum of answers before an annotator is evaluated.
const ANSWERS_MIN: usize = 5;
/// How often the test finds somebody below the limit who is at it, at most.
const ERROR_MAX: f64 = 0.05;

/// The gold record of one annotator in one workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GoldRecord {
    /// Whether each answer was correct, oldest first.
    pub answers: Vec<bool>,
    /// Whether the annotator fell below the limit and has not recovered.
    pub flagged: bool,
    /// How probable so few right answers are of somebody at the limit; `None` without a limit or
    /// with too few answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// Whether the workflow's rule has paused the annotator for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// When an operator last resumed the annotator; answers from before no longer count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_from: Option<DateTime<Utc>>,
}

/// The action of a workflow's rule on an annotator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Pause the annotator.
    Pause,
    /// End the pause that the rule began.
    Resume,
}

/// What shows that an annotator is below the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GoldFall {
    /// Correct answers.
    pub right: usize,
    /// Answers that count.
    pub answers: usize,
    /// The share of correct ones.
    pub accuracy: f64,
    /// How probable so few correct ones are of somebody at the limit.
    pub p_value: f64,
}

impl GoldRecord {
    /// The number of correct answers.
    pub fn right(&self) -> usize {
        self.answers.iter().filter(|correct| **correct).count()
    }

    /// The share of correct answers; `None` without answers.
    pub fn accuracy(&self) -> Option<f64> {
        (!self.answers.is_empty()).then(|| self.right() as f64 / self.answers.len() as f64)
    }

    /// Starts over if an operator has resumed the annotator since.
    pub fn judge_from(&mut self, resumed: Option<DateTime<Utc>>) {
        if resumed > self.judged_from {
            *self = Self {
                judged_from: resumed,
                ..Self::default()
            };
        }
    }

    /// Adds an answer. Returns what shows it if the annotator falls below the limit with it.
    pub fn add(&mut self, correct: bool, rule: &GoldConfig) -> Option<GoldFall> {
        self.answers.push(correct);
        let window = usize::try_from(rule.window).unwrap_or(usize::MAX);
        self.answers
            .drain(..self.answers.len().saturating_sub(window));
        let fallen = self.falls_short(Some(rule));
        let falls = fallen.filter(|_| !self.flagged);
        self.flagged = fallen.is_some();
        falls
    }

    /// Tests the answers against the limit of the rule.
    fn falls_short(&mut self, rule: Option<&GoldConfig>) -> Option<GoldFall> {
        let (right, answers) = (self.right(), self.answers.len());
        let limit = rule
            .and_then(|rule| rule.min_accuracy)
            .filter(|_| answers >= ANSWERS_MIN);
        self.p_value = limit.and_then(|limit| binomial_at_most(right, answers, limit).ok());
        Some(GoldFall {
            right,
            answers,
            accuracy: self.accuracy()?,
            p_value: self.p_value.filter(|p| *p <= ERROR_MAX)?,
        })
    }

    /// Applies a changed rule: clears a flag that the new rule does not require.
    pub fn forgive(&mut self, rule: Option<&GoldConfig>) {
        let fallen = self.falls_short(rule);
        self.flagged &= fallen.is_some();
    }

    /// The action the rule requires now, if it has not been taken yet.
    pub fn next_action(&mut self, rule: Option<&GoldConfig>) -> Option<RuleAction> {
        let pauses = rule.is_some_and(|rule| rule.on_fall == OnFall::Pause) && self.flagged;
        let before = std::mem::replace(&mut self.paused, pauses);
        match (before, pauses) {
            (false, true) => Some(RuleAction::Pause),
            (true, false) => Some(RuleAction::Resume),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(min_accuracy: impl Into<Option<f64>>, window: u32) -> GoldConfig {
        GoldConfig {
            similarity: None,
            share: 0.1,
            min_accuracy: min_accuracy.into(),
            window,
            on_fall: OnFall::Pause,
        }
    }

    #[test]
    fn a_fall_is_told_of_once_and_again_after_recovery() {
        let rule = rule(0.7, 5);
        let mut record = GoldRecord::default();
        let mut falls = Vec::new();
        let answers = "1100 1000 0110 10000";
        for (place, answer) in answers.chars().filter(|c| *c != ' ').enumerate() {
            if let Some(fall) = record.add(answer == '1', &rule) {
                falls.push((place, fall.right, fall.answers));
            }
        }
        // Two of five are too many to be sure. 00100 is the first with one; 00110 has recovered, and
        // 01000 is the next one.
        assert_eq!(falls, [(6, 1, 5), (15, 1, 5)]);
        assert_eq!(record.answers.len(), 5);
        assert!((record.p_value.unwrap() - 0.03078).abs() < 1e-9);
    }

    #[test]
    fn without_a_bound_answers_are_kept_and_nobody_falls() {
        let rule = rule(None, 20);
        let mut record = GoldRecord::default();
        for _ in 0..30 {
            assert_eq!(record.add(false, &rule), None);
        }
        assert_eq!((record.answers.len(), record.flagged), (20, false));
        assert_eq!(record.p_value, None);
    }

    #[test]
    fn a_lower_limit_lets_go_on_and_a_higher_one_waits_for_an_answer() {
        let mut record = GoldRecord::default();
        for correct in [true, false, false, false, false, false] {
            record.add(correct, &rule(0.7, 20));
        }
        assert!(record.flagged);
        assert_eq!(
            record.next_action(Some(&rule(0.7, 20))),
            Some(RuleAction::Pause)
        );
        record.forgive(Some(&rule(0.8, 20)));
        assert_eq!(record.next_action(Some(&rule(0.8, 20))), None);
        record.forgive(Some(&rule(0.4, 20)));
        assert_eq!(
            record.next_action(Some(&rule(0.4, 20))),
            Some(RuleAction::Resume)
        );
        record.forgive(Some(&rule(0.8, 20)));
        assert!(!record.flagged);
        assert!(record.add(false, &rule(0.8, 20)).is_some());
    }

    /// How many people of this accuracy are ever below 0.7 within so many answers; window 20. The
    /// figures stand in docs/statistics.md.
    fn share_fallen(accuracy: f64, answers: usize) -> f64 {
        const PEOPLE: u32 = 5_000;
        let mut state = 11_u64;
        let mut draw = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap()) / 4_294_967_296.0
        };
        let rule = rule(0.7, 20);
        let fallen = (0..PEOPLE).filter(|_| {
            let mut record = GoldRecord::default();
            (0..answers).any(|_| record.add(draw() < accuracy, &rule).is_some())
        });
        fallen.count() as f64 / f64::from(PEOPLE)
    }

    #[test]
    fn good_people_stay_and_bad_ones_are_found() {
        let of = |accuracy, answers| {
            let share = share_fallen(accuracy, answers);
            println!(
                "accuracy {accuracy} within {answers} answers: {:.2} %",
                share * 100.0
            );
            share
        };
        assert!(of(0.95, 100) < 0.001);
        assert!(of(0.9, 100) <= 0.015);
        of(0.9, 200);
        of(0.85, 100);
        of(0.8, 100);
        of(0.7, 100);
        of(0.5, 20);
        assert!(of(0.5, 100) >= 0.99);
        assert!(of(0.3, 20) >= 0.97);
    }
}
