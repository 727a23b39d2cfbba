//! Streams of events behind the trait.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{
    super::{
        EventPage, EventStore, EventStoreError, LogEntry, LogPosition, OpenBatch, OpenRequest,
        page::PageSize,
    },
    batch,
    data::MemoryStore,
    log::entries,
};
use crate::{events::StateRebuilder, ids::TaskId, state::WorkflowSnapshot};

#[async_trait]
impl EventStore for MemoryStore {
    async fn open(&self, request: OpenRequest) -> Result<OpenBatch, EventStoreError> {
        batch::open(self, request).await
    }

    async fn ping(&self) -> Result<(), EventStoreError> {
        Ok(())
    }

    async fn load(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
        let data = self.data();
        let mut states = HashMap::with_capacity(tasks.len());
        for task in tasks {
            let snapshot = data.newest_snapshot(*task);
            let after = snapshot.as_ref().map_or(0, |snapshot| snapshot.version);
            let mut rebuilder =
                snapshot.map_or_else(StateRebuilder::new, StateRebuilder::from_snapshot);
            for event in data.tail(*task, after, usize::MAX) {
                rebuilder.apply(&event)?;
            }
            states.extend(rebuilder.finish().map(|state| (*task, state)));
        }
        Ok(states)
    }

    async fn events(
        &self,
        task: TaskId,
        after: u64,
        limit: u32,
    ) -> Result<EventPage, EventStoreError> {
        let page = PageSize::of(limit);
        let found = self.data().tail(task, after, page.rows_to_read() as usize);
        let (events, next_after) = page.cut(found, |event| event.version);
        Ok(EventPage {
            events,
            next_after,
            archived: None,
        })
    }

    async fn read_log(
        &self,
        after: LogPosition,
        limit: u32,
    ) -> Result<Vec<LogEntry>, EventStoreError> {
        let after = usize::try_from(after.entry).unwrap_or_default();
        Ok(entries(&self.data(), after, limit))
    }
}
