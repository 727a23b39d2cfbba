//! A model that follows the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ModelKey;
use crate::{
    events::{LogPosition, StoredEvent, WorkflowEvent},
    executor::value_at,
    ids::TaskId,
    reliability::{ReliabilityError, ReliabilityModel, class_of_any},
};

/// What has been learnt of the annotators of one question, and from how much of the log.
///
/// Every accepted label counts from the moment it is in the log, those of open items too. The known
/// answers of gold tasks count beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnnotatorModel {
    key: ModelKey,
    model: ReliabilityModel,
    /// Known answers of tasks that have not ended.
    gold: BTreeMap<TaskId, String>,
    position: LogPosition,
    /// Events beyond `position`. One that has any is never kept.
    #[serde(skip)]
    beyond: u32,
}

/// What a model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelPosition {
    /// Everything in the log up to here.
    pub position: LogPosition,
    /// So many events beyond it: see [`AnnotatorModel::learn_beyond`].
    pub beyond: u32,
}

impl AnnotatorModel {
    /// The types of event that it learns from; it may be shown others.
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

    /// One that has learnt nothing yet.
    ///
    /// # Errors
    ///
    /// As [`ReliabilityModel::new`]: for classes that no checked workflow declares.
    pub fn new(key: ModelKey) -> Result<Self, ReliabilityError> {
        Ok(Self {
            model: ReliabilityModel::new(key.possible())?,
            key,
            gold: BTreeMap::new(),
            position: LogPosition::default(),
            beyond: 0,
        })
    }

    /// What it is about.
    pub fn key(&self) -> &ModelKey {
        &self.key
    }

    /// The model.
    pub fn model(&self) -> &ReliabilityModel {
        &self.model
    }

    /// How far it has read the log.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// What it knows, for the record of a decision.
    pub fn model_position(&self) -> ModelPosition {
        ModelPosition {
            position: self.position,
            beyond: self.beyond,
        }
    }

    /// Says that up to `position` there is nothing to learn from that it has not been shown.
    pub fn read_to(&mut self, position: LogPosition) {
        self.position = self.position.max(position);
    }

    /// What the model calls one visit of a task.
    pub(super) fn item(task: TaskId, visit: u32) -> String {
        format!("{task}/{visit}")
    }

    /// Takes in the next event of the workflow's tasks; shown once before, it changes nothing.
    ///
    /// What is no category, or one too many, is passed over: a step that completes by confidence has
    /// refused it before, and elsewhere it says nothing of its annotator.
    pub fn learn(&mut self, position: LogPosition, event: &StoredEvent) {
        if position <= self.position {
            return;
        }
        self.position = position;
        self.take(event);
    }

    /// Takes in an event that is committed and cannot be read in the log yet. What has done so has
    /// left the order of the log: it cannot go on reading it.
    pub fn learn_beyond(&mut self, event: &StoredEvent) {
        self.beyond = self.beyond.saturating_add(1);
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
            } if *step_id == self.key.step => {
                let value = value_at(&annotation.data, self.key.field.as_deref());
                if let Some(class) = value.and_then(class_of_any) {
                    let annotator = annotation.user_id.to_string();
                    self.label(task, *visit, &annotator, &class);
                }
            }
            WorkflowEvent::StepCompleted { step_id, visit, .. }
            | WorkflowEvent::StepFailed { step_id, visit, .. }
            | WorkflowEvent::StepSkipped { step_id, visit, .. }
            | WorkflowEvent::StepWithdrawn { step_id, visit, .. }
                if *step_id == self.key.step =>
            {
                self.model.close(&Self::item(task, *visit));
            }
            WorkflowEvent::WorkflowCompleted { .. }
            | WorkflowEvent::WorkflowFailed { .. }
            | WorkflowEvent::WorkflowCancelled { .. } => {
                self.gold.remove(&task);
            }
            _ => {}
        }
    }

    fn label(&mut self, task: TaskId, visit: u32, annotator: &str, class: &str) {
        let item = Self::item(task, visit);
        let is_new = !self.model.knows(&item);
        if self.model.observe(&item, annotator, class).is_ok()
            && is_new
            && let Some(gold) = self.gold.get(&task)
        {
            let _ = self.model.observe_gold(&item, gold);
        }
    }

    /// A known answer that came after the first labels, perhaps after the last: it judges them, too.
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

    /// The known answer to this question: an object holds the answers by field, any other value is the
    /// answer itself.
    fn expected(&self, expected: &Value) -> Option<String> {
        let value = match (expected, self.key.field.as_deref()) {
            (Value::Object(by_field), Some(field)) => by_field
                .get(field)
                .or_else(|| value_at(expected, Some(field)))?,
            _ => expected,
        };
        let class = class_of_any(value)?;
        let possible = self.key.classes.as_ref();
        possible
            .is_none_or(|classes| classes.contains(&class))
            .then_some(class)
    }
}
