//! Streams of events behind the trait.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;

use super::{
    super::{
        EventPage, EventStore, EventStoreError, LogEntry, LogPosition, OpenBatch, OpenRequest,
        page::PageSize, rows,
    },
    PgEventStore, batch,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    log::read_log,
    streams::{Wanted, events_after, read_streams},
};
use crate::{events::StateRebuilder, ids::TaskId, state::WorkflowSnapshot};

#[async_trait]
impl EventStore for PgEventStore {
    async fn open(&self, request: OpenRequest) -> Result<OpenBatch, EventStoreError> {
        self.usable()?;
        batch::open(self.pool.clone(), Arc::clone(&self.recent_log), request).await
    }

    async fn ping(&self) -> Result<(), EventStoreError> {
        Self::ping(self).await
    }

    async fn load(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
        let mut wanted = Wanted::default();
        for task in tasks.iter().collect::<HashSet<_>>() {
            wanted.all(*task);
        }
        let streams = self
            .run(WORK_TIMEOUT, |conn| Box::pin(read_streams(conn, wanted)))
            .await?;
        let mut states = HashMap::with_capacity(streams.len());
        for (task, stream) in streams {
            let mut rebuilder = stream
                .snapshot
                .map_or_else(StateRebuilder::new, StateRebuilder::from_snapshot);
            for event in &stream.tail {
                rebuilder.apply(event)?;
            }
            if let Some(state) = rebuilder.finish() {
                states.insert(task, state);
            }
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
        let query = events_after(task, after, page.rows_to_read());
        let found = self.fetch(WORK_TIMEOUT, query, rows::event).await?;
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
        let recent = Arc::clone(&self.recent_log);
        let read = self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move { read_log(conn, &recent, after, limit).await })
        });
        let (read, _) = read.await?;
        Ok(read
            .into_iter()
            .map(|event| Arc::unwrap_or_clone(event.entry))
            .collect())
    }
}
