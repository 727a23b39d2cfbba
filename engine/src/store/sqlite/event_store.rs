//! Streams of events behind the trait.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{
    super::{
        EventPage, EventStore, EventStoreError, LogEntry, LogPosition, OpenBatch, OpenRequest,
        page::PageSize, rows,
    },
    batch,
    connection::{SqliteEventStore, detached},
    error::classify,
    log::read_log,
    streams::{events_after, snapshots, tails},
};
use crate::{events::StateRebuilder, ids::TaskId, state::WorkflowSnapshot};

#[async_trait]
impl EventStore for SqliteEventStore {
    async fn open(&self, request: OpenRequest) -> Result<OpenBatch, EventStoreError> {
        // If the caller is cancelled, the batch is dropped in the task, which rolls it back.
        detached(batch::open(self.clone(), request)).await
    }

    async fn ping(&self) -> Result<(), EventStoreError> {
        self.scalar::<i64>(sqlx::query("SELECT 1")).await.map(drop)
    }

    async fn load(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
        let store = self.clone();
        let tasks = tasks.to_vec();
        detached(async move {
            // One transaction: snapshots and tails from the same moment.
            let mut tx = store.readers().begin().await.map_err(classify)?;
            let mut snapshots = snapshots(&mut tx, &tasks).await?;
            let after: Vec<_> = tasks
                .iter()
                .map(|task| (*task, snapshots.get(task).map_or(0, |state| state.version)))
                .collect();
            let events = tails(&mut tx, &after).await?;
            drop(tx);

            let mut streams: HashMap<TaskId, StateRebuilder> = snapshots
                .drain()
                .map(|(task, state)| (task, StateRebuilder::from_snapshot(state)))
                .collect();
            for event in &events {
                streams.entry(event.task_id).or_default().apply(event)?;
            }
            Ok(streams
                .into_iter()
                .filter_map(|(task, stream)| Some((task, stream.finish()?)))
                .collect())
        })
        .await
    }

    async fn events(
        &self,
        task: TaskId,
        after: u64,
        limit: u32,
    ) -> Result<EventPage, EventStoreError> {
        let page = PageSize::of(limit);
        let query = events_after(task, after, page.rows_to_read());
        let found = self.fetch(query, rows::event).await?;
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
        read_log(self.readers(), after, limit).await
    }
}
