//! Drafts: unfinished work.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{StepId, TaskId, UserId};

/// Unfinished work of a person, stored outside the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The task.
    pub task_id: TaskId,
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// The person.
    pub user_id: UserId,
    /// The unfinished work.
    pub draft: Value,
    /// When it was saved.
    pub saved_at: DateTime<Utc>,
}
