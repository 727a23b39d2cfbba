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
        AgreementMethod, DisagreementStrategy, ExternalHandler, FieldMode, HookId, Level, Metric,
        Target, TimeoutAction,
    },
    ids::{StepId, TaskId, UserId, WorkflowId},
    reliability::Evidence,
    state::{
        AnnotationData, ChildOrder, ChildOutcome, FoundResult, IncidentCode, ParentTask,
        ResolvedBy, SlotHolder, SoftLabels, StepResult, StepVisit, WorkflowRef,
    },
};

/// Something that happened to a task.
///
/// The serialized form is a promise to every stream ever written: it changes only by a new schema
/// version and an upcaster in [`upcast`](super::upcast). An event holds whatever of its facts the
/// state needs, so that replay needs no configuration, clock or handler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event_type", content = "event_data", rename_all = "snake_case")]
pub enum WorkflowEvent {
    /// The task exists and is bound to a revision.
    WorkflowStarted(WorkflowStarted),
    /// A `start` that came after the first submission supplied what was not yet set.
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
        /// The visit whose sub-workflow the task runs, where it was that parent's start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<ParentTask>,
    },
    /// A visit of a step begins.
    StepActivated(StepActivated),
    /// Somebody claimed a slot.
    TaskAssigned {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Number of the claim within the visit.
        n: u32,
        /// Who.
        user_id: UserId,
        /// Roles that the person named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        roles: Vec<String>,
        /// When the slot is given up without activity.
        expires_at: DateTime<Utc>,
        /// Why the slot was offered before others, where the step shares its work by quality.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offered: Option<OfferBasis>,
    },
    /// The holder of a slot is at work.
    ActivityRecorded {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Who.
        user_id: UserId,
        /// When the slot is given up without further activity.
        expires_at: DateTime<Utc>,
        /// Whether a draft came with it (kept apart from the log).
        draft: bool,
    },
    /// A claimed slot is free again.
    TaskReleased {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Who held it.
        user_id: UserId,
        /// Why.
        cause: ReleaseReason,
        /// What was said about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The holder of a slot was inactive for too long.
    TaskStalled {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Who held it.
        user_id: UserId,
        /// What follows.
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
    },
    /// An answer to a gold task was compared with the known one.
    GoldScored {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The answer.
        annotation_id: Uuid,
        /// Who gave it.
        user_id: UserId,
        /// Whether it is the known one.
        correct: bool,
    },
    /// More people are asked, since those who answered do not settle it.
    #[serde(rename = "places_added")]
    SlotsAdded {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Submissions asked for now.
        #[serde(rename = "places")]
        slots: u32,
    },
    /// A visit needs a child task.
    ChildRequested(ChildRequested),
    /// A child task has received an order.
    ChildNotified {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// What it was told.
        order: ChildOrder,
        /// Number of the order within the visit.
        n: u32,
    },
    /// A child task could not start; it is tried again.
    ChildStartFailed {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Number of the order within the visit.
        n: u32,
        /// Why.
        error: String,
        /// When it is tried again.
        retry_at: DateTime<Utc>,
    },
    /// A child task has ended, or could not start.
    ChildEnded(ChildEnded),
    /// The parent has been told how this task ended.
    ParentNotified {},
    /// The annotations of a visit were compared.
    ConsensusCalculated(ConsensusCalculated),
    /// A handler outside is asked: it is called, or its job is published with this event.
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
        /// When the next attempt is made; none where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<DateTime<Utc>>,
    },
    /// A hook is done, or was given up.
    HookEnded(HookEnded),
    /// The `pre_process` hooks of a visit are done: it is open for work.
    StepOpened(StepOpened),
    /// A visit has found its result, which its `post_process` hooks are at work on now.
    ResultFound {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// The result, and what operators are to be told once it is final.
        #[serde(flatten)]
        found: FoundResult,
    },
    /// A visit ended with a result.
    StepCompleted {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// What it ended with.
        result: StepResult,
        /// What becomes part of the task's context.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        context: Map<String, Value>,
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
    /// A visit was left out after a failure.
    StepSkipped {
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// Why.
        reason: String,
    },
    /// A visit became needless.
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
    /// A step cannot go on by itself.
    IncidentOpened {
        /// Id of the incident.
        incident_id: Uuid,
        /// The step.
        step_id: StepId,
        /// The visit.
        visit: u32,
        /// What kind of trouble.
        code: IncidentCode,
        /// What happened, for people.
        reason: String,
        /// Whether the workflow asks for operators to be told.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        escalated: bool,
    },
    /// An incident is over.
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
    /// The task is held, or one step of it.
    WorkflowPaused {
        /// The step; the whole task where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_id: Option<StepId>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When it goes on by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
        /// Whether it is paused only because its parent is, and goes on with it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_parent: bool,
    },
    /// The task goes on, or one step of it.
    WorkflowResumed {
        /// The step; the whole task where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_id: Option<StepId>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The whole workflow was paused for a while; what was left of the task's timers goes on.
    TimersRearmed {
        /// For how long, in microseconds.
        paused_micros: u64,
    },
    /// The task runs on another revision from now on.
    WorkflowMigrated(WorkflowMigrated),
    /// The task has its output.
    WorkflowCompleted {
        /// The output.
        output: Value,
    },
    /// The task ended without.
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
}

/// A visit needs a child task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildRequested {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// Which child of the visit it is, from 1.
    pub n: u32,
    /// The child.
    pub task_id: TaskId,
    /// The workflow that it is to run.
    pub workflow: WorkflowId,
    /// What it is to label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Key-value pairs for search: those of this task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who gets a slot in its first step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<SlotHolder>,
    /// How deep its own children may lie at most, counted from the root.
    pub depth_max: u32,
    /// What the producer uses to follow a piece of work.
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
    /// What it ended with.
    #[serde(flatten)]
    pub outcome: ChildOutcome,
    /// What becomes part of this task's context.
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
    /// Steps that are called otherwise now: old id to new id. Visits and annotations move along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<StepId, StepId>,
    /// Submissions that active visits ask for now, by new id.
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
    /// When joins that branches wait at go on with what has arrived, by new id; none waits for all.
    /// Joins that are not named keep their time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub joins: BTreeMap<StepId, Option<DateTime<Utc>>>,
}

/// Reads a map whose keys are numbers. JSON writes them as texts, and what is read by way of a tag,
/// as events are, no longer knows that a text was a key.
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
    /// The visit that a review or adjudication judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "judges")]
    pub reviewed: Option<StepVisit>,
    /// Visits whose work came in by other branches of a join: who did that judges own work as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "judges_with")]
    pub reviewed_with: Vec<StepVisit>,
    /// Submissions asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "places")]
    pub slots: Option<u32>,
    /// Other joins whose waiting branches this one makes needless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discards: Vec<StepId>,
    /// Whether `pre_process` hooks come first; the visit is open from `step_opened` on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opening: bool,
}

/// A visit whose hooks came first is open for work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepOpened {
    /// The step.
    pub step_id: StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// The step whose transition led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<StepId>,
    /// The visit that a review or adjudication judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "judges")]
    pub reviewed: Option<StepVisit>,
    /// Submissions asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "places")]
    pub slots: Option<u32>,
}

/// What a hook came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HookEnded {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// The hook.
    #[serde(flatten)]
    pub hook: HookId,
    /// Number of its last call within the visit; none where it was done inside the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// What it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why it was given up, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A handler outside is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HandlerRequested {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// Number of the call within the visit, from 1.
    pub n: u32,
    /// Who is asked.
    pub handler: ExternalHandler,
    /// The hook that it is of; none where it is the step's own work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookId>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it is called; of a job, when it counts as failed without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime<Utc>>,
    /// The job, which is published as it stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
}

/// What an external worker is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// The same for every attempt.
    pub idempotency_key: Uuid,
    /// The step's `config`; null where it has none.
    pub config: Value,
    /// What it works on.
    pub input: Value,
}

/// Why a claimed slot is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// The holder or an operator gave it back.
    Released,
    /// The holder was inactive.
    Inactivity,
    /// The holder was inactive and is not offered the slot again.
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
    /// Why it is not defined, or why observed agreement stands in for the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
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
    pub votes: Vec<Vote>,
    /// Whether the vote was tied.
    pub tied: bool,
    /// People asked in addition now, because those who answered did not settle it: the visit goes
    /// on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u32>,
    /// The value found.
    pub value: Option<Value>,
    /// What found it.
    pub resolved_by: Option<ResolvedBy>,
    /// How the fields joined into one verdict, where they were compared one by one. `agreement` is
    /// then their weighted mean, and the votes stand with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FieldMode>,
    /// The fields, where they were compared one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldCalculated>,
    /// How probable each answer is, where that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posterior: Option<Box<PosteriorCalculated>>,
    /// Whose vote counted how much, where votes are weighed.
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
    /// Why it is not defined, or why observed agreement stands in for the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Agreement at which annotators agree on this field.
    pub threshold: f64,
    /// Weight of the field in the step's agreement.
    pub weight: f64,
    /// Units compared.
    pub units: usize,
    /// Pairs of values compared.
    pub pairs: u64,
    /// Whether the agreement reached the threshold (an undefined one counts as such).
    pub agreed: bool,
    /// What was to find the value.
    pub method: ConsensusMethod,
    /// The candidates, most votes first.
    pub votes: Vec<Vote>,
    /// Whether the vote was tied.
    pub tied: bool,
    /// The value found.
    pub value: Option<Value>,
    /// What found it.
    pub resolved_by: Option<ResolvedBy>,
    /// Whose vote counted how much, where votes are weighed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsUsed>,
}

/// What was to find a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ConsensusMethod {
    /// The annotators agreed.
    Agreement(AgreementMethod),
    /// They did not.
    Disagreement(DisagreementStrategy),
    /// Whether they agreed was not asked: the most probable answer is the value.
    Posterior(PosteriorMethod),
}

/// The method of a step that completes by confidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PosteriorMethod {
    /// The most probable answer.
    Posterior,
}

/// How probable each answer is, and everything that follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PosteriorCalculated {
    /// Probability of the best answer at which nobody else is asked.
    pub target: f64,
    /// Submissions asked at most.
    pub max: u32,
    /// Probability of each answer.
    pub soft_labels: SoftLabels,
    /// How far in the log what is known of the annotators was learnt.
    pub position: LogPosition,
    /// From how many events beyond `position` it was learnt as well. The worker had committed them
    /// itself, and could not read them in the log because of a transaction open elsewhere.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub beyond: u32,
    /// What the probabilities follow from.
    pub evidence: Evidence,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(events: &u32) -> bool {
    *events == 0
}

/// The weights of a vote, and where they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightsUsed {
    /// How far in the log what is known of the annotators was learnt.
    pub position: LogPosition,
    /// From how many events beyond `position` it was learnt as well, as in [`PosteriorCalculated`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub beyond: u32,
    /// Each annotator once, in order of their annotations.
    pub annotators: Vec<AnnotatorWeight>,
}

/// What the vote of one annotator counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotatorWeight {
    /// Who.
    pub user_id: UserId,
    /// How often that person is expected to be right, this item left out.
    pub accuracy: f64,
    /// What the vote counts: 0 or more.
    pub weight: f64,
}

/// Why a slot was offered to a person before others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum OfferBasis {
    /// Of all free slots it had waited longest, and it was the turn of such a one.
    Overdue,
    /// Others have begun, and the person is known to be reliable.
    Contested {
        /// Probability of the best answer by what others have submitted; of several answers the
        /// least sure. None where what they submitted says nothing.
        confidence: Option<f64>,
        /// How often the person is right: the lower end of what is believed of it (95 %).
        accuracy_low: f64,
        /// How often somebody of whom nothing is known is expected to be right.
        accuracy_expected: f64,
        /// How far in the log that was learnt.
        position: LogPosition,
        /// From how many events beyond `position` it was learnt as well, as in
        /// [`PosteriorCalculated`].
        #[serde(default, skip_serializing_if = "is_zero")]
        beyond: u32,
    },
}

/// One candidate of a vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Vote {
    /// The value.
    pub value: Value,
    /// How many gave it.
    pub count: u32,
    /// Who gave it: their positions in the order of acceptance, from 0. Left out of all votes where
    /// that is the order of the votes, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<u32>,
    /// The weight of those who gave it.
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
    /// What made it fire: the condition's type, for `expression` its source.
    pub condition_met: String,
    /// Place of the transition in the file; none for a branch of a conditional step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<usize>,
    /// Whether it counts towards the bound of its loop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looped: bool,
    /// Whether the branch waits at the join of `to_step` for others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// When that join goes on with what has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_expires_at: Option<DateTime<Utc>>,
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

    /// The known answer that it brings, which makes the task a gold one.
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
