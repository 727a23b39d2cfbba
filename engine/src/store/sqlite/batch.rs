//! The transaction of a batch.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::{
    super::{
        CommandRow, EventPage, EventStore, EventStoreError, LogEntry, LogPosition, OpenBatch,
        OpenRequest, OpenedTask, OutboxRow, PublisherId, TaskWrite, WorkflowPause,
    },
    connection::{SqliteEventStore, commit, detached},
    operator_commands,
    rows::{self, Columns, array, micros},
    slots, streams, write,
};
use crate::{
    ids::{CommandId, TaskId},
    state::WorkflowSnapshot,
};

/// `relay_only`: a message of the task waits that the publisher does not hold.
const HEADS: &str = "
    SELECT r.value AS task_id, COALESCE(t.version, 0) AS version, EXISTS (
        SELECT 1 FROM outbox AS o
        WHERE o.task_id = r.value
          AND (?2 IS NULL OR o.owner IS NOT ?2 OR o.leased_until <= ?3)
    ) AS relay_only
    FROM json_each(?1) AS r
    LEFT JOIN tasks AS t ON t.task_id = r.value";

const KNOWN: &str = "
    SELECT c.command_id, c.task_id, c.type, c.outcome, c.reason, c.detail, c.result,
           c.content_hash, c.payload, c.decided_at
    FROM json_each(?1) AS r
    CROSS JOIN commands AS c ON c.command_id = r.value";

/// The head of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Its version; 0 where it does not exist.
    pub(super) version: u64,
    /// Whether its new messages go to the relay.
    pub(super) relay_only: bool,
}

#[async_trait]
impl EventStore for SqliteEventStore {
    async fn open(&self, request: OpenRequest) -> Result<Box<dyn OpenBatch>, EventStoreError> {
        let store = self.clone();
        // Where the caller goes away, the batch is dropped in the task, which rolls it back.
        let batch = detached(async move { Batch::open(&store, request).await }).await?;
        Ok(Box::new(batch))
    }

    async fn load(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
        self.load_states(tasks).await
    }

    async fn events(
        &self,
        task: TaskId,
        after: u64,
        limit: u32,
    ) -> Result<EventPage, EventStoreError> {
        self.stream(task, after, limit).await
    }

    async fn read_log(
        &self,
        after: LogPosition,
        limit: u32,
    ) -> Result<Vec<LogEntry>, EventStoreError> {
        self.log(after, limit).await
    }
}

struct Batch {
    /// Rolls back when it is dropped.
    tx: Transaction<'static, Sqlite>,
    now: DateTime<Utc>,
    publisher: Option<PublisherId>,
    heads: HashMap<TaskId, Head>,
    tasks: HashMap<TaskId, OpenedTask>,
    known: HashMap<CommandId, CommandRow>,
    pauses: Vec<WorkflowPause>,
    held_by_claimant: u32,
}

impl Batch {
    async fn open(store: &SqliteEventStore, request: OpenRequest) -> Result<Self, EventStoreError> {
        let mut tx = store.begin().await?;
        let now = store.now();
        let ids: Vec<TaskId> = request.tasks.keys().copied().collect();
        let heads = heads(&mut tx, &ids, request.publisher, now).await?;
        let tasks = read_tasks(&mut tx, &request.tasks, &heads).await?;
        let known = known(&mut tx, &request.commands).await?;
        let pauses = operator_commands::mattering(&mut tx, &ids).await?;
        let held_by_claimant = match request.claimant {
            None => 0,
            Some(claimant) => sqlx::query_scalar(slots::COUNT_HELD)
                .bind(claimant.user_id.0.hyphenated())
                .fetch_one(&mut *tx)
                .await
                .map_err(EventStoreError::from_sqlite)?,
        };
        Ok(Self {
            tx,
            now,
            publisher: request.publisher,
            heads,
            tasks,
            known,
            pauses,
            held_by_claimant,
        })
    }
}

#[async_trait]
impl OpenBatch for Batch {
    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn take_task(&mut self, task: TaskId) -> OpenedTask {
        self.tasks.remove(&task).unwrap_or_default()
    }

    fn known(&self, command: CommandId) -> Option<&CommandRow> {
        self.known.get(&command)
    }

    fn pauses(&self) -> &[WorkflowPause] {
        &self.pauses
    }

    fn held_by_claimant(&self) -> u32 {
        self.held_by_claimant
    }

    async fn commit(
        self: Box<Self>,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let Self {
            mut tx,
            now,
            publisher,
            mut heads,
            known,
            ..
        } = *self;
        detached(async move {
            let unopened: Vec<TaskId> = writes
                .iter()
                .map(|write| write.task_id)
                .filter(|task| !heads.contains_key(task))
                .collect();
            heads.extend(self::heads(&mut tx, &unopened, publisher, now).await?);
            check(&writes, &heads, &known)?;
            let published = write::all(&mut tx, &writes, &heads, publisher, now).await?;
            commit(tx).await?;
            Ok(published)
        })
        .await
    }
}

async fn heads(
    connection: &mut SqliteConnection,
    tasks: &[TaskId],
    publisher: Option<PublisherId>,
    now: DateTime<Utc>,
) -> Result<HashMap<TaskId, Head>, EventStoreError> {
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    sqlx::query(HEADS)
        .bind(array(tasks)?)
        .bind(publisher.map(|publisher| publisher.0.hyphenated()))
        .bind(micros(now))
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(|row| {
            let columns = Columns::of("tasks", row);
            let head = Head {
                version: columns.unsigned("version")?,
                relay_only: columns.get("relay_only")?,
            };
            Ok((columns.task("task_id")?, head))
        })
        .collect()
}

/// Reads what lies after the versions that the caller holds.
async fn read_tasks(
    connection: &mut SqliteConnection,
    after: &HashMap<TaskId, u64>,
    heads: &HashMap<TaskId, Head>,
) -> Result<HashMap<TaskId, OpenedTask>, EventStoreError> {
    let head = |task: &TaskId| heads.get(task).map_or(0, |head| head.version);
    let fresh: Vec<TaskId> = after
        .iter()
        .filter(|(task, version)| **version == 0 && head(task) > 0)
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
    sqlx::query(KNOWN)
        .bind(array(commands)?)
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(|row| rows::command(row).map(|command| (command.command_id, command)))
        .collect()
}

/// The backstop before anything is written: versions follow the head that was locked, and no
/// command id comes twice. What it finds is a bug of the caller.
fn check(
    writes: &[TaskWrite],
    heads: &HashMap<TaskId, Head>,
    known: &HashMap<CommandId, CommandRow>,
) -> Result<(), EventStoreError> {
    let mut at: HashMap<TaskId, u64> = heads
        .iter()
        .map(|(task, head)| (*task, head.version))
        .collect();
    let mut commands = HashSet::new();
    for write in writes {
        let version = at.entry(write.task_id).or_default();
        let conflict = |actual| EventStoreError::VersionConflict {
            task_id: write.task_id,
            expected: write.expected_version,
            actual,
        };
        if *version != write.expected_version {
            return Err(conflict(*version));
        }
        for event in &write.events {
            *version += 1;
            if event.version != *version || event.task_id != write.task_id {
                return Err(conflict(*version - 1));
            }
        }
        let row_version = write.task.as_ref().map(|row| row.version);
        if row_version != (!write.events.is_empty()).then_some(*version) {
            return Err(conflict(*version));
        }
        for command in &write.commands {
            if known.contains_key(&command.command_id) || !commands.insert(command.command_id) {
                return Err(conflict(*version));
            }
        }
    }
    Ok(())
}
