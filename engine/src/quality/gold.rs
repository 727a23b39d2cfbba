//! One annotator's accuracy on gold tasks: the newest submissions, and the workflow's rule.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::{GoldConfig, OnFall};

/// The minimum of answers before an annotator is evaluated.
const ANSWERS_MIN: usize = 5;

/// The gold record of one annotator in one workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GoldRecord {
    /// Whether each answer was correct, oldest first.
    pub answers: Vec<bool>,
    /// Whether the annotator fell below the limit and has not recovered.
    pub flagged: bool,
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

impl GoldRecord {
    /// The share of correct answers; `None` without answers.
    pub fn accuracy(&self) -> Option<f64> {
        let correct = self.answers.iter().filter(|correct| **correct).count();
        (!self.answers.is_empty()).then(|| correct as f64 / self.answers.len() as f64)
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

    /// Adds an answer. Returns the accuracy if the annotator falls below the limit with it.
    pub fn add(&mut self, correct: bool, rule: &GoldConfig) -> Option<f64> {
        self.answers.push(correct);
        let window = usize::try_from(rule.window).unwrap_or(usize::MAX);
        self.answers
            .drain(..self.answers.len().saturating_sub(window));
        let fallen = self.falls_short(rule);
        let falls = fallen.filter(|_| !self.flagged);
        self.flagged = fallen.is_some();
        falls
    }

    /// The accuracy, if it is below the limit of the rule.
    fn falls_short(&self, rule: &GoldConfig) -> Option<f64> {
        let min = rule
            .min_accuracy
            .filter(|_| self.answers.len() >= ANSWERS_MIN)?;
        self.accuracy().filter(|accuracy| *accuracy < min)
    }

    /// Applies a changed rule: clears a flag that the new rule does not require.
    pub fn forgive(&mut self, rule: Option<&GoldConfig>) {
        self.flagged &= rule.is_some_and(|rule| self.falls_short(rule).is_some());
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

    #[test]
    fn a_fall_is_told_of_once_and_again_after_recovery() {
        let rule = GoldConfig {
            similarity: None,
            share: 0.1,
            min_accuracy: Some(0.6),
            window: 5,
            on_fall: OnFall::Flag,
        };
        let mut record = GoldRecord::default();
        let mut falls = Vec::new();
        let answers = "1100 0000 1111 10000";
        for (place, answer) in answers.chars().filter(|c| *c != ' ').enumerate() {
            if let Some(accuracy) = record.add(answer == '1', &rule) {
                falls.push((place, accuracy));
            }
        }
        // 11000 is the first with five answers; 10000 is at the end, after 11111.
        assert_eq!(falls, [(4, 0.4), (15, 0.4)]);
        assert_eq!(record.answers.len(), 5);
    }

    #[test]
    fn without_a_bound_answers_are_kept_and_nobody_falls() {
        let rule = GoldConfig {
            similarity: None,
            share: 0.1,
            min_accuracy: None,
            window: 20,
            on_fall: OnFall::Flag,
        };
        let mut record = GoldRecord::default();
        for _ in 0..30 {
            assert_eq!(record.add(false, &rule), None);
        }
        assert_eq!((record.answers.len(), record.flagged), (20, false));
    }
}
