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

/// A pause of one annotator in a workflow, derived from operator commands: no slot is offered to the person
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

/// Pauses of workflows that have not been recorded as ended, each list by workflow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenPauses {
    /// Those that hold now.
    pub active: Vec<WorkflowPause>,
    /// Those whose `until` has come.
    pub expired: Vec<WorkflowPause>,
}

impl OpenPauses {
    /// Tells pauses apart by a time.
    pub(super) fn at(pauses: impl IntoIterator<Item = WorkflowPause>, now: DateTime<Utc>) -> Self {
        let (active, expired) = pauses.into_iter().partition(|pause| pause.applies_at(now));
        Self { active, expired }
    }
}

/// Pauses that follow from operator commands, each kind in the order in which they are to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pauses {
    /// Of whole workflows.
    pub workflows: Vec<WorkflowPause>,
    /// Of annotators.
    pub annotators: Vec<AnnotatorPause>,
}

/// Whom or what an operator command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSubject {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The annotator, where it is about one.
    pub user_id: Option<UserId>,
}

/// What an operator command is decided on, read under the lock of all operator commands.
#[derive(Clone, Debug)]
pub struct OperatorFacts {
    /// The store's clock.
    pub now: DateTime<Utc>,
    /// The pause of the operator command's workflow that has not been recorded as ended.
    pub pause: Option<WorkflowPause>,
    /// The newest pause of the operator command's annotator in that workflow, whether or not it has ended.
    pub annotator: Option<AnnotatorPause>,
}

/// Everything that an operator command writes, in one transaction.
#[derive(Clone, Debug)]
pub struct OperatorWrite {
    /// Its row of the inbox, without a task and with its payload.
    pub record: CommandRecord,
    /// Pauses to write or to change.
    pub pauses: Pauses,
    /// Messages that it causes.
    pub messages: Vec<NewOutboxRow>,
}

/// Decides an operator command on what was read under the lock.
pub type OperatorDecision = Box<dyn FnOnce(OperatorFacts) -> OperatorWrite + Send>;

/// An act that is ready to be decided.
pub struct PlannedOperatorCommand {
    /// Its idempotency key.
    pub id: CommandId,
    /// Whom or what it is about.
    pub subject: OperatorSubject,
    /// Decides it.
    pub decide: OperatorDecision,
}

impl fmt::Debug for PlannedOperatorCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedOperatorCommand")
            .field("id", &self.id)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// Finds the pauses from all applied operator commands, oldest first.
pub type DerivePauses = fn(&[CommandRow]) -> Pauses;

/// What operators do that belongs to no task.
#[async_trait]
pub trait OperatorLog: Send + Sync {
    /// Decides an operator command under the lock of all operator commands and writes what it leads to, unless its id is in
    /// the inbox: then nothing is written. Answers the row that is in the inbox now.
    ///
    /// One lock for all operator commands: they are rare, and so their times ascend in the order in which they
    /// were committed.
    async fn operator_command(
        &self,
        operator_command: PlannedOperatorCommand,
    ) -> Result<CommandRow, EventStoreError>;

    /// All applied operator commands, oldest first.
    async fn operator_commands(&self) -> Result<Vec<CommandRow>, EventStoreError>;

    /// Pauses of workflows that have not been recorded as ended.
    async fn workflow_pauses(&self) -> Result<OpenPauses, EventStoreError>;

    /// Pauses of one annotator, or of all, the oldest first; those that have ended are among them.
    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError>;

    /// Replaces all pauses by what `derive` makes of all applied operator commands, under the lock of operator commands.
    /// Leaves equal rows untouched and answers whether something changed.
    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError>;
}

/// The tables that operator commands touch, within a transaction of a database.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[async_trait]
pub(super) trait OperatorTables: Send {
    /// Takes the lock of all operator commands, until the transaction ends.
    async fn lock(&mut self) -> Result<(), EventStoreError>;

    /// The store's clock, read under the lock.
    async fn now(&mut self) -> Result<DateTime<Utc>, EventStoreError>;

    /// A row of the inbox.
    async fn command(&mut self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError>;

    /// The pause of a workflow that has not been recorded as ended.
    async fn open_pause(
        &mut self,
        workflow: &WorkflowId,
    ) -> Result<Option<WorkflowPause>, EventStoreError>;

    /// The newest pause of an annotator in a workflow.
    async fn newest_pause(
        &mut self,
        workflow: &WorkflowId,
        user: UserId,
    ) -> Result<Option<AnnotatorPause>, EventStoreError>;

    /// Writes a row of the inbox.
    async fn record(&mut self, record: &CommandRecord) -> Result<(), EventStoreError>;

    /// Writes pauses, one after another: one is closed before the next of its workflow is opened.
    async fn put_pauses(&mut self, pauses: &Pauses) -> Result<(), EventStoreError>;

    /// Writes messages that nobody owns.
    async fn enqueue(&mut self, messages: &[NewOutboxRow]) -> Result<(), EventStoreError>;

    /// All applied operator commands, oldest first.
    async fn operator_commands(&mut self) -> Result<Vec<CommandRow>, EventStoreError>;

    /// All pauses: those of workflows by id, those of annotators by age.
    async fn all_pauses(&mut self) -> Result<Pauses, EventStoreError>;

    /// Deletes all pauses.
    async fn forget_pauses(&mut self) -> Result<(), EventStoreError>;
}

/// Decides an operator command under the lock of operator commands and writes what it leads to, unless it is known.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) async fn operator_command_in(
    tables: &mut impl OperatorTables,
    operator_command: PlannedOperatorCommand,
) -> Result<CommandRow, EventStoreError> {
    let PlannedOperatorCommand {
        id,
        subject,
        decide,
    } = operator_command;
    tables.lock().await?;
    if let Some(known) = tables.command(id).await? {
        return Ok(known);
    }
    let pause = tables.open_pause(&subject.workflow).await?;
    let annotator = match subject.user_id {
        Some(user) => tables.newest_pause(&subject.workflow, user).await?,
        None => None,
    };
    let now = tables.now().await?;
    let written = decide(OperatorFacts {
        now,
        pause,
        annotator,
    });
    tables.record(&written.record).await?;
    tables.put_pauses(&written.pauses).await?;
    tables.enqueue(&written.messages).await?;
    Ok(written.record.into())
}

/// Replaces all pauses by what follows from all operator commands, under the lock of operator commands. Answers whether
/// something was written.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) async fn replace_pauses_in(
    tables: &mut impl OperatorTables,
    derive: DerivePauses,
) -> Result<bool, EventStoreError> {
    tables.lock().await?;
    let mut wanted = derive(&tables.operator_commands().await?);
    wanted.workflows.sort_by_key(|pause| pause.pause_id);
    wanted.annotators.sort_by_key(AnnotatorPause::age);
    // Rows that cannot be read are replaced like rows that differ.
    if tables.all_pauses().await.is_ok_and(|found| found == wanted) {
        return Ok(false);
    }
    tables.forget_pauses().await?;
    tables.put_pauses(&wanted).await?;
    Ok(true)
}
