//! Transitions between steps.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{Slug, StepId};

/// One transition out of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransitionConfig {
    /// The step left.
    pub from: StepId,
    /// The step or terminal entered.
    pub to: Target,
    /// When the transition fires; always when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<ConditionConfig>,
    /// Higher priorities are tried first; file order among equals. It chooses nothing where steps
    /// may run side by side, since every match fires there.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: i32,
    /// Marks the transition that closes a cycle, and bounds it.
    #[serde(default, rename = "loop", skip_serializing_if = "Option::is_none")]
    pub loop_bound: Option<LoopConfig>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// Where a transition leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A step.
    Step(StepId),
    /// The end of the task, completed.
    Complete,
    /// The end of the task, failed.
    Failed,
}

impl Target {
    /// The name in YAML: a step id, `_complete` or `_failed`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Step(id) => id,
            Self::Complete => "_complete",
            Self::Failed => "_failed",
        }
    }

    /// The step, where it is one.
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::Step(id) => Some(id),
            Self::Complete | Self::Failed => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "_complete" => Ok(Self::Complete),
            "_failed" => Ok(Self::Failed),
            text => Slug::new(text)
                .map(Self::Step)
                .map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Target {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Target".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(_complete|_failed|[a-z0-9][a-z0-9_-]{0,63})$",
            "description": "The id of a step, or one of the terminals `_complete` and `_failed`."
        })
    }
}

/// When a transition fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionConfig {
    /// The kind of condition.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Source of an `expression`, in the Common Expression Language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// With a threshold, `on_agreement` and `on_disagreement` compare the agreement with it and
    /// ignore whether there is a value; an undefined agreement counts as agreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub threshold: Option<f64>,
}

/// The kinds of condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConditionType {
    /// Whenever the step ends.
    Always,
    /// When the step has completed.
    OnComplete,
    /// When the step has ended with a value.
    OnAgreement,
    /// When the step has ended without a value.
    OnDisagreement,
    /// When an expression is true.
    Expression,
}

impl ConditionType {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnComplete => "on_complete",
            Self::OnAgreement => "on_agreement",
            Self::OnDisagreement => "on_disagreement",
            Self::Expression => "expression",
        }
    }
}

/// Bounds a cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// How often the transition may fire for one task: over all rounds of a loop around it.
    #[schemars(range(min = 1, max = crate::limits::LOOP_ITERATIONS_MAX))]
    pub max_iterations: u32,
    /// Where the task goes once the bound is reached; an incident when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exhausted: Option<Target>,
}
