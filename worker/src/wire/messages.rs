//! Messages for the world outside: CloudEvents 1.0 in structured JSON, one for each event that
//! others may care about.
//!
//! The body is made once, in the transaction that commits the event, and never changed: whoever
//! publishes it later, and how often, sends the same bytes under the same id.

use std::{collections::BTreeSet, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    MessageBuilder,
    command::{Act, ActEnvelope, CommandEnvelope, Rejection},
    config::GoalType,
    events::{StoredEvent, WorkflowEvent},
    goals::GoalAlert,
    ids::{CommandId, RevisionId, Slug, StepId, TaskId, WorkflowSelector},
    state::{ParentTask, WorkflowRef},
    store::NewOutboxRow,
};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{
    data::{
        AgreementProgress, AnnotatorFlagged, CommandRejected, ConsensusCalculated, InTask,
        IncidentOpened, IncidentResolved, JobRequested, StepActivated, StepCompleted, StepEnded,
        StepFailed, TaskAssigned, TaskReleased, TaskStalled, TransitionOccurred, WholeWorkflow,
        WorkflowCompleted, WorkflowFailed, WorkflowHeld, WorkflowMigrated, WorkflowReasoned,
        WorkflowReleased, WorkflowStarted,
    },
    goals::{AlertReport, GoalReport},
};

/// Bytes of a message's data; larger data is replaced by a reference to the history over HTTP.
pub const DATA_BYTES_MAX: usize = 1 << 20;

/// Where the schemas of this project live; a name, not necessarily a page.
pub const SCHEMA_BASE: &str = "https://glyph.dev/schemas";

/// The namespace of message ids that are derived from a goal; it never changes, or a message would be sent twice.
const GOAL_IDS: &str = "https://schemas.glyph.dev/goals";

/// The content type of every message.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

macro_rules! message_types {
    ($($variant:ident $name:literal $schema:literal;)+) => {
        /// The kinds of message; a routing key begins with one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum MessageType {
            $(#[doc = concat!("`", $name, "`.")] $variant,)+
        }

        impl MessageType {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in routing keys, settings and metrics, as `step.completed`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The CloudEvents `type`, as `dev.glyph.step.completed.v1`.
            pub fn event_type(self) -> &'static str {
                match self { $(Self::$variant => concat!("dev.glyph.", $name, ".v1"),)+ }
            }

            /// The schema of the data, below the folder of schemas.
            pub fn schema_path(self) -> &'static str {
                match self { $(Self::$variant => concat!("messages/", $schema, ".v1.json"),)+ }
            }
        }
    };
}

message_types! {
    StepActivated "step.activated" "step_activated";
    StepCompleted "step.completed" "step_completed";
    StepFailed "step.failed" "step_failed";
    StepSkipped "step.skipped" "step_skipped";
    StepWithdrawn "step.withdrawn" "step_withdrawn";
    TransitionOccurred "transition.occurred" "transition_occurred";
    ConsensusCalculated "consensus.calculated" "consensus_calculated";
    WorkflowStarted "workflow.started" "workflow_started";
    WorkflowCompleted "workflow.completed" "workflow_completed";
    WorkflowFailed "workflow.failed" "workflow_failed";
    WorkflowPaused "workflow.paused" "workflow_paused";
    WorkflowResumed "workflow.resumed" "workflow_resumed";
    WorkflowCancelled "workflow.cancelled" "workflow_cancelled";
    WorkflowMigrated "workflow.migrated" "workflow_migrated";
    TaskAssigned "task.assigned" "task_assigned";
    TaskReleased "task.released" "task_released";
    TaskStalled "task.stalled" "task_stalled";
    JobRequested "job.requested" "job_requested";
    IncidentOpened "incident.opened" "incident_opened";
    IncidentResolved "incident.resolved" "incident_resolved";
    GoalProgressed "goal.progressed" "goal_progressed";
    GoalCompleted "goal.completed" "goal_completed";
    AgreementProgressed "agreement.progressed" "agreement_progressed";
    GoalAlert "goal.alert" "goal_alert";
    AnnotatorFlagged "annotator.flagged" "annotator_flagged";
    CommandRejected "command.rejected" "command_rejected";
}

impl MessageType {
    /// Whether reaching no queue is a fault: a queue for it is part of the topology, or it is work
    /// that somebody has to do.
    pub fn is_mandatory(self) -> bool {
        matches!(
            self,
            Self::StepCompleted | Self::TransitionOccurred | Self::JobRequested
        )
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no kind of message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no message type; they are {}", names(MessageType::ALL))]
pub struct UnknownMessageType {
    /// What was given.
    pub name: String,
}

fn names(kinds: &[MessageType]) -> String {
    kinds
        .iter()
        .map(|kind| kind.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

impl FromStr for MessageType {
    type Err = UnknownMessageType;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_name(name).ok_or_else(|| UnknownMessageType {
            name: name.to_owned(),
        })
    }
}

/// Makes the messages of events and rejections, of those kinds that are to be published.
#[derive(Clone, Debug)]
pub struct CloudEventMessages {
    published: BTreeSet<MessageType>,
}

impl Default for CloudEventMessages {
    fn default() -> Self {
        Self {
            published: MessageType::ALL.iter().copied().collect(),
        }
    }
}

impl CloudEventMessages {
    /// Makes messages of those kinds only whose names `published` accepts.
    pub fn only(published: impl Fn(&str) -> bool) -> Self {
        let kinds = MessageType::ALL.iter().copied();
        Self {
            published: kinds.filter(|kind| published(kind.as_str())).collect(),
        }
    }

    /// The message that a goal has come further; `now` is the time of the projection.
    pub fn goal_progressed(&self, goal: &GoalReport, now: DateTime<Utc>) -> Option<NewOutboxRow> {
        // A count only grows, so it names the progress; what is measured may come to the same
        // again, and is named after the time.
        let cause = match (goal.kind, goal.current) {
            (GoalType::Volume, Some(current)) => format!("progressed/{current}"),
            _ => format!("progressed/at/{}", now.timestamp_micros()),
        };
        let id = goal_message_id(goal, &cause);
        self.for_goal(MessageType::GoalProgressed, id, goal, goal, now)
    }

    /// The message that a goal is reached.
    pub fn goal_completed(&self, goal: &GoalReport, now: DateTime<Utc>) -> Option<NewOutboxRow> {
        let id = goal_message_id(goal, "completed");
        self.for_goal(MessageType::GoalCompleted, id, goal, goal, now)
    }

    /// The message that an alert was raised.
    pub fn goal_alert(
        &self,
        alert: &GoalAlert,
        goal: GoalReport,
        now: DateTime<Utc>,
    ) -> Option<NewOutboxRow> {
        let data = AlertReport {
            alert: alert.name.clone(),
            n: alert.n,
            raised_at: alert.at,
            goal,
        };
        self.for_goal(MessageType::GoalAlert, alert.id(), &data.goal, &data, now)
    }

    fn for_goal<D: Serialize>(
        &self,
        kind: MessageType,
        id: Uuid,
        goal: &GoalReport,
        data: &D,
        now: DateTime<Utc>,
    ) -> Option<NewOutboxRow> {
        let subject = format!("{}/{}", goal.workflow, goal.goal);
        let message = Message {
            kind,
            id,
            workflow: Some(&goal.workflow),
            step: None,
            task: None,
            subject: &subject,
            time: now,
            version: None,
            correlation_id: &id.to_string(),
            causation_id: None,
            traceparent: None,
        };
        self.row(&message, data)
    }

    /// The message that the agreement of a step has moved; `cause` is the event of its newest item.
    pub fn agreement_progressed(
        &self,
        agreement: &AgreementProgress,
        cause: Uuid,
        now: DateTime<Utc>,
    ) -> Option<NewOutboxRow> {
        let (workflow, step) = (&agreement.workflow, &agreement.step_id);
        let subject = match &agreement.field {
            Some(field) => format!("{workflow}/{step}/{field}"),
            None => format!("{workflow}/{step}"),
        };
        let id = format!("agreement/{}/{subject}", agreement.measure.as_str());
        let id = Uuid::new_v5(&cause, id.as_bytes());
        let message = Message {
            kind: MessageType::AgreementProgressed,
            id,
            workflow: Some(workflow),
            step: Some(step),
            task: None,
            subject: &subject,
            time: now,
            version: None,
            correlation_id: &id.to_string(),
            causation_id: None,
            traceparent: None,
        };
        self.row(&message, agreement)
    }

    /// The message that an annotator falls short on gold tasks; `cause` is the event of the answer.
    pub fn annotator_flagged(
        &self,
        flagged: &AnnotatorFlagged,
        cause: Uuid,
    ) -> Option<NewOutboxRow> {
        let id = Uuid::new_v5(&cause, b"annotator.flagged");
        let message = Message {
            kind: MessageType::AnnotatorFlagged,
            id,
            workflow: Some(&flagged.workflow),
            step: None,
            task: None,
            subject: &flagged.user_id.to_string(),
            time: flagged.flagged_at,
            version: None,
            correlation_id: &id.to_string(),
            causation_id: None,
            traceparent: None,
        };
        self.row(&message, flagged)
    }

    fn row<D: Serialize>(&self, message: &Message<'_>, data: &D) -> Option<NewOutboxRow> {
        // A job is no news but work: whoever reads less news still wants it done.
        let is_work = message.kind == MessageType::JobRequested;
        (is_work || self.published.contains(&message.kind)).then(|| NewOutboxRow {
            message_id: message.id,
            task_id: message.task,
            routing_key: message.routing_key(),
            message_type: message.kind.as_str(),
            body: message.body(data).into(),
        })
    }
}

impl MessageBuilder for CloudEventMessages {
    fn for_event(
        &self,
        workflow: &WorkflowRef,
        parent: Option<&ParentTask>,
        event: &StoredEvent,
    ) -> Option<NewOutboxRow> {
        let task_id = event.task_id.to_string();
        let message = |kind| Message {
            kind,
            id: event.event_id,
            workflow: Some(&workflow.workflow),
            step: event.event.step_id(),
            task: Some(event.task_id),
            subject: &task_id,
            time: event.occurred_at,
            version: Some(event.version),
            correlation_id: &event.metadata.correlation_id,
            causation_id: Some(event.metadata.command_id),
            traceparent: event.metadata.traceparent.as_deref(),
        };
        let task = TaskFields::new(workflow, parent, event);
        // `row` is generic over the data, so each arm serializes its own type without a detour.
        macro_rules! row {
            ($kind:ident, $data:expr) => {
                self.row(
                    &message(MessageType::$kind),
                    &InTask {
                        task,
                        detail: $data,
                    },
                )
            };
        }
        match &event.event {
            // Hooks come first: the step is told of when it opens.
            WorkflowEvent::StepActivated(e) if e.opening => None,
            WorkflowEvent::StepActivated(e) => row!(StepActivated, StepActivated::from(e)),
            WorkflowEvent::StepOpened(e) => row!(StepActivated, StepActivated::from(e)),
            WorkflowEvent::StepCompleted {
                step_id,
                visit,
                result,
                ..
            } => {
                row!(
                    StepCompleted,
                    StepCompleted {
                        step_id,
                        visit: *visit,
                        result
                    }
                )
            }
            WorkflowEvent::StepFailed {
                step_id,
                visit,
                error,
            } => {
                row!(
                    StepFailed,
                    StepFailed {
                        step_id,
                        visit: *visit,
                        error
                    }
                )
            }
            WorkflowEvent::StepSkipped {
                step_id,
                visit,
                reason,
            } => {
                row!(
                    StepSkipped,
                    StepEnded {
                        step_id,
                        visit: *visit,
                        reason
                    }
                )
            }
            WorkflowEvent::StepWithdrawn {
                step_id,
                visit,
                reason,
            } => {
                row!(
                    StepWithdrawn,
                    StepEnded {
                        step_id,
                        visit: *visit,
                        reason
                    }
                )
            }
            WorkflowEvent::TransitionOccurred(e) => {
                row!(TransitionOccurred, TransitionOccurred::from(e))
            }
            WorkflowEvent::ConsensusCalculated(e) => {
                row!(ConsensusCalculated, ConsensusCalculated::from(e))
            }
            WorkflowEvent::WorkflowStarted(e) => row!(WorkflowStarted, WorkflowStarted::from(e)),
            WorkflowEvent::WorkflowCompleted { output } => {
                row!(
                    WorkflowCompleted,
                    WorkflowCompleted {
                        output,
                        gold: event.metadata.gold
                    }
                )
            }
            WorkflowEvent::WorkflowFailed { error } => {
                row!(WorkflowFailed, WorkflowFailed { error })
            }
            WorkflowEvent::WorkflowPaused {
                step_id,
                reason,
                until,
                ..
            } => {
                row!(
                    WorkflowPaused,
                    WorkflowHeld {
                        step_id: step_id.as_ref(),
                        reason: reason.as_deref(),
                        until: *until
                    }
                )
            }
            WorkflowEvent::WorkflowResumed { step_id, reason } => {
                row!(
                    WorkflowResumed,
                    WorkflowReleased {
                        step_id: step_id.as_ref(),
                        reason: reason.as_deref()
                    }
                )
            }
            WorkflowEvent::WorkflowCancelled { reason } => {
                row!(
                    WorkflowCancelled,
                    WorkflowReasoned {
                        reason: reason.as_deref()
                    }
                )
            }
            WorkflowEvent::WorkflowMigrated(e) => row!(
                WorkflowMigrated,
                WorkflowMigrated {
                    from_revision: e.from_revision,
                    steps: &e.steps
                }
            ),
            WorkflowEvent::TaskAssigned {
                step_id,
                visit,
                n: _,
                user_id,
                roles,
                expires_at,
                offered: _,
            } => row!(
                TaskAssigned,
                TaskAssigned {
                    step_id,
                    visit: *visit,
                    user_id: *user_id,
                    roles,
                    expires_at: *expires_at
                }
            ),
            WorkflowEvent::TaskReleased {
                step_id,
                visit,
                user_id,
                cause,
                reason,
            } => row!(
                TaskReleased,
                TaskReleased {
                    step_id,
                    visit: *visit,
                    user_id: *user_id,
                    cause: *cause,
                    reason: reason.as_deref()
                }
            ),
            WorkflowEvent::TaskStalled {
                step_id,
                visit,
                user_id,
                action,
            } => row!(
                TaskStalled,
                TaskStalled {
                    step_id,
                    visit: *visit,
                    user_id: *user_id,
                    action: *action
                }
            ),
            WorkflowEvent::IncidentOpened {
                incident_id,
                step_id,
                visit,
                code,
                reason,
                escalated,
            } => row!(
                IncidentOpened,
                IncidentOpened {
                    incident_id: *incident_id,
                    step_id,
                    visit: *visit,
                    code: *code,
                    reason,
                    escalated: *escalated
                }
            ),
            WorkflowEvent::HandlerRequested(e) => {
                JobRequested::of(e).and_then(|job| row!(JobRequested, job))
            }
            WorkflowEvent::IncidentResolved {
                incident_id,
                step_id,
                visit,
                resolution,
            } => row!(
                IncidentResolved,
                IncidentResolved {
                    incident_id: *incident_id,
                    step_id,
                    visit: *visit,
                    resolution
                }
            ),
            // Bookkeeping of the task itself: nobody outside acts on it, and what was submitted
            // is published by what it leads to.
            WorkflowEvent::TaskDetailsSupplied { .. }
            | WorkflowEvent::ActivityRecorded { .. }
            | WorkflowEvent::GoldScored { .. }
            | WorkflowEvent::TimersRearmed { .. }
            | WorkflowEvent::HandlerFailed { .. }
            | WorkflowEvent::HookEnded(_)
            | WorkflowEvent::ResultFound { .. }
            | WorkflowEvent::PlacesAdded { .. }
            | WorkflowEvent::ChildRequested(_)
            | WorkflowEvent::ChildTold { .. }
            | WorkflowEvent::ChildStartFailed { .. }
            | WorkflowEvent::ChildEnded(_)
            | WorkflowEvent::ParentTold {}
            | WorkflowEvent::AnnotationSubmitted { .. } => None,
        }
    }

    fn for_rejection(
        &self,
        workflow: Option<&WorkflowRef>,
        command: &CommandEnvelope,
        rejection: &Rejection,
        now: DateTime<Utc>,
    ) -> Option<NewOutboxRow> {
        let task_id = command.command.task_id();
        let command_id = command.command_id.to_string();
        // A producer may name a step that no workflow could have; it stays out of the routing key.
        let step = command
            .command
            .step_id()
            .and_then(|step| Slug::new(step).ok());
        // Of a task that it would have started, the command says which workflow.
        let named = match command.command.workflow() {
            Some(WorkflowSelector::Latest(id) | WorkflowSelector::Numbered(id, _)) => Some(id),
            Some(WorkflowSelector::Revision(_)) | None => None,
        };
        let of_workflow = workflow.map(|w| &w.workflow).or(named);
        let message = Message {
            kind: MessageType::CommandRejected,
            id: rejection_id(command.command_id),
            workflow: of_workflow,
            step: step.as_ref().filter(|_| of_workflow.is_some()),
            task: Some(task_id),
            subject: &task_id.to_string(),
            time: now,
            version: None,
            correlation_id: command.correlation_id.as_deref().unwrap_or(&command_id),
            causation_id: Some(command.command_id),
            traceparent: command.traceparent.as_deref(),
        };
        let data = CommandRejected {
            task_id,
            workflow_id: workflow.map(|w| w.revision_id),
            workflow: of_workflow,
            revision: workflow.map(|w| w.revision),
            command_id: command.command_id,
            command_type: command.command.type_name(),
            step_id: command.command.step_id(),
            reason: rejection.code,
            detail: &rejection.detail,
        };
        self.row(&message, &data)
    }

    fn for_act(&self, act: &ActEnvelope, now: DateTime<Utc>) -> Option<NewOutboxRow> {
        let workflow = act.act.workflow();
        let (kind, data) = match &act.act {
            // What follows from a goal is told of when it is seen to be reached; a rule that pauses
            // somebody tells of it with the fall.
            Act::GoalComplete { .. } | Act::AnnotatorPause { .. } | Act::AnnotatorResume { .. } => {
                return None;
            }
            Act::WorkflowPause { reason, until, .. } => (
                MessageType::WorkflowPaused,
                WholeWorkflow::paused(workflow, reason.as_deref(), *until),
            ),
            Act::WorkflowArchive { reason, .. } => (
                MessageType::WorkflowPaused,
                WholeWorkflow::archived(workflow, reason.as_deref()),
            ),
            Act::WorkflowResume { reason, .. } | Act::WorkflowRestore { reason, .. } => (
                MessageType::WorkflowResumed,
                WholeWorkflow::resumed(workflow, reason.as_deref()),
            ),
        };
        let command_id = act.command_id.to_string();
        let message = Message {
            kind,
            id: Uuid::new_v5(&act.command_id.0, kind.as_str().as_bytes()),
            workflow: Some(workflow),
            step: None,
            task: None,
            subject: workflow,
            time: now,
            version: None,
            correlation_id: act.correlation_id.as_deref().unwrap_or(&command_id),
            causation_id: Some(act.command_id),
            traceparent: act.traceparent.as_deref(),
        };
        self.row(&message, &data)
    }
}

/// The id of a message about a goal: derived from what caused it.
fn goal_message_id(goal: &GoalReport, cause: &str) -> Uuid {
    let GoalReport {
        workflow,
        goal,
        epoch,
        ..
    } = goal;
    let name = format!("{GOAL_IDS}/{workflow}/{goal}/{epoch}/{cause}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}

/// The id of the message that answers a rejected command: derived, so that a second decision of
/// the same command cannot make a second message.
pub fn rejection_id(command: CommandId) -> Uuid {
    Uuid::new_v5(&command.0, b"command.rejected")
}

/// A message without its data.
struct Message<'a> {
    kind: MessageType,
    id: Uuid,
    workflow: Option<&'a Slug>,
    step: Option<&'a StepId>,
    task: Option<TaskId>,
    subject: &'a str,
    time: DateTime<Utc>,
    version: Option<u64>,
    correlation_id: &'a str,
    causation_id: Option<CommandId>,
    traceparent: Option<&'a str>,
}

impl Message<'_> {
    /// Slugs keep it below the 255 bytes that AMQP allows.
    fn routing_key(&self) -> String {
        let mut key = self.kind.as_str().to_owned();
        for part in [self.workflow, self.step].into_iter().flatten() {
            key.push('.');
            key.push_str(part);
        }
        key
    }

    fn body<D: Serialize>(&self, data: &D) -> String {
        let whole = to_json(&self.envelope(Some(data), None));
        // The data is measured only where it can be too large at all.
        if whole.len() <= DATA_BYTES_MAX || to_json(data).len() <= DATA_BYTES_MAX {
            return whole;
        }
        to_json(&self.envelope::<D>(None, self.data_ref()))
    }

    /// Where the same content is found over HTTP.
    fn data_ref(&self) -> Option<String> {
        let task = self.task?;
        let after = self.version?.saturating_sub(1);
        Some(format!("/api/v1/tasks/{task}/events?after={after}&limit=1"))
    }

    fn envelope<'a, D>(&'a self, data: Option<&'a D>, dataref: Option<String>) -> Envelope<'a, D> {
        Envelope {
            specversion: "1.0",
            id: self.id,
            source: match self.workflow {
                Some(workflow) => format!("/glyph/workflows/{workflow}"),
                None => "/glyph/commands".to_owned(),
            },
            event_type: self.kind.event_type(),
            subject: self.subject,
            time: self.time,
            datacontenttype: "application/json",
            dataschema: format!("{SCHEMA_BASE}/{}", self.kind.schema_path()),
            sequence: self.version.map(|version| format!("{version:020}")),
            partitionkey: self.subject,
            correlationid: self.correlation_id,
            causationid: self.causation_id,
            traceparent: self.traceparent,
            dataref,
            data,
        }
    }
}

/// Plain data with string keys always serializes; were it ever not so, an empty body would be
/// refused by every schema, which is better than a panic inside a transaction.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A CloudEvents 1.0 message in structured JSON.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Message")]
pub struct Envelope<'a, D> {
    /// Always `1.0`.
    specversion: &'a str,
    /// The event's id; the same message delivered twice has the same.
    id: Uuid,
    /// The workflow, as a path.
    source: String,
    /// The kind of message and its version.
    #[serde(rename = "type")]
    event_type: &'a str,
    /// The task, the goal, the workflow, the step whose agreement is told of, or the annotator.
    subject: &'a str,
    /// When it was decided.
    time: DateTime<Utc>,
    /// Always `application/json`.
    datacontenttype: &'a str,
    /// The schema of `data`.
    dataschema: String,
    /// The version of the task that this event brought about, 20 digits; grows within a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<String>,
    /// What belongs together and is published in order.
    partitionkey: &'a str,
    /// What the producer uses to follow a piece of work; the command's id when it gave none.
    correlationid: &'a str,
    /// The command that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<CommandId>,
    /// W3C trace context of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    /// Where `data` is found, when it is too large for a message: a path of the HTTP API.
    #[serde(skip_serializing_if = "Option::is_none")]
    dataref: Option<String>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a D>,
}

/// What the data of every message about a task begins with.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct TaskFields<'a> {
    /// The task.
    task_id: TaskId,
    /// The UUID of the workflow's revision.
    workflow_id: RevisionId,
    /// The workflow.
    workflow: &'a Slug,
    /// The number of the workflow's revision.
    revision: u32,
    /// The version of the task that this event brought about.
    version: u64,
    /// The task whose sub-workflow this task runs; not there for a task of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_task_id: Option<TaskId>,
    /// The task at the top, which is nobody's child; not there for a task of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    root_task_id: Option<TaskId>,
}

impl<'a> TaskFields<'a> {
    fn new(workflow: &'a WorkflowRef, parent: Option<&ParentTask>, event: &StoredEvent) -> Self {
        Self {
            task_id: event.task_id,
            workflow_id: workflow.revision_id,
            workflow: &workflow.workflow,
            revision: workflow.revision,
            version: event.version,
            parent_task_id: parent.map(|parent| parent.task_id),
            root_task_id: parent.map(|parent| parent.root_task_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use glyph_workflow_engine::{
        command::{Command, Rejection, RejectionCode},
        config::GoalConfig,
        events::EventMetadata,
        goals::{GoalDefinition, GoalProgress, GoalTracker},
        store::ProjectionRows,
    };
    use serde_json::{Value, json};

    use super::*;

    const TASK: &str = "0190a6e0-0000-7000-8000-0000000000aa";

    fn workflow() -> WorkflowRef {
        serde_json::from_value(json!({
            "workflow_id": "0190a6e0-0000-7000-8000-0000000000ff",
            "workflow": "sentiment-dual", "revision": 2,
        }))
        .unwrap()
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers write the value in place"
    )]
    fn event(event_type: &str, event_data: Value) -> StoredEvent {
        let event = json!({"event_type": event_type, "event_data": event_data});
        StoredEvent {
            event_id: Uuid::from_u128(1),
            task_id: TASK.parse().unwrap(),
            version: 7,
            occurred_at: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
            metadata: EventMetadata {
                command_id: CommandId(Uuid::from_u128(2)),
                correlation_id: "order-7".to_owned(),
                traceparent: Some(
                    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
                ),
                schema_version: 1,
                gold: false,
            },
            event: serde_json::from_value(event).unwrap(),
        }
    }

    fn completed(value: &Value) -> StoredEvent {
        event(
            "step_completed",
            json!({"step_id": "annotate", "visit": 1, "result": {
                "kind": "consensus", "value": value, "agreement": 1.0,
                "resolved_by": "majority_vote", "annotations": [],
            }}),
        )
    }

    fn body(row: &NewOutboxRow) -> Value {
        serde_json::from_str(&row.body).unwrap()
    }

    #[test]
    fn a_completed_step_looks_as_promised() {
        let event = completed(&json!("positive"));
        let row = CloudEventMessages::default()
            .for_event(&workflow(), None, &event)
            .unwrap();
        assert_eq!(row.message_id, event.event_id);
        assert_eq!(row.task_id, Some(event.task_id));
        assert_eq!(row.message_type, "step.completed");
        assert_eq!(row.routing_key, "step.completed.sentiment-dual.annotate");
        let expected = json!({
            "specversion": "1.0",
            "id": "00000000-0000-0000-0000-000000000001",
            "source": "/glyph/workflows/sentiment-dual",
            "type": "dev.glyph.step.completed.v1",
            "subject": TASK,
            "time": "2026-01-02T03:04:05.678901Z",
            "datacontenttype": "application/json",
            "dataschema": "https://glyph.dev/schemas/messages/step_completed.v1.json",
            "sequence": "00000000000000000007",
            "partitionkey": TASK,
            "correlationid": "order-7",
            "causationid": "00000000-0000-0000-0000-000000000002",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "data": {
                "task_id": TASK,
                "workflow_id": "0190a6e0-0000-7000-8000-0000000000ff",
                "workflow": "sentiment-dual", "revision": 2, "version": 7,
                "step_id": "annotate", "visit": 1,
                "result": {
                    "kind": "consensus", "value": "positive", "agreement": 1.0,
                    "resolved_by": "majority_vote", "annotations": [],
                },
            },
        });
        assert_eq!(body(&row), expected);
    }

    #[test]
    fn a_transition_names_the_step_left() {
        let event = event(
            "transition_occurred",
            json!({"from_step": "annotate", "from_visit": 1, "to_step": "_complete",
                   "condition_met": "on_agreement", "transition": 0}),
        );
        let row = CloudEventMessages::default()
            .for_event(&workflow(), None, &event)
            .unwrap();
        assert_eq!(
            row.routing_key,
            "transition.occurred.sentiment-dual.annotate"
        );
        let data = &body(&row)["data"];
        assert_eq!(data["from_step"], "annotate");
        assert_eq!(data["to_step"], "_complete");
        assert_eq!(data["condition_met"], "on_agreement");
        assert_eq!(data["version"], 7);
    }

    #[test]
    fn a_started_task_does_not_tell_the_known_answer() {
        let started = json!({
            "workflow_id": "0190a6e0-0000-7000-8000-0000000000ff", "workflow": "sentiment-dual",
            "revision": 2, "content_hash": "x", "input": {"text": "t"}, "expected": "secret",
        });
        let event = event("workflow_started", started);
        let row = CloudEventMessages::default()
            .for_event(&workflow(), None, &event)
            .unwrap();
        assert_eq!(row.routing_key, "workflow.started.sentiment-dual");
        assert!(!row.body.contains("secret"));
    }

    #[test]
    fn bookkeeping_and_unwanted_kinds_make_no_message() {
        let resumed = event("workflow_resumed", json!({}));
        let supplied = event("task_details_supplied", json!({}));
        let only = CloudEventMessages::only(|name| name == "step.completed");
        assert!(only.for_event(&workflow(), None, &resumed).is_none());
        assert!(
            only.for_event(&workflow(), None, &completed(&json!(1)))
                .is_some()
        );
        assert!(
            CloudEventMessages::default()
                .for_event(&workflow(), None, &supplied)
                .is_none()
        );
    }

    #[test]
    fn data_over_a_mebibyte_becomes_a_reference() {
        let rest = {
            let row =
                CloudEventMessages::default().for_event(&workflow(), None, &completed(&json!("")));
            body(&row.unwrap())["data"].to_string().len()
        };
        let of_size = |bytes: usize| {
            let event = completed(&json!("x".repeat(bytes - rest)));
            body(
                &CloudEventMessages::default()
                    .for_event(&workflow(), None, &event)
                    .unwrap(),
            )
        };
        assert!(of_size(DATA_BYTES_MAX)["data"].is_object());
        let referenced = of_size(DATA_BYTES_MAX + 1);
        assert!(referenced.get("data").is_none());
        let path = format!("/api/v1/tasks/{TASK}/events?after=6&limit=1");
        assert_eq!(referenced["dataref"], path);
    }

    #[test]
    fn a_rejection_is_named_after_its_command_and_keeps_bad_steps_out_of_the_key() {
        let command = |step: &str| {
            let advance = json!({"task_id": TASK, "step_id": step});
            let advance = serde_json::from_value(advance).unwrap();
            CommandEnvelope::new(CommandId(Uuid::from_u128(9)), Command::Advance(advance))
        };
        let rejection = Rejection {
            code: RejectionCode::UnknownStep,
            detail: "no such step".to_owned(),
        };
        let messages = CloudEventMessages::default();
        let row = |workflow: Option<&WorkflowRef>, step: &str| {
            messages
                .for_rejection(workflow, &command(step), &rejection, Utc::now())
                .unwrap()
        };
        let workflow = workflow();
        let plain = row(Some(&workflow), "annotate");
        assert_eq!(
            plain.routing_key,
            "command.rejected.sentiment-dual.annotate"
        );
        assert_eq!(
            plain.message_id,
            row(Some(&workflow), "annotate").message_id
        );
        assert_eq!(
            row(Some(&workflow), "No Step!").routing_key,
            "command.rejected.sentiment-dual"
        );
        assert_eq!(row(None, "annotate").routing_key, "command.rejected");
        let body = body(&plain);
        assert!(body.get("sequence").is_none());
        assert_eq!(body["correlationid"], body["causationid"]);
        assert_eq!(body["data"]["reason"], "unknown_step");
        assert_eq!(body["data"]["type"], "advance");
    }

    #[test]
    fn a_paused_workflow_is_told_of_once_for_each_act() {
        let act = ActEnvelope::new(
            CommandId(Uuid::from_u128(9)),
            Act::WorkflowPause {
                workflow: Slug::new("w").unwrap(),
                reason: Some("audit".to_owned()),
                until: None,
            },
        );
        let messages = CloudEventMessages::default();
        let row = messages.for_act(&act, Utc::now()).unwrap();
        assert_eq!(row.routing_key, "workflow.paused.w");
        assert_eq!(
            row.message_id,
            messages.for_act(&act, Utc::now()).unwrap().message_id
        );
        let body = body(&row);
        assert!(row.task_id.is_none() && body.get("sequence").is_none());
        assert_eq!(body["subject"], "w");
        assert_eq!(body["data"], json!({"workflow": "w", "reason": "audit"}));
    }

    #[test]
    fn a_goal_is_told_once_for_each_count_and_once_when_reached() {
        let mut config = GoalConfig::new(Slug::new("volume").unwrap(), GoalType::Volume);
        config.target = Some(800.0);
        let definition = GoalDefinition {
            workflow: Slug::new("w").unwrap(),
            revision: 1,
            since: Utc::now(),
            config,
        };
        let mut tracker =
            GoalTracker::resume(ProjectionRows::new(), vec![definition], Vec::new()).unwrap();
        tracker.advance(Utc::now());
        let goals = tracker.finish().unwrap().goals;
        let goal = |count: u64| {
            let goal = GoalProgress {
                count,
                ..goals.values().next().unwrap().clone()
            };
            GoalReport::of(&goal, &goals, Utc::now())
        };
        let messages = CloudEventMessages::default();
        let progressed = |count| messages.goal_progressed(&goal(count), Utc::now()).unwrap();
        assert_eq!(progressed(3).message_id, progressed(3).message_id);
        assert_ne!(progressed(3).message_id, progressed(4).message_id);
        let completed = messages.goal_completed(&goal(800), Utc::now()).unwrap();
        assert_eq!(completed.routing_key, "goal.completed.w");
        assert_eq!(body(&completed)["data"]["target"], 800.0);
        assert!(completed.task_id.is_none() && body(&completed).get("sequence").is_none());
    }
}
