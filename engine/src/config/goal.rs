//! Goals: when enough is enough.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigDuration;
use crate::ids::Slug;

/// One goal of a workflow; it spans the workflow's revisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoalConfig {
    /// What listings and metrics name.
    pub id: Slug,
    /// The kind of goal.
    #[serde(rename = "type")]
    pub kind: GoalType,
    /// What people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What is to be reached: a count (`volume`), a ratio (`quality`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub target: Option<f64>,
    /// What a `volume` goal counts: `tasks` or `annotations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// When it must be reached (`deadline`), RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<chrono::DateTime<chrono::Utc>>,
    /// How long it may take (`duration`), or the rolling window (`quality`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<ConfigDuration>,
    /// What happens, once, when the goal is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_complete: Vec<CompletionActionConfig>,
}

/// The kinds of goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoalType {
    /// A number of completed tasks or accepted annotations.
    Volume,
    /// Agreement over a window.
    Quality,
    /// A point in time.
    Deadline,
    /// A span of time.
    Duration,
    /// Several goals together.
    Composite,
    /// A person says so.
    Manual,
}

impl GoalType {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Quality => "quality",
            Self::Deadline => "deadline",
            Self::Duration => "duration",
            Self::Composite => "composite",
            Self::Manual => "manual",
        }
    }
}

/// What happens when a goal is reached.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CompletionActionConfig {
    /// A `goal.completed` message.
    Notify,
    /// The workflow is paused.
    Pause,
    /// A webhook is called.
    TriggerWebhook,
    /// The workflow is archived.
    Archive,
}

impl CompletionActionConfig {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Pause => "pause",
            Self::TriggerWebhook => "trigger_webhook",
            Self::Archive => "archive",
        }
    }
}
