//! What a decision is made from, and what it comes to.

use chrono::{DateTime, Utc};

use crate::{
    command::{Outcome, Rejection, RejectionCode},
    events::StoredEvent,
    executor::{HandlerRegistry, annotators::Annotators},
    state::{Draft, WorkflowPause, WorkflowSnapshot},
    transition::CompiledWorkflow,
};

/// What a decision may know beside the state and the command.
#[derive(Clone, Copy)]
pub struct DecideContext<'a> {
    /// The revision that the task runs on; none for a task that has not been started.
    pub workflow: Option<&'a CompiledWorkflow>,
    /// The revision that the command names; none where it names none, or one that does not exist.
    pub named: Option<&'a CompiledWorkflow>,
    /// Handlers by name.
    pub handlers: &'a HandlerRegistry,
    /// What is known of the annotators, at one position of the log.
    pub annotators: Annotators<'a>,
    /// The time.
    pub now: DateTime<Utc>,
    /// Pauses of workflows: all that hold now, and those that were over after the task did
    /// something last.
    pub pauses: &'a [WorkflowPause],
}

/// What a command leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What becomes of the command.
    pub outcome: Outcome,
    /// What happens; empty unless the command is applied.
    pub events: Vec<StoredEvent>,
    /// The state after the events; the state before, where there are none.
    pub state: Option<WorkflowSnapshot>,
    /// Unfinished work to keep.
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
