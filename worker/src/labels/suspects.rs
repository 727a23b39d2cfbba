//! The answers that are most likely wrong.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    events::LogPosition,
    ids::{StepId, TaskId},
    state::SoftLabels,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::label::{KnownNow, Label};

/// An answer that may be wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Suspect {
    /// The task.
    pub task_id: TaskId,
    /// Key-value pairs of the task.
    pub labels: BTreeMap<String, String>,
    /// The step.
    pub step: StepId,
    /// The visit.
    pub visit: u32,
    /// The field, if the answer is one of a record; else null.
    pub field: Option<String>,
    /// When the visit ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// The answer that the task was completed with.
    pub value: Value,
    /// Probability that it is wrong, with what is known now.
    pub error_probability: f64,
    /// Its probability when the visit ended; null if the step does not complete by confidence.
    pub confidence: Option<f64>,
    /// Its probability now.
    pub confidence_now: f64,
    /// The most probable of the given answers now; null where two are equally probable.
    pub value_now: Option<Value>,
    /// Probability of each answer now.
    pub posterior_now: SoftLabels,
    /// How much the model has learned.
    pub model_position: LogPosition,
    /// How difficult the question was: the expected share of labels that are guesses, from 0 (easy)
    /// to 0.9; null if the model holds the answer no longer by itself.
    pub difficulty_now: Option<f64>,
}

/// The least probable answers among those added, in bounded memory.
#[derive(Clone, Debug)]
pub struct Suspects {
    limit: usize,
    found: Vec<Suspect>,
}

fn suspect(label: &Label, now: &KnownNow<'_>) -> Option<Suspect> {
    let confidence_now = now.confidence_now?;
    Some(Suspect {
        task_id: label.task_id,
        labels: label.labels.clone(),
        step: label.step.clone(),
        visit: label.visit,
        field: now.field.cloned(),
        completed_at: label.completed_at,
        value: now.value?.clone(),
        error_probability: 1.0 - confidence_now,
        confidence: label.confidence.filter(|_| now.field.is_none()),
        confidence_now,
        value_now: now.value_now.cloned(),
        posterior_now: now.posterior_now.clone(),
        model_position: now.model_position,
        difficulty_now: now.difficulty_now,
    })
}

impl Suspects {
    /// Keeps the `limit` least probable answers.
    pub fn new(limit: u32) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            found: Vec::new(),
        }
    }

    /// Adds the answers of a label, if they are an output and a model knows them.
    pub fn add(&mut self, label: &Label) {
        if !label.is_output() {
            return;
        }
        let known = label.known_now();
        self.found
            .extend(known.filter_map(|now| suspect(label, &now)));
        if self.found.len() > self.limit.saturating_mul(2).max(1_000) {
            self.cut();
        }
    }

    /// The likely errors first.
    pub fn into_sorted(mut self) -> Vec<Suspect> {
        self.cut();
        self.found
    }

    fn cut(&mut self) {
        self.found.sort_by(|a, b| {
            let by_probability = a.confidence_now.total_cmp(&b.confidence_now);
            by_probability
                .then(a.task_id.cmp(&b.task_id))
                .then_with(|| a.step.cmp(&b.step))
                .then_with(|| a.field.cmp(&b.field))
        });
        self.found.truncate(self.limit);
    }
}
