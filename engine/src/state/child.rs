//! What a task knows of the tasks that its `sub_workflow` steps run, and of its own parent.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{TaskStatus, WorkflowRef};
use crate::ids::{StepId, TaskId, UserId, WorkflowId};

/// The task that runs the sub-workflow of one visit.
///
/// What the child is to do follows from the parent (run, pause with it, be cancelled once the visit
/// is over), and travels as orders, one at a time. An order that was once asked for is carried to
/// its end before the next one, even if it has become needless meanwhile: whether it is already on
/// its way cannot be known, and the child must never be left with a stale order as its last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildTask {
    /// The child; see [`TaskId::child`].
    pub task_id: TaskId,
    /// The workflow that it runs; which revision is decided when it starts.
    pub workflow: WorkflowId,
    /// Which child of the visit it is, from 1: a `retry` asks for another one.
    pub n: u32,
    /// What it is to label; kept until it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Its labels; kept until it has started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who gets a slot in its first step; kept until it has started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<SlotHolder>,
    /// How deep its own children may lie at most, counted from the root.
    pub depth_max: u32,
    /// What the producer uses to follow a piece of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// What it was told last; none until it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "told")]
    pub notified: Option<ChildOrder>,
    /// What it is to be told now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<PendingOrder>,
    /// Orders of the visit so far; numbers the next.
    #[serde(default)]
    pub orders: u32,
    /// What it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ChildOutcome>,
}

impl ChildTask {
    /// In a few words, for people: which task it is, and where it stands as far as is known here.
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

/// What a parent tells its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChildOrder {
    /// Begin.
    Start,
    /// Wait, since the parent is paused.
    Pause,
    /// Go on, since the parent does.
    Resume,
    /// End: nobody waits for the outcome any more.
    Cancel,
}

/// An order on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PendingOrder {
    /// What the child is told.
    pub order: ChildOrder,
    /// Number of the order within the visit, from 1.
    pub n: u32,
    /// When it is due.
    pub due_at: DateTime<Utc>,
    /// Attempts that have failed.
    #[serde(default)]
    pub failures: u32,
}

/// Somebody who gets a slot in the child's first step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotHolder {
    /// Who.
    pub user_id: UserId,
    /// Roles that the person named in the parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// What a child ended with, as its parent keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildOutcome {
    /// How it ended: `completed`, `failed` (also where it could not start) or `cancelled`.
    pub status: TaskStatus,
    /// The revision that it ran on; none where it could not start.
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
}

/// The visit whose sub-workflow a task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParentTask {
    /// The parent.
    pub task_id: TaskId,
    /// Its step, as it was called when the child was asked for.
    pub step_id: StepId,
    /// The visit of that step.
    pub visit: u32,
    /// The task at the top, which is nobody's child.
    pub root_task_id: TaskId,
    /// What the producer of the parent uses to follow a piece of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// How deep this task lies below the root; its children lie one deeper.
    pub depth: u32,
    /// How deep its children may lie at most: the smallest bound from the root down.
    pub depth_max: u32,
}
