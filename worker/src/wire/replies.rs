//! The reply to a command that requested one with `reply_to`.

use glyph_workflow_engine::{
    command::{Outcome, ProcessResult},
    ids::CommandId,
    store::RecordedOutcome,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::unreadable::Unreadable;

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CommandReply {
    /// The command; null if its id could not be read.
    pub command_id: Option<CommandId>,
    /// `applied`, `duplicate`, `rejected` or `dead`. A duplicate has the `result` of the first
    /// command if that was applied, and its `reason` if it was rejected.
    pub outcome: &'static str,
    /// The code of a rejection, or why the command is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The result of an applied command.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ProcessResult>")]
    pub result: Option<Value>,
}

impl CommandReply {
    /// The reply to a command that was decided or is dead; `dead_reason` is set if it is dead.
    pub fn of(command_id: CommandId, outcome: &Outcome, dead_reason: Option<&str>) -> Self {
        let (reason, result) = match outcome {
            Outcome::Applied(result) => (None, serde_json::to_value(result).ok()),
            Outcome::Duplicate(RecordedOutcome::Applied { result }) => (None, Some(result.clone())),
            Outcome::Duplicate(RecordedOutcome::Rejected { reason, .. }) => {
                (Some(reason.clone()), None)
            }
            Outcome::Rejected(rejection) => (Some(rejection.code.as_str().to_owned()), None),
            Outcome::Undecided(_) | Outcome::Dead(_) => (dead_reason.map(str::to_owned), None),
        };
        let outcome = if dead_reason.is_some() {
            "dead"
        } else {
            outcome.name()
        };
        Self {
            command_id: Some(command_id),
            outcome,
            reason,
            result,
        }
    }

    /// The reply to a command that cannot be read.
    pub fn unreadable(unreadable: &Unreadable) -> Self {
        Self {
            command_id: unreadable.command_id,
            outcome: "dead",
            reason: Some(unreadable.code.as_str().to_owned()),
            result: None,
        }
    }
}
