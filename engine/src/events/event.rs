//! The events of a task's stream.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::LogPosition;
use crate::{
    config::{
        AgreementMethod, AskedOn, DisagreementStrategy, DistanceWeights, ExternalHandler,
        FieldMode, HookId, Level, Metric, Sampling, Target, TimeoutAction,
    },
    ids::{StepId, TaskId, UserId, WorkflowId},
    reliability::Evidence,
    state::{
        AnnotationData, AuditedAnswer, ChildOrder, ChildOutcome, FoundResult, IncidentCode,
        ParentTask, ResolvedBy, SlotHolder, SoftLabels, StepResult, StepVisit, Subject,
        WorkflowRef,
    },
};

/// Something that happened to a task.
///
/// Every stream ever written must stay readable, so the serialized form changes only by a new
/// schema version and an upcaster in [`upcast`](super::upcast). An event contains every fact that
/// the state needs, so that replay needs no configuration, clock or handler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event_type", content = "event_data", rename_all = "snake_case")]
pub enum WorkflowEvent {
    /// The task exists and is bound to a revision.
    WorkflowStarted(WorkflowStarted),
    /// A `start` that came after the first submission supplied the missing details.
    TaskDetailsSupplied {
        /// What the producer gave to label.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
        /// Key-value pairs for search.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        /// The known answer of a gold task.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<Value>,
        /// The visit whose sub-workflow the task runs, if its parent sent the `start`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<ParentTask>,
    },
    /// A visit of a step begins.
    StepActivated(StepActivated),
    /// A person claimed a slot.
    TaskAssigned {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Number of the claim within the visit.
        n: u32,
        /// The person.
        user_id: UserId,
        /// Roles that the person named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        roles: Vec<String>,
        /// When the slot expires without activity.
        expires_at: DateTime<Utc>,
        /// Why the slot was offered before others, if the step shares its work by quality.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offered: Option<OfferBasis>,
    },
    /// The person who claimed a slot is working.
    ActivityRecorded {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The person.
        user_id: UserId,
        /// When the slot expires without further activity.
        expires_at: DateTime<Utc>,
        /// Whether a draft came with it (stored outside the log).
        draft: bool,
    },
    /// A claimed slot is free again.
    TaskReleased {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The person who had claimed it.
        user_id: UserId,
        /// Why.
        cause: ReleaseReason,
        /// The reason that was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The person who claimed a slot was inactive for too long.
    TaskStalled {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The person who had claimed it.
        user_id: UserId,
        /// What happens then.
        action: TimeoutAction,
    },
    /// A submission was accepted.
    AnnotationSubmitted {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The submission.
        annotation: Arc<AnnotationData>,
        /// When the visit is closed with the submissions it has, unless somebody submits before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        closes_at: Option<DateTime<Utc>>,
    },
    /// An answer to a gold task was compared with the known one.
    GoldScored {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The answer.
        annotation_id: Uuid,
        /// The person who gave it.
        user_id: UserId,
        /// Whether it is right: at least as like the known answer as the step asks for.
        correct: bool,
        /// How like the known answer it is, 0 to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        similarity: Option<f64>,
    },
    /// More people are asked, because the submissions so far do not settle the result.
    #[serde(rename = "places_added")]
    SlotsAdded {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Number of submissions required now.
        #[serde(rename = "places")]
        slots: u32,
    },
    /// A visit needs a child task.
    ChildRequested(ChildRequested),
    /// A child task has received an order.
    #[serde(rename = "child_told")]
    ChildNotified {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The order.
        order: ChildOrder,
        /// Number of the order within the visit.
        n: u32,
    },
    /// A child task could not start; the start is retried.
    ChildStartFailed {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Number of the order within the visit.
        n: u32,
        /// Why.
        error: String,
        /// When it is retried.
        retry_at: DateTime<Utc>,
    },
    /// A child task has ended, or could not start.
    ChildEnded(ChildEnded),
    /// The parent has been notified how this task ended.
    #[serde(rename = "parent_told")]
    ParentNotified {},
    /// The annotations of a visit were compared.
    ConsensusCalculated(ConsensusCalculated),
    /// An external handler is requested: it is called, or its job is published with this event.
    HandlerRequested(HandlerRequested),
    /// An attempt at a call failed, or a job went unanswered.
    HandlerFailed {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Number of the call within the visit.
        n: u32,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        error: String,
        /// When the next attempt is made; none if there is no further attempt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<DateTime<Utc>>,
    },
    /// A hook is done or was abandoned.
    HookEnded(HookEnded),
    /// The `pre_process` hooks of a visit are done: it is open for work.
    StepOpened(StepOpened),
    /// A visit has found its result, which its `post_process` hooks work on now.
    ResultFound {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The result, and the notification for operators once it is final.
        #[serde(flatten)]
        found: FoundResult,
    },
    /// A visit ended with a result.
    StepCompleted {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Its result.
        result: StepResult,
        /// Values that are added to the task's context.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        context: Map<String, Value>,
        /// Whose answers the value judges, if an adjudicator or reviewer gave or approved it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        judgement: Option<Box<Judgement>>,
    },
    /// A visit failed.
    StepFailed {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Why.
        error: String,
    },
    /// A visit was skipped after a failure.
    StepSkipped {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Why.
        reason: String,
    },
    /// A visit became unnecessary.
    StepWithdrawn {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Why.
        reason: String,
    },
    /// The task went from a step to a step or terminal.
    TransitionOccurred(TransitionOccurred),
    /// A step cannot advance by itself.
    IncidentOpened {
        /// Id of the incident.
        incident_id: Uuid,
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The kind of problem.
        code: IncidentCode,
        /// What happened, for people.
        reason: String,
        /// Whether the workflow asks for operators to be notified.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        escalated: bool,
    },
    /// An incident was resolved.
    IncidentResolved {
        /// Id of the incident.
        incident_id: Uuid,
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// What resolved it.
        resolution: String,
    },
    /// The task or one of its steps was paused.
    WorkflowPaused {
        /// The step; the whole task if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_id: Option<StepId>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When it resumes by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
        /// Whether it is paused only because its parent is, and resumes with it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_parent: bool,
        /// Joins that wait for the paused step: meanwhile their time does not run.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        holds: Vec<StepId>,
    },
    /// The task or one of its steps resumed.
    WorkflowResumed {
        /// The step; the whole task if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_id: Option<StepId>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The whole workflow was paused for a while; the task's timers are extended by that time.
    TimersRearmed {
        /// Length of the pause, in microseconds.
        paused_micros: u64,
    },
    /// The task runs on another revision from now on.
    WorkflowMigrated(WorkflowMigrated),
    /// The task completed with an output.
    WorkflowCompleted {
        /// The output.
        output: Value,
    },
    /// The task failed without an output.
    WorkflowFailed {
        /// Why.
        error: String,
    },
    /// An operator ended the task.
    WorkflowCancelled {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

/// The task exists and is bound to a revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowStarted {
    /// The revision.
    #[serde(flatten)]
    pub workflow: WorkflowRef,
    /// Hash of the revision's content.
    pub content_hash: String,
    /// Whether a submission started it; a `start` may then still supply the details.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_submission: bool,
    /// What the producer gave to label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Key-value pairs for search.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The known answer of a gold task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
    /// Values shared by the steps.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
    /// The visit whose sub-workflow the task runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentTask>,
    /// The samples that the task belongs to.
    #[serde(default, skip_serializing_if = "Sampling::is_default")]
    pub sampling: Sampling,
}

/// What an adjudicator or reviewer says about the answers of others: the value of the step is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// The visit whose answers are judged.
    #[serde(flatten)]
    pub of: StepVisit,
    /// The judge.
    pub user_id: UserId,
    /// Where annotations have what the value is: a path in `annotation.data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The paths of the fields of a record that the judge decided; all fields if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
}

/// A visit needs a child task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildRequested {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// Number of the child within the visit, from 1.
    pub n: u32,
    /// The child.
    pub task_id: TaskId,
    /// The workflow that the child runs.
    pub workflow: WorkflowId,
    /// The item to label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Key-value pairs for search, copied from this task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The people who get a slot in its first step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<SlotHolder>,
    /// Greatest depth allowed for its own children, counted from the root.
    pub depth_max: u32,
    /// Correlation id of the producer, for tracing a piece of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

/// A child task has ended, or could not start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildEnded {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// The child.
    pub task_id: TaskId,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: ChildOutcome,
    /// Values that are added to this task's context.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
}

/// The task runs on another revision from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowMigrated {
    /// The revision it ran on.
    pub from_revision: u32,
    /// The revision it runs on now.
    #[serde(flatten)]
    pub workflow: WorkflowRef,
    /// Hash of the revision's content.
    pub content_hash: String,
    /// Renamed steps: old id to new id. Visits and annotations move along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<StepId, StepId>,
    /// Number of submissions that active visits require now, by new id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[serde(rename = "places")]
    pub slots: BTreeMap<StepId, Option<u32>>,
    /// How often bounded transitions have fired, by their position in the new file.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "by_number"
    )]
    pub loops: BTreeMap<usize, u32>,
    /// When joins with waiting branches proceed with the branches that have arrived, by new id;
    /// null waits for all branches. Joins that are not listed keep their time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub joins: BTreeMap<StepId, Option<DateTime<Utc>>>,
    /// Paused steps that joins wait for, by the join's new id. Joins that are not listed keep
    /// theirs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<StepId, Vec<StepId>>,
    /// When active visits are closed with the submissions they have, by new id; null where they are
    /// not. Visits that are not listed keep their time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub closes: BTreeMap<StepId, Option<DateTime<Utc>>>,
}

/// Reads a map with numeric keys. JSON writes keys as strings, and serde's buffering for tagged
/// enums, such as events, loses the fact that a string was a key.
fn by_number<'de, D: Deserializer<'de>>(reader: D) -> Result<BTreeMap<usize, u32>, D::Error> {
    let texts = BTreeMap::<String, u32>::deserialize(reader)?;
    let number = |(key, count): (String, u32)| Ok((key.parse().map_err(D::Error::custom)?, count));
    texts.into_iter().map(number).collect()
}

/// A visit of a step begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepActivated {
    /// The step.
    pub step_id: StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The step whose transition led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<StepId>,
    /// The subject: the visit under review or adjudication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "judges")]
    pub reviewed: Option<StepVisit>,
    /// Visits whose work arrived by other branches of a join. Their annotators may not review or
    /// adjudicate here either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "judges_with")]
    pub reviewed_with: Vec<StepVisit>,
    /// What it is about, if it reviews or adjudicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<Subject>>,
    /// The visits that led here: one, or at a join those whose branches had arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrived: Vec<StepVisit>,
    /// Whether a bounded transition led here, which begins another round.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looped: bool,
    /// Steps whose submitters, in any visit, are excluded from this visit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_who_did: Vec<StepId>,
    /// Number of submissions required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "places")]
    pub slots: Option<u32>,
    /// Other joins whose waiting branches are no longer needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discards: Vec<StepId>,
    /// Whether `pre_process` hooks come first; the visit is open from `step_opened` on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opening: bool,
}

/// A visit is open for work after its `pre_process` hooks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepOpened {
    /// The step.
    pub step_id: StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The step whose transition led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<StepId>,
    /// The subject: the visit under review or adjudication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "judges")]
    pub reviewed: Option<StepVisit>,
    /// Number of submissions required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "places")]
    pub slots: Option<u32>,
}

/// The outcome of a hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HookEnded {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// The hook.
    #[serde(flatten)]
    pub hook: HookId,
    /// Number of its last call within the visit; none if it ran inside the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why it was abandoned, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An external handler is requested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HandlerRequested {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// Number of the call within the visit, from 1.
    pub n: u32,
    /// The kind of handler.
    pub handler: ExternalHandler,
    /// The hook that the call is for; none for the step's own work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookId>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it is called. For a job: when it counts as failed without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime<Utc>>,
    /// The job, published exactly as recorded here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
}

/// A job for an external worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// The same for every attempt.
    pub idempotency_key: Uuid,
    /// The step's `config`; null if it has none.
    pub config: Value,
    /// The input of the job.
    pub input: Value,
}

/// Why a claimed slot is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// The person or an operator released it.
    Released,
    /// The person was inactive.
    Inactivity,
    /// The person was inactive and is not offered the slot again.
    Reassigned,
    /// The visit ended.
    StepEnded,
}

/// The annotations of a visit were compared: every number that led to the verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConsensusCalculated {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// What measured agreement.
    pub metric: Metric,
    /// Level of measurement.
    pub level: Level,
    /// Path in `annotation.data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The agreement; null where it is not defined.
    pub agreement: Option<f64>,
    /// Why it is undefined, or why observed agreement replaces the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Agreement from which annotators count as agreed.
    pub threshold: f64,
    /// Units compared.
    pub units: usize,
    /// Pairs of values compared.
    pub pairs: u64,
    /// Whether the agreement reached the threshold (an undefined one counts as such).
    pub agreed: bool,
    /// The method for determining the value.
    pub method: ConsensusMethod,
    /// The candidates, most votes first.
    pub votes: Vec<Vote>,
    /// What is known of the possible answers beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<KnownAnswers>,
    /// Those who submitted, in the order of acceptance. Only in the first comparison of a visit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotators: Vec<UserId>,
    /// Whether there is no value because two candidates are equally good.
    pub tied: bool,
    /// Whether an earlier comparison of the visit had asked more people because of their answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Whether the answer is sure enough, if the step completes by confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
    /// Additional people asked now, because the submissions so far do not settle the result: the
    /// visit continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u32>,
    /// Why they are asked although the answer is sure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_on: Option<AskedOn>,
    /// The answer that the visit will end with, if an audit begins here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audited: Option<Box<AuditedAnswer>>,
    /// The value found.
    pub value: Option<Value>,
    /// What determined it.
    pub resolved_by: Option<ResolvedBy>,
    /// How the fields were combined into one verdict, if they were compared one by one. `agreement`
    /// is then their weighted mean, and the votes are listed with the fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FieldMode>,
    /// The fields, if they were compared one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldCalculated>,
    /// The probability of each answer, if the step completes by confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posterior: Option<Box<PosteriorCalculated>>,
    /// The weight of each annotator's vote, if votes are weighted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsUsed>,
}

/// One field of the annotations was compared: every number that led to its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FieldCalculated {
    /// Path in `annotation.data`.
    pub field: String,
    /// What measured agreement.
    pub metric: Metric,
    /// Level of measurement.
    pub level: Level,
    /// The agreement; null where it is not defined.
    pub agreement: Option<f64>,
    /// Why it is undefined, or why observed agreement replaces the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Agreement from which annotators count as agreed on this field.
    pub threshold: f64,
    /// Weight of the field in the step's agreement.
    pub weight: f64,
    /// Units compared.
    pub units: usize,
    /// Pairs of values compared.
    pub pairs: u64,
    /// Whether the agreement reached the threshold (an undefined one counts as such).
    pub agreed: bool,
    /// The method for determining the value.
    pub method: ConsensusMethod,
    /// The candidates, most votes first.
    pub votes: Vec<Vote>,
    /// What is known of the possible answers beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<KnownAnswers>,
    /// Whether there is no value because two candidates are equally good.
    pub tied: bool,
    /// The value found.
    pub value: Option<Value>,
    /// What determined it.
    pub resolved_by: Option<ResolvedBy>,
    /// The weight of each annotator's vote, if votes are weighted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsUsed>,
}

/// The method for determining a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ConsensusMethod {
    /// The annotators agreed.
    Agreement(AgreementMethod),
    /// The annotators disagreed.
    Disagreement(DisagreementStrategy),
    /// Agreement was not checked: the most probable answer is the value.
    Posterior(PosteriorMethod),
}

/// The method of a step that completes by confidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PosteriorMethod {
    /// The most probable answer.
    Posterior,
}

/// The probability of each answer, and all inputs of the calculation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PosteriorCalculated {
    /// Probability of the best answer from which no more people are asked.
    pub target: f64,
    /// Greatest number of submissions.
    pub max: u32,
    /// Probability of each answer.
    pub soft_labels: SoftLabels,
    /// Position in the log up to which the annotator model has learned.
    pub position: LogPosition,
    /// The data that the probabilities follow from.
    pub evidence: Evidence,
}

/// The weights of a vote, and where they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightsUsed {
    /// Position in the log up to which the annotator model has learned.
    pub position: LogPosition,
    /// Each annotator once, in order of their annotations.
    pub annotators: Vec<AnnotatorWeight>,
}

/// The weight of one annotator's vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotatorWeight {
    /// The annotator.
    pub user_id: UserId,
    /// How often the person is expected to be right, with this item left out (0 to 1).
    pub accuracy: f64,
    /// Weight of the vote: 0 or more.
    pub weight: f64,
}

/// Why a slot was offered to a person before others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum OfferBasis {
    /// It had waited longest of all open slots, and this claim was one of those for overdue slots.
    Overdue,
    /// Others have begun the task, and the person is known to be reliable.
    Contested {
        /// Probability of the best answer given what others have submitted; the lowest one, if the
        /// step asks several questions. None if their submissions are not informative.
        confidence: Option<f64>,
        /// How often the person is right: the lower end of the 95 % credible interval.
        accuracy_low: f64,
        /// How often a person without history is expected to be right.
        accuracy_expected: f64,
        /// Position in the log up to which the annotator model has learned.
        position: LogPosition,
    },
}

/// What is known of the possible answers to a question beforehand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KnownAnswers {
    /// How many there are, whether anybody gives them or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<u32>,
    /// Where the value of each vote is on the scale, from 0, in the order of the votes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<u32>,
    /// What disagreement weighs by its distance on the scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<DistanceWeights>,
}

/// One candidate of a vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Vote {
    /// The value.
    pub value: Value,
    /// Number of annotators who gave it.
    pub count: u32,
    /// Positions of those who gave it in the order of acceptance, from 0. Omitted from all votes if
    /// the votes list the submissions in order, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<u32>,
    /// Total weight of those who gave it.
    pub weight: f64,
}

/// The task went from a step to a step or terminal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransitionOccurred {
    /// The step left.
    pub from_step: StepId,
    /// The visit left.
    pub from_visit: u32,
    /// The step or terminal entered.
    pub to_step: Target,
    /// What made it fire: the condition's type, or the source of an `expression`.
    pub condition_met: String,
    /// Position of the transition in the file; none for a branch of a conditional step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<usize>,
    /// Whether it counts towards the bound of its loop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looped: bool,
    /// Whether the branch waits at the join of `to_step` for others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// When that join proceeds with the branches that have arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_expires_at: Option<DateTime<Utc>>,
    /// Paused steps that a join which begins to wait here waits for: meanwhile its time does not
    /// run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<StepId>,
}

impl WorkflowEvent {
    /// The type in the table of events: snake case.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::WorkflowStarted(_) => "workflow_started",
            Self::TaskDetailsSupplied { .. } => "task_details_supplied",
            Self::StepActivated(_) => "step_activated",
            Self::TaskAssigned { .. } => "task_assigned",
            Self::ActivityRecorded { .. } => "activity_recorded",
            Self::TaskReleased { .. } => "task_released",
            Self::TaskStalled { .. } => "task_stalled",
            Self::AnnotationSubmitted { .. } => "annotation_submitted",
            Self::GoldScored { .. } => "gold_scored",
            Self::SlotsAdded { .. } => "places_added",
            Self::ChildRequested(_) => "child_requested",
            Self::ChildNotified { .. } => "child_told",
            Self::ChildStartFailed { .. } => "child_start_failed",
            Self::ChildEnded(_) => "child_ended",
            Self::ParentNotified {} => "parent_told",
            Self::ConsensusCalculated(_) => "consensus_calculated",
            Self::HandlerRequested(_) => "handler_requested",
            Self::HandlerFailed { .. } => "handler_failed",
            Self::HookEnded(_) => "hook_ended",
            Self::StepOpened(_) => "step_opened",
            Self::ResultFound { .. } => "result_found",
            Self::StepCompleted { .. } => "step_completed",
            Self::StepFailed { .. } => "step_failed",
            Self::StepSkipped { .. } => "step_skipped",
            Self::StepWithdrawn { .. } => "step_withdrawn",
            Self::TransitionOccurred(_) => "transition_occurred",
            Self::IncidentOpened { .. } => "incident_opened",
            Self::IncidentResolved { .. } => "incident_resolved",
            Self::WorkflowPaused { .. } => "workflow_paused",
            Self::WorkflowResumed { .. } => "workflow_resumed",
            Self::TimersRearmed { .. } => "timers_rearmed",
            Self::WorkflowMigrated(_) => "workflow_migrated",
            Self::WorkflowCompleted { .. } => "workflow_completed",
            Self::WorkflowFailed { .. } => "workflow_failed",
            Self::WorkflowCancelled { .. } => "workflow_cancelled",
        }
    }

    /// Every type, for metrics and checks.
    pub const TYPES: [&'static str; 35] = [
        "workflow_started",
        "task_details_supplied",
        "step_activated",
        "task_assigned",
        "activity_recorded",
        "task_released",
        "task_stalled",
        "annotation_submitted",
        "gold_scored",
        "places_added",
        "child_requested",
        "child_told",
        "child_start_failed",
        "child_ended",
        "parent_told",
        "consensus_calculated",
        "handler_requested",
        "handler_failed",
        "hook_ended",
        "step_opened",
        "result_found",
        "step_completed",
        "step_failed",
        "step_skipped",
        "step_withdrawn",
        "transition_occurred",
        "incident_opened",
        "incident_resolved",
        "workflow_paused",
        "workflow_resumed",
        "timers_rearmed",
        "workflow_migrated",
        "workflow_completed",
        "workflow_failed",
        "workflow_cancelled",
    ];

    /// The step it belongs to (`from_step` of a transition).
    pub fn step_id(&self) -> Option<&StepId> {
        match self {
            Self::StepActivated(e) => Some(&e.step_id),
            Self::ConsensusCalculated(e) => Some(&e.step_id),
            Self::HandlerRequested(e) => Some(&e.step_id),
            Self::TransitionOccurred(e) => Some(&e.from_step),
            Self::ChildRequested(e) => Some(&e.step_id),
            Self::ChildEnded(e) => Some(&e.step_id),
            Self::HookEnded(e) => Some(&e.step_id),
            Self::StepOpened(e) => Some(&e.step_id),
            Self::TaskAssigned { step_id, .. }
            | Self::ActivityRecorded { step_id, .. }
            | Self::TaskReleased { step_id, .. }
            | Self::TaskStalled { step_id, .. }
            | Self::AnnotationSubmitted { step_id, .. }
            | Self::GoldScored { step_id, .. }
            | Self::SlotsAdded { step_id, .. }
            | Self::ChildNotified { step_id, .. }
            | Self::ChildStartFailed { step_id, .. }
            | Self::HandlerFailed { step_id, .. }
            | Self::ResultFound { step_id, .. }
            | Self::StepCompleted { step_id, .. }
            | Self::StepFailed { step_id, .. }
            | Self::StepSkipped { step_id, .. }
            | Self::StepWithdrawn { step_id, .. }
            | Self::IncidentOpened { step_id, .. }
            | Self::IncidentResolved { step_id, .. } => Some(step_id),
            Self::WorkflowPaused { step_id, .. } | Self::WorkflowResumed { step_id, .. } => {
                step_id.as_ref()
            }
            Self::WorkflowStarted(_)
            | Self::ParentNotified {}
            | Self::TaskDetailsSupplied { .. }
            | Self::TimersRearmed { .. }
            | Self::WorkflowMigrated(_)
            | Self::WorkflowCompleted { .. }
            | Self::WorkflowFailed { .. }
            | Self::WorkflowCancelled { .. } => None,
        }
    }

    /// The step in which the event shows a person at work, and the roles that the person named.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "people come to a step by these events alone"
    )]
    pub fn work_of(&self) -> Option<(&StepId, &[String])> {
        match self {
            Self::TaskAssigned { step_id, roles, .. } => Some((step_id, roles)),
            Self::AnnotationSubmitted {
                step_id,
                annotation,
                ..
            } => Some((step_id, &annotation.roles)),
            _ => None,
        }
    }

    /// The known answer in the event, which makes this a gold task.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a known answer comes with these events alone"
    )]
    pub fn expected(&self) -> Option<&Value> {
        match self {
            Self::WorkflowStarted(started) => started.expected.as_ref(),
            Self::TaskDetailsSupplied { expected, .. } => expected.as_ref(),
            _ => None,
        }
    }
}
