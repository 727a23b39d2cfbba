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

/// Bytes of a reply; the result is left out of a larger one.
pub const REPLY_BYTES_MAX: usize = 1 << 20;

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
    /// The same for people: what is wrong, where, and how to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Paths of fields that the command's type does not know; they changed nothing. At most
    /// sixteen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// The result of an applied command.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ProcessResult>")]
    pub result: Option<Value>,
    /// Bytes of a result that is left out because the reply would be larger than 1 MiB; the task's
    /// state has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<usize>,
}

impl CommandReply {
    /// The reply to a command that was decided or is dead; `dead_reason` is set if it is dead.
    /// `ignored` has the paths of its fields that its type does not know.
    pub fn of(
        command_id: CommandId,
        outcome: &Outcome,
        dead_reason: Option<&str>,
        ignored: Vec<String>,
    ) -> Self {
        let dead = || dead_reason.map(str::to_owned);
        let (reason, detail, result) = match outcome {
            Outcome::Applied(result) => (None, None, serde_json::to_value(result).ok()),
            Outcome::Duplicate(RecordedOutcome::Applied { result }) => {
                (None, None, Some(result.clone()))
            }
            Outcome::Duplicate(RecordedOutcome::Rejected { reason, detail }) => {
                (Some(reason.clone()), Some(detail.clone()), None)
            }
            Outcome::Rejected(rejection) => {
                let code = rejection.code.as_str().to_owned();
                (Some(code), Some(rejection.detail.clone()), None)
            }
            Outcome::Undecided(undecided) => (dead(), Some(undecided.to_string()), None),
            Outcome::Dead(why) => (dead(), Some(why.to_string()), None),
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
            detail,
            ignored,
            result,
            result_bytes: None,
        }
    }

    /// The reply to a command that cannot be read.
    pub fn unreadable(unreadable: &Unreadable) -> Self {
        Self {
            command_id: unreadable.command_id,
            outcome: "dead",
            reason: Some(unreadable.code.as_str().to_owned()),
            detail: Some(unreadable.error.clone()),
            ignored: Vec::new(),
            result: None,
            result_bytes: None,
        }
    }

    /// The reply as JSON, within [`REPLY_BYTES_MAX`].
    pub fn to_json(&self) -> Vec<u8> {
        // Plain data always serializes.
        let text = |reply: &Self| serde_json::to_vec(reply).unwrap_or_default();
        let whole = text(self);
        if whole.len() <= REPLY_BYTES_MAX {
            return whole;
        }
        text(&Self {
            command_id: self.command_id,
            outcome: self.outcome,
            reason: self.reason.clone(),
            detail: self.detail.clone(),
            ignored: self.ignored.clone(),
            result: None,
            result_bytes: Some(whole.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use glyph_workflow_engine::command::{Dead, Rejection, RejectionCode};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::wire::UnreadableCode;

    #[test]
    fn a_reply_says_what_is_wrong_and_what_was_ignored() {
        let id = CommandId(Uuid::from_u128(1));
        let rejected = |code, detail: &str| {
            Outcome::Rejected(Rejection {
                code,
                detail: detail.to_owned(),
            })
        };
        let told = |outcome: &Outcome, dead: Option<&str>, ignored: &[&str]| {
            let ignored = ignored.iter().map(|path| (*path).to_owned()).collect();
            serde_json::to_value(CommandReply::of(id, outcome, dead, ignored)).unwrap()
        };
        let surplus = told(
            &rejected(RejectionCode::Surplus, "both slots are filled"),
            None,
            &["annotation.lable"],
        );
        assert_eq!(surplus["reason"], "surplus");
        assert_eq!(surplus["detail"], "both slots are filled");
        assert_eq!(surplus["ignored"], json!(["annotation.lable"]));
        let recorded = RecordedOutcome::Rejected {
            reason: "surplus".to_owned(),
            detail: "both slots are filled".to_owned(),
        };
        let again = told(&Outcome::Duplicate(recorded), None, &[]);
        assert_eq!(again["detail"], surplus["detail"]);
        assert!(again.get("ignored").is_none());
        let dead = Outcome::Dead(Dead::WorkflowNotFound("sentimnt".to_owned()));
        let dead = told(&dead, Some("workflow_not_found"), &[]);
        assert_eq!(dead["outcome"], "dead");
        assert_eq!(dead["detail"], "no workflow `sentimnt`");
        let unreadable = CommandReply::unreadable(&Unreadable {
            code: UnreadableCode::Malformed,
            error: "annotation: missing".to_owned(),
            command_id: None,
        });
        assert_eq!(unreadable.detail.as_deref(), Some("annotation: missing"));
    }

    #[test]
    fn a_result_that_is_too_large_is_left_out_and_its_size_told() {
        let reply = |len: usize| CommandReply {
            command_id: None,
            outcome: "applied",
            reason: None,
            detail: None,
            ignored: Vec::new(),
            result: Some(json!("x".repeat(len))),
            result_bytes: None,
        };
        let small: Value = serde_json::from_slice(&reply(1_000).to_json()).unwrap();
        assert!(small["result"].is_string() && small.get("result_bytes").is_none());
        let large: Value = serde_json::from_slice(&reply(REPLY_BYTES_MAX).to_json()).unwrap();
        assert_eq!(large["outcome"], "applied");
        assert!(large.get("result").is_none());
        assert!(large["result_bytes"].as_u64() > Some(REPLY_BYTES_MAX as u64));
    }
}
