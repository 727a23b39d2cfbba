//! Handlers called around the work of a step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigDuration, ExternalHandler};

/// Handlers called around the work of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// In order, before people or the step's own handler see the step; what the last of them
    /// answers is kept with the visit as `prepared`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = crate::limits::HOOKS_MAX))]
    pub pre_process: Vec<Hook>,
    /// Told that the step is open for work. Nothing waits for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = crate::limits::HOOKS_MAX))]
    pub on_start: Vec<Hook>,
    /// In order, after the work and before the result is final; what one answers replaces the
    /// value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = crate::limits::HOOKS_MAX))]
    pub post_process: Vec<Hook>,
    /// Told that the step has completed. Nothing waits for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = crate::limits::HOOKS_MAX))]
    pub on_complete: Vec<Hook>,
}

/// One call of a hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The handler.
    pub handler: String,
    /// The handler's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
    /// How long a job (`queue`) may go unanswered before it is published again; as long as it likes
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ConfigDuration>,
}

impl Hook {
    /// The handler outside that is called, where it is one.
    pub fn external_handler(&self) -> Option<ExternalHandler> {
        ExternalHandler::from_name(&self.handler)
    }
}

/// When a hook is called.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HookStage {
    /// Before the step opens.
    PreProcess,
    /// When it has opened.
    OnStart,
    /// Before its result is final.
    PostProcess,
    /// When it has completed.
    OnComplete,
}

impl HookStage {
    /// Every one, in the order in which they come.
    pub const ALL: [Self; 4] = [
        Self::PreProcess,
        Self::OnStart,
        Self::PostProcess,
        Self::OnComplete,
    ];

    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreProcess => "pre_process",
            Self::OnStart => "on_start",
            Self::PostProcess => "post_process",
            Self::OnComplete => "on_complete",
        }
    }

    /// Whether the step waits for what the hook answers. The others only tell somebody.
    pub fn blocks_step(self) -> bool {
        matches!(self, Self::PreProcess | Self::PostProcess)
    }
}

impl std::fmt::Display for HookStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One hook of a step.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct HookId {
    /// When it is called.
    pub stage: HookStage,
    /// Its place in the list, from 0.
    pub index: u32,
}

impl std::fmt::Display for HookId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.stage, self.index)
    }
}
