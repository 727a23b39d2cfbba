//! How well one annotator answers gold tasks: the newest answers, and what the workflow's rule says.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::{GoldConfig, OnFall};

/// Answers below which nothing is said of an annotator.
const ANSWERS_MIN: usize = 5;

/// What is known of one annotator in one workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GoldRecord {
    /// Whether each answer was the known one, oldest first.
    pub answers: Vec<bool>,
    /// Whether the annotator has fallen and not recovered.
    pub flagged: bool,
    /// Whether the workflow's rule has paused the annotator for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// When an operator last let the annotator go on; answers from before count no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_from: Option<DateTime<Utc>>,
}

/// What the rule of a workflow does about an annotator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// The annotator is paused.
    Pause,
    /// The pause that the rule began is ended.
    Resume,
}

impl GoldRecord {
    /// Share of right answers; none where there are none.
    pub fn accuracy(&self) -> Option<f64> {
        let correct = self.answers.iter().filter(|correct| **correct).count();
        (!self.answers.is_empty()).then(|| correct as f64 / self.answers.len() as f64)
    }

    /// Begins anew where an operator has let the annotator go on since.
    pub fn judge_from(&mut self, resumed: Option<DateTime<Utc>>) {
        if resumed > self.judged_from {
            *self = Self {
                judged_from: resumed,
                ..Self::default()
            };
        }
    }

    /// Takes in an answer. Answers the accuracy if the annotator falls with it.
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

    /// The accuracy where it is below what the rule asks for.
    fn falls_short(&self, rule: &GoldConfig) -> Option<f64> {
        let min = rule
            .min_accuracy
            .filter(|_| self.answers.len() >= ANSWERS_MIN)?;
        self.accuracy().filter(|accuracy| *accuracy < min)
    }

    /// Takes in another rule: what it does not ask for any more is forgiven.
    pub fn forgive(&mut self, rule: Option<&GoldConfig>) {
        self.flagged &= rule.is_some_and(|rule| self.falls_short(rule).is_some());
    }

    /// Does what the rule says now, where that is not what it has done.
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
