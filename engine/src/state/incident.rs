//! Incidents: why a task cannot advance by itself.

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::StepId;

/// A reason why a step cannot advance by itself until `retry` or another verb resolves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// Its id.
    pub incident_id: Uuid,
    /// The step that cannot advance.
    pub step_id: StepId,
    /// The visit of the step.
    pub visit: u32,
    /// The kind of problem.
    pub code: IncidentCode,
    /// What happened, for people.
    pub reason: String,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Whether the workflow asks for operators to be notified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub escalated: bool,
}

/// The kinds of problem.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum IncidentCode {
    /// The step has ended, it has outgoing transitions, and none matches.
    NoTransition,
    /// An expression could not be evaluated.
    ExpressionFailed,
    /// A loop has reached its bound, and the workflow names no step to go to then.
    LoopExhausted,
    /// One command caused more transitions than allowed.
    TransitionBudget,
    /// A handler failed for good.
    HandlerFailed,
    /// The child task of a step could not start, or ended without an output.
    ChildFailed,
    /// A branch leads to a step at which another branch is still active.
    StepBusy,
    /// A claimed slot expired for inactivity, and the step asks for operators to be notified.
    InactivityTimeout,
    /// Annotators disagree, and the step asks for operators to be notified: it has ended without a
    /// value. Resolved once the task has left the step.
    Disagreement,
}

impl IncidentCode {
    /// All codes.
    pub const ALL: [Self; 9] = [
        Self::NoTransition,
        Self::ExpressionFailed,
        Self::LoopExhausted,
        Self::TransitionBudget,
        Self::HandlerFailed,
        Self::ChildFailed,
        Self::StepBusy,
        Self::InactivityTimeout,
        Self::Disagreement,
    ];

    /// The code of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// The name in events and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTransition => "no_transition",
            Self::ExpressionFailed => "expression_failed",
            Self::LoopExhausted => "loop_exhausted",
            Self::TransitionBudget => "transition_budget",
            Self::HandlerFailed => "handler_failed",
            Self::ChildFailed => "child_failed",
            Self::StepBusy => "step_busy",
            Self::InactivityTimeout => "inactivity_timeout",
            Self::Disagreement => "disagreement",
        }
    }
}

impl fmt::Display for IncidentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
