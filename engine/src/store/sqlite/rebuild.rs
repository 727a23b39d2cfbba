//! Everything derived, made anew from the log.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use uuid::fmt::Hyphenated;

use super::{
    super::{DueRow, EventStoreError, Rebuild, SNAPSHOT_SCHEMA_VERSION, SnapshotRow, TaskRow},
    connection::{SqliteEventStore, commit, detached},
    rows::{self, Columns, checksum, integer, json},
    slots, write,
};
use crate::{ids::TaskId, state::Places};

const STREAM_IDS: &str = "
    SELECT stream_id FROM workflow_events
    WHERE version = 1 AND (?1 IS NULL OR stream_id > ?1)
    ORDER BY stream_id
    LIMIT ?2";

const LOGGED: &str = "SELECT COALESCE(MAX(version), 0) FROM workflow_events WHERE stream_id = ?1";
const TASK: &str = "SELECT * FROM tasks WHERE task_id = ?1";
const SNAPSHOTS: &str = "
    SELECT version, schema_version, state, checksum FROM workflow_snapshots
    WHERE task_id = ?1 ORDER BY version";
const FORGET_SNAPSHOTS: &str = "DELETE FROM workflow_snapshots WHERE task_id = ?1";
const DUE: &str = "SELECT * FROM timers WHERE task_id = ?1 ORDER BY id";
const FORGET_DUE: &str = "DELETE FROM timers WHERE task_id = ?1";

async fn forget(
    connection: &mut SqliteConnection,
    sql: &'static str,
    task: Hyphenated,
) -> Result<(), EventStoreError> {
    sqlx::query(sql)
        .bind(task)
        .execute(connection)
        .await
        .map(drop)
        .map_err(EventStoreError::from_sqlite)
}

async fn replace_task(
    connection: &mut SqliteConnection,
    row: &TaskRow,
) -> Result<bool, EventStoreError> {
    let found = sqlx::query(TASK)
        .bind(row.task_id.0.hyphenated())
        .fetch_optional(&mut *connection)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    // An unreadable row is replaced like one that differs.
    if found
        .as_ref()
        .and_then(|found| rows::task(found).ok())
        .as_ref()
        == Some(row)
    {
        return Ok(false);
    }
    write::tasks(connection, std::iter::once(row)).await?;
    Ok(true)
}

async fn replace_snapshots(
    connection: &mut SqliteConnection,
    task: TaskId,
    mut snapshots: Vec<SnapshotRow>,
) -> Result<bool, EventStoreError> {
    snapshots.sort_unstable_by_key(|snapshot| snapshot.version);
    let wanted = snapshots
        .iter()
        .map(|snapshot| {
            let text = json(&snapshot.state)?;
            let proof = checksum(&text).to_vec();
            Ok((
                integer(snapshot.version),
                i64::from(SNAPSHOT_SCHEMA_VERSION),
                text,
                proof,
            ))
        })
        .collect::<Result<Vec<_>, EventStoreError>>()?;
    let found = sqlx::query(SNAPSHOTS)
        .bind(task.0.hyphenated())
        .fetch_all(&mut *connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(|row| {
            let columns = Columns::of("workflow_snapshots", row);
            Ok((
                columns.get("version")?,
                columns.get("schema_version")?,
                columns.get("state")?,
                columns.get("checksum")?,
            ))
        })
        .collect::<Result<Vec<(i64, i64, String, Vec<u8>)>, EventStoreError>>()?;
    if wanted == found {
        return Ok(false);
    }
    forget(connection, FORGET_SNAPSHOTS, task.0.hyphenated()).await?;
    write::snapshots(connection, snapshots.iter()).await?;
    Ok(true)
}

async fn replace_due(
    connection: &mut SqliteConnection,
    task: TaskId,
    mut due: Vec<DueRow>,
) -> Result<bool, EventStoreError> {
    due.sort_unstable_by_key(|row| row.id);
    let found = sqlx::query(DUE)
        .bind(task.0.hyphenated())
        .fetch_all(&mut *connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(rows::due)
        .collect::<Result<Vec<_>, _>>();
    if found.is_ok_and(|found| found == due) {
        return Ok(false);
    }
    forget(connection, FORGET_DUE, task.0.hyphenated()).await?;
    write::due_set(connection, due.iter()).await?;
    Ok(true)
}

#[async_trait]
impl Rebuild for SqliteEventStore {
    async fn stream_ids(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError> {
        sqlx::query(STREAM_IDS)
            .bind(after.map(|task| task.0.hyphenated()))
            .bind(i64::from(limit))
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?
            .iter()
            .map(|row| Columns::of("workflow_events", row).task("stream_id"))
            .collect()
    }

    /// Where the stream has moved since it was replayed, nothing is written and the answer is a
    /// [`VersionConflict`](EventStoreError::VersionConflict): replay it again.
    async fn replace_derived(
        &self,
        task: TaskRow,
        places: Places,
        snapshots: Vec<SnapshotRow>,
        due: Vec<DueRow>,
    ) -> Result<(bool, bool, bool), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let logged: i64 = sqlx::query_scalar(LOGGED)
                .bind(task.task_id.0.hyphenated())
                .fetch_one(&mut *tx)
                .await
                .map_err(EventStoreError::from_sqlite)?;
            if logged != integer(task.version) {
                return Err(EventStoreError::VersionConflict {
                    task_id: task.task_id,
                    expected: task.version,
                    actual: u64::try_from(logged).unwrap_or(0),
                });
            }
            let row_changed = replace_task(&mut tx, &task).await?;
            let places_changed = slots::replace(&mut tx, task.task_id, places).await?;
            let changed = (
                row_changed || places_changed,
                replace_snapshots(&mut tx, task.task_id, snapshots).await?,
                replace_due(&mut tx, task.task_id, due).await?,
            );
            commit(tx).await?;
            Ok(changed)
        })
        .await
    }
}
