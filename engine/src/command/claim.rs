//! What a person who wants work asks for, and the slot that the person gets.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    canonical,
    ids::{CommandId, StepId, TaskId, UserId, WorkflowId, WorkflowSelector},
};

/// Who asks for work, and for what work.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The idempotency key: the same id again gets the same slot.
    pub command_id: CommandId,
    /// What the caller uses to follow a piece of work.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Who.
    pub user_id: UserId,
    /// Tasks of this workflow, or of one revision of it; of any where there is none.
    pub workflow: Option<WorkflowSelector>,
    /// This step; any where there is none.
    pub step: Option<StepId>,
    /// Roles of the person.
    pub roles: Vec<String>,
    /// Skills of the person.
    pub skills: Vec<String>,
}

impl ClaimRequest {
    /// SHA-256 of what is asked for.
    pub(crate) fn content_hash(&self) -> [u8; 32] {
        canonical::hash(&json!({
            "type": "claim",
            "user_id": self.user_id,
            "workflow": self.workflow.as_ref().map(ToString::to_string),
            "step": self.step,
            "roles": self.roles,
            "skills": self.skills,
        }))
    }
}

/// A slot that a person has claimed, with what is needed to begin.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
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
    /// Who holds the slot.
    pub user_id: UserId,
    /// When the slot is given up without activity.
    pub expires_at: DateTime<Utc>,
    /// What is to be labelled.
    pub input: Option<Value>,
    /// Key-value pairs of the task.
    pub labels: BTreeMap<String, String>,
    /// The annotations that a review or adjudication judges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub judged: Vec<ShownAnnotation>,
    /// Unfinished work that the person left in this visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Value>,
}

/// An annotation that is to be judged, without who made it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ShownAnnotation {
    /// Its id.
    pub annotation_id: Uuid,
    /// What was labelled.
    pub data: Value,
}
