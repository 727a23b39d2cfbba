//! The interface through which messages about decisions are built.
//!
//! The message of an event is a function of that event and of two things that earlier events of its
//! task say: the revision and the parent. The batch that commits events and whoever publishes in its
//! place take both from the events, by the same fold, so both build the same bytes.

use chrono::{DateTime, Utc};

use crate::{
    command::{CommandEnvelope, OperatorEnvelope, Rejection},
    events::{StoredEvent, WorkflowEvent},
    state::{ParentTask, WorkflowRef, WorkflowSnapshot},
    store::{EventRange, NewMessage, RangeEvents},
};

/// Builds messages for decisions.
pub trait MessageBuilder: Send + Sync {
    /// The message of an event, if it has one; `parent` is set for a child task. The same arguments
    /// always make the same message: it is built anew from the event where the process that
    /// committed it does not publish it.
    fn for_event(
        &self,
        workflow: &WorkflowRef,
        parent: Option<&ParentTask>,
        event: &StoredEvent,
    ) -> Option<NewMessage>;

    /// The message of a rejected command, if it has one.
    fn for_rejection(
        &self,
        workflow: Option<&WorkflowRef>,
        command: &CommandEnvelope,
        rejection: &Rejection,
        now: DateTime<Utc>,
    ) -> Option<NewMessage>;

    /// The message of an operator command that was applied, if it has one.
    fn for_operator_command(
        &self,
        _command: &OperatorEnvelope,
        _now: DateTime<Utc>,
    ) -> Option<NewMessage> {
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
    ) -> Option<NewMessage> {
        None
    }

    fn for_rejection(
        &self,
        _: Option<&WorkflowRef>,
        _: &CommandEnvelope,
        _: &Rejection,
        _: DateTime<Utc>,
    ) -> Option<NewMessage> {
        None
    }
}

/// What messages of a task name beyond their events, as of one of these.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MessageContext<'a> {
    workflow: Option<&'a WorkflowRef>,
    parent: Option<&'a ParentTask>,
}

impl<'a> MessageContext<'a> {
    /// As of a state; none for a task that does not exist yet.
    pub(super) fn of(state: Option<&'a WorkflowSnapshot>) -> Self {
        Self {
            workflow: state.map(|state| &state.workflow),
            parent: state.and_then(|state| state.parent.as_ref()),
        }
    }

    /// As of the event, which comes next. What an event says of the task counts for its own message.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`CONTEXT_EVENTS` lists the events that say where a task belongs"
    )]
    pub(super) fn after(self, event: &'a WorkflowEvent) -> Self {
        match event {
            WorkflowEvent::WorkflowStarted(started) => Self {
                workflow: Some(&started.workflow),
                parent: started.parent.as_ref(),
            },
            WorkflowEvent::TaskDetailsSupplied { parent, .. } => Self {
                parent: self.parent.or(parent.as_ref()),
                ..self
            },
            WorkflowEvent::WorkflowMigrated(migrated) => Self {
                workflow: Some(&migrated.workflow),
                ..self
            },
            _ => self,
        }
    }

    /// The message of the event, if it has one.
    pub(super) fn message(
        &self,
        builder: &dyn MessageBuilder,
        event: &StoredEvent,
    ) -> Option<NewMessage> {
        builder.for_event(self.workflow?, self.parent, event)
    }
}

/// Why the messages of events cannot be built anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildMessagesError {
    /// An event is not there.
    #[error("event {version} of the task is missing")]
    Missing {
        /// Its version.
        version: u64,
    },
    /// No event says which workflow the task runs on.
    #[error("no event before version {version} says which workflow the task runs on")]
    NoWorkflow {
        /// The first version of the range.
        version: u64,
    },
}

/// The messages of a range of events, in order: the same, with the same ids and bodies, that the
/// batch built which committed the events, if `builder` publishes the same kinds.
pub fn messages_of(
    builder: &dyn MessageBuilder,
    range: EventRange,
    read: &RangeEvents,
) -> Result<Vec<NewMessage>, RebuildMessagesError> {
    let before = read.before.iter().map(|event| &event.event);
    let mut context = before.fold(MessageContext::default(), MessageContext::after);
    let mut messages = Vec::new();
    let mut events = read.events.iter();
    for version in range.from..=range.to {
        let event = events.next().filter(|event| event.version == version);
        let event = event.ok_or(RebuildMessagesError::Missing { version })?;
        context = context.after(&event.event);
        if context.workflow.is_none() {
            return Err(RebuildMessagesError::NoWorkflow { version });
        }
        messages.extend(context.message(builder, event));
    }
    Ok(messages)
}
