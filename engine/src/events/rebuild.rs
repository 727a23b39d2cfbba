//! Rebuilds a state from its stream.

use super::{StoredEvent, evolve};
use crate::state::{StateTransitionError, WorkflowSnapshot};

/// Folds a stream into a state, from nothing or from a snapshot.
#[derive(Clone, Debug, Default)]
pub struct StateRebuilder {
    state: Option<WorkflowSnapshot>,
}

impl StateRebuilder {
    /// Begins with no state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with the state at a snapshot.
    pub fn from_snapshot(snapshot: WorkflowSnapshot) -> Self {
        Self {
            state: Some(snapshot),
        }
    }

    /// Applies the next event.
    pub fn apply(&mut self, event: &StoredEvent) -> Result<(), StateTransitionError> {
        evolve(&mut self.state, event)
    }

    /// The state; none if there were no events.
    pub fn finish(self) -> Option<WorkflowSnapshot> {
        self.state
    }

    /// The state after all of `events`.
    pub fn rebuild<'a>(
        events: impl IntoIterator<Item = &'a StoredEvent>,
    ) -> Result<Option<WorkflowSnapshot>, StateTransitionError> {
        let mut rebuilder = Self::new();
        for event in events {
            rebuilder.apply(event)?;
        }
        Ok(rebuilder.finish())
    }
}
