//! The `data` of each kind of message.
//!
//! These types are separate from the engine's events. A stored event may gain fields or contain
//! internal data (the expected answer of a gold task); a message is a public contract.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
pub use glyph_workflow_engine::quality::{AgreementProgress, KappaOf};
use glyph_workflow_engine::{
    command::RejectionCode,
    config::HookStage,
    config::{AskedOn, FieldMode, Level, Metric, Target, TimeoutAction},
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

/// Data of a message about a task: the common fields together with the fields of its kind.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InTask<'a, D> {
    /// The common fields.
    #[serde(flatten)]
    pub task: TaskFields<'a>,
    /// The fields of this kind.
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
    /// The visit that this review or adjudication is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "judges")]
    pub reviewed: Option<&'a StepVisit>,
    /// The number of submissions that the step asks for.
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
    /// The result.
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

/// A visit of a step was skipped or became unnecessary.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StepEnded<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// Why.
    pub reason: &'a str,
}

/// The task moved from a step to a step or terminal.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TransitionOccurred<'a> {
    /// The step left.
    pub from_step: &'a StepId,
    /// The visit left.
    pub from_visit: u32,
    /// The step or terminal entered.
    pub to_step: &'a Target,
    /// The condition that was met: its type, or the source of an `expression`.
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
    /// The agreement metric.
    pub metric: Metric,
    /// Level of measurement.
    pub level: Level,
    /// Path in `annotation.data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// The agreement; null if it is not defined.
    pub agreement: Option<f64>,
    /// Why the agreement is not defined, or why observed agreement replaces the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'a str>,
    /// The agreement from which on annotators count as agreed.
    pub threshold: f64,
    /// Units compared.
    pub units: usize,
    /// Pairs of values compared.
    pub pairs: u64,
    /// Whether the agreement reached the threshold (an undefined one counts as reached).
    pub agreed: bool,
    /// The consensus method that was configured.
    pub method: ConsensusMethod,
    /// The candidates, most votes first.
    pub votes: &'a [Vote],
    /// Whether the vote was tied.
    pub tied: bool,
    /// The consensus value.
    pub value: Option<&'a Value>,
    /// How the value was determined.
    pub resolved_by: Option<ResolvedBy>,
    /// The number of additional annotators requested now, because the answer is not certain enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<u32>,
    /// Why they are requested although the answer is certain enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_on: Option<AskedOn>,
    /// The probability of each answer, if the method uses probabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posterior: Option<&'a PosteriorCalculated>,
    /// The weight of each annotator's vote, if votes are weighted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<&'a WeightsUsed>,
    /// How the results of the fields were combined, if fields were compared one by one. `agreement`
    /// is then their weighted mean, and each field has its own votes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<FieldMode>,
    /// The fields, if they were compared one by one.
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
            asked_on: event.asked_on,
            posterior: event.posterior.as_deref(),
            weights: event.weights.as_ref(),
            mode: event.mode,
            fields: &event.fields,
        }
    }
}

/// The task exists and is bound to a revision. The message never contains the expected answer of a
/// gold task: annotators may be able to read it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowStarted<'a> {
    /// Whether a submission started it.
    pub by_submission: bool,
    /// The input to annotate, from the producer.
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

/// The task completed with an output.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowCompleted<'a> {
    /// The output.
    pub output: &'a Value,
    /// Present and true for a gold task: its answer was known beforehand, so its output must not be
    /// used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gold: bool,
}

/// The task ended without an output.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowFailed<'a> {
    /// Why.
    pub error: &'a str,
}

/// The task, or one step of it, is paused.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowPaused<'a> {
    /// The step; absent if the whole task is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_id: Option<&'a StepId>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// When the pause ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// The task, or one step of it, is resumed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowReleased<'a> {
    /// The step; absent if the whole task is resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_id: Option<&'a StepId>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// An operator cancelled the task.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowCancelled<'a> {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// An operator paused all tasks of a workflow, or resumed them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WholeWorkflow<'a> {
    /// The workflow, in all its revisions.
    pub workflow: &'a Slug,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// When the pause ends by itself, if the tasks are paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Whether the workflow is archived: paused until it is restored, and left out of lists.
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

/// Data of a message about one task, or about all tasks of a workflow.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum TaskOrWorkflow<'a, D> {
    /// One task.
    Task(InTask<'a, D>),
    /// The whole workflow; without `task_id`.
    Workflow(WholeWorkflow<'a>),
}

/// The task now runs on another revision, the one in the common fields.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkflowMigrated<'a> {
    /// Number of the revision it ran on.
    pub from_revision: u32,
    /// Renamed steps: old id to new id.
    pub steps: &'a BTreeMap<StepId, StepId>,
}

/// An annotator claimed a slot.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskAssigned<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The annotator.
    pub user_id: UserId,
    /// Roles that the annotator declared.
    pub roles: &'a [String],
    /// When the claim expires without activity.
    pub expires_at: DateTime<Utc>,
}

/// A claimed slot is open again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskReleased<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The annotator who had claimed it.
    pub user_id: UserId,
    /// Why.
    pub cause: ReleaseReason,
    /// The reason given for the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// The annotator who claimed a slot was inactive for too long.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskStalled<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The annotator who claimed the slot.
    pub user_id: UserId,
    /// The timeout action that follows.
    pub action: TimeoutAction,
}

/// A step cannot continue without help.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IncidentOpened<'a> {
    /// Id of the incident.
    pub incident_id: Uuid,
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The kind of incident.
    pub code: IncidentCode,
    /// What happened, for people.
    pub reason: &'a str,
    /// Whether the workflow asks to alert operators (`escalate`).
    pub escalated: bool,
}

/// Asks an external worker to do a step and to answer with `advance` and `output`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JobRequested<'a> {
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The hook that requests the job; absent if the job is the step's own work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookStage>,
    /// Number of the job within the visit, from 1.
    pub call: u32,
    /// The attempt at this job, from 1: a job without an answer is published again after a while.
    pub attempt: u32,
    /// The idempotency key; the same for every attempt.
    pub idempotency_key: Uuid,
    /// When the job counts as failed if there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// The `config` of the step or hook.
    pub config: &'a Value,
    /// What to work on: `input` and `context` of the task, `results` by step, and what hooks have
    /// `prepared`. Hooks that run after the work also get the `result`.
    pub input: &'a Value,
}

impl<'a> JobRequested<'a> {
    /// The job of an event; none if the handler is called directly.
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

/// An incident is resolved.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IncidentResolved<'a> {
    /// Id of the incident.
    pub incident_id: Uuid,
    /// The step.
    pub step_id: &'a StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// How it was resolved.
    pub resolution: &'a str,
}

/// A readable command was rejected.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CommandRejected<'a> {
    /// The task.
    pub task_id: TaskId,
    /// The UUID of the workflow's revision, if the task has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<RevisionId>,
    /// The workflow, if the task has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<&'a Slug>,
    /// The number of the workflow's revision, if the task has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// The command.
    pub command_id: CommandId,
    /// The command's type.
    #[serde(rename = "type")]
    pub command_type: &'static str,
    /// The step that the command named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_id: Option<&'a str>,
    /// The rejection code.
    pub reason: RejectionCode,
    /// What is wrong, where, and how to fix it; for people.
    pub detail: &'a str,
}

/// An annotator's accuracy on gold tasks fell below the limit of the workflow. The message does not
/// reveal which tasks are gold.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AnnotatorFlagged {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The annotator.
    pub user_id: UserId,
    /// Share of correct answers among the newest ones.
    pub accuracy: f64,
    /// The accuracy that the workflow requires.
    pub min_accuracy: f64,
    /// The number of correct answers.
    pub right: usize,
    /// The number of answers that count.
    pub answers: usize,
    /// How probable so few correct answers are of somebody at the limit; at most 0.05.
    pub p_value: f64,
    /// When the annotator gave the answer that brought the accuracy below the limit.
    pub flagged_at: DateTime<Utc>,
    /// Whether the annotator was paused for this: the workflow offers no slots to a paused
    /// annotator.
    pub paused: bool,
}
