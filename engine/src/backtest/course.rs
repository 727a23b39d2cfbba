//! What has come of a task so far, folded from the events of one side: recorded or simulated.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    answer::Questions,
    config::WorkflowConfig,
    events::{StepActivated, WorkflowEvent},
    ids::StepId,
    state::{StepResult, Subject, TaskStatus},
};

/// What has come of a task.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// How it ended.
    pub(super) ended: Option<TaskStatus>,
    /// The value that it ends with, if it ends now.
    pub(super) answer: Option<Box<TaskAnswer>>,
    /// What visits of reviews and adjudications are about, by step and visit.
    about: BTreeMap<(StepId, u32), About>,
    results: BTreeMap<StepId, Found>,
    context: Map<String, Value>,
}

/// The value of a task, and the step that it comes from.
#[derive(Clone, Debug)]
pub(super) struct TaskAnswer {
    pub(super) step: StepId,
    /// The step under review, if the value is that of a review or adjudication.
    reviewed: Option<StepId>,
    pub(super) value: Value,
}

/// What a review or adjudication is about.
#[derive(Debug)]
struct About {
    reviewed: Option<StepId>,
    subject: Option<Arc<Subject>>,
}

/// What a step has last found.
#[derive(Debug)]
struct Found {
    value: Option<Value>,
    decision: Option<String>,
    annotations: Vec<Uuid>,
}

/// How what people looked at in the recording compares with what they would have looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubjectMatch {
    /// The same.
    Same,
    /// The same value, but other annotations behind it.
    OtherAnnotations,
    /// Another value.
    Other,
}

impl Course {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "values, subjects and ends come with these events alone"
    )]
    pub(super) fn take(&mut self, event: &WorkflowEvent) {
        match event {
            WorkflowEvent::StepActivated(activated) => self.activated(activated),
            WorkflowEvent::ResultFound { step_id, found, .. } => {
                self.results
                    .insert(step_id.clone(), Found::of(&found.result));
            }
            WorkflowEvent::StepCompleted {
                step_id,
                visit,
                result,
                context,
                judgement: _,
            } => {
                self.results.insert(step_id.clone(), Found::of(result));
                self.context.extend(context.clone());
                if result.value.is_some() || result.is_refusal() {
                    let about = self.about.get(&(step_id.clone(), *visit));
                    let reviewed = about.and_then(|about| about.reviewed.clone());
                    self.answer = result.value.as_ref().map(|value| {
                        Box::new(TaskAnswer {
                            step: step_id.clone(),
                            reviewed,
                            value: value.clone(),
                        })
                    });
                }
            }
            WorkflowEvent::ChildEnded(ended) => self.context.extend(ended.context.clone()),
            WorkflowEvent::WorkflowMigrated(migrated) => {
                let map = |id: &StepId| migrated.steps.get(id).unwrap_or(id).clone();
                let about = std::mem::take(&mut self.about).into_iter();
                self.about = about
                    .map(|((step, visit), about)| ((map(&step), visit), about))
                    .collect();
                let results = std::mem::take(&mut self.results).into_iter();
                self.results = results.map(|(step, found)| (map(&step), found)).collect();
                if let Some(answer) = &mut self.answer {
                    answer.step = map(&answer.step);
                }
            }
            WorkflowEvent::WorkflowCompleted { .. } => self.ended = Some(TaskStatus::Completed),
            WorkflowEvent::WorkflowFailed { .. } => self.ended = Some(TaskStatus::Failed),
            WorkflowEvent::WorkflowCancelled { .. } => self.ended = Some(TaskStatus::Cancelled),
            _ => {}
        }
    }

    fn activated(&mut self, activated: &StepActivated) {
        if activated.reviewed.is_none() && activated.subject.is_none() {
            return;
        }
        let about = About {
            reviewed: activated.reviewed.as_ref().map(|at| at.step_id.clone()),
            subject: activated.subject.clone(),
        };
        let visit = (activated.step_id.clone(), activated.visit);
        self.about.insert(visit, about);
    }

    /// The answer, if the task has completed with one.
    pub(super) fn final_answer(&self) -> Option<&TaskAnswer> {
        let completed = self.ended == Some(TaskStatus::Completed);
        self.answer.as_deref().filter(|_| completed)
    }

    /// Compares what a visit is about on both sides.
    pub(super) fn subject_like(&self, other: &Self, step: &StepId, visit: u32) -> SubjectMatch {
        let visit = (step.clone(), visit);
        let ends = self.about.get(&visit).zip(other.about.get(&visit));
        let Some((own, others)) = ends else {
            let none = !self.about.contains_key(&visit) && !other.about.contains_key(&visit);
            return if none {
                SubjectMatch::Same
            } else {
                SubjectMatch::Other
            };
        };
        let key = |about: &About| {
            let subject = about.subject.as_deref();
            subject.map(|s| (s.value.clone(), s.agreed.clone(), s.disputed.clone()))
        };
        if own.reviewed != others.reviewed || key(own) != key(others) {
            return SubjectMatch::Other;
        }
        let behind = |course: &Self| {
            let found = course.results.get(own.reviewed.as_ref()?);
            found.map(|found| found.annotations.clone())
        };
        if behind(self) == behind(other) {
            SubjectMatch::Same
        } else {
            SubjectMatch::OtherAnnotations
        }
    }

    /// Whether a handler finds the same values and context on both sides.
    pub(super) fn same_input(&self, other: &Self) -> bool {
        let values = |course: &Self| -> Vec<_> {
            let found = course.results.iter();
            let found = found
                .map(|(step, found)| (step.clone(), found.value.clone(), found.decision.clone()));
            found.collect()
        };
        self.context == other.context && values(self) == values(other)
    }
}

impl Found {
    fn of(result: &StepResult) -> Self {
        Self {
            value: result.value.clone(),
            decision: result.decision.clone(),
            annotations: result.annotations.clone(),
        }
    }
}

/// What a revision asks for, to judge its answers.
#[derive(Debug)]
pub(super) struct Asked {
    config: Arc<WorkflowConfig>,
    questions: Questions,
}

/// The known answer of a task, and the item.
#[derive(Clone, Debug)]
pub(super) struct KnownAnswer {
    pub(super) expected: Value,
    pub(super) input: Value,
}

impl Asked {
    pub(super) fn of(config: Arc<WorkflowConfig>) -> Self {
        Self {
            // A step that asks nothing clearly is refused before any task runs on it.
            questions: Questions::of(&config).unwrap_or_default(),
            config,
        }
    }

    /// Whether an answer is right; none where the known answer says nothing of its step.
    pub(super) fn judge(&self, answer: &TaskAnswer, known: &KnownAnswer) -> Option<bool> {
        let step = self.config.step(&answer.step)?;
        let question = self.questions.asked(step, answer.reviewed.as_ref());
        let gold = self.config.gold.as_ref();
        let least = gold.and_then(|gold| gold.similarity);
        let verdict = question.judge_value(&answer.value, &known.expected, &known.input, least)?;
        Some(verdict.correct)
    }

    /// Whether two tasks' answers are the same, by the question that led to the first.
    pub(super) fn same(&self, own: &TaskAnswer, other: &Value, input: &Value) -> bool {
        let Some(step) = self.config.step(&own.step) else {
            return own.value == *other;
        };
        let question = self.questions.asked(step, own.reviewed.as_ref());
        question.same_value(&own.value, other, input)
    }
}
