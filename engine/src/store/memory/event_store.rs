//! Streams of events behind the trait.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::{
    super::{
        EventPage, EventStore, EventStoreError, LogEntry, LogPosition, OpenBatch, OpenRequest,
        OpenedTask, WorkflowPause,
    },
    batch::MemoryBatch,
    data::{MemoryStore, page},
    log::entries,
};
use crate::{events::StateRebuilder, ids::TaskId, state::WorkflowSnapshot};

#[async_trait]
impl EventStore for MemoryStore {
    async fn open(&self, request: OpenRequest) -> Result<Box<dyn OpenBatch>, EventStoreError> {
        let writer = self.writer.clone().lock_owned().await;
        let now = self.now();
        let data = self.data();
        let mut tasks = HashMap::with_capacity(request.tasks.len());
        let mut relay_only = HashSet::new();
        let rows = request.tasks.keys().filter_map(|task| data.tasks.get(task));
        let rested_since = rows.map(|row| row.updated_at).min();
        let matters = |pause: &&WorkflowPause| {
            pause
                .ended_at
                .is_none_or(|ended| rested_since.is_some_and(|since| since < ended))
        };
        let pauses = data.pauses.values().filter(matters).cloned().collect();
        let held = data.held.iter();
        let claimant = request.claimant.map(|claimant| claimant.user_id);
        let held = held.filter(|held| Some(held.user_id) == claimant);
        let held_by_claimant = u32::try_from(held.count()).unwrap_or(u32::MAX);
        for (task, held) in request.tasks {
            let version = data.version(task);
            let snapshot = if held == 0 {
                data.newest_snapshot(task)
            } else {
                None
            };
            let after = snapshot.as_ref().map_or(held, |snapshot| snapshot.version);
            let mut opened = OpenedTask {
                tail: data.tail(task, after),
                snapshot,
                version,
                relay_only: false,
            };
            if data.relay_only(task, request.publisher, now) {
                opened.relay_only = true;
                relay_only.insert(task);
            }
            tasks.insert(task, opened);
        }
        let known = request
            .commands
            .into_iter()
            .filter_map(|id| Some((id, data.commands.get(&id)?.clone())))
            .collect();
        drop(data);
        Ok(Box::new(MemoryBatch {
            data: self.data.clone(),
            publisher: request.publisher,
            now,
            tasks,
            relay_only,
            known,
            pauses,
            held_by_claimant,
            _writer: writer,
        }))
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
            for event in data.tail(*task, after) {
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
        let (events, more) = page(self.data().tail(task, after).into_iter(), limit);
        let next_after = events.last().filter(|_| more).map(|event| event.version);
        Ok(EventPage { events, next_after })
    }

    async fn read_log(
        &self,
        after: LogPosition,
        limit: u32,
    ) -> Result<Vec<LogEntry>, EventStoreError> {
        let after = usize::try_from(after.position).unwrap_or_default();
        Ok(entries(&self.data(), after, limit))
    }
}
