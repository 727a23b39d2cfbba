//! A reliability model that follows the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ModelKey, PeerAgreement, peers::Peers};
use crate::{
    answer::{Answer, data_of, value_at},
    events::{Judgement, LogPosition, StoredEvent, WorkflowEvent},
    ids::TaskId,
    reliability::{Label, ReliabilityError, ReliabilityModel},
};

/// What was learned about the annotators of one question, and from how much of the log.
///
/// Every accepted label counts as soon as it is in the log, including labels of open items. The
/// known answers of gold tasks count as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnnotatorModel {
    key: ModelKey,
    model: ReliabilityModel,
    /// Known answers of tasks that have not ended.
    gold: BTreeMap<TaskId, String>,
    #[serde(default, skip_serializing_if = "Peers::is_empty")]
    peers: Peers,
    position: LogPosition,
}

impl AnnotatorModel {
    /// The event types it learns from; other events are ignored.
    pub const EVENTS: [&'static str; 10] = [
        "workflow_started",
        "task_details_supplied",
        "annotation_submitted",
        "step_completed",
        "step_failed",
        "step_skipped",
        "step_withdrawn",
        "workflow_completed",
        "workflow_failed",
        "workflow_cancelled",
    ];

    /// An untrained model.
    ///
    /// # Errors
    ///
    /// As [`ReliabilityModel::new`]: for classes that no validated workflow declares.
    pub fn new(key: ModelKey) -> Result<Self, ReliabilityError> {
        Ok(Self {
            model: ReliabilityModel::new(key.possible())?,
            key,
            gold: BTreeMap::new(),
            peers: Peers::default(),
            position: LogPosition::default(),
        })
    }

    /// The model's key.
    pub fn key(&self) -> &ModelKey {
        &self.key
    }

    /// The model.
    pub fn model(&self) -> &ReliabilityModel {
        &self.model
    }

    /// How often an annotator has given the same answer as the others of the same visit.
    pub fn agreement_with_others(&self, annotator: &str) -> PeerAgreement {
        self.peers.of(annotator)
    }

    /// The position up to which it has read the log, to be recorded with a decision.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Advances the position: up to `position` the log has nothing more to learn from.
    pub fn read_to(&mut self, position: LogPosition) {
        self.position = self.position.max(position);
    }

    /// The model's name for one visit of a task.
    pub(super) fn item(task: TaskId, visit: u32) -> String {
        format!("{task}/{visit}")
    }

    /// Learns from the next event of the workflow's tasks; an event seen before has no effect.
    ///
    /// Answers that are not categories, or exceed the number of classes, are ignored: a step that
    /// completes by confidence has already rejected them, and elsewhere they say nothing about the
    /// annotator.
    pub fn learn(&mut self, position: LogPosition, event: &StoredEvent) {
        if position <= self.position {
            return;
        }
        self.position = position;
        self.take(event);
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "answers and what they are worth come with these events alone"
    )]
    fn take(&mut self, event: &StoredEvent) {
        let task = event.task_id;
        match &event.event {
            WorkflowEvent::WorkflowStarted(started) => {
                if let Some(class) = started.expected.as_ref().and_then(|v| self.expected(v)) {
                    self.gold.insert(task, class);
                }
            }
            WorkflowEvent::TaskDetailsSupplied { expected, .. } => {
                if let Some(class) = expected.as_ref().and_then(|value| self.expected(value)) {
                    self.anchor(task, class);
                }
            }
            WorkflowEvent::AnnotationSubmitted {
                step_id,
                visit,
                annotation,
                ..
            } if *step_id == self.key.step => {
                if let Some(class) = self.class(&annotation.data) {
                    let annotator = annotation.user_id.to_string();
                    let label = Label {
                        annotator: &annotator,
                        class: &class,
                        group: annotation.group.as_deref(),
                    };
                    self.label(task, *visit, label);
                }
            }
            WorkflowEvent::StepCompleted {
                step_id,
                visit,
                result,
                judgement,
                ..
            } => {
                if *step_id == self.key.step {
                    self.close(task, *visit);
                }
                let judged = judgement.as_deref().zip(result.value.as_ref());
                if let Some((judgement, value)) = judged {
                    self.judge(task, judgement, value);
                }
            }
            WorkflowEvent::StepFailed { step_id, visit, .. }
            | WorkflowEvent::StepSkipped { step_id, visit, .. }
            | WorkflowEvent::StepWithdrawn { step_id, visit, .. }
                if *step_id == self.key.step =>
            {
                self.close(task, *visit);
            }
            WorkflowEvent::WorkflowCompleted { .. }
            | WorkflowEvent::WorkflowFailed { .. }
            | WorkflowEvent::WorkflowCancelled { .. } => {
                self.gold.remove(&task);
            }
            _ => {}
        }
    }

    fn class(&self, data: &Value) -> Option<String> {
        Answer::plain(value_at(data, self.key.field.as_deref())?).name()
    }

    fn close(&mut self, task: TaskId, visit: u32) {
        let item = Self::item(task, visit);
        self.model.close(&item);
        self.peers.close(&item);
    }

    /// What a judge says counts as one more opinion about the item, worth as much as the judge has
    /// been right before. It comes after the item's decision and moves no decision about the item.
    fn judge(&mut self, task: TaskId, judgement: &Judgement, value: &Value) {
        if judgement.of.step_id != self.key.step {
            return;
        }
        let decided = judgement.only.as_ref();
        let here = |paths: &Vec<String>| {
            paths
                .iter()
                .any(|path| self.key.field.as_ref() == Some(path))
        };
        let item = Self::item(task, judgement.of.visit);
        if !decided.is_none_or(here) || !self.model.knows(&item) {
            return;
        }
        if let Some(class) = self.class(&data_of(judgement.field.as_deref(), value)) {
            // A value that is no class of this question says nothing about its answers.
            let judge = judgement.user_id.to_string();
            let _ = self.model.observe_verdict(&item, &judge, &class);
        }
    }

    fn label(&mut self, task: TaskId, visit: u32, label: Label<'_>) {
        let item = Self::item(task, visit);
        let is_new = !self.model.knows(&item);
        if self.model.observe_label(&item, label).is_err() {
            return;
        }
        self.peers.add(&item, label.annotator, label.class);
        if is_new && let Some(gold) = self.gold.get(&task) {
            let _ = self.model.observe_gold(&item, gold);
        }
    }

    /// Sets a known answer. It may come after the first or even the last label, and applies to
    /// those too.
    fn anchor(&mut self, task: TaskId, class: String) {
        let visits = (1..).map(|visit| Self::item(task, visit));
        let known = visits.take_while(|item| self.model.knows(item));
        let known: Vec<String> = known.collect();
        for item in &known {
            let _ = self.model.observe_gold(item, &class);
        }
        if known.is_empty() {
            self.gold.insert(task, class);
        }
    }

    /// The known answer to this question: an object contains the answers by field; any other value
    /// is the answer itself.
    fn expected(&self, expected: &Value) -> Option<String> {
        let value = match (expected, self.key.field.as_deref()) {
            (Value::Object(by_field), Some(field)) => by_field
                .get(field)
                .or_else(|| value_at(expected, Some(field)))?,
            _ => expected,
        };
        let class = Answer::plain(value).name()?;
        let possible = self.key.classes.as_ref();
        possible
            .is_none_or(|classes| classes.contains(&class))
            .then_some(class)
    }
}
