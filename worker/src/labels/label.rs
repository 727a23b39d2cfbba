//! A label: the answer of one step of a completed task.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    AnnotationData, WorkflowSnapshot,
    answer::{Questions, value_at},
    config::{StepConfig, WorkflowConfig},
    events::LogPosition,
    executor::annotators::{ModelKey, ModelSource},
    ids::{StepId, TaskId, UserId},
    state::{ResolvedBy, SoftLabels, StepResult, StepVisit, Visit, WorkflowRef},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::posterior::{PosteriorNow, probability_in};

/// The answer of one step of a completed task: of the step's last completed visit.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Label {
    /// The task.
    pub task_id: TaskId,
    /// Key-value pairs of the task.
    pub labels: BTreeMap<String, String>,
    /// The number of the workflow's revision that the task ended on.
    pub revision: u32,
    /// The step.
    pub step: StepId,
    /// The visit.
    pub visit: u32,
    /// When the visit ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// The answer; null where the step ended without one.
    pub value: Option<Value>,
    /// What determined it.
    pub resolved_by: Option<ResolvedBy>,
    /// Agreement of the annotators; null if it is undefined or was not calculated.
    pub agreement: Option<f64>,
    /// The step and visit whose answer is the result of the whole task; null if it has none.
    pub result_of: Option<ResultOf>,
    /// Probability of the answer when the visit ended; null if the step does not complete by
    /// confidence.
    pub confidence: Option<f64>,
    /// Probability of each answer when the visit ended.
    pub posterior: Option<SoftLabels>,
    /// The most probable of the given answers now; null if no model of the annotators knows.
    pub value_now: Option<Value>,
    /// Probability of the answer now.
    pub confidence_now: Option<f64>,
    /// Probability of each answer now.
    pub posterior_now: Option<SoftLabels>,
    /// How much the model has learned.
    pub model_position: Option<LogPosition>,
    /// The fields of a record whose votes may have different weights, each with what is known now.
    pub fields_now: Vec<FieldNow>,
    /// The submissions of the visit, in order of acceptance.
    pub votes: Vec<LabelVote>,
    /// The known answer of a gold task; null for other tasks, and for callers who may not see which
    /// tasks are gold.
    pub gold: Option<GoldAnswer>,
    /// How difficult the question was, by its labels and what is known of the annotators now: the
    /// expected share of labels that are guesses, from 0 (easy) to 0.9; null if no model of the
    /// annotators holds the answer by itself.
    pub difficulty_now: Option<f64>,
    /// What a look back needs besides.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) context: LabelContext,
}

/// What is not shown of a label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LabelContext {
    /// Of the task when it ended.
    pub(super) workflow: WorkflowRef,
    /// Whether the task is gold, and so no output.
    pub(super) is_gold: bool,
    /// Whether a later review or adjudication of this visit ended with another answer.
    pub(super) is_replaced: bool,
}

/// The visit whose answer is the result of the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResultOf {
    /// The step.
    pub step: StepId,
    /// The visit.
    pub visit: u32,
}

/// What is known now about a field of a record.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FieldNow {
    /// The field.
    pub field: String,
    /// The answer that the task was completed with.
    pub value: Option<Value>,
    /// The most probable of the given answers now.
    pub value_now: Option<Value>,
    /// Probability of the answer now.
    pub confidence_now: Option<f64>,
    /// Probability of each answer now.
    pub posterior_now: SoftLabels,
    /// How much the model has learned.
    pub model_position: LogPosition,
    /// How difficult the question was: as of the whole label.
    pub difficulty_now: Option<f64>,
}

/// One submission.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LabelVote {
    /// Who submitted it; left out unless annotators were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotator: Option<UserId>,
    /// The answer, at the place that the step asks for.
    pub value: Option<Value>,
    /// A reviewer's decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Roles that the person named.
    pub roles: Vec<String>,
    /// When the person submitted, as the producer says.
    pub submitted_at: Option<DateTime<Utc>>,
}

/// The known answer of a gold task.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GoldAnswer {
    /// The known answer, as it was given with the task.
    pub expected: Value,
    /// Whether the label is right; null where the known answer says nothing of this step, or the
    /// step ended without an answer.
    pub right: Option<bool>,
}

/// What a revision says about its labels.
#[derive(Debug)]
pub(crate) struct Revision {
    config: Arc<WorkflowConfig>,
    questions: Questions,
    models: BTreeMap<StepId, Vec<(ModelKey, Option<String>)>>,
}

impl Revision {
    pub(crate) fn of(config: Arc<WorkflowConfig>) -> Self {
        let models = config.steps.iter().map(|step| {
            let models = ModelKey::of_answers(&config, step);
            (step.id.clone(), models)
        });
        Self {
            models: models.collect(),
            // A step that asks nothing clearly is refused before any task runs on it.
            questions: Questions::of(&config).unwrap_or_default(),
            config,
        }
    }

    /// The models of the answers to `step`; of all steps if none is named.
    pub(super) fn keys<'r>(
        &'r self,
        step: Option<&'r StepId>,
    ) -> impl Iterator<Item = &'r ModelKey> {
        let of = self.models.iter();
        let of = of.filter(move |(id, _)| step.is_none_or(|step| step == *id));
        of.flat_map(|(_, models)| models).map(|(key, _)| key)
    }

    /// The labels of a completed task, by step.
    pub(super) fn labels(
        &self,
        state: &WorkflowSnapshot,
        only: Option<&StepId>,
        models: &dyn ModelSource,
    ) -> Vec<Label> {
        let result_of = state.last_value().map(|(at, _)| at);
        let steps = self.config.steps.iter();
        let labels = steps
            .filter(|step| only.is_none_or(|only| *only == step.id))
            .filter_map(|step| {
                let visit = state.steps.get(&step.id)?.last_completed()?;
                let answers = step.kind.takes_submissions() || is_at(result_of, step, visit);
                let result = visit.result.as_ref().filter(|_| answers)?;
                Some(self.label(state, step, (visit, result), result_of, models))
            });
        labels.collect()
    }

    fn label(
        &self,
        state: &WorkflowSnapshot,
        step: &StepConfig,
        (visit, result): (&Visit, &StepResult),
        result_of: Option<&StepVisit>,
        models: &dyn ModelSource,
    ) -> Label {
        let question = self
            .questions
            .asked(step, visit.reviewed.as_ref().map(|at| &at.step_id));
        let vote = |given: &AnnotationData| LabelVote {
            annotator: Some(given.user_id),
            value: value_at(&given.data, question.field()).cloned(),
            decision: given.decision.clone(),
            roles: given.roles.clone(),
            submitted_at: given.submitted_at,
        };
        let mut label = Label {
            task_id: state.task_id,
            labels: state.labels.clone(),
            revision: state.workflow.revision,
            step: step.id.clone(),
            visit: visit.number,
            completed_at: visit.ended_at,
            value: result.value.clone(),
            resolved_by: result.resolved_by,
            agreement: result.agreement,
            result_of: result_of.map(|at| ResultOf {
                step: at.step_id.clone(),
                visit: at.visit,
            }),
            confidence: probability_at_completion(result),
            posterior: result.posterior.as_deref().cloned(),
            value_now: None,
            confidence_now: None,
            posterior_now: None,
            model_position: None,
            fields_now: Vec::new(),
            votes: visit.annotations.iter().map(|a| vote(a)).collect(),
            gold: self.gold(state, step, (visit, result)),
            difficulty_now: None,
            context: LabelContext {
                workflow: state.workflow.clone(),
                is_gold: state.expected.is_some(),
                is_replaced: is_replaced(state, step, visit, result),
            },
        };
        for (key, field) in self.models.get(&step.id).into_iter().flatten() {
            let value = result.value.as_ref();
            let value = match field.as_deref() {
                None => value,
                Some(field) => value.and_then(|value| {
                    let whole = value.get(field);
                    whole.or_else(|| value_at(value, Some(field)))
                }),
            };
            let visit = (state.task_id, visit);
            if let Some(now) = PosteriorNow::of(models, key, visit, value) {
                label.tell_now(field.clone(), value, now);
            }
        }
        label
    }

    /// Whether the answer that a visit of a gold task ended with is right; `None` if the known
    /// answer says nothing of it.
    pub(crate) fn is_right(
        &self,
        state: &WorkflowSnapshot,
        step: &StepId,
        visit: u32,
        result: &StepResult,
    ) -> Option<bool> {
        let config = self.config.steps.iter().find(|config| config.id == *step)?;
        let visit = state.visit(step, visit)?;
        self.gold(state, config, (visit, result))?.right
    }

    /// The known answer of a gold task, compared with what a visit ended with.
    fn gold(
        &self,
        state: &WorkflowSnapshot,
        step: &StepConfig,
        (visit, result): (&Visit, &StepResult),
    ) -> Option<GoldAnswer> {
        let expected = state.expected.as_ref()?;
        let right = result.value.as_ref().and_then(|value| {
            let reviewed = visit.reviewed.as_ref().map(|at| &at.step_id);
            let question = self.questions.asked(step, reviewed);
            let input = state.input.as_ref().unwrap_or(&Value::Null);
            let least = self.config.gold.as_ref().and_then(|gold| gold.similarity);
            let verdict = question.judge_value(value, expected, input, least);
            verdict.map(|verdict| verdict.correct)
        });
        Some(GoldAnswer {
            expected: expected.clone(),
            right,
        })
    }
}

impl Label {
    fn tell_now(&mut self, field: Option<String>, value: Option<&Value>, now: PosteriorNow) {
        match field {
            None => {
                self.value_now = now.value;
                self.confidence_now = now.confidence;
                self.posterior_now = Some(now.soft_labels);
                self.model_position = Some(now.model_position);
                self.difficulty_now = now.difficulty;
            }
            Some(field) => self.fields_now.push(FieldNow {
                field,
                value: value.cloned(),
                value_now: now.value,
                confidence_now: now.confidence,
                posterior_now: now.soft_labels,
                model_position: now.model_position,
                difficulty_now: now.difficulty,
            }),
        }
    }

    /// What is known now about its answer, or the answers in it.
    pub(super) fn known_now(&self) -> impl Iterator<Item = KnownNow<'_>> {
        let own = self.posterior_now.as_ref().zip(self.model_position);
        let own = own.map(|(posterior_now, model_position)| KnownNow {
            field: None,
            value: self.value.as_ref(),
            value_now: self.value_now.as_ref(),
            confidence_now: self.confidence_now,
            posterior_now,
            model_position,
            difficulty_now: self.difficulty_now,
        });
        let fields = self.fields_now.iter().map(|now| KnownNow {
            field: Some(&now.field),
            value: now.value.as_ref(),
            value_now: now.value_now.as_ref(),
            confidence_now: now.confidence_now,
            posterior_now: &now.posterior_now,
            model_position: now.model_position,
            difficulty_now: now.difficulty_now,
        });
        own.into_iter().chain(fields)
    }

    /// Leaves out who submitted what.
    pub fn without_annotators(&mut self) {
        for vote in &mut self.votes {
            vote.annotator = None;
        }
    }

    /// Leaves out what shows that the task is gold.
    pub fn without_gold(&mut self) {
        self.gold = None;
    }

    /// Whether it is an output of the workflow: the task is not gold, and no later step of the task
    /// has replaced the answer.
    pub fn is_output(&self) -> bool {
        !self.context.is_gold && !self.context.is_replaced
    }
}

/// What is known now about one answer of a label.
pub(super) struct KnownNow<'a> {
    pub(super) field: Option<&'a String>,
    pub(super) value: Option<&'a Value>,
    pub(super) value_now: Option<&'a Value>,
    pub(super) confidence_now: Option<f64>,
    pub(super) posterior_now: &'a SoftLabels,
    pub(super) model_position: LogPosition,
    pub(super) difficulty_now: Option<f64>,
}

/// The probability that a step that completes by confidence gave to its answer.
pub(crate) fn probability_at_completion(result: &StepResult) -> Option<f64> {
    let soft = result.posterior.as_deref()?;
    Some(probability_in(soft, result.value.as_ref()?))
}

fn is_at(at: Option<&StepVisit>, step: &StepConfig, visit: &Visit) -> bool {
    at.is_some_and(|at| at.step_id == step.id && at.visit == visit.number)
}

/// Whether a review or adjudication of a visit ended with another answer.
fn is_replaced(
    state: &WorkflowSnapshot,
    step: &StepConfig,
    visit: &Visit,
    result: &StepResult,
) -> bool {
    let is_this = |at: &StepVisit| is_at(Some(at), step, visit);
    let later = state
        .completed_results()
        .filter_map(|(at, result)| Some((state.visit(&at.step_id, at.visit)?, result)));
    later
        .filter(|(later, _)| {
            later.reviewed.iter().any(is_this) || later.reviewed_with.iter().any(is_this)
        })
        .any(|(_, later)| {
            later.is_refusal() || (later.value.is_some() && later.value != result.value)
        })
}
