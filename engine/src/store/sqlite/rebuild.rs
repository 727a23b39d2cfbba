//! Rebuilds all derived data from the event log.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{
    super::{
        DerivedChanges, EventStoreError, Rebuild, SNAPSHOT_SCHEMA_VERSION, SnapshotRow, TaskRow,
        Timer,
        rows::{self, Columns, checksum},
    },
    connection::{SqliteEventStore, commit, detached},
    query::{execute, fetch, fetch_optional, scalar},
    rows::{integer, json},
    slots, write,
};
use crate::{ids::TaskId, state::Slots};

const STREAM_IDS: &str = "
    SELECT stream_id FROM stored_events
    WHERE version = 1 AND (?1 IS NULL OR stream_id > ?1)
    ORDER BY stream_id
    LIMIT ?2";

const LOGGED: &str = "SELECT COALESCE(MAX(version), 0) FROM stored_events WHERE stream_id = ?1";
const TASK: &str = "SELECT * FROM tasks WHERE task_id = ?1";
const SNAPSHOTS: &str = "
    SELECT version, schema_version, state, checksum FROM workflow_snapshots
    WHERE task_id = ?1 ORDER BY version";
const FORGET_SNAPSHOTS: &str = "DELETE FROM workflow_snapshots WHERE task_id = ?1";
const DUE: &str = "SELECT * FROM timers WHERE task_id = ?1 ORDER BY id";
const FORGET_TIMERS: &str = "DELETE FROM timers WHERE task_id = ?1";

const COUNTS_THAT_DIFFER: &str = "
    SELECT COUNT(*) FROM task_counts AS c
    WHERE c.count <> (SELECT COUNT(*) FROM tasks AS t WHERE t.status = c.status)";
const RECOUNT: &str = "
    UPDATE task_counts
    SET count = (SELECT COUNT(*) FROM tasks AS t WHERE t.status = task_counts.status)";

async fn replace_task(
    connection: &mut SqliteConnection,
    row: &TaskRow,
) -> Result<bool, EventStoreError> {
    let query = sqlx::query(TASK).bind(row.task_id.0.hyphenated());
    // An unreadable row is replaced.
    let is_equal = fetch_optional(&mut *connection, query, |found| {
        Ok(rows::task(found).is_ok_and(|found| found == *row))
    });
    if is_equal.await? == Some(true) {
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
    let query = sqlx::query(SNAPSHOTS).bind(task.0.hyphenated());
    let found = fetch(&mut *connection, query, |row| {
        let columns = Columns::of("workflow_snapshots", row);
        Ok((
            columns.number("version")?,
            columns.number("schema_version")?,
            columns.string("state")?,
            columns.bytes("checksum")?,
        ))
    });
    // Older ones may have been deleted; loading needs the newest one.
    let found = found.await?;
    if found.iter().all(|one| wanted.contains(one)) && found.last() == wanted.last() {
        return Ok(false);
    }
    let query = sqlx::query(FORGET_SNAPSHOTS).bind(task.0.hyphenated());
    execute(connection, query).await?;
    write::snapshots(connection, snapshots.iter()).await?;
    Ok(true)
}

async fn replace_timers(
    connection: &mut SqliteConnection,
    task: TaskId,
    mut due: Vec<Timer>,
) -> Result<bool, EventStoreError> {
    due.sort_unstable_by_key(|row| row.id);
    let query = sqlx::query(DUE).bind(task.0.hyphenated());
    let found = fetch(&mut *connection, query, rows::due).await;
    if found.is_ok_and(|found| found == due) {
        return Ok(false);
    }
    let query = sqlx::query(FORGET_TIMERS).bind(task.0.hyphenated());
    execute(connection, query).await?;
    write::timers_set(connection, due.iter()).await?;
    Ok(true)
}

#[async_trait]
impl Rebuild for SqliteEventStore {
    async fn stream_ids(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError> {
        let query = sqlx::query(STREAM_IDS)
            .bind(after.map(|task| task.0.hyphenated()))
            .bind(i64::from(limit));
        self.fetch(query, |row| {
            Columns::of("stored_events", row).task("stream_id")
        })
        .await
    }

    /// If the stream has moved since it was replayed, writes nothing and returns a
    /// [`VersionConflict`](EventStoreError::VersionConflict): replay it again.
    async fn replace_derived(
        &self,
        task: TaskRow,
        slots: Slots,
        snapshots: Vec<SnapshotRow>,
        due: Vec<Timer>,
    ) -> Result<DerivedChanges, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let query = sqlx::query(LOGGED).bind(task.task_id.0.hyphenated());
            let logged: i64 = scalar(&mut *tx, query).await?;
            if logged != integer(task.version) {
                return Err(EventStoreError::VersionConflict {
                    task_id: task.task_id,
                    expected: task.version,
                    actual: u64::try_from(logged).unwrap_or(0),
                });
            }
            let row_changed = replace_task(&mut tx, &task).await?;
            let slots_changed = slots::replace(&mut tx, task.task_id, slots).await?;
            let changes = DerivedChanges {
                task: row_changed || slots_changed,
                snapshots: replace_snapshots(&mut tx, task.task_id, snapshots).await?,
                timers: replace_timers(&mut tx, task.task_id, due).await?,
            };
            commit(tx).await?;
            Ok(changes)
        })
        .await
    }

    async fn recount_tasks(&self) -> Result<bool, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let differ: i64 = scalar(&mut *tx, sqlx::query(COUNTS_THAT_DIFFER)).await?;
            execute(&mut tx, sqlx::query(RECOUNT)).await?;
            commit(tx).await?;
            Ok(differ > 0)
        })
        .await
    }
}
