//! The kinds of step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepType {
    /// Several people label the item.
    Annotation,
    /// One person approves, rejects, asks for changes or fixes.
    Review,
    /// One person decides where annotators disagree.
    Adjudication,
    /// A handler works without a person.
    AutoProcess,
    /// An expression chooses the way.
    Conditional,
    /// Another workflow runs as a child task.
    SubWorkflow,
}

impl StepType {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Annotation,
        Self::Review,
        Self::Adjudication,
        Self::AutoProcess,
        Self::Conditional,
        Self::SubWorkflow,
    ];

    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Annotation => "annotation",
            Self::Review => "review",
            Self::Adjudication => "adjudication",
            Self::AutoProcess => "auto_process",
            Self::Conditional => "conditional",
            Self::SubWorkflow => "sub_workflow",
        }
    }

    /// Whether people submit to it.
    pub fn takes_submissions(self) -> bool {
        matches!(self, Self::Annotation | Self::Review | Self::Adjudication)
    }
}
