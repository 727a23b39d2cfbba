//! Operator commands, which belong to no task, and the pauses that follow from them.

use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    commands::{CommandRecord, CommandRow},
    error::EventStoreError,
    outbox::NewMessage,
};
use crate::{
    ids::{CommandId, UserId, WorkflowId},
    state::WorkflowPause,
};

/// A pause of one annotator in a workflow, derived from operator commands: no slots are offered to
/// the annotator meanwhile. Pauses of one annotator in one workflow do not overlap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotatorPause {
    /// The operator command that began it.
    pub pause_id: CommandId,
    /// The workflow, in all its revisions.
    pub workflow: WorkflowId,
    /// The annotator.
    pub user_id: UserId,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether a rule of the workflow began it; only then may a rule end it.
    pub by_rule: bool,
    /// When it began.
    pub since: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether an operator ended it: submissions from before its end no longer count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub judged_anew: bool,
}

impl AnnotatorPause {
    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.ended_at.is_none()
    }

    /// A key that orders pauses by their beginning.
    pub(crate) fn age(&self) -> (DateTime<Utc>, CommandId) {
        (self.since, self.pause_id)
    }
}

/// Pauses of workflows not recorded as ended; each list is ordered by workflow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenPauses {
    /// Pauses in effect now.
    pub active: Vec<WorkflowPause>,
    /// Pauses whose `until` has passed.
    pub expired: Vec<WorkflowPause>,
}

impl OpenPauses {
    /// Splits pauses by whether they have expired at a time.
    pub(super) fn at(pauses: impl IntoIterator<Item = WorkflowPause>, now: DateTime<Utc>) -> Self {
        let (active, expired) = pauses.into_iter().partition(|pause| pause.applies_at(now));
        Self { active, expired }
    }
}

/// Pauses that follow from operator commands, each kind in the order in which to write them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pauses {
    /// Pauses of whole workflows.
    pub workflows: Vec<WorkflowPause>,
    /// Pauses of annotators.
    pub annotators: Vec<AnnotatorPause>,
}

/// The target of an operator command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSubject {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The annotator, if the command is about one.
    pub user_id: Option<UserId>,
}

/// The facts for deciding an operator command, read under the lock of all operator commands.
#[derive(Clone, Debug)]
pub struct OperatorFacts {
    /// The store's clock.
    pub now: DateTime<Utc>,
    /// The pause of the command's workflow that has not been recorded as ended.
    pub pause: Option<WorkflowPause>,
    /// The newest pause of the command's annotator in that workflow, ended or not.
    pub annotator: Option<AnnotatorPause>,
}

/// Everything an operator command writes, in one transaction.
#[derive(Clone, Debug)]
pub struct OperatorWrite {
    /// Its inbox row, without a task and with its payload.
    pub record: CommandRecord,
    /// Pauses to write or to change.
    pub pauses: Pauses,
    /// Messages to publish.
    pub messages: Vec<NewMessage>,
}

/// Decides an operator command on the facts read under the lock.
pub type OperatorDecision = Box<dyn FnOnce(OperatorFacts) -> OperatorWrite + Send>;

/// An operator command ready to be decided.
pub struct PlannedOperatorCommand {
    /// Its idempotency key.
    pub id: CommandId,
    /// Its target.
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

/// Derives the pauses from all applied operator commands, oldest first.
pub type DerivePauses = fn(&[CommandRow]) -> Pauses;

/// Commands of operators that belong to no task.
#[async_trait]
pub trait OperatorLog: Send + Sync {
    /// Decides an operator command under the lock of all operator commands and writes the outcome.
    /// If its id is already in the inbox, writes nothing. Returns the row that is in the inbox now.
    ///
    /// One lock serves all operator commands: they are rare, and this way their times ascend in
    /// commit order.
    async fn operator_command(
        &self,
        operator_command: PlannedOperatorCommand,
    ) -> Result<CommandRow, EventStoreError>;

    /// All applied operator commands, oldest first.
    async fn operator_commands(&self) -> Result<Vec<CommandRow>, EventStoreError>;

    /// Pauses of workflows not recorded as ended.
    async fn workflow_pauses(&self) -> Result<OpenPauses, EventStoreError>;

    /// Pauses of one annotator, or of all, oldest first, including ended ones.
    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError>;

    /// Replaces all pauses with the result of `derive` on all applied operator commands, under
    /// their lock. Leaves equal rows untouched. Returns whether something changed.
    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError>;
}

/// The tables that operator commands use, within a database transaction.
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

    /// Writes pauses in order: a pause must be closed before the next one of its workflow opens.
    async fn put_pauses(&mut self, pauses: &Pauses) -> Result<(), EventStoreError>;

    /// Writes messages that are leased to no publisher.
    async fn enqueue(&mut self, messages: &[NewMessage]) -> Result<(), EventStoreError>;

    /// All applied operator commands, oldest first.
    async fn operator_commands(&mut self) -> Result<Vec<CommandRow>, EventStoreError>;

    /// All pauses: those of workflows by id, those of annotators by their beginning.
    async fn all_pauses(&mut self) -> Result<Pauses, EventStoreError>;

    /// Deletes all pauses.
    async fn forget_pauses(&mut self) -> Result<(), EventStoreError>;
}

/// Decides an operator command under the lock of all operator commands and writes the outcome,
/// unless its id is known.
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

/// Replaces all pauses with those derived from all operator commands, under their lock. Returns
/// whether something was written.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) async fn replace_pauses_in(
    tables: &mut impl OperatorTables,
    derive: DerivePauses,
) -> Result<bool, EventStoreError> {
    tables.lock().await?;
    let mut wanted = derive(&tables.operator_commands().await?);
    wanted.workflows.sort_by_key(|pause| pause.pause_id);
    wanted.annotators.sort_by_key(AnnotatorPause::age);
    // Unreadable rows are replaced like rows that differ.
    if tables.all_pauses().await.is_ok_and(|found| found == wanted) {
        return Ok(false);
    }
    tables.forget_pauses().await?;
    tables.put_pauses(&wanted).await?;
    Ok(true)
}
