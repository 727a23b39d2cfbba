//! The interface through which messages about decisions are built.

use chrono::{DateTime, Utc};

use crate::{
    command::{CommandEnvelope, OperatorEnvelope, Rejection},
    events::StoredEvent,
    state::{ParentTask, WorkflowRef},
    store::NewOutboxRow,
};

/// Builds messages for decisions; they are committed with the decision.
pub trait MessageBuilder: Send + Sync {
    /// The message of an event, if it has one; `parent` is set for a child task.
    fn for_event(
        &self,
        workflow: &WorkflowRef,
        parent: Option<&ParentTask>,
        event: &StoredEvent,
    ) -> Option<NewOutboxRow>;

    /// The message of a rejected command, if it has one.
    fn for_rejection(
        &self,
        workflow: Option<&WorkflowRef>,
        command: &CommandEnvelope,
        rejection: &Rejection,
        now: DateTime<Utc>,
    ) -> Option<NewOutboxRow>;

    /// The message of an operator command that was applied, if it has one.
    fn for_operator_command(
        &self,
        _command: &OperatorEnvelope,
        _now: DateTime<Utc>,
    ) -> Option<NewOutboxRow> {
        None
    }
}

/// Builds no messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMessages;

impl MessageBuilder for NoMessages {
    fn for_event(
        &self,
        _: &WorkflowRef,
        _: Option<&ParentTask>,
        _: &StoredEvent,
    ) -> Option<NewOutboxRow> {
        None
    }

    fn for_rejection(
        &self,
        _: Option<&WorkflowRef>,
        _: &CommandEnvelope,
        _: &Rejection,
        _: DateTime<Utc>,
    ) -> Option<NewOutboxRow> {
        None
    }
}
