//! The inbox: the outcome of each command.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::EventStoreError;
use crate::ids::{CommandId, TaskId};

/// The outcome of a command, as the inbox stores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RecordedOutcome {
    /// Its effect is in the log.
    Applied {
        /// The result returned to the caller.
        result: Value,
    },
    /// The state or the rules do not allow it.
    Rejected {
        /// The reason code.
        reason: String,
        /// An explanation for people.
        detail: String,
    },
}

/// An outcome as columns of the inbox.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) struct OutcomeColumns<'o> {
    pub(super) outcome: &'static str,
    pub(super) reason: Option<&'o str>,
    pub(super) detail: Option<&'o str>,
    pub(super) result: Option<&'o Value>,
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl RecordedOutcome {
    pub(super) fn columns(&self) -> OutcomeColumns<'_> {
        match self {
            Self::Applied { result } => OutcomeColumns {
                outcome: "applied",
                reason: None,
                detail: None,
                result: Some(result),
            },
            Self::Rejected { reason, detail } => OutcomeColumns {
                outcome: "rejected",
                reason: Some(reason),
                detail: Some(detail),
                result: None,
            },
        }
    }
}

/// A row to write to the inbox.
#[derive(Clone, Debug)]
pub struct CommandRecord {
    /// The idempotency key.
    pub command_id: CommandId,
    /// The task; `None` for operator commands on a workflow or goal.
    pub task_id: Option<TaskId>,
    /// The command's type.
    pub command_type: &'static str,
    /// Hash of the command as read.
    pub content_hash: [u8; 32],
    /// The outcome.
    pub outcome: RecordedOutcome,
    /// The command as read; kept for rejected commands and for operator commands.
    pub payload: Option<Value>,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

/// A row read from the inbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandRow {
    /// The idempotency key.
    pub command_id: CommandId,
    /// The task.
    pub task_id: Option<TaskId>,
    /// The command's type.
    #[serde(rename = "type")]
    pub command_type: String,
    /// Hash of the command as read.
    #[serde(skip)]
    pub content_hash: [u8; 32],
    /// The outcome.
    #[serde(flatten)]
    pub outcome: RecordedOutcome,
    /// The command as read; kept for rejected commands and for operator commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

impl From<CommandRecord> for CommandRow {
    fn from(record: CommandRecord) -> Self {
        Self {
            command_id: record.command_id,
            task_id: record.task_id,
            command_type: record.command_type.to_owned(),
            content_hash: record.content_hash,
            outcome: record.outcome,
            payload: record.payload,
            decided_at: record.decided_at,
        }
    }
}

/// A page of the inbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandPage {
    /// The rows.
    pub commands: Vec<CommandRow>,
    /// The row after which the next page starts; `None` on the last page.
    pub next_after: Option<CommandId>,
}

/// Which rejected commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RejectedFilter {
    /// Of this task.
    pub task: Option<TaskId>,
    /// Of tasks of this workflow.
    pub workflow: Option<String>,
    /// With this reason.
    pub reason: Option<String>,
    /// Those whose payload is kept and was not exported, dropped ones among them; otherwise those
    /// that were not dropped.
    pub not_exported: bool,
    /// The oldest first; otherwise the newest.
    pub oldest_first: bool,
}

/// The inbox, for operators.
#[async_trait]
pub trait CommandLog: Send + Sync {
    /// One command.
    async fn command(&self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError>;

    /// Those of these commands that are known, in no order.
    async fn commands(&self, ids: &[CommandId]) -> Result<Vec<CommandRow>, EventStoreError>;

    /// Rejected commands.
    async fn rejected(
        &self,
        filter: &RejectedFilter,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, EventStoreError>;

    /// Takes rejected commands out of the list. The inbox keeps them: their ids stay known. Returns
    /// how many were listed.
    async fn drop_rejected(&self, ids: &[CommandId], actor: &str) -> Result<u64, EventStoreError>;

    /// Marks rejected commands as exported. Returns how many were not marked yet.
    async fn mark_exported(&self, ids: &[CommandId], actor: &str) -> Result<u64, EventStoreError>;
}
