//! Heads of streams: locked in one global order, moved by who holds the lock.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{Claimant, EventStoreError, OpenRequest, rows::Columns},
    query::{PgQuery, fetch, nth},
};
use crate::ids::TaskId;

/// In id order, so that two batches that make the same heads wait for each other instead of
/// deadlocking; `held` versions above 0 prove that the head is there.
const CREATE_HEADS: &str = "
    INSERT INTO tasks (task_id)
    SELECT id FROM unnest($1::uuid[]) AS wanted (id) ORDER BY id
    ON CONFLICT (task_id) DO NOTHING
    RETURNING task_id";

/// One global order of locks. A statement of its own: what the next one reads is then a snapshot
/// taken under the locks.
const LOCK_HEADS: &str = "
    SELECT task_id, version FROM tasks WHERE task_id = ANY ($1) ORDER BY task_id FOR UPDATE";

/// For claims that do not wait: a task that somebody is just writing to is passed over, as if it
/// were not there.
const LOCK_FREE_HEADS: &str = "
    SELECT task_id, version FROM tasks WHERE task_id = ANY ($1) ORDER BY task_id
    FOR UPDATE SKIP LOCKED";

const VERSIONS: &str = "SELECT task_id, version FROM tasks WHERE task_id = ANY ($1)";

/// Heads that a batch has locked.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Their versions; 0 for a stream that has no events.
    pub(super) versions: HashMap<TaskId, u64>,
    /// Those that this transaction made.
    pub(super) created: HashSet<TaskId>,
}

impl Heads {
    /// The version of a stream; 0 where its head is not locked.
    pub(super) fn version(&self, task: TaskId) -> u64 {
        self.versions.get(&task).copied().unwrap_or_default()
    }
}

/// Locks the heads of all streams of a request in id order; makes those that may not be there.
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

/// Names the first head that did not move from the version that was decided on.
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
