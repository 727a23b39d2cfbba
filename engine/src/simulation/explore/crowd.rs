//! Made-up people who err as often as they are said to, and what they say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::guide::{Answers, Guide};
use crate::{
    config::{Decision, Performer},
    ids::UserId,
    limits::{CROWD_PEOPLE_MAX, CROWD_TASKS_MAX},
    reliability::{ReliabilityError, simulation::Random},
    simulation::person,
    state::Visit,
    transition::CompileError,
};

/// Who answers, how well, and how many tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Crowd {
    /// Tasks that are played.
    #[schemars(range(min = 1, max = CROWD_TASKS_MAX))]
    pub tasks: u32,
    /// Annotators.
    #[schemars(range(min = 1, max = CROWD_PEOPLE_MAX))]
    pub people: u32,
    /// How often an annotator is right, from 0 to 1: the mean over annotators.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub accuracy: f64,
    /// How far the best and the worst annotator are from the mean; the others lie evenly between.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub spread: f64,
    /// The share of hard tasks: annotators only guess there.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub hard: f64,
    /// How often reviewers and adjudicators are right.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub expert_accuracy: f64,
    /// Another number draws other answers; the same one always draws the same.
    pub seed: u64,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            tasks: 200,
            people: 5,
            accuracy: 0.85,
            spread: 0.1,
            hard: 0.05,
            expert_accuracy: 0.97,
            seed: 1,
        }
    }
}

/// Why no crowd plays a workflow.
#[derive(Debug, thiserror::Error)]
pub enum CrowdError {
    /// A number is out of its range.
    #[error("`{0}` must be from {1} to {2}")]
    OutOfRange(&'static str, f64, f64),
    /// The parser has not checked the workflow.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It declares classes that no model takes.
    #[error(transparent)]
    Model(#[from] ReliabilityError),
}

impl Crowd {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// [`CrowdError::OutOfRange`].
    pub fn check(&self) -> Result<(), CrowdError> {
        let ranges = [
            (
                "tasks",
                f64::from(self.tasks),
                1.0,
                f64::from(CROWD_TASKS_MAX),
            ),
            (
                "people",
                f64::from(self.people),
                1.0,
                f64::from(CROWD_PEOPLE_MAX),
            ),
            ("accuracy", self.accuracy, 0.0, 1.0),
            ("spread", self.spread, 0.0, 0.5),
            ("hard", self.hard, 0.0, 1.0),
            ("expert_accuracy", self.expert_accuracy, 0.0, 1.0),
        ];
        let wrong = ranges
            .into_iter()
            .find(|(_, value, least, most)| !(*least..=*most).contains(value));
        match wrong {
            Some((name, _, least, most)) => Err(CrowdError::OutOfRange(name, least, most)),
            None => Ok(()),
        }
    }

    /// How often each annotator is right.
    pub(super) fn accuracies(&self) -> Vec<f64> {
        let last = f64::from(self.people.saturating_sub(1)).max(1.0);
        let place = |at: u32| 2.0 * f64::from(at) / last - 1.0;
        let of = |at: u32| match self.people {
            1 => self.accuracy,
            _ => (self.accuracy + self.spread * place(at)).clamp(0.0, 1.0),
        };
        (0..self.people).map(of).collect()
    }
}

/// The crowd, at one task.
pub(super) struct AtTask {
    /// Annotators, in the order in which they come to this task, and how often each is right.
    people: Vec<(UserId, f64)>,
    expert_accuracy: f64,
    /// Which of the plausible answers is the true one.
    truth: usize,
    is_hard: bool,
    random: Random,
}

impl AtTask {
    pub(super) fn new(crowd: &Crowd, accuracies: &[f64], random: &mut Random) -> Self {
        // Draws of one task do not move those of the next.
        let seed = u64::try_from(random.below(usize::MAX));
        let mut own = Random::new(seed.unwrap_or_default());
        let mut people: Vec<(UserId, f64)> = accuracies
            .iter()
            .enumerate()
            .map(|(at, accuracy)| (person(&format!("annotator {}", at + 1)), *accuracy))
            .collect();
        own.shuffle(&mut people);
        Self {
            people,
            expert_accuracy: crowd.expert_accuracy,
            truth: own.below(usize::MAX),
            is_hard: own.unit() < crowd.hard,
            random: own,
        }
    }

    /// Annotators who are not yet in a visit, the next one first, and how often each is right. A slot
    /// that is reserved is for its person alone.
    pub(super) fn candidates(&self, visit: &Visit) -> Vec<(UserId, f64)> {
        if let Some(claim) = visit.assignments.first() {
            let known = self.people.iter().find(|(user, _)| *user == claim.user_id);
            return vec![*known.unwrap_or(&(claim.user_id, self.expert_accuracy))];
        }
        let is_in = |user: &UserId| {
            visit.annotations.iter().any(|one| one.user_id == *user)
                || visit.excluded.contains(user)
        };
        let free = self.people.iter().filter(|(user, _)| !is_in(user));
        free.copied().collect()
    }

    /// What somebody says who is right so often.
    pub(super) fn says(&mut self, accuracy: f64, answers: &Answers) -> Value {
        let count = answers.data.len();
        let accuracy = if self.is_hard {
            1.0 / f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX))
        } else {
            accuracy
        };
        let at = self.draws(accuracy, count);
        answers.data.get(at).cloned().unwrap_or_default()
    }

    /// What a reviewer or adjudicator says: no task is too hard for them.
    pub(super) fn expert_says(&mut self, answers: &Answers) -> Value {
        let at = self.draws(self.expert_accuracy, answers.data.len());
        answers.data.get(at).cloned().unwrap_or_default()
    }

    /// What a reviewer decides about a value, in the order in which it is tried, with the value that
    /// replaces it. A step to which the task can come back gets it again before anybody fixes it.
    pub(super) fn decides(
        &mut self,
        is_true: Option<bool>,
        in_loop: bool,
        answers: &Answers,
    ) -> (Vec<Decision>, Value) {
        let sees = self.random.unit() < self.expert_accuracy;
        let truth = self.truth(answers);
        let refusals = if in_loop {
            vec![Decision::Reject, Decision::RequestChanges, Decision::Fix]
        } else {
            vec![Decision::Fix, Decision::Reject]
        };
        match (is_true, sees) {
            (Some(true), true) | (Some(false), false) => (
                vec![Decision::Approve, Decision::Fix, Decision::Reject],
                truth,
            ),
            (Some(true), false) => (refusals, self.expert_says(answers)),
            (Some(false), true) | (None, _) => (refusals, truth),
        }
    }

    /// The true answer to what a step asks.
    pub(super) fn truth(&self, answers: &Answers) -> Value {
        let at = self.truth % answers.data.len().max(1);
        answers.data.get(at).cloned().unwrap_or_default()
    }

    /// The place of the true answer that often, and of another one otherwise.
    fn draws(&mut self, accuracy: f64, count: usize) -> usize {
        let truth = self.truth % count.max(1);
        if count < 2 || self.random.unit() < accuracy {
            return truth;
        }
        let other = self.random.below(count - 1);
        if other < truth { other } else { other + 1 }
    }
}

/// The true answers to what the annotation steps ask, in one: of several steps, each takes its own
/// keys.
pub(super) fn true_answers(guide: &Guide<'_>, input: &Value, crowd: &AtTask) -> Value {
    let steps = guide.config.steps.iter();
    let steps = steps.filter(|step| step.kind.spec().performer == Performer::Annotators);
    let mut answers = steps.map(|step| crowd.truth(&guide.answers(step, None, input)));
    let first = answers.next().unwrap_or_default();
    answers.fold(first, |all, answer| match (all, answer) {
        (Value::Object(mut all), Value::Object(answer)) => {
            all.extend(answer);
            Value::Object(all)
        }
        (all, Value::Object(answer)) if all.is_null() => Value::Object(Map::from_iter(answer)),
        (all, _) => all,
    })
}
