//! A person's statement that a goal is reached.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CommandId, Slug, UserId, WorkflowId};

/// A person's statement that a goal is reached, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoalCompletion {
    /// The command that recorded it.
    pub command_id: CommandId,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal.
    pub goal: Slug,
    /// The statement.
    #[serde(flatten)]
    pub statement: GoalStatement,
}

/// The statement with which a person completes a goal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoalStatement {
    /// The person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Roles of the person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Checklist items that the person confirms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checklist: Vec<String>,
}
