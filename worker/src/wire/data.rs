//! What stands in `data` of each kind of message, and the answer to a command.
//!
//! These are types of their own and not the engine's events: a stored event may grow a field or
//! hold what is nobody's business (the known answer of a gold task), a message is a promise.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
pub use glyph_workflow_engine::quality::AgreementProgress;
use glyph_workflow_engine::{
    command::RejectionCode,
    config::HookStage,
    config::{FieldMode, Level, Metric, Target, TimeoutAction},
    events::{
        self, ConsensusMethod, FieldCalculated, PosteriorCalculated, ReleaseReason, Vote,
        WeightsUsed,
    },
    ids::{CommandId, RevisionId, Slug, StepId, TaskId, UserId, WorkflowId},
    state::{IncidentCode, ResolvedBy, StepResult, StepVisit},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::envelope::TaskFields;

/// Data of a message about a task: the common fields beside its own.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InTask<'a, D> {
    /// What all have in common.
    #[serde(flatten)]
    pub task: TaskFields<'a>,
    /// What this kind says.
    #[serde(flatten)]
    pub detail: D,
}

/// A visit of a step is open for work.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StepActivated<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The step whose transition led here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_step: Option<&'a StepId>,
    /// The visit that a review or adjudication judges.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "judges")]
    pub reviewed: Option<&'a StepVisit>,
    /// Submissions asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "places")]
    pub slots: Option<u32>,
}

impl<'a> From<&'a events::StepActivated> for StepActivated<'a> {
    fn from(event: &'a events::StepActivated) -> Self {
        Self {
            step_id: &event.step_id,
            visit: event.visit,
            from_step: event.from_step.as_ref(),
            reviewed: event.reviewed.as_ref(),
            slots: event.slots,
        }
    }
}

impl<'a> From<&'a events::StepOpened> for StepActivated<'a> {
    fn from(event: &'a events::StepOpened) -> Self {
        Self {
            step_id: &event.step_id,
            visit: event.visit,
            from_step: event.from_step.as_ref(),
            reviewed: event.reviewed.as_ref(),
            slots: event.slots,
        }
    }
}

/// A visit of a step ended with a result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StepCompleted<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// What it ended with.
    pub result: &'a StepResult,
}

/// A visit of a step failed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StepFailed<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// Why.
    pub error: &'a str,
}

/// A visit of a step was left out or became needless.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StepEnded<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// Why.
    pub reason: &'a str,
}

/// The task went from a step to a step or terminal.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TransitionOccurred<'a> {
    /// The step left.
    pub from_step: &'a StepId,
    /// The visit left.
    pub from_visit: u32,
    /// The step or terminal entered.
    pub to_step: &'a Target,
    /// What made it fire: the condition's type, for `expression` its source.
    pub condition_met: &'a str,
}

impl<'a> From<&'a events::TransitionOccurred> for TransitionOccurred<'a> {
    fn from(event: &'a events::TransitionOccurred) -> Self {
        Self {
            from_step: &event.from_step,
            from_visit: event.from_visit,
            to_step: &event.to_step,
            condition_met: &event.condition_met,
        }
    }
}

/// The annotations of a visit were compared.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConsensusCalculated<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// What measured agreement.
    pub metric: Metric,
    /// Level of measurement.
    pub level: Level,
    /// Path in `annotation.data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// The agreement; null where it is not defined.
    pub agreement: Option<f64>,
    /// Why it is not defined, or why observed agreement stands in for the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'a str>,
    /// Agreement at which annotators agree.
    pub threshold: f64,
    /// Units compared.
    pub units: usize,
    /// Pairs of values compared.
    pub pairs: u64,
    /// Whether the agreement reached the threshold (an undefined one counts as such).
    pub agreed: bool,
    /// What was to find the value.
    pub method: ConsensusMethod,
    /// The candidates, most votes first.
    pub votes: &'a [Vote],
    /// Whether the vote was tied.
    pub tied: bool,
    /// The value found.
    pub value: Option<&'a Value>,
    /// What found it.
    pub resolved_by: Option<ResolvedBy>,
    /// People asked in addition now, because the answer is not sure enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<u32>,
    /// How probable each answer is, where that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posterior: Option<&'a PosteriorCalculated>,
    /// Whose vote counted how much, where votes are weighed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<&'a WeightsUsed>,
    /// How the fields joined into one verdict, where they were compared one by one. `agreement` is
    /// then their weighted mean, and the votes stand with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<FieldMode>,
    /// The fields, where they were compared one by one.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub fields: &'a [FieldCalculated],
}

impl<'a> From<&'a events::ConsensusCalculated> for ConsensusCalculated<'a> {
    fn from(event: &'a events::ConsensusCalculated) -> Self {
        Self {
            step_id: &event.step_id,
            visit: event.visit,
            metric: event.metric,
            level: event.level,
            field: event.field.as_deref(),
            agreement: event.agreement,
            note: event.note.as_deref(),
            threshold: event.threshold,
            units: event.units,
            pairs: event.pairs,
            agreed: event.agreed,
            method: event.method,
            votes: &event.votes,
            tied: event.tied,
            value: event.value.as_ref(),
            resolved_by: event.resolved_by,
            more: event.more,
            posterior: event.posterior.as_deref(),
            weights: event.weights.as_ref(),
            mode: event.mode,
            fields: &event.fields,
        }
    }
}

/// The task exists and is bound to a revision. The known answer of a gold task is not told:
/// annotators may sit behind any consumer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowStarted<'a> {
    /// Whether a submission started it.
    pub by_submission: bool,
    /// What the producer gave to label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<&'a Value>,
    /// Key-value pairs for search.
    pub labels: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a events::WorkflowStarted> for WorkflowStarted<'a> {
    fn from(event: &'a events::WorkflowStarted) -> Self {
        Self {
            by_submission: event.by_submission,
            input: event.input.as_ref(),
            labels: &event.labels,
        }
    }
}

/// The task has its output.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowCompleted<'a> {
    /// The output.
    pub output: &'a Value,
    /// There and true for a gold task, whose answer was known beforehand: no output to be used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gold: bool,
}

/// The task ended without an output.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowFailed<'a> {
    /// Why.
    pub error: &'a str,
}

/// The task is held, or one step of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowPaused<'a> {
    /// The step; the whole task where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_id: Option<&'a StepId>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// When it goes on by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// The task goes on, or one step of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowReleased<'a> {
    /// The step; the whole task where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_id: Option<&'a StepId>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// An operator ended the task.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowCancelled<'a> {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// An operator held all tasks of a workflow, or let them go on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WholeWorkflow<'a> {
    /// The workflow, in all its revisions.
    pub workflow: &'a Slug,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// When it goes on by itself, where it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Whether it is archived: held until it is restored, and left out of lists.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
}

impl<'a> WholeWorkflow<'a> {
    pub(super) fn paused(
        workflow: &'a Slug,
        reason: Option<&'a str>,
        until: Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            workflow,
            reason,
            until,
            archived: false,
        }
    }

    pub(super) fn archived(workflow: &'a Slug, reason: Option<&'a str>) -> Self {
        Self {
            archived: true,
            ..Self::paused(workflow, reason, None)
        }
    }

    pub(super) fn resumed(workflow: &'a Slug, reason: Option<&'a str>) -> Self {
        Self::paused(workflow, reason, None)
    }
}

/// Data of a message that is about one task, or about all tasks of a workflow.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum TaskOrWorkflow<'a, D> {
    /// One task.
    Task(InTask<'a, D>),
    /// The whole workflow; without `task_id`.
    Workflow(WholeWorkflow<'a>),
}

/// The task runs on another revision (the one in the fields of the task) from now on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowMigrated<'a> {
    /// Number of the revision it ran on.
    pub from_revision: u32,
    /// Steps that are called otherwise now: old id to new id.
    pub steps: &'a BTreeMap<StepId, StepId>,
}

/// Somebody claimed a slot.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskAssigned<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// Who.
    pub user_id: UserId,
    /// Roles that the person named.
    pub roles: &'a [String],
    /// When the slot is given up without activity.
    pub expires_at: DateTime<Utc>,
}

/// A claimed slot is free again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskReleased<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// Who held it.
    pub user_id: UserId,
    /// Why.
    pub cause: ReleaseReason,
    /// What was said about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// The holder of a slot was inactive for too long.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskStalled<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// Who held it.
    pub user_id: UserId,
    /// What follows.
    pub action: TimeoutAction,
}

/// A step cannot go on by itself.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IncidentOpened<'a> {
    /// Id of the incident.
    pub incident_id: Uuid,
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// What kind of trouble.
    pub code: IncidentCode,
    /// What happened, for people.
    pub reason: &'a str,
    /// Whether the workflow asks for operators to be told (`escalate`).
    pub escalated: bool,
}

/// An external worker is to do a step and to answer with `advance` and `output`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JobRequested<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The hook that asks for it; none where it is the step's own work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookStage>,
    /// Number of the job within the visit, from 1.
    pub call: u32,
    /// The attempt at this job, from 1: published again where it goes unanswered for too long.
    pub attempt: u32,
    /// The same for every attempt.
    pub idempotency_key: Uuid,
    /// When it counts as failed without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// The `config` of the step or hook.
    pub config: &'a Value,
    /// What to work on: `input` and `context` of the task, and `results` by step; what hooks have
    /// `prepared`, and for those after the work the `result`.
    pub input: &'a Value,
}

impl<'a> JobRequested<'a> {
    /// The job of an event; none where the handler is called and not sent a job.
    pub fn of(event: &'a events::HandlerRequested) -> Option<Self> {
        let job = event.job.as_ref()?;
        Some(Self {
            step_id: &event.step_id,
            visit: event.visit,
            hook: event.hook.map(|hook| hook.stage),
            call: event.n,
            attempt: event.attempt,
            idempotency_key: job.idempotency_key,
            expires_at: event.due_at,
            config: &job.config,
            input: &job.input,
        })
    }
}

/// An incident is over.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IncidentResolved<'a> {
    /// Id of the incident.
    pub incident_id: Uuid,
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// What resolved it.
    pub resolution: &'a str,
}

/// A readable command was refused.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CommandRejected<'a> {
    /// The task.
    pub task_id: TaskId,
    /// The UUID of the workflow's revision, where the task has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<RevisionId>,
    /// The workflow, where the task has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<&'a Slug>,
    /// The number of the workflow's revision, where the task has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// The command.
    pub command_id: CommandId,
    /// The command's type.
    #[serde(rename = "type")]
    pub command_type: &'static str,
    /// The step that it named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_id: Option<&'a str>,
    /// The code.
    pub reason: RejectionCode,
    /// What, where, and how to mend it, for people.
    pub detail: &'a str,
}

/// An annotator answers gold tasks worse than the workflow allows. Which tasks are gold is not told.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AnnotatorFlagged {
    /// The workflow.
    pub workflow: WorkflowId,
    /// Who.
    pub user_id: UserId,
    /// Share of right answers among the newest.
    pub accuracy: f64,
    /// The share that the workflow asks for.
    pub min_accuracy: f64,
    /// How many answers the accuracy rests on.
    pub answers: usize,
    /// When the answer came with which the annotator fell.
    pub flagged_at: DateTime<Utc>,
    /// Whether the annotator is paused for it: no slots are offered to that person in the workflow.
    pub paused: bool,
}
