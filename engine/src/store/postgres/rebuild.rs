//! Rebuilds all derived data from the event log.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{
        DerivedChanges, EventStoreError, Rebuild, SNAPSHOT_SCHEMA_VERSION, SnapshotRow, TaskRow,
        Timer, rows,
    },
    PgEventStore,
    connection::LONG_WORK_TIMEOUT,
    query::{PgQuery, begin, commit_repeatable, execute, fetch, fetch_one, nth, scalar},
    rows::{column, signed, snapshot_text, to_json},
    slots,
    tasks::task_columns,
    timers::timer_columns,
    write::Seldom,
};
use crate::{ids::TaskId, limits::PAGE_MAX, state::Slots};

/// A skip scan: one index step for each stream, however many events it has.
const STREAM_IDS: &str = "
    WITH RECURSIVE ids AS (
        (SELECT stream_id FROM stored_events
         WHERE $1::uuid IS NULL OR stream_id > $1 ORDER BY stream_id LIMIT 1)
        UNION ALL
        SELECT next.stream_id FROM ids CROSS JOIN LATERAL (
            SELECT stream_id FROM stored_events
            WHERE stream_id > ids.stream_id ORDER BY stream_id LIMIT 1
        ) next
    )
    SELECT stream_id FROM ids LIMIT $2";

const CREATE: &str = "INSERT INTO tasks (task_id) VALUES ($1) ON CONFLICT (task_id) DO NOTHING";

const LOCK: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks WHERE task_id = $1 FOR UPDATE"
);

const LAST: &str = "SELECT coalesce(max(version), 0) FROM stored_events WHERE stream_id = $1";

const SET_TASK: &str = "
    UPDATE tasks
    SET version = $2, workflow = $3, revision = $4, workflow_id = $5, status = $6,
        current_steps = $7, labels = $8::jsonb, incidents = $9, started_at = $10, updated_at = $11
    WHERE task_id = $1";

const SNAPSHOTS: &str = "
    SELECT version, schema_version, checksum, state::text FROM workflow_snapshots
    WHERE task_id = $1";

const DELETE_SNAPSHOTS: &str = "DELETE FROM workflow_snapshots WHERE task_id = $1";

const DUE: &str = concat!(
    "SELECT ",
    timer_columns!("timers"),
    " FROM timers WHERE task_id = $1"
);

const DELETE_TIMERS: &str = "DELETE FROM timers WHERE task_id = $1";

/// Both sides are read by one snapshot, and each transaction changes both, so what is added corrects
/// the sum whoever writes meanwhile.
const RECOUNT: &str = "
    INSERT INTO task_counts (status, change)
    SELECT status, sum(change) FROM (
        SELECT status, count(*) AS change FROM tasks WHERE status IS NOT NULL GROUP BY status
        UNION ALL
        SELECT status, -change FROM task_counts
    ) AS counted
    GROUP BY status HAVING sum(change) <> 0";

#[async_trait]
impl Rebuild for PgEventStore {
    async fn stream_ids(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError> {
        let query = sqlx::query(STREAM_IDS)
            .bind(after.map(|task| task.0))
            .bind(i64::from(limit.clamp(1, PAGE_MAX)));
        self.fetch(LONG_WORK_TIMEOUT, query, |row| Ok(TaskId(nth(row, 0)?)))
            .await
    }

    async fn replace_derived(
        &self,
        task: TaskRow,
        slots: Slots,
        snapshots: Vec<SnapshotRow>,
        due: Vec<Timer>,
    ) -> Result<DerivedChanges, EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                let row_changed = replace_task(&mut tx, &task).await?;
                let slots_changed = slots::replace(&mut tx, task.task_id, slots).await?;
                let changes = DerivedChanges {
                    task: row_changed || slots_changed,
                    snapshots: replace_snapshots(&mut tx, task.task_id, snapshots).await?,
                    timers: replace_timers(&mut tx, task.task_id, due).await?,
                };
                // A second run finds nothing to change.
                commit_repeatable(tx).await?;
                Ok(changes)
            })
        })
        .await
    }

    async fn recount_tasks(&self) -> Result<bool, EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, |conn| {
            Box::pin(async move { Ok(execute(conn, sqlx::query(RECOUNT)).await? > 0) })
        })
        .await
    }
}

/// Creates or corrects the search row, under its lock. Fails if the stream has moved since it was
/// replayed.
async fn replace_task(conn: &mut PgConnection, task: &TaskRow) -> Result<bool, EventStoreError> {
    let id = task.task_id.0;
    let created = execute(conn, sqlx::query(CREATE).bind(id)).await?;
    // An unreadable row is replaced.
    let is_equal = fetch_one(conn, sqlx::query(LOCK).bind(id), |row| {
        Ok(rows::task(row).is_ok_and(|found| found == *task))
    })
    .await?;
    let last: i64 = scalar(conn, sqlx::query(LAST).bind(id)).await?;
    if last != signed::<i64, _>(task.version)? {
        return Err(EventStoreError::VersionConflict {
            task_id: task.task_id,
            expected: task.version,
            actual: u64::try_from(last).unwrap_or_default(),
        });
    }
    if created == 0 && is_equal {
        return Ok(false);
    }
    execute(conn, set_task(task)?).await?;
    Ok(true)
}

/// Sets the search row of a task that has a head.
pub(super) fn set_task(task: &TaskRow) -> Result<PgQuery, EventStoreError> {
    Ok(sqlx::query(SET_TASK)
        .bind(task.task_id.0)
        .bind(signed::<i64, _>(task.version)?)
        .bind(task.workflow.to_string())
        .bind(signed::<i32, _>(task.revision)?)
        .bind(task.revision_id.0)
        .bind(task.status.as_str())
        .bind(column(&task.current_steps, ToString::to_string))
        .bind(to_json(&task.labels)?)
        .bind(signed::<i32, _>(task.incidents)?)
        .bind(task.started_at)
        .bind(task.updated_at))
}

async fn replace_snapshots(
    conn: &mut PgConnection,
    task: TaskId,
    snapshots: Vec<SnapshotRow>,
) -> Result<bool, EventStoreError> {
    let schema_version = i32::from(SNAPSHOT_SCHEMA_VERSION);
    let mut wanted = BTreeMap::new();
    for snapshot in &snapshots {
        let version: i64 = signed(snapshot.version)?;
        let (text, checksum) = snapshot_text(&snapshot.state)?;
        wanted.insert(version, (schema_version, checksum.to_vec(), text));
    }
    let found = fetch(conn, sqlx::query(SNAPSHOTS).bind(task.0), |row| {
        let content: (i32, Vec<u8>, String) = (nth(row, 1)?, nth(row, 2)?, nth(row, 3)?);
        Ok((nth(row, 0)?, content))
    })
    .await?;
    // Older ones may have been deleted; loading needs the newest one.
    let found: BTreeMap<i64, _> = found.into_iter().collect();
    let newest = wanted.last_key_value();
    let are_right = found
        .iter()
        .all(|(version, one)| wanted.get(version) == Some(one));
    if are_right && found.last_key_value() == newest {
        return Ok(false);
    }
    execute(conn, sqlx::query(DELETE_SNAPSHOTS).bind(task.0)).await?;
    let mut seldom = Seldom::default();
    for snapshot in snapshots {
        seldom.push(Vec::new(), Vec::new(), Vec::new(), Some(snapshot));
    }
    seldom.write(conn).await?;
    Ok(true)
}

async fn replace_timers(
    conn: &mut PgConnection,
    task: TaskId,
    due: Vec<Timer>,
) -> Result<bool, EventStoreError> {
    let by_id = |rows: Vec<Timer>| -> BTreeMap<Uuid, Timer> {
        rows.into_iter().map(|row| (row.id, row)).collect()
    };
    let found = fetch(conn, sqlx::query(DUE).bind(task.0), rows::due).await;
    let wanted = by_id(due);
    if found.is_ok_and(|found| by_id(found) == wanted) {
        return Ok(false);
    }
    execute(conn, sqlx::query(DELETE_TIMERS).bind(task.0)).await?;
    let mut seldom = Seldom::default();
    seldom.push(wanted.into_values().collect(), Vec::new(), Vec::new(), None);
    seldom.write(conn).await?;
    Ok(true)
}
