//! Streams: states and events of tasks, without a lock and under one.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use super::{
    super::{
        EventStoreError, SNAPSHOT_SCHEMA_VERSION,
        rows::{self, Columns},
    },
    query::{SqliteQuery, fetch},
    rows::{array, integer},
};
use crate::{events::StoredEvent, ids::TaskId, state::WorkflowSnapshot};

const SNAPSHOTS: &str = "
    SELECT s.task_id, s.version, s.state, s.checksum
    FROM json_each(?1) AS r
    CROSS JOIN workflow_snapshots AS s ON s.task_id = r.value
    WHERE s.version = (
        SELECT MAX(version) FROM workflow_snapshots
        WHERE task_id = r.value AND schema_version = ?2
    )";

const ARCHIVED: &str = "
    SELECT a.task_id, a.archived_at, a.state
    FROM json_each(?1) AS r CROSS JOIN archived_tasks AS a ON a.task_id = r.value";

const TAILS: &str = "
    SELECT e.*
    FROM json_each(?1) AS r
    CROSS JOIN stored_events AS e ON e.stream_id = r.value ->> 0 AND e.version > r.value ->> 1
    ORDER BY e.stream_id, e.version";

const STREAM: &str = "
    SELECT *
    FROM stored_events
    WHERE stream_id = ?1 AND version > ?2
    ORDER BY version
    LIMIT ?3";

/// The newest snapshot of each task; the last state of one that is archived. If the checksum of a
/// snapshot does not match, it is ignored and the stream replayed.
pub(super) async fn snapshots(
    connection: &mut SqliteConnection,
    tasks: &[TaskId],
) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
    let mut found = HashMap::new();
    if tasks.is_empty() {
        return Ok(found);
    }
    let query = sqlx::query(SNAPSHOTS)
        .bind(array(tasks)?)
        .bind(i64::from(SNAPSHOT_SCHEMA_VERSION));
    let states = fetch(&mut *connection, query, |row| {
        let columns = Columns::of("workflow_snapshots", row);
        let task = columns.task("task_id")?;
        Ok((task, rows::snapshot(&columns, task)?))
    })
    .await?;
    found.extend(
        states
            .into_iter()
            .filter_map(|(task, state)| Some((task, state?))),
    );
    let query = sqlx::query(ARCHIVED).bind(array(tasks)?);
    let archived = fetch(&mut *connection, query, |row| {
        let columns = Columns::of("archived_tasks", row);
        Ok((columns.task("task_id")?, rows::archived(&columns)?))
    });
    let archived = archived.await?;
    let from_start: Vec<_> = archived.iter().map(|(task, _)| (*task, 0)).collect();
    let left = tails(connection, &from_start).await?;
    for (task, (last, at)) in archived {
        let first = left.partition_point(|event| event.task_id < task);
        let after = left.partition_point(|event| event.task_id <= task);
        found.insert(task, last.whole(&left[first..after], at));
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
    let query = sqlx::query(TAILS).bind(array(&after)?);
    fetch(connection, query, rows::event).await
}

/// At most `limit` events of a stream after a version.
pub(super) fn events_after(task: TaskId, version: u64, limit: u32) -> SqliteQuery {
    sqlx::query(STREAM)
        .bind(task.0.hyphenated())
        .bind(integer(version))
        .bind(limit)
}
