//! Heads of streams: locked in one global order, updated only under the lock.

use std::collections::{HashMap, HashSet};

use sqlx::{PgConnection, PgPool};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    super::{Claimant, EventStoreError, OpenRequest, SplitReason, rows::Columns},
    connection::WORK_TIMEOUT,
    error::classify,
    query::{PgQuery, fetch, nth},
};
use crate::ids::TaskId;

/// In id order, so two batches that create the same heads wait for each other instead of
/// deadlocking. A known version above 0 proves that the head exists.
const CREATE_HEADS: &str = "
    INSERT INTO tasks (task_id)
    SELECT id FROM unnest($1::uuid[]) AS wanted (id) ORDER BY id
    ON CONFLICT (task_id) DO NOTHING
    RETURNING task_id";

/// One global lock order. A separate statement, so that the next statement reads a snapshot taken
/// under the locks.
const LOCK_HEADS: &str = "
    SELECT task_id, version FROM tasks WHERE task_id = ANY ($1) ORDER BY task_id FOR UPDATE";

/// For claims that do not wait: a task that another transaction is writing to is skipped, as if it
/// did not exist.
const LOCK_FREE_HEADS: &str = "
    SELECT task_id, version FROM tasks WHERE task_id = ANY ($1) ORDER BY task_id
    FOR UPDATE SKIP LOCKED";

/// Heads that another transaction has locked now.
const BLOCKED: &str = "
    WITH free AS (
        SELECT task_id FROM tasks WHERE task_id = ANY ($1) FOR UPDATE SKIP LOCKED
    )
    SELECT task_id FROM tasks
    WHERE task_id = ANY ($1) AND task_id NOT IN (SELECT task_id FROM free)";

const VERSIONS: &str = "SELECT task_id, version FROM tasks WHERE task_id = ANY ($1)";

/// The heads a batch has locked.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Their versions; 0 for a stream without events.
    pub(super) versions: HashMap<TaskId, u64>,
    /// The heads this transaction created.
    pub(super) created: HashSet<TaskId>,
}

impl Heads {
    /// The version of a stream; 0 if its head is not locked.
    pub(super) fn version(&self, task: TaskId) -> u64 {
        self.versions.get(&task).copied().unwrap_or_default()
    }
}

/// Locks the heads of all streams of a request in id order; creates those that may be missing.
pub(super) async fn lock(
    conn: &mut PgConnection,
    request: &OpenRequest,
) -> Result<Heads, EventStoreError> {
    let mut heads = Heads::default();
    let unknown: Vec<Uuid> = request
        .tasks
        .iter()
        .filter(|(_, claimed)| **claimed == 0)
        .map(|(task, _)| task.0)
        .collect();
    if !unknown.is_empty() {
        let query = sqlx::query(CREATE_HEADS).bind(unknown);
        let created = fetch(conn, query, |row| Ok(TaskId(nth(row, 0)?))).await?;
        heads.created.extend(created);
    }
    if !request.tasks.is_empty() {
        let sql = match request.claimant {
            Some(Claimant { waits: false, .. }) => LOCK_FREE_HEADS,
            Some(Claimant { waits: true, .. }) | None => LOCK_HEADS,
        };
        let tasks: Vec<Uuid> = request.tasks.keys().map(|task| task.0).collect();
        heads.versions = versions(conn, sqlx::query(sql).bind(tasks)).await?;
    }
    Ok(heads)
}

/// Adds to an error which tasks of the request are blocked, if a lock was the cause: the caller
/// can then go on with the others. A head that another transaction is just creating is not found.
pub(super) async fn who_blocks(
    pool: &PgPool,
    request: &OpenRequest,
    mut error: EventStoreError,
) -> EventStoreError {
    if let EventStoreError::Hindered {
        reason: SplitReason::Blocked,
        tasks,
        ..
    } = &mut error
    {
        let wanted: Vec<Uuid> = request.tasks.keys().map(|task| task.0).collect();
        let asked = async {
            let mut conn = pool.acquire().await.map_err(classify)?;
            let query = sqlx::query(BLOCKED).bind(wanted);
            fetch(&mut conn, query, |row| Ok(TaskId(nth(row, 0)?))).await
        };
        // Without an answer any of them may be the cause.
        if let Ok(Ok(blocked)) = timeout(WORK_TIMEOUT, asked).await {
            tasks.extend(blocked);
        }
    }
    error
}

async fn versions(
    conn: &mut PgConnection,
    query: PgQuery,
) -> Result<HashMap<TaskId, u64>, EventStoreError> {
    let found = fetch(conn, query, |row| {
        let columns = Columns::of("tasks", row);
        Ok((columns.task("task_id")?, columns.number("version")?))
    });
    Ok(found.await?.into_iter().collect())
}

/// Finds the first head that was not updated from the version decided on.
pub(super) async fn not_moved(
    conn: &mut PgConnection,
    expected: &[(TaskId, u64)],
) -> Result<EventStoreError, EventStoreError> {
    let tasks: Vec<Uuid> = expected.iter().map(|(task, _)| task.0).collect();
    let actual = versions(conn, sqlx::query(VERSIONS).bind(tasks)).await?;
    let stayed = expected
        .iter()
        .find(|(task, version)| actual.get(task) == Some(version));
    let (task_id, expected) = stayed
        .or(expected.first())
        .copied()
        .ok_or_else(|| EventStoreError::Other("heads moved that nobody asked to move".into()))?;
    Ok(EventStoreError::VersionConflict {
        task_id,
        expected,
        actual: actual.get(&task_id).copied().unwrap_or_default(),
    })
}
