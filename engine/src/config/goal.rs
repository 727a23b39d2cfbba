//! Goals: when enough is enough.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigDuration, WebhookConfig};
use crate::ids::{Slug, StepId};

/// One goal of a workflow; it spans the workflow's revisions.
///
/// [`GoalType::keys`] lists the keys allowed for each type. Changing a key that defines when the
/// goal is reached opens a new epoch of the goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoalConfig {
    /// The name in listings and metrics.
    pub id: Slug,
    /// The kind of goal.
    #[serde(rename = "type")]
    pub kind: GoalType,
    /// A description for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The target: a count (`volume`, `deadline`) or a ratio from 0 to 1 (`quality`), at which the
    /// lower end of the interval must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub target: Option<f64>,
    /// What is counted; `tasks` when left out. Gold tasks never count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<VolumeUnit>,
    /// The step whose annotations count (`unit: annotations`) or are measured (`quality`); all
    /// steps when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// With `unit: annotations`: a person's submissions to one step of a task count once, however
    /// often a loop repeats the step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedupe: bool,
    /// What a `quality` goal measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<QualityMetric>,
    /// How far back a `quality` or `duration` goal looks; `7d` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<ConfigDuration>,
    /// Measurements that the window must contain before the goal is evaluated; 20 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_samples: Option<u32>,
    /// The confidence with which a `quality` goal is reached: the lower end of this interval must be
    /// at the target. 0.95 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.5, max = 0.999))]
    pub confidence: Option<f64>,
    /// How long the target must be met without a break (`quality`, `duration`); when left out,
    /// meeting it once is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sustain: Option<ConfigDuration>,
    /// How long a task may take from its start to its completion (`duration`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<ConfigDuration>,
    /// Which percentile of the durations must be within `within` (nearest rank); the mean when left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percentile: Option<u32>,
    /// When the goal must be reached (`deadline`), RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<chrono::DateTime<chrono::Utc>>,
    /// Whether all or any of `goals` must be reached (`composite`); `and` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<GoalOperator>,
    /// Other goals of the workflow that must be reached (`composite`, `deadline`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub goals: Vec<Slug>,
    /// Whether an operator may complete a `composite` goal by hand before its goals are reached.
    #[serde(
        default,
        rename = "override",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub allow_override: bool,
    /// Roles, of which a person needs at least one to complete the goal by hand; anyone may when
    /// left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_roles: Vec<String>,
    /// Items that a person must confirm, one by one, to complete the goal by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checklist: Vec<String>,
    /// Whether a person must give a reason to complete the goal by hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_reason: bool,
    /// When to send alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertsConfig>,
    /// What happens, once, when the goal is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_complete: Vec<CompletionActionConfig>,
}

impl GoalConfig {
    /// A goal with this id and kind; all other keys are left out.
    pub fn new(id: Slug, kind: GoalType) -> Self {
        Self {
            id,
            kind,
            description: None,
            target: None,
            unit: None,
            step: None,
            dedupe: false,
            metric: None,
            window: None,
            min_samples: None,
            confidence: None,
            sustain: None,
            within: None,
            percentile: None,
            deadline: None,
            operator: None,
            goals: Vec::new(),
            allow_override: false,
            required_roles: Vec::new(),
            checklist: Vec::new(),
            require_reason: false,
            alerts: None,
            on_complete: Vec::new(),
        }
    }

    /// Whether a person can complete the goal.
    pub fn is_by_hand(&self) -> bool {
        self.kind == GoalType::Manual || self.allow_override
    }
}

/// The kinds of goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoalType {
    /// A number of completed tasks or accepted annotations.
    Volume,
    /// Agreement, accuracy or approval over a rolling window.
    Quality,
    /// A point in time by which other goals, or a volume of its own, must be reached.
    Deadline,
    /// How long tasks take, over a rolling window.
    Duration,
    /// Several goals together.
    Composite,
    /// Completed by a person.
    Manual,
}

impl GoalType {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Volume,
        Self::Quality,
        Self::Deadline,
        Self::Duration,
        Self::Composite,
        Self::Manual,
    ];

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

    /// The keys allowed for the type, besides `id`, `type`, `description` and `on_complete`.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Volume => &["target", "unit", "step", "dedupe", "alerts"],
            Self::Quality => &[
                "target",
                "metric",
                "step",
                "window",
                "min_samples",
                "confidence",
                "sustain",
                "alerts",
            ],
            Self::Deadline => &[
                "deadline", "goals", "target", "unit", "step", "dedupe", "alerts",
            ],
            Self::Duration => &[
                "within",
                "percentile",
                "window",
                "min_samples",
                "sustain",
                "alerts",
            ],
            Self::Composite => &[
                "operator",
                "goals",
                "override",
                "required_roles",
                "checklist",
                "require_reason",
                "alerts",
            ],
            Self::Manual => &["required_roles", "checklist", "require_reason"],
        }
    }

    /// The alerts allowed for the type.
    pub fn alerts(self) -> &'static [&'static str] {
        match self {
            Self::Volume | Self::Composite => &["progress"],
            Self::Quality => &["below"],
            Self::Deadline => &["progress", "late"],
            Self::Duration => &["above"],
            Self::Manual => &[],
        }
    }
}

/// The unit that a volume counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VolumeUnit {
    /// Tasks that have completed.
    #[default]
    Tasks,
    /// Annotations that were accepted.
    Annotations,
}

impl VolumeUnit {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Annotations => "annotations",
        }
    }
}

/// What a quality goal measures over its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QualityMetric {
    /// Agreement of the steps with a consensus rule: by their metric, pooled over the first comparison
    /// of each visit.
    Agreement,
    /// Share of the answers to gold tasks that equal the known answer.
    GoldAccuracy,
    /// Share of reviews that approved the subject unchanged.
    ApprovalRate,
}

impl QualityMetric {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agreement => "agreement",
            Self::GoldAccuracy => "gold_accuracy",
            Self::ApprovalRate => "approval_rate",
        }
    }
}

/// How the goals of a composite are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoalOperator {
    /// All must be reached.
    #[default]
    And,
    /// One is enough.
    Or,
}

/// When to send a `goal.alert` message; each alert is sent once for each epoch of the goal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertsConfig {
    /// Shares of the target that are reported when they are reached, for example `[0.5, 0.9]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub progress: Vec<f64>,
    /// The ratio below which an alert is sent; sent again only after quality was back at the
    /// target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub below: Option<f64>,
    /// The duration above which an alert is sent; sent again only after it was back within the
    /// bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<ConfigDuration>,
    /// Whether an alert is sent when, at the present rate, the deadline will be missed; sent again
    /// only after the deadline was within reach.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

/// What happens when a goal is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompletionActionConfig {
    /// A `goal.completed` message.
    Notify,
    /// The workflow is paused until an operator resumes it.
    Pause,
    /// The workflow is archived until an operator restores it: its tasks are paused as by `pause`,
    /// and it is left out of lists.
    Archive,
    /// A webhook is called, signed, and retried until it has answered.
    TriggerWebhook(WebhookConfig),
}

impl CompletionActionConfig {
    /// The name in YAML.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Pause => "pause",
            Self::Archive => "archive",
            Self::TriggerWebhook(_) => "trigger_webhook",
        }
    }
}
