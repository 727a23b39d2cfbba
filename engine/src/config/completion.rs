//! When a step is done.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigDuration;

/// When a step is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// The rule.
    #[serde(rename = "type")]
    pub kind: CompletionType,
    /// Submissions that complete the step (`annotation_count`); 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = crate::limits::ANNOTATORS_MAX))]
    pub count: Option<u32>,
    /// Whether every submission must come from a different person; true when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_annotators: Option<bool>,
    /// Submissions with which the step may be closed early; `count` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = crate::limits::ANNOTATORS_MAX))]
    pub min_required: Option<u32>,
    /// Posterior probability at which the answer is sure (`confidence`), above 0 and below 1; 0.95
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub target: Option<f64>,
    /// Targets of single answers (`confidence`), by the answer as text; `target` for the others. A
    /// high target for a rare answer, or a low one, says how bad it is to be wrong about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = crate::limits::ANSWER_VALUES_MAX))]
    pub targets: Option<BTreeMap<String, f64>>,
    /// Minimum number of submissions (`confidence`); 2 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = crate::limits::ANNOTATORS_MAX))]
    pub min: Option<u32>,
    /// Maximum number of submissions asked for (`confidence`); 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = crate::limits::ANNOTATORS_MAX))]
    pub max: Option<u32>,
    /// All possible answers (`confidence`); when left out, the answers seen so far and one unseen.
    /// Short for `answer.values`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<serde_json::Value>>,
    /// How the step ends when `max` people leave the answer below the target (`confidence`); `best`
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unsure: Option<OnUnsure>,
    /// Inactivity after which a claimed slot is freed; `settings.default_timeout` when left out.
    /// For a step with the handler `queue`: how long a job may go unanswered before it is published
    /// again; when left out, it is never published again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ConfigDuration>,
    /// What happens to a claimed slot whose claimant is inactive; `requeue` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_action: Option<TimeoutAction>,
}

/// The rules of completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompletionType {
    /// A number of submissions.
    AnnotationCount,
    /// The posterior of the best answer.
    Confidence,
    /// One decision of a reviewer or adjudicator.
    ReviewDecision,
    /// When the handler is done.
    Auto,
    /// An `advance` command.
    Manual,
}

impl CompletionType {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnnotationCount => "annotation_count",
            Self::Confidence => "confidence",
            Self::ReviewDecision => "review_decision",
            Self::Auto => "auto",
            Self::Manual => "manual",
        }
    }

    /// Keys allowed with the rule, besides `type`.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::AnnotationCount => &[
                "count",
                "unique_annotators",
                "min_required",
                "timeout",
                "timeout_action",
            ],
            Self::Confidence => &[
                "target",
                "targets",
                "min",
                "max",
                "classes",
                "on_unsure",
                "unique_annotators",
                "timeout",
                "timeout_action",
            ],
            Self::ReviewDecision => &["timeout", "timeout_action"],
            Self::Manual => &["unique_annotators", "timeout", "timeout_action"],
            Self::Auto => &[],
        }
    }
}

/// How a step that completes by confidence ends below its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnsure {
    /// With the most probable answer, and `reached: false`. A tie has no value.
    #[default]
    Best,
    /// Without a value, as on a disagreement.
    Disagreement,
}

/// What happens to a claimed slot whose claimant is inactive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeoutAction {
    /// The slot is free again, for anyone.
    #[default]
    Requeue,
    /// The slot is free again, for anyone but its former claimant, who takes no further part in the
    /// visit.
    Reassign,
    /// The step completes with the submissions it has, once there are `min_required` of them. The
    /// time also runs from the last submission, claimed or not.
    Proceed,
    /// The slot is free again and an incident is opened.
    Escalate,
    /// The step fails, and the task with it.
    Fail,
}
