//! A person's request for work, and the slot that the person claims by it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Sender;
use crate::{
    canonical,
    ids::{CommandId, StepId, TaskId, UserId, WorkflowId, WorkflowSelector},
    state::ShownWork,
};

/// A person's request for work.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The idempotency key: sending the same id again returns the same slot.
    pub command_id: CommandId,
    /// Correlation id of the caller, for tracing a piece of work.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The person.
    pub user_id: UserId,
    /// Only tasks of this workflow, or of one revision of it; any workflow if absent.
    pub workflow: Option<WorkflowSelector>,
    /// Only this step; any step if absent.
    pub step: Option<StepId>,
    /// Roles of the person.
    pub roles: Vec<String>,
    /// Skills of the person.
    pub skills: Vec<String>,
    /// Whether to claim a slot even where the person holds one already; else that one is given
    /// back first.
    pub fresh: bool,
    /// Who sends the request.
    pub sender: Sender,
}

impl ClaimRequest {
    /// SHA-256 of the request.
    pub(crate) fn content_hash(&self) -> [u8; 32] {
        let mut content = json!({
            "type": "claim",
            "user_id": self.user_id,
            "workflow": self.workflow.as_ref().map(ToString::to_string),
            "step": self.step,
            "roles": self.roles,
            "skills": self.skills,
        });
        // Left out where it is not set, as absent fields of commands are.
        if self.fresh {
            content["fresh"] = true.into();
        }
        canonical::hash(&content)
    }
}

/// A slot that a person has claimed, with everything needed to begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// The task.
    pub task_id: TaskId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The revision's number.
    pub revision: u32,
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// The person who claimed the slot.
    pub user_id: UserId,
    /// When the slot is released unless there is activity.
    pub expires_at: DateTime<Utc>,
    /// Whether the person held the slot before this request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// What is to be labelled.
    pub input: Option<Value>,
    /// Key-value pairs of the task.
    pub labels: BTreeMap<String, String>,
    /// What the person sees of the work of others.
    #[serde(flatten)]
    pub work: ShownWork,
    /// The output of the step's `pre_process` hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Value>,
    /// The draft that the person left in this visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Value>,
}
