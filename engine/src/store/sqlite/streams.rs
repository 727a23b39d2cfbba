//! States and events, without a lock and under one.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use super::{
    super::{EventPage, EventStoreError, LogEntry, LogPosition, SNAPSHOT_SCHEMA_VERSION},
    connection::{SqliteEventStore, detached},
    rows::{self, Columns, array, checksum, integer},
};
use crate::{
    events::{StateRebuilder, StoredEvent},
    ids::TaskId,
    limits::PAGE_MAX,
    state::WorkflowSnapshot,
};

const SNAPSHOTS: &str = "
    SELECT s.task_id, s.version, s.state, s.checksum
    FROM json_each(?1) AS r
    CROSS JOIN workflow_snapshots AS s ON s.task_id = r.value
    WHERE s.version = (
        SELECT MAX(version) FROM workflow_snapshots
        WHERE task_id = r.value AND schema_version = ?2
    )";

const TAILS: &str = "
    SELECT e.stream_id, e.version, e.event_id, e.event_type, e.event_data, e.metadata, e.occurred_at
    FROM json_each(?1) AS r
    CROSS JOIN workflow_events AS e ON e.stream_id = r.value ->> 0 AND e.version > r.value ->> 1
    ORDER BY e.stream_id, e.version";

const STREAM: &str = "
    SELECT stream_id, version, event_id, event_type, event_data, metadata, occurred_at
    FROM workflow_events
    WHERE stream_id = ?1 AND version > ?2
    ORDER BY version
    LIMIT ?3";

/// The workflow and the start stand in the head of the stream; should that be lost, in its first
/// event.
const LOG: &str = "
    SELECT e.position, e.stream_id, e.version, e.event_id, e.event_type, e.event_data, e.metadata,
           e.occurred_at,
           coalesce(t.workflow, (
               SELECT first.event_data ->> 'workflow' FROM workflow_events AS first
               WHERE first.stream_id = e.stream_id AND first.version = 1
           )) AS workflow,
           coalesce(t.started_at, (
               SELECT first.occurred_at FROM workflow_events AS first
               WHERE first.stream_id = e.stream_id AND first.version = 1
           )) AS started_at
    FROM workflow_events AS e
    LEFT JOIN tasks AS t ON t.task_id = e.stream_id
    WHERE e.position > ?1
    ORDER BY e.position
    LIMIT ?2";

/// The newest snapshot of each task; one that is not whole is passed over, and its stream replayed.
pub(super) async fn snapshots(
    connection: &mut SqliteConnection,
    tasks: &[TaskId],
) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
    let mut found = HashMap::new();
    if tasks.is_empty() {
        return Ok(found);
    }
    let rows = sqlx::query(SNAPSHOTS)
        .bind(array(tasks)?)
        .bind(i64::from(SNAPSHOT_SCHEMA_VERSION))
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    for row in &rows {
        let columns = Columns::of("workflow_snapshots", row);
        let task = columns.task("task_id")?;
        let version: u64 = columns.unsigned("version")?;
        let text: &str = columns.get("state")?;
        let proof: &[u8] = columns.get("checksum")?;
        let state = (proof == checksum(text))
            .then(|| serde_json::from_str::<WorkflowSnapshot>(text).ok())
            .flatten()
            .filter(|state| state.task_id == task && state.version == version);
        match state {
            Some(state) => {
                found.insert(task, state);
            }
            None => {
                tracing::warn!(%task, version, "a snapshot is not whole; the stream is replayed");
            }
        }
    }
    Ok(found)
}

/// The events of each task after a version, in order.
pub(super) async fn tails(
    connection: &mut SqliteConnection,
    after: &[(TaskId, u64)],
) -> Result<Vec<StoredEvent>, EventStoreError> {
    if after.is_empty() {
        return Ok(Vec::new());
    }
    let after: Vec<_> = after
        .iter()
        .map(|(task, version)| (task, integer(*version)))
        .collect();
    sqlx::query(TAILS)
        .bind(array(&after)?)
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(rows::event)
        .collect()
}

impl SqliteEventStore {
    pub(super) async fn load_states(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
        let store = self.clone();
        let tasks = tasks.to_vec();
        detached(async move {
            // One transaction: snapshots and tails of the same moment.
            let mut tx = store
                .readers()
                .begin()
                .await
                .map_err(EventStoreError::from_sqlite)?;
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

    pub(super) async fn stream(
        &self,
        task: TaskId,
        after: u64,
        limit: u32,
    ) -> Result<EventPage, EventStoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut rows = sqlx::query(STREAM)
            .bind(task.0.hyphenated())
            .bind(integer(after))
            .bind(i64::from(limit) + 1)
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?;
        let more = rows.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            rows.pop();
        }
        let events = rows
            .iter()
            .map(rows::event)
            .collect::<Result<Vec<_>, _>>()?;
        let next_after = if more {
            events.last().map(|event| event.version)
        } else {
            None
        };
        Ok(EventPage { events, next_after })
    }

    pub(super) async fn log(
        &self,
        after: LogPosition,
        limit: u32,
    ) -> Result<Vec<LogEntry>, EventStoreError> {
        let mut connection = self
            .readers()
            .acquire()
            .await
            .map_err(EventStoreError::from_sqlite)?;
        log_after(&mut connection, after.position, limit).await
    }
}

/// The events after a place in the log, in order. With one writer there are no gaps that could
/// still be filled.
pub(super) async fn log_after(
    connection: &mut SqliteConnection,
    position: i64,
    limit: u32,
) -> Result<Vec<LogEntry>, EventStoreError> {
    sqlx::query(LOG)
        .bind(position)
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(rows::log_entry)
        .collect()
}
