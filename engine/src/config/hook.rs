//! Handlers called around the work of a step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigDuration, ExternalHandler};

/// Handlers called around the work of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Called in order, before people or the step's own handler see the step; the last output is
    /// kept with the visit as `prepared`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = crate::limits::HOOKS_MAX))]
    pub pre_process: Vec<Hook>,
    /// Notified that the step is open for work. The step does not wait for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = crate::limits::HOOKS_MAX))]
    pub on_start: Vec<Hook>,
    /// Called in order, after the work and before the result is final; each output replaces the
    /// value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = crate::limits::HOOKS_MAX))]
    pub post_process: Vec<Hook>,
    /// Notified that the step has completed. The task does not wait for them.
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
    /// How long a job (`queue`) may go unanswered before it is published again; when left out, it
    /// is never published again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ConfigDuration>,
}

impl Hook {
    /// The external handler, if the hook calls one.
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
    /// When the step has opened.
    OnStart,
    /// Before the step's result is final.
    PostProcess,
    /// When the step has completed.
    OnComplete,
}

impl HookStage {
    /// All stages, in the order in which they happen.
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

    /// Whether the step waits for the hook's output. The other stages only notify.
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
    /// The stage at which the hook is called.
    pub stage: HookStage,
    /// The index in the stage's list, from 0.
    pub index: u32,
}

impl std::fmt::Display for HookId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.stage, self.index)
    }
}
