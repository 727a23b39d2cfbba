//! The seam to whoever tells the world what happened.

use chrono::{DateTime, Utc};

use crate::{
    command::{CommandEnvelope, OperatorEnvelope, Rejection},
    events::StoredEvent,
    state::{ParentTask, WorkflowRef},
    store::NewOutboxRow,
};

/// Turns what is decided into messages, which are committed with it.
pub trait MessageBuilder: Send + Sync {
    /// The message of an event, where it has one; `parent` is whose child the task is.
    fn for_event(
        &self,
        workflow: &WorkflowRef,
        parent: Option<&ParentTask>,
        event: &StoredEvent,
    ) -> Option<NewOutboxRow>;

    /// The message of a rejected command, where it has one.
    fn for_rejection(
        &self,
        workflow: Option<&WorkflowRef>,
        command: &CommandEnvelope,
        rejection: &Rejection,
        now: DateTime<Utc>,
    ) -> Option<NewOutboxRow>;

    /// The message of an operator command that was applied, where it has one.
    fn for_operator_command(
        &self,
        _command: &OperatorEnvelope,
        _now: DateTime<Utc>,
    ) -> Option<NewOutboxRow> {
        None
    }
}

/// Tells nobody.
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
