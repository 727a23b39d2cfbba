//! How well annotators answer gold tasks: of each, in each workflow, the newest answers.
//!
//! Scores are in the log, and so is which revision of a workflow was the newest when an answer came
//! (the newest that a task had been started on): a reading from the beginning falls over the same
//! annotators at the same events. Who falls is told of once, by the event of the answer that did it,
//! and again only after having recovered.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use glyph_workflow_engine::{
    config::GoldConfig,
    events::WorkflowEvent,
    ids::{RevisionId, UserId, WorkflowId},
    limits::PAGE_MAX,
    state::WorkflowRef,
    store::{
        EventStoreError, LogEntry, ProjectionRows, ProjectionWrite, Store, WorkflowConfigStore,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    StepOutcome,
    pace::{Follows, follow},
};
use crate::wire::{CloudEventMessages, data::AnnotatorFlagged};

/// Its name in the table of checkpoints.
pub const PROJECTION: &str = "gold";

/// Answers below which nothing is said of an annotator.
const ANSWERS_MIN: usize = 5;

/// Follows annotators through the gold tasks of the log.
pub struct GoldProjector {
    store: Arc<dyn Store>,
    messages: CloudEventMessages,
    /// What revisions say about gold; they never change.
    rules: Mutex<HashMap<RevisionId, Option<GoldConfig>>>,
}

/// The row of one annotator in one workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    /// Whether each answer was the known one, oldest first.
    answers: Vec<bool>,
    /// Whether the annotator has fallen and not recovered.
    flagged: bool,
}

impl Record {
    fn accuracy(&self) -> f64 {
        let correct = self.answers.iter().filter(|correct| **correct).count();
        correct as f64 / self.answers.len() as f64
    }

    /// Takes in an answer. Answers the accuracy if the annotator falls with it.
    fn add(&mut self, correct: bool, rule: &GoldConfig) -> Option<f64> {
        self.answers.push(correct);
        let window = usize::try_from(rule.window).unwrap_or(usize::MAX);
        self.answers
            .drain(..self.answers.len().saturating_sub(window));
        let min = rule
            .min_accuracy
            .filter(|_| self.answers.len() >= ANSWERS_MIN)?;
        let accuracy = self.accuracy();
        let falls = accuracy < min && !self.flagged;
        self.flagged = accuracy < min;
        falls.then_some(accuracy)
    }
}

impl GoldProjector {
    /// A projector; several processes may each have one.
    pub fn new(store: Arc<dyn Store>, messages: CloudEventMessages) -> Self {
        Self {
            store,
            messages,
            rules: Mutex::default(),
        }
    }

    /// Runs until stopped.
    pub async fn run(self, stopping: CancellationToken) {
        follow(&self, &stopping).await;
    }

    /// Reads what is new in the log, at most one page of it.
    pub async fn step(&self) -> Result<StepOutcome, EventStoreError> {
        let Some(mut step) = self.store.open_projection(PROJECTION, PAGE_MAX).await? else {
            return Ok(StepOutcome::Elsewhere);
        };
        let read = step.entries().len();
        if read == 0 {
            return Ok(StepOutcome::CaughtUp);
        }
        let rows = step.take_rows();
        let write = self.fold(rows, step.entries()).await?;
        step.commit(write).await?;
        Ok(StepOutcome::Read(read))
    }

    async fn fold(
        &self,
        mut rows: ProjectionRows,
        entries: &[LogEntry],
    ) -> Result<ProjectionWrite, EventStoreError> {
        let mut changed: BTreeMap<String, Option<Value>> = BTreeMap::new();
        let mut once = Vec::new();
        let mut set = |rows: &mut ProjectionRows, key: String, row: Value| {
            changed.insert(key.clone(), Some(row.clone()));
            rows.insert(key, row);
        };
        for entry in entries {
            let workflow = &entry.workflow;
            match &entry.event.event {
                WorkflowEvent::WorkflowStarted(started) => {
                    let newest = newest(&rows, workflow);
                    if newest.is_none_or(|newest| newest.revision < started.workflow.revision) {
                        let row = serde_json::to_value(&started.workflow).unwrap_or_default();
                        set(&mut rows, newest_key(workflow), row);
                    }
                }
                WorkflowEvent::GoldScored {
                    user_id, correct, ..
                } => {
                    let newest = newest(&rows, workflow);
                    let rule = match newest {
                        Some(newest) => self.rule(newest.revision_id).await?,
                        None => None,
                    };
                    let Some(rule) = rule else { continue };
                    let key = record_key(workflow, *user_id);
                    let record = rows.get(&key).cloned().map(serde_json::from_value);
                    let mut record: Record = record.and_then(Result::ok).unwrap_or_default();
                    if let Some(accuracy) = record.add(*correct, &rule) {
                        let flagged = AnnotatorFlagged {
                            workflow: workflow.clone(),
                            user_id: *user_id,
                            accuracy,
                            min_accuracy: rule.min_accuracy.unwrap_or_default(),
                            answers: record.answers.len(),
                            flagged_at: entry.event.occurred_at,
                        };
                        let cause = entry.event.event_id;
                        once.extend(self.messages.annotator_flagged(&flagged, cause));
                    }
                    let row = serde_json::to_value(&record).unwrap_or_default();
                    set(&mut rows, key, row);
                }
                _ => {}
            }
        }
        Ok(ProjectionWrite {
            rows: changed,
            once,
            ..ProjectionWrite::default()
        })
    }

    /// What a revision says about gold.
    async fn rule(&self, revision: RevisionId) -> Result<Option<GoldConfig>, EventStoreError> {
        let rules = || self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rule) = rules().get(&revision) {
            return Ok(rule.clone());
        }
        let config = WorkflowConfigStore::load(&*self.store, revision.0).await?;
        let rule = config.and_then(|config| config.gold);
        rules().insert(revision, rule.clone());
        Ok(rule)
    }
}

impl Follows for GoldProjector {
    const NAME: &'static str = PROJECTION;
    const POLL: Duration = Duration::from_secs(2);

    async fn next(&self) -> Result<StepOutcome, EventStoreError> {
        self.step().await
    }
}

fn newest_key(workflow: &WorkflowId) -> String {
    format!("revision/{workflow}")
}

fn record_key(workflow: &WorkflowId, user: UserId) -> String {
    format!("annotator/{workflow}/{user}")
}

/// The newest revision on which a task has been started so far.
fn newest(rows: &ProjectionRows, workflow: &WorkflowId) -> Option<WorkflowRef> {
    serde_json::from_value(rows.get(&newest_key(workflow))?.clone()).ok()
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
        };
        let mut record = Record::default();
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
        };
        let mut record = Record::default();
        for _ in 0..30 {
            assert_eq!(record.add(false, &rule), None);
        }
        assert_eq!((record.answers.len(), record.flagged), (20, false));
    }
}
