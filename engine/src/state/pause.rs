//! Pauses: of a task, of a step, of a whole workflow.

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CommandId, WorkflowId};

/// A pause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub since: DateTime<Utc>,
    /// Whether the task is paused only because its parent is, and resumes with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_parent: bool,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// A pause of a whole workflow, derived from operator commands. Pauses of one workflow do not
/// overlap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowPause {
    /// The operator command that began it.
    pub pause_id: CommandId,
    /// The workflow, in all its revisions.
    pub workflow: WorkflowId,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub since: DateTime<Utc>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Whether the workflow is archived: paused until it is restored, and left out of lists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
    /// When it ended, once that has been recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
}

impl WorkflowPause {
    /// The workflow's condition during the pause, in a word.
    pub fn word(&self) -> &'static str {
        if self.archived { "archived" } else { "paused" }
    }

    /// Whether the workflow is paused at `now`. The pause ends at its `until` by the clock, whether
    /// or not the end has been recorded.
    pub fn applies_at(&self, now: DateTime<Utc>) -> bool {
        self.since <= now && self.end().is_none_or(|end| now < end)
    }

    /// How much of the time from `from` to `to` it covers.
    pub fn covers(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> TimeDelta {
        let end = self.end().map_or(to, |end| end.min(to));
        (end - self.since.max(from)).max(TimeDelta::zero())
    }

    fn end(&self) -> Option<DateTime<Utc>> {
        match (self.until, self.ended_at) {
            (Some(until), Some(ended)) => Some(until.min(ended)),
            (until, ended) => until.or(ended),
        }
    }
}
