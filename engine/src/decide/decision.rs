//! The input of a decision besides state and command, and its result.

use chrono::{DateTime, Utc};

use crate::{
    command::{Outcome, Rejection, RejectionCode},
    config::Sampling,
    events::StoredEvent,
    executor::{HandlerRegistry, annotators::Annotators},
    ids::LogId,
    state::{Draft, WorkflowPause, WorkflowSnapshot},
    transition::CompiledWorkflow,
};

/// What a decision may read besides the state and the command.
#[derive(Clone, Copy)]
pub struct DecideContext<'a> {
    /// The revision that the task runs on; none for a task that has not been started.
    pub workflow: Option<&'a CompiledWorkflow>,
    /// The revision that the command names; none if it names none or one that does not exist.
    pub named: Option<&'a CompiledWorkflow>,
    /// Handlers by name.
    pub handlers: &'a HandlerRegistry,
    /// The annotator models, at one position of the log.
    pub annotators: Annotators<'a>,
    /// The samples that the task belongs to if this command starts it.
    pub sampling: Sampling,
    /// The time.
    pub now: DateTime<Utc>,
    /// The log to which the events will belong.
    pub log: LogId,
    /// Pauses of workflows: all in force now, and those that ended after the task's last event.
    pub pauses: &'a [WorkflowPause],
}

/// The result of deciding a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The outcome of the command.
    pub outcome: Outcome,
    /// The new events; empty unless the command is applied.
    pub events: Vec<StoredEvent>,
    /// The state after the events; unchanged if there are none.
    pub state: Option<WorkflowSnapshot>,
    /// Draft to save.
    pub draft: Option<Draft>,
}

/// Why a command is not applied.
pub(super) enum Refusal {
    Rejected(Rejection),
    TaskNotFound,
    NotPerformed,
    WorkflowNotFound,
    Paused,
}

impl Refusal {
    pub(super) fn rejected(code: RejectionCode, detail: impl Into<String>) -> Self {
        Self::Rejected(Rejection {
            code,
            detail: detail.into(),
        })
    }
}
