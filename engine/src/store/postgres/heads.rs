//! Heads of streams: locked in one global order, updated only under the lock.
//!
//! The head of a new stream is written once, whole, by the commit of the batch that starts it. Until
//! then nobody can lock it, so two batches may start the same task at once: the first statement of
//! a commit inserts the new heads, and who finds one taken has lost a race, writes nothing and is
//! run again. It then finds the head and decides under its lock.
//!
//! **No deadlock.** Heads that exist are locked before anything is written, in id order. A commit
//! inserts its new heads before all other rows, in id order too. It waits only for inserts of other
//! commits, and of two that wait for each other one would have to insert in another order. Whoever
//! waits for a lock of an existing head has inserted nothing yet.

use std::collections::HashMap;

use sqlx::{PgConnection, PgPool};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    super::{EventStoreError, OpenRequest, SplitReason, batch::HeadOfStream, rows::Columns},
    connection::WORK_TIMEOUT,
    error::classify,
    query::{PgQuery, fetch, nth},
};
use crate::ids::TaskId;

/// One global lock order. A separate statement, so that the next statement reads a snapshot taken
/// under the locks.
const LOCK_HEADS: &str = "
    SELECT task_id, version, updated_at, status IS NOT DISTINCT FROM 'archived' AS archived
    FROM tasks WHERE task_id = ANY ($1) ORDER BY task_id FOR UPDATE";

/// For batches that pass over what another transaction has locked.
const LOCK_FREE_HEADS: &str = "
    SELECT task_id, version, updated_at, status IS NOT DISTINCT FROM 'archived' AS archived
    FROM tasks WHERE task_id = ANY ($1) ORDER BY task_id FOR UPDATE SKIP LOCKED";

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
pub(super) struct Heads(HashMap<TaskId, HeadOfStream>);

impl Heads {
    /// Whether the stream has a head.
    pub(super) fn has(&self, task: TaskId) -> bool {
        self.0.contains_key(&task)
    }

    /// The version of a stream; 0 if it has no head.
    pub(super) fn version(&self, task: TaskId) -> u64 {
        self.of(task).version
    }

    /// The head of a stream.
    pub(super) fn of(&self, task: TaskId) -> HeadOfStream {
        self.0.get(&task).copied().unwrap_or_default()
    }
}

/// Locks the heads of all streams of a request that have one, in id order.
pub(super) async fn lock(
    conn: &mut PgConnection,
    request: &OpenRequest,
) -> Result<Heads, EventStoreError> {
    if request.tasks.is_empty() {
        return Ok(Heads::default());
    }
    let sql = if request.on_locked.passes_over() {
        LOCK_FREE_HEADS
    } else {
        LOCK_HEADS
    };
    let tasks: Vec<Uuid> = request.tasks.keys().map(|task| task.0).collect();
    let found = fetch(conn, sqlx::query(sql).bind(tasks), |row| {
        let columns = Columns::of("tasks", row);
        let head = HeadOfStream {
            version: columns.number("version")?,
            decided: columns.opt_time("updated_at")?,
            archived: columns.flag("archived")?,
        };
        Ok((columns.task("task_id")?, head))
    });
    Ok(Heads(found.await?.into_iter().collect()))
}

/// New heads were inserted: all of them, or another batch has started one of the tasks since this
/// one was opened.
pub(super) fn all_inserted(inserted: u64, wanted: usize) -> Result<(), EventStoreError> {
    if usize::try_from(inserted) == Ok(wanted) {
        return Ok(());
    }
    let lost = format!("{inserted} of {wanted} new tasks were not started by others meanwhile");
    Err(EventStoreError::hindered(SplitReason::Conflict, lost))
}

/// Adds to an error which tasks of the request are blocked, if a lock was the cause: the caller
/// can then go on with the others. A head that another transaction is just inserting is not found.
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
