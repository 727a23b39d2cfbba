//! Everything derived, made anew from the log.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    super::{DueRow, EventStoreError, Rebuild, SNAPSHOT_SCHEMA_VERSION, SnapshotRow, TaskRow},
    PgEventStore,
    connection::LONG_WORK_TIMEOUT,
    error::classify,
    rows::{snapshot_text, to_json},
    slots,
    tasks::task_row,
    timers::due_row,
};
use crate::{
    ids::{Slug, TaskId},
    limits::PAGE_MAX,
    state::Places,
};

/// A skip scan: one step through the index for each stream, however many events it has.
const STREAM_IDS: &str = "
    WITH RECURSIVE ids AS (
        (SELECT stream_id FROM workflow_events
         WHERE $1::uuid IS NULL OR stream_id > $1 ORDER BY stream_id LIMIT 1)
        UNION ALL
        SELECT next.stream_id FROM ids CROSS JOIN LATERAL (
            SELECT stream_id FROM workflow_events
            WHERE stream_id > ids.stream_id ORDER BY stream_id LIMIT 1
        ) next
    )
    SELECT stream_id FROM ids LIMIT $2";

const CREATE: &str = "INSERT INTO tasks (task_id) VALUES ($1) ON CONFLICT (task_id) DO NOTHING";

const LOCK: &str = "
    SELECT task_id, workflow, revision, workflow_id, version, status, current_steps,
           labels::text AS labels, incidents, started_at, updated_at
    FROM tasks WHERE task_id = $1 FOR UPDATE";

const LAST: &str = "SELECT coalesce(max(version), 0) FROM workflow_events WHERE stream_id = $1";

const SET_TASK: &str = "
    UPDATE tasks
    SET version = $2, workflow = $3, revision = $4, workflow_id = $5, status = $6,
        current_steps = $7, labels = $8::jsonb, incidents = $9, started_at = $10, updated_at = $11
    WHERE task_id = $1";

const SNAPSHOTS: &str = "
    SELECT version, schema_version, checksum, state::text FROM workflow_snapshots
    WHERE task_id = $1";

const DELETE_SNAPSHOTS: &str = "DELETE FROM workflow_snapshots WHERE task_id = $1";

const INSERT_SNAPSHOTS: &str = "
    INSERT INTO workflow_snapshots (task_id, version, schema_version, checksum, state)
    SELECT $1, s.version, $2, s.checksum, s.state::json
    FROM unnest($3::bigint[], $4::bytea[], $5::text[]) AS s (version, checksum, state)";

const DUE: &str = "
    SELECT id, task_id, step_id, visit, kind, n, due_at FROM timers WHERE task_id = $1";

const DELETE_DUE: &str = "DELETE FROM timers WHERE task_id = $1";

const INSERT_DUE: &str = "
    INSERT INTO timers (id, task_id, step_id, visit, kind, n, due_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::text[], $6::int[],
                         $7::timestamptz[])";

#[async_trait]
impl Rebuild for PgEventStore {
    async fn stream_ids(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError> {
        let ids: Vec<Uuid> = self
            .run(LONG_WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query_scalar(STREAM_IDS)
                        .bind(after.map(|task| task.0))
                        .bind(i64::from(limit.clamp(1, PAGE_MAX)))
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        Ok(ids.into_iter().map(TaskId).collect())
    }

    async fn replace_derived(
        &self,
        task: TaskRow,
        places: Places,
        snapshots: Vec<SnapshotRow>,
        due: Vec<DueRow>,
    ) -> Result<(bool, bool, bool), EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, |conn| {
            Box::pin(async move {
                let mut tx = conn.begin().await.map_err(classify)?;
                let row_changed = replace_task(&mut tx, &task).await?;
                let places_changed = slots::replace(&mut tx, task.task_id, places).await?;
                let changed = (
                    row_changed || places_changed,
                    replace_snapshots(&mut tx, task.task_id, &snapshots).await?,
                    replace_due(&mut tx, task.task_id, &due).await?,
                );
                // Unknown is as good as failed: a second time finds nothing to change.
                tx.commit().await.map_err(classify)?;
                Ok(changed)
            })
        })
        .await
    }
}

/// Makes or corrects the search row, under its lock. Refused where the stream has moved on since
/// it was replayed.
async fn replace_task(conn: &mut PgConnection, task: &TaskRow) -> Result<bool, EventStoreError> {
    let id = task.task_id.0;
    let created = sqlx::query(CREATE)
        .bind(id)
        .execute(&mut *conn)
        .await
        .map_err(classify)?;
    let found = sqlx::query(LOCK)
        .bind(id)
        .fetch_one(&mut *conn)
        .await
        .map_err(classify)?;
    let last: i64 = sqlx::query_scalar(LAST)
        .bind(id)
        .fetch_one(&mut *conn)
        .await
        .map_err(classify)?;
    let actual: u64 = super::rows::unsigned("workflow_events", last)?;
    if actual != task.version {
        return Err(EventStoreError::VersionConflict {
            task_id: task.task_id,
            expected: task.version,
            actual,
        });
    }
    // A row that cannot be read is one to be replaced.
    if created.rows_affected() == 0 && task_row(&found).is_ok_and(|found| found == *task) {
        return Ok(false);
    }
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    sqlx::query(SET_TASK)
        .bind(id)
        .bind(last)
        .bind(task.workflow.as_str())
        .bind(number(task.revision))
        .bind(task.revision_id.0)
        .bind(task.status.as_str())
        .bind(
            task.current_steps
                .iter()
                .map(Slug::as_str)
                .collect::<Vec<_>>(),
        )
        .bind(to_json(&task.labels)?)
        .bind(number(task.incidents))
        .bind(task.started_at)
        .bind(task.updated_at)
        .execute(conn)
        .await
        .map_err(classify)?;
    Ok(true)
}

async fn replace_snapshots(
    conn: &mut PgConnection,
    task: TaskId,
    snapshots: &[SnapshotRow],
) -> Result<bool, EventStoreError> {
    let schema_version = i32::from(SNAPSHOT_SCHEMA_VERSION);
    let mut wanted = BTreeMap::new();
    for snapshot in snapshots {
        let version = i64::try_from(snapshot.version).unwrap_or(i64::MAX);
        let (text, checksum) = snapshot_text(&snapshot.state)?;
        wanted.insert(version, (schema_version, checksum.to_vec(), text));
    }
    let found: Vec<(i64, i32, Vec<u8>, String)> = sqlx::query_as(SNAPSHOTS)
        .bind(task.0)
        .fetch_all(&mut *conn)
        .await
        .map_err(classify)?;
    let found: BTreeMap<_, _> = found
        .into_iter()
        .map(|(version, schema, sum, text)| (version, (schema, sum, text)))
        .collect();
    if found == wanted {
        return Ok(false);
    }
    sqlx::query(DELETE_SNAPSHOTS)
        .bind(task.0)
        .execute(&mut *conn)
        .await
        .map_err(classify)?;
    let (versions, rest): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
    let (checksums, states): (Vec<_>, Vec<_>) = rest
        .into_iter()
        .map(|(_, checksum, text)| (checksum, text))
        .unzip();
    sqlx::query(INSERT_SNAPSHOTS)
        .bind(task.0)
        .bind(schema_version)
        .bind(versions)
        .bind(checksums)
        .bind(states)
        .execute(conn)
        .await
        .map_err(classify)?;
    Ok(true)
}

async fn replace_due(
    conn: &mut PgConnection,
    task: TaskId,
    due: &[DueRow],
) -> Result<bool, EventStoreError> {
    let found = sqlx::query(DUE)
        .bind(task.0)
        .fetch_all(&mut *conn)
        .await
        .map_err(classify)?;
    let found: Result<BTreeMap<Uuid, DueRow>, _> = found
        .iter()
        .map(|row| due_row(row).map(|row| (row.id, row)))
        .collect();
    let wanted: BTreeMap<Uuid, DueRow> = due.iter().map(|row| (row.id, row.clone())).collect();
    if found.is_ok_and(|found| found == wanted) {
        return Ok(false);
    }
    sqlx::query(DELETE_DUE)
        .bind(task.0)
        .execute(&mut *conn)
        .await
        .map_err(classify)?;
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let due: Vec<_> = wanted.into_values().collect();
    sqlx::query(INSERT_DUE)
        .bind(due.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(due.iter().map(|row| row.task_id.0).collect::<Vec<_>>())
        .bind(
            due.iter()
                .map(|row| row.step_id.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(due.iter().map(|row| number(row.visit)).collect::<Vec<_>>())
        .bind(due.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>())
        .bind(due.iter().map(|row| number(row.n)).collect::<Vec<_>>())
        .bind(
            due.iter()
                .map(|row| row.due_at)
                .collect::<Vec<DateTime<Utc>>>(),
        )
        .execute(conn)
        .await
        .map_err(classify)?;
    Ok(true)
}
