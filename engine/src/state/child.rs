//! A task's record of the child tasks of its `sub_workflow` steps, and of its own parent.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{TaskStatus, WorkflowRef};
use crate::ids::{StepId, TaskId, UserId, WorkflowId};

/// The task that runs the sub-workflow of one visit.
///
/// The child follows its parent (runs, pauses with it, is cancelled once the visit has ended) by
/// orders, one at a time. An order is completed before the next one begins, even if it is no
/// longer needed: it may already be on its way, and the last order that reaches the child must
/// never be a stale one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildTask {
    /// The child; see [`TaskId::child`].
    pub task_id: TaskId,
    /// The workflow that it runs; the revision is chosen when it starts.
    pub workflow: WorkflowId,
    /// Number of the child within the visit, from 1: a `retry` requests another one.
    pub n: u32,
    /// The item to label; kept until it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Its labels; kept until it has started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The people who get a slot in its first step; kept until it has started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<SlotHolder>,
    /// Greatest depth allowed for its own children, counted from the root.
    pub depth_max: u32,
    /// Correlation id of the producer, for tracing a piece of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The last order that it received; none until it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "told")]
    pub notified: Option<ChildOrder>,
    /// The order that is on its way to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<PendingOrder>,
    /// Orders of the visit so far; numbers the next one.
    #[serde(default)]
    pub orders: u32,
    /// What it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ChildOutcome>,
}

impl ChildTask {
    /// A short description for people: the task, and its status as far as the parent knows.
    pub fn describe(&self) -> String {
        let known = match (&self.outcome, self.notified) {
            (Some(outcome), _) => return format!("child task {} {}", self.task_id, outcome.status),
            (None, None) => "is about to start",
            (None, Some(ChildOrder::Start | ChildOrder::Resume)) => "runs",
            (None, Some(ChildOrder::Pause)) => "is paused with this one",
            (None, Some(ChildOrder::Cancel)) => "is being cancelled",
        };
        format!("child task {} {known} `{}`", self.task_id, self.workflow)
    }
}

/// An order from a parent to its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChildOrder {
    /// Start.
    Start,
    /// Pause, because the parent is paused.
    Pause,
    /// Resume, because the parent has resumed.
    Resume,
    /// End, because the parent no longer waits for the outcome.
    Cancel,
}

/// An order on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PendingOrder {
    /// The order.
    pub order: ChildOrder,
    /// Number of the order within the visit, from 1.
    pub n: u32,
    /// When it is due.
    pub due_at: DateTime<Utc>,
    /// Attempts that have failed.
    #[serde(default)]
    pub failures: u32,
}

/// A person who gets a slot in the child's first step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotHolder {
    /// The person.
    pub user_id: UserId,
    /// Roles that the person named in the parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// How a child ended, as stored by its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildOutcome {
    /// How it ended: `completed`, `failed` (also where it could not start) or `cancelled`.
    pub status: TaskStatus,
    /// The revision that it ran on; none if it could not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowRef>,
    /// The `result` of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// The `agreement` of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Everyone who submitted to it or to its own children, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<UserId>,
}

/// The visit whose sub-workflow a task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParentTask {
    /// The parent.
    pub task_id: TaskId,
    /// Its step, by the id at the time of the request.
    pub step_id: StepId,
    /// The visit of that step.
    pub visit: u32,
    /// The task at the top, which has no parent.
    pub root_task_id: TaskId,
    /// Correlation id of the parent's producer, for tracing a piece of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Depth of this task below the root; its children are one deeper.
    pub depth: u32,
    /// Greatest depth allowed for its children: the smallest bound from the root down.
    pub depth_max: u32,
}
