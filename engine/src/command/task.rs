//! The commands that a task accepts.
//!
//! The structs also define the JSON of the queue and of HTTP; the JSON Schemas are generated from
//! them.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Sender;
use crate::{
    canonical,
    events::OfferBasis,
    ids::{CommandId, StepId, TaskId, UserId, WorkflowSelector},
    state::{ChildOrder, ParentTask, SlotHolder, TaskStatus, WorkflowRef},
    store::Timer,
};

/// A command with its idempotency key and tracing ids.
#[derive(Clone, Debug)]
pub struct CommandEnvelope {
    /// The idempotency key: sending the same id again changes nothing.
    pub command_id: CommandId,
    /// [`Command::content_hash`]; the same id with a different hash is refused.
    pub content_hash: [u8; 32],
    /// Bytes of the content as JSON: what the command weighs in a batch.
    pub content_bytes: usize,
    /// Correlation id of the producer, for tracing a piece of work.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Who sends it.
    pub sender: Sender,
    /// The command.
    pub command: Command,
}

impl CommandEnvelope {
    /// An envelope without correlation or trace, from a sender who may decide everything.
    pub fn new(command_id: impl Into<CommandId>, command: Command) -> Self {
        let content = canonical::bytes(&command.payload());
        Self {
            command_id: command_id.into(),
            content_hash: canonical::hash_of(&content),
            content_bytes: content.len(),
            correlation_id: None,
            traceparent: None,
            sender: Sender::default(),
            command,
        }
    }
}

/// What a task can be asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Bind the task to a workflow and enter it.
    Start(Start),
    /// Accept a person's work.
    Submission(Submission),
    /// End a step that waits for a machine, an operator or enough people.
    Advance(Advance),
    /// Claim a slot.
    Assign(Assign),
    /// Release a slot.
    Release(Release),
    /// Keep a claimed slot, and save a draft.
    Activity(Activity),
    /// Pause the task.
    Pause(Pause),
    /// Resume the task.
    Resume(Control),
    /// End the task.
    Cancel(Control),
    /// Retry the steps that an incident stopped.
    Retry(Control),
    /// Move the task to another revision.
    Migrate(Migrate),
    /// A message between a task and its child tasks; never accepted from producers.
    Child(ChildCommand),
    /// Fire a timer that is due; never accepted from producers.
    FireTimer(FireTimer),
}

/// `start`: bind the task to a workflow and enter it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// The task.
    pub task_id: TaskId,
    /// The workflow.
    pub workflow: WorkflowSelector,
    /// The item to label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Key-value pairs for search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The known answer; makes this a gold task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
}

/// `submission`: a person's work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Submission {
    /// The task.
    pub task_id: TaskId,
    /// The step; may be omitted if exactly one active step takes submissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    /// The person's work.
    pub annotation: AnnotationInput,
    /// Starts the task in this workflow if it has not been started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowSelector>,
}

/// A person's work as a producer sends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotationInput {
    /// Its id; derived from the command if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotation_id: Option<Uuid>,
    /// Who made it.
    pub user_id: UserId,
    /// What was labelled, in any shape.
    #[serde(default)]
    pub data: Value,
    /// A reviewer's decision: `approve`, `reject`, `request_changes` or `fix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// When the person submitted, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<DateTime<Utc>>,
    /// Roles of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// How sure the person is, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: Option<f64>,
}

/// `advance`: end a step that waits for a machine, an operator or enough people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Advance {
    /// The task.
    pub task_id: TaskId,
    /// The step; may be omitted if exactly one active step can take the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    /// The outcome of an external step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// `assign`: claim a slot for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Assign {
    /// The task.
    pub task_id: TaskId,
    /// The step; may be omitted if exactly one active step takes submissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    /// The person.
    pub user_id: UserId,
    /// Roles of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// Why the slot was offered, if the person asked for work; never set by producers.
    #[serde(skip)]
    pub offered: Option<OfferBasis>,
}

/// `release`: give up a claimed slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Release {
    /// The task.
    pub task_id: TaskId,
    /// The step; may be omitted if exactly one active step takes submissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    /// The person who claimed it.
    pub user_id: UserId,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `activity`: keep a claimed slot, and save a draft.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Activity {
    /// The task.
    pub task_id: TaskId,
    /// The step; may be omitted if exactly one active step takes submissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    /// The person who claimed it.
    pub user_id: UserId,
    /// Unfinished work to save.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Value>,
}

/// `pause`: pause the task or one of its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// The task.
    pub task_id: TaskId,
    /// The step to pause; the whole task if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it resumes by itself, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// `resume`, `cancel` and `retry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// The task.
    pub task_id: TaskId,
    /// The step; the whole task if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `migrate`: move the task to another revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Migrate {
    /// The task.
    pub task_id: TaskId,
    /// The revision.
    pub to: WorkflowSelector,
    /// Old step id to new step id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<StepId, StepId>,
}

/// A timer that is due, with the outcome of its effect if it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct FireTimer {
    /// The timer.
    pub row: Timer,
    /// Outcome of the [`Effect`](crate::Effect) that was performed for it outside any transaction;
    /// none if the timer needs only a decision.
    pub outcome: Option<EffectOutcome>,
}

impl FireTimer {
    /// A timer that needs only a decision.
    pub fn alone(row: Timer) -> Self {
        Self { row, outcome: None }
    }
}

/// The outcome of an effect.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectOutcome {
    /// It succeeded.
    Done {
        /// What it returned; null if it returned nothing.
        output: Value,
    },
    /// It failed.
    Failed {
        /// Why, for people.
        error: String,
        /// Whether a retry is useless.
        is_final: bool,
        /// How long the receiver asks to wait before the next attempt.
        retry_after: Option<Duration>,
    },
}

/// Messages between a task and its child tasks. Producers cannot send these: only its parent can
/// start, pause and cancel a child by them, and a parent accepts reports only from a child that it
/// requested.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ChildCommand {
    /// Start as the child of a task.
    Start(ChildStart),
    /// Follow the parent: pause, resume or end.
    Order {
        /// The child.
        task_id: TaskId,
        /// The parent.
        parent_task_id: TaskId,
        /// The order.
        order: ChildOrder,
    },
    /// Report to the parent how a child ended.
    Report(ChildReport),
}

/// Start as the child of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChildStart {
    /// The child.
    pub task_id: TaskId,
    /// The workflow; its newest revision.
    pub workflow: WorkflowSelector,
    /// The item to label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Key-value pairs for search, copied from the parent.
    pub labels: BTreeMap<String, String>,
    /// The people who get a slot in its first step.
    pub holders: Vec<SlotHolder>,
    /// The visit that requests it.
    pub parent: ParentTask,
}

/// Report to the parent how a child ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChildReport {
    /// The parent.
    pub task_id: TaskId,
    /// The child.
    pub child_task_id: TaskId,
    /// How it ended.
    pub status: TaskStatus,
    /// The revision that it ran on.
    pub workflow: WorkflowRef,
    /// Its output, if it completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why it did not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Everyone who submitted to it or to its own children, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<UserId>,
}

impl ChildCommand {
    /// The types of these commands in the inbox and metrics.
    pub const TYPES: [&'static str; 3] = ["child_start", "child_order", "child_report"];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Start(_) => "child_start",
            Self::Order { .. } => "child_order",
            Self::Report(_) => "child_report",
        }
    }

    fn task_id(&self) -> TaskId {
        match self {
            Self::Start(c) => c.task_id,
            Self::Order { task_id, .. } => *task_id,
            Self::Report(c) => c.task_id,
        }
    }

    fn workflow(&self) -> Option<&WorkflowSelector> {
        match self {
            Self::Start(c) => Some(&c.workflow),
            Self::Order { .. } | Self::Report(_) => None,
        }
    }
}

impl Command {
    /// The types that producers may send.
    pub const TYPES: [&'static str; 11] = [
        "start",
        "submission",
        "advance",
        "assign",
        "release",
        "activity",
        "pause",
        "resume",
        "cancel",
        "retry",
        "migrate",
    ];

    /// The type in JSON, routing keys, the inbox and metrics.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Submission(_) => "submission",
            Self::Advance(_) => "advance",
            Self::Assign(_) => "assign",
            Self::Release(_) => "release",
            Self::Activity(_) => "activity",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Cancel(_) => "cancel",
            Self::Retry(_) => "retry",
            Self::Migrate(_) => "migrate",
            Self::Child(c) => c.type_name(),
            Self::FireTimer(_) => "due",
        }
    }

    /// The task.
    pub fn task_id(&self) -> TaskId {
        match self {
            Self::Start(c) => c.task_id,
            Self::Submission(c) => c.task_id,
            Self::Advance(c) => c.task_id,
            Self::Assign(c) => c.task_id,
            Self::Release(c) => c.task_id,
            Self::Activity(c) => c.task_id,
            Self::Pause(c) => c.task_id,
            Self::Resume(c) | Self::Cancel(c) | Self::Retry(c) => c.task_id,
            Self::Migrate(c) => c.task_id,
            Self::Child(c) => c.task_id(),
            Self::FireTimer(c) => c.row.task_id,
        }
    }

    /// The step that it names.
    pub fn step_id(&self) -> Option<&str> {
        match self {
            Self::Start(_) | Self::Migrate(_) | Self::Child(_) => None,
            Self::Submission(c) => c.step_id.as_deref(),
            Self::Advance(c) => c.step_id.as_deref(),
            Self::Assign(c) => c.step_id.as_deref(),
            Self::Release(c) => c.step_id.as_deref(),
            Self::Activity(c) => c.step_id.as_deref(),
            Self::Pause(c) => c.step_id.as_deref(),
            Self::Resume(c) | Self::Cancel(c) | Self::Retry(c) => c.step_id.as_deref(),
            Self::FireTimer(c) => c.row.step_id.as_deref(),
        }
    }

    /// The workflow that it names.
    pub fn workflow(&self) -> Option<&WorkflowSelector> {
        match self {
            Self::Start(c) => Some(&c.workflow),
            Self::Submission(c) => c.workflow.as_ref(),
            Self::Migrate(c) => Some(&c.to),
            Self::Child(c) => c.workflow(),
            Self::Advance(_)
            | Self::Assign(_)
            | Self::Release(_)
            | Self::Activity(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Cancel(_)
            | Self::Retry(_)
            | Self::FireTimer(_) => None,
        }
    }

    /// The known fields as JSON, with `type`. This is hashed, and stored for a rejected command.
    /// Absent and null fields are omitted; keys are sorted. The payload of a timer is the row
    /// without its outcome: two processes that fire the same row with different outcomes send
    /// duplicates of each other.
    pub fn payload(&self) -> Value {
        let body = match self {
            Self::Start(c) => serde_json::to_value(c),
            Self::Submission(c) => serde_json::to_value(c),
            Self::Advance(c) => serde_json::to_value(c),
            Self::Assign(c) => serde_json::to_value(c),
            Self::Release(c) => serde_json::to_value(c),
            Self::Activity(c) => serde_json::to_value(c),
            Self::Pause(c) => serde_json::to_value(c),
            Self::Resume(c) | Self::Cancel(c) | Self::Retry(c) => serde_json::to_value(c),
            Self::Migrate(c) => serde_json::to_value(c),
            Self::Child(c) => serde_json::to_value(c),
            Self::FireTimer(c) => serde_json::to_value(&c.row),
        };
        // Plain data with string keys always serializes.
        let mut body = body.unwrap_or_default();
        if let Value::Object(fields) = &mut body {
            fields.insert("type".to_owned(), self.type_name().into());
        }
        body
    }

    /// SHA-256 of [`Command::payload`] in canonical JSON.
    pub fn content_hash(&self) -> [u8; 32] {
        canonical::hash(&self.payload())
    }
}
