//! The transaction of a batch.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::{
    super::{
        BatchTx, CommandRow, EventStoreError, OpenBatch, OpenRequest, OpenedTask, OutboxMessage,
        PublisherId, TaskWrite, batch::ToRead, rows,
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
    let tasks = read_tasks(&mut tx, &request, &heads).await?;
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
                let head = heads
                    .get(&write.task_id)
                    .map_or(0, |head| head.stream.version);
                write.check(head, |id| known.insert(id))?;
            }
            let published = write::all(&mut tx, &writes, &heads, publisher, now).await?;
            commit(tx).await?;
            Ok(published)
        })
        .await
    }
}

/// Reads what the caller lacks of the streams of a request.
async fn read_tasks(
    connection: &mut SqliteConnection,
    request: &OpenRequest,
    heads: &HashMap<TaskId, Head>,
) -> Result<HashMap<TaskId, OpenedTask>, EventStoreError> {
    let head = |task: &TaskId| heads.get(task);
    let mut tasks = HashMap::with_capacity(request.tasks.len());
    let (mut all, mut behind, mut compared) = (Vec::new(), Vec::new(), Vec::new());
    for task in request.tasks.keys() {
        let stream = head(task).map(|head| head.stream).unwrap_or_default();
        let to_read = request.to_read(*task, stream);
        let opened = OpenedTask {
            anew: to_read == ToRead::AllAnew,
            version: stream.version,
            relay_only: head(task).is_some_and(|head| head.relay_only),
            ..OpenedTask::default()
        };
        tasks.insert(*task, opened);
        match (to_read, to_read.after()) {
            (ToRead::All | ToRead::AllAnew, _) => all.push(*task),
            (_, Some(after)) => {
                behind.push((*task, after));
                compared.push((*task, to_read));
            }
            (_, None) => {}
        }
    }
    read_tails(connection, &mut tasks, &behind).await?;
    for (task, to_read) in compared {
        if let Some(opened) = tasks.get_mut(&task)
            && !to_read.compare(&mut opened.tail)
        {
            opened.tail.clear();
            opened.anew = true;
            all.push(task);
        }
    }
    let mut snapshots = streams::snapshots(connection, &all).await?;
    let mut after = Vec::with_capacity(all.len());
    for task in all {
        let Some(opened) = tasks.get_mut(&task) else {
            continue;
        };
        opened.snapshot = snapshots
            .remove(&task)
            .filter(|state| state.version <= opened.version);
        after.push((
            task,
            opened.snapshot.as_ref().map_or(0, |state| state.version),
        ));
    }
    read_tails(connection, &mut tasks, &after).await?;
    Ok(tasks)
}

/// Reads the events of streams after versions.
async fn read_tails(
    connection: &mut SqliteConnection,
    tasks: &mut HashMap<TaskId, OpenedTask>,
    after: &[(TaskId, u64)],
) -> Result<(), EventStoreError> {
    let behind = |(task, version): &&(TaskId, u64)| {
        tasks
            .get(task)
            .is_some_and(|opened| opened.version > *version)
    };
    let after: Vec<(TaskId, u64)> = after.iter().filter(behind).copied().collect();
    for event in streams::tails(connection, &after).await? {
        if let Some(opened) = tasks.get_mut(&event.task_id) {
            opened.tail.push(event);
        }
    }
    Ok(())
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
