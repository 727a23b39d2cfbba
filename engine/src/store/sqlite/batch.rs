//! The transaction of a batch.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::{
    super::{
        BatchTx, CommandRow, EventStoreError, OpenBatch, OpenRequest, OpenedTask, OutboxMessage,
        PublisherId, TaskWrite, rows,
    },
    connection::{SqliteEventStore, commit, detached},
    deployment::log,
    heads::{Head, heads},
    operator_commands,
    query::{fetch, scalar},
    rows::array,
    slots, streams, write,
};
use crate::ids::{CommandId, TaskId, WorkflowId};

const KNOWN: &str = "
    SELECT c.command_id, c.task_id, c.type, c.outcome, c.reason, c.detail, c.result,
           c.content_hash, c.payload, c.decided_at
    FROM json_each(?1) AS r
    CROSS JOIN commands AS c ON c.command_id = r.value";

/// Begins the transaction of a batch.
pub(super) async fn open(
    store: SqliteEventStore,
    request: OpenRequest,
) -> Result<OpenBatch, EventStoreError> {
    let mut tx = store.begin().await?;
    let now = store.now();
    let ids: Vec<TaskId> = request.tasks.keys().copied().collect();
    let heads = heads(&mut tx, &ids, request.publisher, now).await?;
    let tasks = read_tasks(&mut tx, &request.tasks, &heads).await?;
    let known = known(&mut tx, &request.commands).await?;
    let pauses = operator_commands::mattering(&mut tx, &ids).await?;
    let claimed_by_claimant = match request.claimant {
        Some(claimant) => slots::count_held(&mut tx, claimant).await?,
        None => 0,
    };
    let started = started(&mut tx, request.counted).await?;
    Ok(OpenBatch {
        now,
        log: log(&mut tx).await?,
        tasks,
        // One batch at a time has the database.
        passed_over: HashSet::new(),
        pauses,
        claimed_by_claimant,
        started,
        tx: Box::new(SqliteBatch {
            tx,
            now,
            publisher: request.publisher,
            heads,
            known: known.keys().copied().collect(),
        }),
        known,
    })
}

/// Counts the tasks of each workflow. The transaction holds the only write lock of the database, so
/// no other batch counts at the same time.
async fn started(
    connection: &mut SqliteConnection,
    counted: BTreeMap<WorkflowId, u32>,
) -> Result<BTreeMap<WorkflowId, u32>, EventStoreError> {
    let mut started = BTreeMap::new();
    for (workflow, most) in counted {
        let query =
            sqlx::query("SELECT count(*) FROM (SELECT 1 FROM tasks WHERE workflow = ?1 LIMIT ?2)");
        let query = query.bind(workflow.to_string()).bind(most);
        let count: i64 = scalar(&mut *connection, query).await?;
        started.insert(workflow, u32::try_from(count).unwrap_or(most));
    }
    Ok(started)
}

struct SqliteBatch {
    /// Rolled back when dropped.
    tx: Transaction<'static, Sqlite>,
    now: DateTime<Utc>,
    publisher: Option<PublisherId>,
    heads: HashMap<TaskId, Head>,
    /// Commands of the request that are already in the inbox.
    known: HashSet<CommandId>,
}

#[async_trait]
impl BatchTx for SqliteBatch {
    async fn commit(
        self: Box<Self>,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxMessage>, EventStoreError> {
        let Self {
            mut tx,
            now,
            publisher,
            mut heads,
            mut known,
        } = *self;
        detached(async move {
            let unopened: Vec<TaskId> = writes
                .iter()
                .map(|write| write.task_id)
                .filter(|task| !heads.contains_key(task))
                .collect();
            heads.extend(self::heads(&mut tx, &unopened, publisher, now).await?);
            for write in &writes {
                let head = heads.get(&write.task_id).map_or(0, |head| head.version);
                write.check(head, |id| known.insert(id))?;
            }
            let published = write::all(&mut tx, &writes, &heads, publisher, now).await?;
            commit(tx).await?;
            Ok(published)
        })
        .await
    }
}

/// Reads the events after the caller's versions.
async fn read_tasks(
    connection: &mut SqliteConnection,
    after: &HashMap<TaskId, u64>,
    heads: &HashMap<TaskId, Head>,
) -> Result<HashMap<TaskId, OpenedTask>, EventStoreError> {
    let head = |task: &TaskId| heads.get(task).map_or(0, |head| head.version);
    // The caller's state of an archived task may be from before.
    let archived = |task: &TaskId| heads.get(task).is_some_and(|head| head.archived);
    let fresh: Vec<TaskId> = after
        .iter()
        .filter(|(task, version)| (**version == 0 && head(task) > 0) || archived(task))
        .map(|(task, _)| *task)
        .collect();
    let mut snapshots = streams::snapshots(connection, &fresh).await?;
    snapshots.retain(|task, state| state.version <= head(task));
    let behind: Vec<(TaskId, u64)> = after
        .iter()
        .map(|(task, version)| (*task, snapshots.get(task).map_or(*version, |s| s.version)))
        .filter(|(task, version)| head(task) > *version)
        .collect();
    let tails = streams::tails(connection, &behind).await?;

    let mut tasks: HashMap<TaskId, OpenedTask> = after
        .keys()
        .map(|task| {
            let opened = OpenedTask {
                snapshot: snapshots.remove(task),
                tail: Vec::new(),
                version: head(task),
                relay_only: heads.get(task).is_some_and(|head| head.relay_only),
            };
            (*task, opened)
        })
        .collect();
    for event in tails {
        if let Some(opened) = tasks.get_mut(&event.task_id) {
            opened.tail.push(event);
        }
    }
    Ok(tasks)
}

async fn known(
    connection: &mut SqliteConnection,
    commands: &[CommandId],
) -> Result<HashMap<CommandId, CommandRow>, EventStoreError> {
    if commands.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query(KNOWN).bind(array(commands)?);
    let found = fetch(connection, query, rows::command).await?;
    Ok(found.into_iter().map(|row| (row.command_id, row)).collect())
}
