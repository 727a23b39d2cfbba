//! Status and revision of a task.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{RevisionId, WorkflowId};

/// The revision of a workflow that a task runs on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowRef {
    /// The revision's UUID.
    #[serde(rename = "workflow_id")]
    pub revision_id: RevisionId,
    /// The workflow's id.
    pub workflow: WorkflowId,
    /// The revision's number, from 1.
    pub revision: u32,
}

/// Status of a task.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// It is at work, or waits for people, handlers or timers.
    Running,
    /// An operator or rule has paused it.
    Paused,
    /// It ended with an output.
    Completed,
    /// It failed without an output.
    Failed,
    /// An operator ended it.
    Cancelled,
    /// It has ended, and most of its history is in an archive.
    Archived,
}

impl TaskStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::Running,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Archived,
    ];

    /// The name in tables, messages and queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Archived => "archived",
        }
    }

    /// The status with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether the task has ended.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Archived
        )
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
