//! What operators do that belongs to no task, and the pauses that follow from it.

use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    commands::{CommandRecord, CommandRow},
    error::EventStoreError,
    outbox::NewOutboxRow,
};
use crate::{
    ids::{CommandId, UserId, WorkflowId},
    state::WorkflowPause,
};

/// A pause of one annotator in a workflow, derived from acts: no place is offered to the person
/// meanwhile. Pauses of one person in one workflow do not overlap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotatorPause {
    /// The act that began it.
    pub pause_id: CommandId,
    /// The workflow, in all its revisions.
    pub workflow: WorkflowId,
    /// Who.
    pub user_id: UserId,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether a rule of the workflow began it, and so may end it.
    pub by_rule: bool,
    /// When it began.
    pub since: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether an operator ended it: answers from before count no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub judged_anew: bool,
}

impl AnnotatorPause {
    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.ended_at.is_none()
    }

    /// What tells which of two began later.
    pub(crate) fn age(&self) -> (DateTime<Utc>, CommandId) {
        (self.since, self.pause_id)
    }
}

/// Pauses that follow from acts, each kind in the order in which they are to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pauses {
    /// Of whole workflows.
    pub workflows: Vec<WorkflowPause>,
    /// Of annotators.
    pub annotators: Vec<AnnotatorPause>,
}

/// Whom or what an operator's act is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActSubject {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The annotator, where it is about one.
    pub user_id: Option<UserId>,
}

/// What an operator's act is decided on, read under the lock of all acts.
#[derive(Clone, Debug)]
pub struct ActFacts {
    /// The store's clock.
    pub now: DateTime<Utc>,
    /// The pause of the act's workflow that has not been recorded as ended.
    pub pause: Option<WorkflowPause>,
    /// The newest pause of the act's annotator in that workflow, whether or not it has ended.
    pub annotator: Option<AnnotatorPause>,
}

/// Everything that an operator's act writes, in one transaction.
#[derive(Clone, Debug)]
pub struct ActWrite {
    /// Its row of the inbox, without a task and with its payload.
    pub record: CommandRecord,
    /// Pauses to write or to change.
    pub pauses: Pauses,
    /// Messages that it causes.
    pub messages: Vec<NewOutboxRow>,
}

/// Decides an operator's act on what was read under the lock.
pub type ActDecision = Box<dyn FnOnce(ActFacts) -> ActWrite + Send>;

/// An act that is ready to be decided.
pub struct PlannedAct {
    /// Its idempotency key.
    pub id: CommandId,
    /// Whom or what it is about.
    pub subject: ActSubject,
    /// Decides it.
    pub decide: ActDecision,
}

impl fmt::Debug for PlannedAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedAct")
            .field("id", &self.id)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// Finds the pauses from all applied acts, oldest first.
pub type DerivePauses = fn(&[CommandRow]) -> Pauses;

/// What operators do that belongs to no task.
#[async_trait]
pub trait ActLog: Send + Sync {
    /// Decides an act under the lock of all acts and writes what it leads to, unless its id is in
    /// the inbox: then nothing is written. Answers the row that is in the inbox now.
    ///
    /// One lock for all acts: they are rare, and so their times ascend in the order in which they
    /// were committed.
    async fn act(&self, act: PlannedAct) -> Result<CommandRow, EventStoreError>;

    /// All applied acts, oldest first.
    async fn acts(&self) -> Result<Vec<CommandRow>, EventStoreError>;

    /// Pauses of workflows that have not been recorded as ended, by workflow: those that hold now,
    /// then those whose `until` has come.
    async fn workflow_pauses(
        &self,
    ) -> Result<(Vec<WorkflowPause>, Vec<WorkflowPause>), EventStoreError>;

    /// Pauses of one annotator, or of all, the oldest first; those that have ended are among them.
    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError>;

    /// Replaces all pauses by what `derive` makes of all applied acts, under the lock of acts.
    /// Leaves equal rows untouched and answers whether something changed.
    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError>;
}
