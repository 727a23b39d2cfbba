//! Unfinished work.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::ids::{StepId, TaskId, UserId};

/// Unfinished work that a person left, kept apart from the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Draft {
    /// The task.
    pub task_id: TaskId,
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// Who.
    pub user_id: UserId,
    /// What.
    pub draft: Value,
    /// When.
    pub saved_at: DateTime<Utc>,
}
