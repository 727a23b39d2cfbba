//! What became of a command, in one document for both sides.

use glyph_workflow_engine::{
    OrchestrationError,
    command::Outcome,
    ids::{CommandId, TaskId},
    store::RecordedOutcome,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What became of a command to a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandOutcome {
    /// The task.
    pub task_id: TaskId,
    /// The command.
    pub command_id: CommandId,
    /// `applied` or `rejected`; `duplicate` where that was recorded before.
    pub outcome: String,
    /// The new state of the task, where the command was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The code of a rejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rejection as text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl CommandOutcome {
    /// The outcome of a command to a task.
    ///
    /// # Errors
    ///
    /// The command has none: it is undecided or dead.
    pub fn of(
        task_id: TaskId,
        command_id: CommandId,
        outcome: Outcome,
    ) -> Result<Self, OrchestrationError> {
        let name = outcome.name().to_owned();
        let told = |result, rejection: Option<(String, String)>| {
            let (reason, detail) = rejection.unzip();
            Self {
                task_id,
                command_id,
                outcome: name,
                result,
                reason,
                detail,
            }
        };
        Ok(match outcome {
            // Plain data with string keys always serializes.
            Outcome::Applied(result) => told(serde_json::to_value(result).ok(), None),
            Outcome::Duplicate(RecordedOutcome::Applied { result }) => told(Some(result), None),
            Outcome::Rejected(rejection) => {
                let code = rejection.code.as_str().to_owned();
                told(None, Some((code, rejection.detail)))
            }
            Outcome::Duplicate(RecordedOutcome::Rejected { reason, detail }) => {
                told(None, Some((reason, detail)))
            }
            Outcome::Undecided(undecided) => return Err(OrchestrationError::Undecided(undecided)),
            Outcome::Dead(dead) => return Err(OrchestrationError::Dead(dead)),
        })
    }

    /// The result; for a rejected command its code and text.
    pub fn into_result(self) -> Result<Value, (String, String)> {
        match (self.reason, self.detail) {
            (Some(reason), detail) => Err((reason, detail.unwrap_or_default())),
            (None, _) => Ok(self.result.unwrap_or_default()),
        }
    }
}
