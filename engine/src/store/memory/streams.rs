//! Streams: events and snapshots of each task.

use super::data::Data;
use crate::{events::StoredEvent, ids::TaskId, state::WorkflowSnapshot};

impl Data {
    pub(super) fn version(&self, task: TaskId) -> u64 {
        self.streams
            .get(&task)
            .map_or(0, |events| events.len() as u64)
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

    pub(super) fn newest_snapshot(&self, task: TaskId) -> Option<WorkflowSnapshot> {
        self.snapshots.get(&task)?.values().next_back().cloned()
    }
}
