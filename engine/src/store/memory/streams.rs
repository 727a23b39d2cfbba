//! Streams: events and snapshots of each task.

use super::data::Data;
use crate::{events::StoredEvent, ids::TaskId, state::WorkflowSnapshot};

impl Data {
    pub(super) fn version(&self, task: TaskId) -> u64 {
        self.streams
            .get(&task)
            .and_then(|events| events.last())
            .map_or(0, |last| last.version)
    }

    /// At most `limit` events after a version.
    pub(super) fn tail(&self, task: TaskId, after: u64, limit: usize) -> Vec<StoredEvent> {
        let events = self.streams.get(&task).map_or(&[][..], Vec::as_slice);
        events
            .iter()
            .filter(|event| event.version > after)
            .take(limit)
            .cloned()
            .collect()
    }

    /// The newest snapshot; the last state of an archived task.
    pub(super) fn newest_snapshot(&self, task: TaskId) -> Option<WorkflowSnapshot> {
        if let Some(archived) = self.archived.get(&task) {
            return Some(archived.clone());
        }
        self.snapshots.get(&task)?.values().next_back().cloned()
    }
}
