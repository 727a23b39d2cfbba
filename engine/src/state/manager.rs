//! The rebuilt state of a task, for callers of the engine.

use serde::Serialize;
use serde_json::Value;

use super::{TaskStatus, WorkflowSnapshot};
use crate::ids::StepId;

/// The rebuilt state of a task: a read-only view of its [`WorkflowSnapshot`].
///
/// Only [`evolve`](crate::events::evolve) writes a state, so this view has no setters.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct WorkflowStateManager {
    snapshot: WorkflowSnapshot,
}

impl WorkflowStateManager {
    /// A view of `snapshot`.
    pub fn new(snapshot: WorkflowSnapshot) -> Self {
        Self { snapshot }
    }

    /// The whole state.
    pub fn snapshot(&self) -> &WorkflowSnapshot {
        &self.snapshot
    }

    /// The whole state, owned.
    pub fn into_snapshot(self) -> WorkflowSnapshot {
        self.snapshot
    }

    /// Where the task is as a whole.
    pub fn status(&self) -> TaskStatus {
        self.snapshot.status
    }

    /// The version of its stream.
    pub fn version(&self) -> u64 {
        self.snapshot.version
    }

    /// The steps that wait for something, sorted by id.
    pub fn current_steps(&self) -> Vec<&StepId> {
        self.snapshot.active_steps().collect()
    }

    /// What the task ended with.
    pub fn output(&self) -> Option<&Value> {
        self.snapshot.output.as_ref()
    }
}
