//! Streams: states and histories of tasks.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, SNAPSHOT_SCHEMA_VERSION,
        retention::LastState,
        rows::{self, Columns},
    },
    query::{PgQuery, fetch},
};
use crate::{events::StoredEvent, ids::TaskId, state::WorkflowSnapshot};

/// When an event was decided, and what caused it: the columns, qualified by the table or by its alias
/// in a statement.
macro_rules! cause_columns {
    ($of:literal) => {
        concat!(
            $of,
            ".occurred_at, ",
            $of,
            ".command_id, ",
            $of,
            ".correlation_id, ",
            $of,
            ".traceparent, ",
            $of,
            ".actor, ",
            $of,
            ".schema_version, ",
            $of,
            ".gold"
        )
    };
}
pub(super) use cause_columns;

/// The columns of a stored event, qualified by the table or by its alias in a statement, with its
/// JSON as text.
macro_rules! event_columns {
    ($of:literal) => {
        concat!(
            $of,
            ".stream_id, ",
            $of,
            ".version, ",
            $of,
            ".event_id, ",
            $of,
            ".event_type, ",
            $of,
            ".event_data, ",
            cause_columns!($of)
        )
    };
}
pub(super) use event_columns;

/// The newest snapshot this build can read, for callers without a version, and the events after the
/// snapshot or after the caller's version; of an archived task what is left of it. One statement,
/// so one point in time. Rows with a state are states; the others are events.
const STREAMS: &str = concat!(
    "
    WITH wanted AS MATERIALIZED (
        SELECT w.task_id, w.claimed, s.version, s.checksum, coalesce(a.state, s.state)::text AS state,
               a.archived_at
        FROM unnest($1::uuid[], $2::bigint[], $3::boolean[]) AS w (task_id, claimed, use_snapshot)
        LEFT JOIN LATERAL (
            SELECT version, checksum, state FROM workflow_snapshots
            WHERE task_id = w.task_id AND schema_version = $4 AND w.use_snapshot
            ORDER BY version DESC LIMIT 1
        ) s ON true
        LEFT JOIN archived_tasks a ON a.task_id = w.task_id
    )
    SELECT w.task_id AS stream_id, w.version, NULL::uuid AS event_id, NULL AS event_type,
           NULL AS event_data, NULL::timestamptz AS occurred_at, NULL::uuid AS command_id,
           NULL AS correlation_id, NULL AS traceparent, NULL AS actor, NULL::int AS schema_version,
           NULL::boolean AS gold, w.checksum, w.state, w.archived_at
    FROM wanted w WHERE w.state IS NOT NULL
    UNION ALL
    SELECT * FROM (
        SELECT ",
    event_columns!("e"),
    ", NULL::bytea, NULL, NULL::timestamptz
        FROM wanted w
        JOIN stored_events e
          ON e.stream_id = w.task_id
         AND e.version > CASE WHEN w.archived_at IS NULL
                              THEN greatest(w.claimed, coalesce(w.version, 0)) ELSE 0 END
        ORDER BY e.stream_id, e.version
    ) tail"
);

const EVENTS: &str = concat!(
    "SELECT ",
    event_columns!("e"),
    "
    FROM stored_events e WHERE e.stream_id = $1 AND e.version > $2 ORDER BY e.version LIMIT $3"
);

/// Streams to read, each after a version.
#[derive(Default)]
pub(super) struct Wanted {
    tasks: Vec<Uuid>,
    claimed: Vec<i64>,
    use_snapshot: Vec<bool>,
}

impl Wanted {
    /// The whole stream of `task`, from its snapshot on.
    pub(super) fn all(&mut self, task: TaskId) {
        self.push(task, 0, true);
    }

    /// The events of `task` after a version.
    pub(super) fn after(&mut self, task: TaskId, version: u64) {
        self.push(task, version, false);
    }

    fn push(&mut self, task: TaskId, after: u64, use_snapshot: bool) {
        self.tasks.push(task.0);
        self.claimed.push(i64::try_from(after).unwrap_or(i64::MAX));
        self.use_snapshot.push(use_snapshot);
    }
}

/// What was read from a stream.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) snapshot: Option<WorkflowSnapshot>,
    pub(super) tail: Vec<StoredEvent>,
}

/// Reads streams; if a checksum of a snapshot does not match, reads its stream from the beginning.
pub(super) async fn read_streams(
    conn: &mut PgConnection,
    wanted: Wanted,
) -> Result<HashMap<TaskId, Stream>, EventStoreError> {
    let mut streams = HashMap::new();
    let again = read_into(&mut streams, conn, wanted).await?;
    read_into(&mut streams, conn, again).await?;
    Ok(streams)
}

/// A row of [`STREAMS`].
enum Part {
    /// A snapshot; `None` if its checksum does not match.
    Snapshot(TaskId, Option<WorkflowSnapshot>),
    Archived(TaskId, Box<LastState>, DateTime<Utc>),
    Event(StoredEvent),
}

/// Returns the streams whose snapshots are damaged.
async fn read_into(
    streams: &mut HashMap<TaskId, Stream>,
    conn: &mut PgConnection,
    wanted: Wanted,
) -> Result<Wanted, EventStoreError> {
    let mut again = Wanted::default();
    if wanted.tasks.is_empty() {
        return Ok(again);
    }
    let query = sqlx::query(STREAMS)
        .bind(wanted.tasks)
        .bind(wanted.claimed)
        .bind(wanted.use_snapshot)
        .bind(i32::from(SNAPSHOT_SCHEMA_VERSION));
    let parts = fetch(conn, query, |row| {
        let columns = Columns::of("workflow_snapshots", row);
        if columns.opt_text("state")?.is_none() {
            return rows::event(row).map(Part::Event);
        }
        let task = columns.task("stream_id")?;
        if columns.opt_time("archived_at")?.is_some() {
            let (last, at) = rows::archived(&columns)?;
            return Ok(Part::Archived(task, Box::new(last), at));
        }
        Ok(Part::Snapshot(task, rows::snapshot(&columns, task)?))
    })
    .await?;
    let mut damaged = HashSet::new();
    let mut events = Vec::new();
    let mut archived = Vec::new();
    for part in parts {
        match part {
            Part::Snapshot(task, Some(state)) => {
                streams.entry(task).or_default().snapshot = Some(state);
            }
            Part::Snapshot(task, None) => {
                damaged.insert(task);
                again.after(task, 0);
            }
            Part::Archived(task, last, at) => archived.push((task, last, at)),
            Part::Event(event) => events.push(event),
        }
    }
    events.retain(|event| !damaged.contains(&event.task_id));
    events.sort_by_key(|event| event.version);
    for event in events {
        streams.entry(event.task_id).or_default().tail.push(event);
    }
    for (task, last, at) in archived {
        let stream = streams.entry(task).or_default();
        let left = std::mem::take(&mut stream.tail);
        stream.snapshot = Some(last.whole(&left, at));
    }
    Ok(again)
}

/// At most `limit` events of a stream after a version.
pub(super) fn events_after(task: TaskId, version: u64, limit: u32) -> PgQuery {
    sqlx::query(EVENTS)
        .bind(task.0)
        .bind(i64::try_from(version).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
}
