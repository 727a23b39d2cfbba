//! What a backtest finds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SettingChange;
use crate::{
    command::RejectionCode,
    config::ReliabilityConfig,
    consensus::{CONFIDENCE_DEFAULT, wilson_interval},
    events::WorkflowEvent,
    ids::{StepId, WorkflowId},
    state::{AnnotationData, IncidentCode, ResultKind, StepResult, TaskStatus},
};

/// Tasks as they were recorded, and as they would have been under the changed workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BacktestReport {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The number of the revision that the settings were applied to; 0 for a file that is not
    /// stored.
    pub revision: u32,
    /// The settings that were changed.
    pub changes: Vec<SettingChange>,
    /// Tasks that were decided again, gold tasks included.
    pub tasks: u64,
    /// As recorded.
    pub recorded: Figures,
    /// As it would have been, as far as it is known.
    pub simulated: Figures,
    /// What became of the recorded annotations.
    pub annotations: AnnotationUse,
    /// The answers of tasks, compared.
    pub answers: AnswerComparison,
    /// Whether answers are right, of the tasks whose answer is known.
    pub gold: GoldComparison,
    /// Tasks that ended in the recording, but would have asked for more.
    pub open: OpenTasks,
    /// What cannot be known from the recording, or only under an assumption.
    pub unknown: Vec<Unknown>,
    /// Events that were read.
    pub events: u64,
    /// Whether the log was read to its end.
    pub read_to_end: bool,
}

/// Counts of one side. Gold tasks count as well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// Tasks that completed.
    pub completed: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Tasks that did not end.
    pub running: u64,
    /// Accepted annotations, those of reviews and adjudications included.
    pub annotations: u64,
    /// Annotations for each task; null without tasks.
    pub annotations_per_task: Option<f64>,
    /// The sum of the prices of the annotations that have one; null if no price is known.
    pub cost: Option<f64>,
    /// Annotations without a price, if any price is known.
    pub unpriced: u64,
    /// Visits of steps that ended below the target of their confidence.
    pub unsure: u64,
    /// Visits of steps that compared annotations and ended without a value.
    pub disagreements: u64,
    /// The same counts by step, in the order of their ids.
    pub steps: Vec<StepFigures>,
}

/// Counts of one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepFigures {
    /// The step.
    pub step: StepId,
    /// Visits that ended with a result.
    pub visits: u64,
    /// Accepted annotations.
    pub annotations: u64,
    /// Visits that ended below the target of their confidence.
    pub unsure: u64,
    /// Visits that compared annotations and ended without a value.
    pub disagreements: u64,
}

/// What became of the recorded annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotationUse {
    /// They would have been asked for as well.
    pub used: u64,
    /// They would not have been asked for: the step had ended before.
    pub saved: u64,
    /// Nothing can be made of them; `unknown` says why.
    pub unusable: u64,
}

/// The answers that tasks ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerComparison {
    /// Tasks with an answer as recorded.
    pub recorded: u64,
    /// Tasks with an answer as it would have been.
    pub simulated: u64,
    /// Tasks with an answer on both sides.
    pub both: u64,
    /// Of these, tasks with the same answer.
    pub same: u64,
}

/// How many of some answers are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Accuracy {
    /// Answers that could be compared with the known one.
    pub answers: u64,
    /// Answers that are right.
    pub right: u64,
    /// Their share; null without answers.
    pub accuracy: Option<f64>,
    /// Lower end of Wilson's 95 % interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

/// Accuracy where the answer is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoldComparison {
    /// Tasks whose answer is known.
    pub tasks: u64,
    /// Of the answers as recorded.
    pub recorded: Accuracy,
    /// Of the answers as they would have been.
    pub simulated: Accuracy,
    /// Of the answers as recorded, of tasks with an answer on both sides. Tasks that would have
    /// asked for more are the hard ones, so only these two are fair to compare.
    pub recorded_of_both: Accuracy,
    /// Of the answers as they would have been, of the same tasks.
    pub simulated_of_both: Accuracy,
}

/// Tasks that ended in the recording, but would have asked for more than was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpenTasks {
    /// The tasks.
    pub tasks: u64,
    /// Annotations that they would have asked for next; what these lead to is not known.
    pub annotations_wanted: u64,
    /// Tasks that would have an answer if every step that is still open were closed with the
    /// annotations it has. In no other figure.
    pub answers_if_closed: u64,
    /// Accuracy of these answers.
    pub gold_if_closed: Accuracy,
}

/// Something that cannot be known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unknown {
    /// The kind.
    pub kind: UnknownKind,
    /// The step that it is about.
    pub step: Option<StepId>,
    /// The code of the rejection or incident.
    pub code: Option<String>,
    /// Tasks that it concerns.
    pub tasks: u64,
    /// How often it happened; the annotations wanted, for `more_annotations`.
    pub count: u64,
    /// The meaning, for people.
    pub text: String,
}

/// Kinds of what cannot be known.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum UnknownKind {
    /// A step would have asked for more annotations than were recorded.
    MoreAnnotations,
    /// A person reviewed or adjudicated another value than the one there would have been.
    OtherSubject,
    /// Annotations of a visit that the task would not have come to, as far as is known.
    NotReached,
    /// Annotations of a step that the workflow does not have.
    UnknownStep,
    /// Annotations that the changed workflow refuses.
    Refused,
    /// A handler's outcome or a child task's result that was not recorded.
    NoOutcome,
    /// A handler's outcome that was recorded for another input.
    OtherInput,
    /// A step would have waited for an operator because of an incident.
    Incident,
    /// A step was closed early, but would not have had enough annotations for it.
    NotClosed,
    /// An assumption: people reviewed or adjudicated the same value, but saw other annotations
    /// than there would have been.
    ShownOtherwise,
    /// An assumption: the step gives work to people by their quality. Others might have been asked.
    ChosenByQuality,
    /// Tasks that had not ended in the recording.
    Unfinished,
    /// The rest of the log was not read in time.
    NotRead,
}

/// What is counted together: kind, step and code.
pub(super) type UnknownKey = (UnknownKind, Option<StepId>, Option<&'static str>);

/// The price of annotations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The price of an annotation without a price by role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<f64>,
    /// The price by role; of the roles that an annotation names, the first with a price counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, f64>,
    /// The groups of annotators with their prices, which the workflow names.
    #[serde(skip)]
    pub groups: ReliabilityConfig,
}

impl Prices {
    /// Whether any price is known.
    fn is_known(&self) -> bool {
        let mut groups = self.groups.groups.values();
        self.each.is_some() || !self.roles.is_empty() || groups.any(|group| group.price.is_some())
    }

    /// The price of one annotation, as far as it is known: by role, else that of the person's group,
    /// else that of each.
    pub fn of(&self, annotation: &AnnotationData) -> Option<f64> {
        let roles = &annotation.roles;
        let by_role = roles.iter().find_map(|role| self.roles.get(role)).copied();
        let group = self.groups.group_of(annotation.user_id, roles);
        let by_group = || self.groups.groups.get(group?)?.price;
        by_role.or_else(by_group).or(self.each)
    }
}

/// One side's counts as they grow.
#[derive(Debug, Default)]
pub(super) struct Counts {
    figures: Figures,
    steps: BTreeMap<StepId, StepFigures>,
    cost: f64,
}

impl Counts {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only annotations and results are counted here"
    )]
    pub(super) fn take(&mut self, event: &WorkflowEvent, prices: &Prices) {
        match event {
            WorkflowEvent::AnnotationSubmitted {
                step_id,
                annotation,
                ..
            } => {
                self.figures.annotations += 1;
                self.step(step_id).annotations += 1;
                match prices.of(annotation) {
                    Some(price) => self.cost += price,
                    None => self.figures.unpriced += 1,
                }
            }
            WorkflowEvent::StepCompleted {
                step_id, result, ..
            } => self.completed(step_id, result),
            _ => {}
        }
    }

    fn completed(&mut self, step: &StepId, result: &StepResult) {
        let unsure = u64::from(result.reached == Some(false));
        let compared = result.kind == ResultKind::Consensus;
        let disagreed = u64::from(compared && result.value.is_none());
        self.figures.unsure += unsure;
        self.figures.disagreements += disagreed;
        let counts = self.step(step);
        counts.visits += 1;
        counts.unsure += unsure;
        counts.disagreements += disagreed;
    }

    fn step(&mut self, step: &StepId) -> &mut StepFigures {
        if !self.steps.contains_key(step) {
            let none = StepFigures {
                step: step.clone(),
                visits: 0,
                annotations: 0,
                unsure: 0,
                disagreements: 0,
            };
            self.steps.insert(step.clone(), none);
        }
        self.steps.get_mut(step).expect("it has just been added")
    }

    /// A task has come to its end, or to the end of the log.
    pub(super) fn ended(&mut self, status: Option<TaskStatus>) {
        let count = match status {
            Some(TaskStatus::Completed) => &mut self.figures.completed,
            Some(TaskStatus::Failed) => &mut self.figures.failed,
            Some(TaskStatus::Cancelled) => &mut self.figures.cancelled,
            Some(TaskStatus::Running | TaskStatus::Paused | TaskStatus::Archived) | None => {
                &mut self.figures.running
            }
        };
        *count += 1;
    }

    pub(super) fn finish(self, tasks: u64, prices: &Prices) -> Figures {
        let known = prices.is_known();
        Figures {
            annotations_per_task: (tasks > 0)
                .then(|| self.figures.annotations as f64 / tasks as f64),
            cost: known.then_some(self.cost),
            unpriced: if known { self.figures.unpriced } else { 0 },
            steps: self.steps.into_values().collect(),
            ..self.figures
        }
    }
}

impl Accuracy {
    pub(super) fn add(&mut self, right: Option<bool>) {
        self.answers += u64::from(right.is_some());
        self.right += u64::from(right == Some(true));
    }

    pub(super) fn finish(self) -> Self {
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bounds = wilson_interval(count(self.right), count(self.answers), CONFIDENCE_DEFAULT);
        let bounds = bounds.ok();
        Self {
            accuracy: (self.answers > 0).then(|| self.right as f64 / self.answers as f64),
            low: bounds.as_ref().map(|bounds| bounds.lower),
            high: bounds.as_ref().map(|bounds| bounds.upper),
            ..self
        }
    }
}

impl GoldComparison {
    pub(super) fn finish(self) -> Self {
        Self {
            tasks: self.tasks,
            recorded: self.recorded.finish(),
            simulated: self.simulated.finish(),
            recorded_of_both: self.recorded_of_both.finish(),
            simulated_of_both: self.simulated_of_both.finish(),
        }
    }
}

impl Unknown {
    pub(super) fn new((kind, step, code): UnknownKey, tasks: u64, count: u64) -> Self {
        let text = text(kind, step.as_ref(), code);
        Self {
            kind,
            step,
            code: code.map(str::to_owned),
            tasks,
            count,
            text,
        }
    }
}

fn text(kind: UnknownKind, step: Option<&StepId>, code: Option<&str>) -> String {
    let at = step.map_or_else(String::new, |step| format!(" at step `{step}`"));
    let code = code.unwrap_or_default();
    match kind {
        UnknownKind::MoreAnnotations => format!(
            "more annotations are wanted{at} than were recorded: what they would have said, and how \
             many more after them"
        ),
        UnknownKind::OtherSubject => {
            format!("what people would have said{at}: those who were asked looked at another value")
        }
        UnknownKind::NotReached => {
            format!("what recorded annotations{at} are worth: the task does not get there")
        }
        UnknownKind::UnknownStep => {
            format!("what recorded annotations{at} are worth: the workflow has no such step")
        }
        UnknownKind::Refused => format!(
            "what people would have said{at} instead: their recorded annotations are refused ({code})"
        ),
        UnknownKind::NoOutcome => {
            format!("what a handler, hook or child task{at} would have returned: none is recorded")
        }
        UnknownKind::OtherInput => {
            format!(
                "what a handler or hook{at} would have returned: it was called with other input"
            )
        }
        UnknownKind::Incident => {
            format!("what an operator would have done about an incident{at} ({code})")
        }
        UnknownKind::NotClosed => format!(
            "how a visit would have ended{at} that was closed early: it has too few annotations for it"
        ),
        UnknownKind::ShownOtherwise => format!(
            "assumed: people say the same{at} although the value they look at comes from other \
             annotations"
        ),
        UnknownKind::ChosenByQuality => format!(
            "assumed: the same people are asked{at}, in the same order, although it gives out work by \
             quality"
        ),
        UnknownKind::Unfinished => {
            "how tasks end that had not ended when the log was read".to_owned()
        }
        UnknownKind::NotRead => "the rest of the log: the time was up".to_owned(),
    }
}

/// The key of annotations that are refused.
pub(super) fn refused(step: &StepId, code: RejectionCode) -> UnknownKey {
    (
        UnknownKind::Refused,
        Some(step.clone()),
        Some(code.as_str()),
    )
}

/// The key of an open incident.
pub(super) fn incident(step: &StepId, code: IncidentCode) -> UnknownKey {
    (
        UnknownKind::Incident,
        Some(step.clone()),
        Some(code.as_str()),
    )
}
