//! The built-in handlers, and the settings of the external ones.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigDuration;

/// Handlers that every engine has.
pub const BUILT_IN_HANDLERS: [&str; 5] = [
    InternalHandler::ConsensusCalculator.as_str(),
    InternalHandler::ResultMerger.as_str(),
    InternalHandler::Finalize.as_str(),
    ExternalHandler::Webhook.as_str(),
    ExternalHandler::Queue.as_str(),
];

/// Built-in handlers that run inside the decision. A program may replace them with its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternalHandler {
    /// Annotations of a step are compared.
    ConsensusCalculator,
    /// The values of several steps become one object.
    ResultMerger,
    /// The last value, or parts of it, is passed on.
    Finalize,
}

impl InternalHandler {
    /// All handlers.
    pub const ALL: [Self; 3] = [
        Self::ConsensusCalculator,
        Self::ResultMerger,
        Self::Finalize,
    ];

    /// The name in workflow files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsensusCalculator => "consensus_calculator",
            Self::ResultMerger => "result_merger",
            Self::Finalize => "finalize",
        }
    }

    /// The handler of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|handler| handler.as_str() == name)
    }
}

/// `config` of the handler `webhook`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The address to call: `http` or `https`, without user name and password.
    pub url: String,
    /// How long one attempt may take, from `1s` to `60s`; `10s` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ConfigDuration>,
    /// Additional headers of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderText>,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderText {
    /// As it stands in the file, where whoever may read the workflow can read it.
    Plain(String),
    /// From the worker's settings.
    Secret(SecretName),
}

/// A secret of the worker's settings, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretName {
    /// The name: letters, digits, `-` and `_`.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub secret: String,
}

/// Handlers that run outside the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExternalHandler {
    /// An HTTP server is called; its response is the value.
    Webhook,
    /// A job message is published; its consumer replies with an `advance` command that carries
    /// `output`.
    Queue,
}

impl ExternalHandler {
    /// All handlers.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Queue];

    /// The name in workflow files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Queue => "queue",
        }
    }

    /// The handler of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|handler| handler.as_str() == name)
    }
}

impl fmt::Display for ExternalHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
