//! Streams: states, histories and the log.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        EventPage, EventStore, EventStoreError, LogEntry, LogPosition, OpenBatch, OpenRequest,
        SNAPSHOT_SCHEMA_VERSION,
    },
    PgEventStore, batch,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    error::classify,
    rows::{EventColumns, read_event, read_snapshot},
    tasks::slug,
};
use crate::{
    events::{StateRebuilder, StoredEvent},
    ids::TaskId,
    limits::PAGE_MAX,
    state::WorkflowSnapshot,
};

/// The newest snapshot that this build can read, for callers that hold nothing, and the events
/// after it or after what the caller holds. One statement, so one point in time.
const STREAMS: &str = "
    WITH wanted AS MATERIALIZED (
        SELECT w.task_id, w.held, s.version, s.checksum, s.state::text AS state
        FROM unnest($1::uuid[], $2::bigint[], $3::boolean[]) AS w (task_id, held, use_snapshot)
        LEFT JOIN LATERAL (
            SELECT version, checksum, state FROM workflow_snapshots
            WHERE task_id = w.task_id AND schema_version = $4 AND w.use_snapshot
            ORDER BY version DESC LIMIT 1
        ) s ON true
    )
    SELECT w.task_id AS stream_id, w.version, NULL::uuid AS event_id, NULL AS event_type,
           w.state AS event_data, NULL AS metadata, NULL::timestamptz AS occurred_at, w.checksum
    FROM wanted w WHERE w.version IS NOT NULL
    UNION ALL
    SELECT * FROM (
        SELECT e.stream_id, e.version, e.event_id, e.event_type, e.event_data::text,
               e.metadata::text, e.occurred_at, NULL::bytea
        FROM wanted w
        JOIN workflow_events e
          ON e.stream_id = w.task_id AND e.version > greatest(w.held, coalesce(w.version, 0))
        ORDER BY e.stream_id, e.version
    ) tail";

const EVENTS: &str = "
    SELECT stream_id, version, event_id, event_type, event_data::text AS event_data,
           metadata::text AS metadata, occurred_at
    FROM workflow_events WHERE stream_id = $1 AND version > $2 ORDER BY version LIMIT $3";

/// Below the oldest running transaction of the server: what is there is complete. A transaction
/// that stays open elsewhere, in another database too, delays readers of the log, nothing else.
/// The workflow and the start stand in the head of the stream; should that be lost, in its first
/// event.
const LOG: &str = "
    SELECT e.stream_id, e.version, e.event_id, e.event_type, e.event_data::text AS event_data,
           e.metadata::text AS metadata, e.occurred_at, e.txid::text::bigint AS txid, e.position,
           coalesce(t.workflow, (
               SELECT first.event_data ->> 'workflow' FROM workflow_events first
               WHERE first.stream_id = e.stream_id AND first.version = 1
           )) AS workflow,
           coalesce(t.started_at, (
               SELECT first.occurred_at FROM workflow_events first
               WHERE first.stream_id = e.stream_id AND first.version = 1
           )) AS started_at
    FROM workflow_events e
    LEFT JOIN tasks t ON t.task_id = e.stream_id
    WHERE (e.txid, e.position) > ($1::text::xid8, $2)
      AND e.txid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY e.txid, e.position LIMIT $3";

/// Streams to read, each after a version.
#[derive(Default)]
pub(super) struct Wanted {
    tasks: Vec<Uuid>,
    held: Vec<i64>,
    use_snapshot: Vec<bool>,
}

impl Wanted {
    /// The stream of `task` after the version `held`; from its snapshot, where that is 0.
    pub(super) fn add(&mut self, task: TaskId, held: u64) {
        self.tasks.push(task.0);
        self.held.push(i64::try_from(held).unwrap_or(i64::MAX));
        self.use_snapshot.push(held == 0);
    }

    fn replay(&mut self, task: TaskId) {
        self.tasks.push(task.0);
        self.held.push(0);
        self.use_snapshot.push(false);
    }
}

/// What was read of a stream.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) snapshot: Option<WorkflowSnapshot>,
    pub(super) tail: Vec<StoredEvent>,
}

/// Reads streams; one whose snapshot is not whole is read again from its beginning.
pub(super) async fn read_streams(
    conn: &mut PgConnection,
    wanted: Wanted,
) -> Result<HashMap<TaskId, Stream>, EventStoreError> {
    let mut streams = HashMap::new();
    let again = read_into(&mut streams, conn, wanted).await?;
    read_into(&mut streams, conn, again).await?;
    Ok(streams)
}

/// Answers the streams whose snapshots are not whole.
async fn read_into(
    streams: &mut HashMap<TaskId, Stream>,
    conn: &mut PgConnection,
    wanted: Wanted,
) -> Result<Wanted, EventStoreError> {
    let mut again = Wanted::default();
    if wanted.tasks.is_empty() {
        return Ok(again);
    }
    let rows = sqlx::query(STREAMS)
        .bind(wanted.tasks)
        .bind(wanted.held)
        .bind(wanted.use_snapshot)
        .bind(i32::from(SNAPSHOT_SCHEMA_VERSION))
        .fetch_all(conn)
        .await
        .map_err(classify)?;
    let mut damaged = HashSet::new();
    for row in &rows {
        let Some(checksum) = row
            .try_get::<Option<&[u8]>, _>("checksum")
            .map_err(classify)?
        else {
            continue;
        };
        let task = TaskId(row.try_get("stream_id").map_err(classify)?);
        let version = row.try_get("version").map_err(classify)?;
        let text = row.try_get("event_data").map_err(classify)?;
        if let Some(state) = read_snapshot(task, version, checksum, text) {
            streams.insert(
                task,
                Stream {
                    snapshot: Some(state),
                    tail: Vec::new(),
                },
            );
        } else {
            damaged.insert(task);
            again.replay(task);
        }
    }
    for row in &rows {
        if row
            .try_get::<Option<Uuid>, _>("event_id")
            .map_err(classify)?
            .is_none()
        {
            continue;
        }
        let event = stored_event(row)?;
        if !damaged.contains(&event.task_id) {
            streams.entry(event.task_id).or_default().tail.push(event);
        }
    }
    for stream in streams.values_mut() {
        stream.tail.sort_by_key(|event| event.version);
    }
    Ok(again)
}

pub(super) fn stored_event(row: &PgRow) -> Result<StoredEvent, EventStoreError> {
    read_event(&EventColumns {
        task_id: TaskId(row.try_get("stream_id").map_err(classify)?),
        version: row.try_get("version").map_err(classify)?,
        event_id: row.try_get("event_id").map_err(classify)?,
        event_type: row.try_get("event_type").map_err(classify)?,
        event_data: row.try_get("event_data").map_err(classify)?,
        metadata: row.try_get("metadata").map_err(classify)?,
        occurred_at: row.try_get("occurred_at").map_err(classify)?,
    })
}

/// Reads a page of the log.
pub(super) async fn read_log(
    conn: &mut PgConnection,
    after: LogPosition,
    limit: u32,
) -> Result<Vec<LogEntry>, EventStoreError> {
    let rows = sqlx::query(LOG)
        .bind(after.transaction.to_string())
        .bind(after.position)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await
        .map_err(classify)?;
    rows.iter()
        .map(|row| {
            Ok(LogEntry {
                position: LogPosition {
                    transaction: row.try_get("txid").map_err(classify)?,
                    position: row.try_get("position").map_err(classify)?,
                },
                workflow: slug("tasks", row.try_get("workflow").map_err(classify)?)?,
                started_at: row.try_get("started_at").map_err(classify)?,
                event: stored_event(row)?,
            })
        })
        .collect()
}

#[async_trait]
impl EventStore for PgEventStore {
    async fn open(&self, request: OpenRequest) -> Result<Box<dyn OpenBatch>, EventStoreError> {
        batch::open(self.pool.clone(), request).await
    }

    async fn load(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
        let mut wanted = Wanted::default();
        for task in tasks.iter().collect::<HashSet<_>>() {
            wanted.add(*task, 0);
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
        let limit = limit.clamp(1, PAGE_MAX);
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(EVENTS)
                        .bind(task.0)
                        .bind(after)
                        .bind(i64::from(limit) + 1)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        let mut events = rows
            .iter()
            .map(stored_event)
            .collect::<Result<Vec<_>, _>>()?;
        let more = events.len() > limit as usize;
        events.truncate(limit as usize);
        let next_after = events.last().filter(|_| more).map(|event| event.version);
        Ok(EventPage { events, next_after })
    }

    async fn read_log(
        &self,
        after: LogPosition,
        limit: u32,
    ) -> Result<Vec<LogEntry>, EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(read_log(conn, after, limit))
        })
        .await
    }
}
