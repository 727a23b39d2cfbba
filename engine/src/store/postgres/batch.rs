//! The transaction of a batch: open, read under the locks, decide (in the caller), commit.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{
    AssertSqlSafe, PgConnection, PgPool,
    pool::PoolConnection,
    postgres::{PgRow, Postgres},
    raw_sql,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    super::{
        BatchTx, CommandRow, EventStoreError, OpenBatch, OpenRequest, OpenedTask, OutboxMessage,
        PublisherId, TaskWrite, WorkflowPause,
        batch::ToRead,
        rows::{self, Columns},
    },
    commands::command_columns,
    connection::{WORK_TIMEOUT, detached, discard, roll_back, timed_out},
    error::{TimedOut, classify, classify_commit, connection_survives},
    heads::{self, Heads},
    operator_commands::pause_columns,
    query::{BEGIN_PLANNED_ONCE, execute, fetch_one, scalar},
    recent_log::RecentLog,
    rows::JsonRow,
    slots::count_held,
    streams::{Stream, Wanted, read_streams},
    write::{Locked, write},
};
use crate::ids::{CommandId, LogId, TaskId, WorkflowId};

/// The clock, the log, the commands, the outbox and the pauses of workflows, read under the locks. The
/// result is one row with its lists as arrays, so one statement and one snapshot cover everything.
///
/// A row of the task that is leased to the publisher and about to expire counts as the relay's: the
/// relay may claim it before the commit. If no workflow is paused or was paused recently, the last
/// part only scans two empty index ranges, and the last activity of the tasks is not read.
const READ_UNDER_LOCKS: &str = concat!(
    "
    SELECT clock_timestamp() AS now, (SELECT log_id FROM deployment) AS log_id,
           ARRAY(
               SELECT wanted.id FROM unnest($2::uuid[]) AS wanted (id)
               WHERE EXISTS (
                   SELECT FROM outbox
                   WHERE outbox.task_id = wanted.id
                     AND (outbox.owner IS DISTINCT FROM $3 OR outbox.owner IS NULL
                          OR outbox.leased_until < clock_timestamp() + interval '5 seconds'))
           ) AS relay_only,
           ARRAY(SELECT task_id FROM tasks WHERE task_id = ANY ($4)) AS passed_over,
           (SELECT json_agg(known)::text FROM (
               SELECT ",
    command_columns!(),
    " FROM commands WHERE command_id = ANY ($1)
           ) AS known) AS known,
           (SELECT json_agg(pause)::text FROM (
               SELECT ",
    pause_columns!(),
    "
               FROM workflow_pauses
               WHERE ended_at IS NULL
                  OR ended_at > (SELECT min(updated_at) FROM tasks WHERE task_id = ANY ($2))
           ) AS pause) AS pauses"
);

const LOCK_STARTS: &str = "
    SELECT pg_advisory_xact_lock(
        hashtextextended('glyph starts ' || current_schema() || ' ' || $1, 0))";

const COUNT_STARTED: &str =
    "SELECT count(*) FROM (SELECT FROM tasks WHERE workflow = $1 LIMIT $2) AS started";

/// Begins the transaction of a batch.
pub(super) async fn open(
    pool: PgPool,
    recent_log: Arc<RecentLog>,
    request: OpenRequest,
) -> Result<OpenBatch, EventStoreError> {
    detached(async move {
        let mut link = Link(Some(pool.acquire().await.map_err(classify)?));
        let opened = match timeout(WORK_TIMEOUT, lock_and_read(link.conn()?, &request)).await {
            Ok(opened) => opened,
            Err(_) => Err(timed_out(WORK_TIMEOUT)),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let error = link.give_up(error).await;
                return Err(heads::who_blocks(&pool, &request, error).await);
            }
        };
        Ok(OpenBatch {
            now: opened.now,
            log: opened.log,
            tasks: opened.tasks,
            passed_over: opened.passed_over,
            known: opened.known,
            pauses: opened.pauses,
            claimed_by_claimant: opened.claimed_by_claimant,
            started: opened.started,
            tx: Box::new(PgBatch {
                link,
                recent_log,
                publisher: request.publisher,
                locked: opened.locked,
            }),
        })
    })
    .await
}

/// The connection of an open transaction. If it is dropped early, a separate task rolls it back, so
/// the locks are released at once and the pool gets back a clean connection or none.
struct Link(Option<PoolConnection<Postgres>>);

impl Link {
    fn conn(&mut self) -> Result<&mut PgConnection, EventStoreError> {
        self.0
            .as_deref_mut()
            .ok_or_else(|| EventStoreError::Other("the transaction of this batch has ended".into()))
    }

    /// Ends the transaction after `error`.
    async fn give_up(&mut self, error: EventStoreError) -> EventStoreError {
        if let Some(conn) = self.0.take() {
            if connection_survives(&error) {
                roll_back(conn).await;
            } else {
                discard(conn).await;
            }
        }
        error
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Without a runtime nothing can roll back. But then the process is ending too, and the
        // server notices.
        if let (Some(conn), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(roll_back(conn));
        }
    }
}

struct PgBatch {
    link: Link,
    recent_log: Arc<RecentLog>,
    publisher: Option<PublisherId>,
    locked: Locked,
}

/// What was read when the batch was opened.
struct Opened {
    now: DateTime<Utc>,
    log: LogId,
    tasks: HashMap<TaskId, OpenedTask>,
    passed_over: HashSet<TaskId>,
    known: HashMap<CommandId, CommandRow>,
    pauses: Vec<WorkflowPause>,
    claimed_by_claimant: u32,
    started: BTreeMap<WorkflowId, u32>,
    locked: Locked,
}

async fn lock_and_read(
    conn: &mut PgConnection,
    request: &OpenRequest,
) -> Result<Opened, EventStoreError> {
    // In one round trip.
    let begin = match request.on_locked.wait() {
        None => BEGIN_PLANNED_ONCE.to_owned(),
        Some(wait) => format!(
            "{BEGIN_PLANNED_ONCE}; SET LOCAL lock_timeout = {}",
            wait.as_millis().max(1)
        ),
    };
    raw_sql(AssertSqlSafe(begin))
        .execute(&mut *conn)
        .await
        .map_err(classify)?;
    // Always lock the claimant before the heads. A transaction that waits for a head may hold this
    // lock, but no transaction that holds a head waits for it.
    let claimed_by_claimant = match request.claimant {
        Some(claimant) => count_held(conn, claimant).await?,
        None => 0,
    };
    let heads = heads::lock(conn, request).await?;
    // After the heads, in the order of workflows: who holds these locks waits for nobody but other
    // commits that insert the same new heads, and none of those waits for these locks any more.
    let started = count_started(conn, &request.counted).await?;
    // The clock is read under the locks, so it is never before the times of the events they guard.
    let under_locks = read_under_locks(conn, request, &heads).await?;
    let opened = request.tasks.keys();
    let opened = opened.filter(|task| !under_locks.passed_over.contains(task));
    let (mut streams, anew) = streams_under_locks(conn, request, opened, &heads).await?;
    let opened = |task: &TaskId| {
        let stream = streams.remove(task).unwrap_or_default();
        let opened = OpenedTask {
            anew: anew.contains(task),
            snapshot: stream.snapshot,
            tail: stream.tail,
            version: heads.version(*task),
            relay_only: under_locks.relay_only.contains(task),
        };
        (*task, opened)
    };
    let tasks = request.tasks.keys().map(opened).collect();
    let known: HashMap<_, _> = under_locks
        .known
        .into_iter()
        .map(|row| (row.command_id, row))
        .collect();
    Ok(Opened {
        now: under_locks.now,
        log: under_locks.log,
        tasks,
        passed_over: under_locks.passed_over,
        pauses: under_locks.pauses,
        claimed_by_claimant,
        started,
        locked: Locked {
            heads,
            relay_only: under_locks.relay_only,
            known: known.keys().copied().collect(),
        },
        known,
    })
}

/// Reads what the caller lacks of the streams that were opened, and tells of which of them its state is
/// of events that are no longer there.
async fn streams_under_locks(
    conn: &mut PgConnection,
    request: &OpenRequest,
    opened: impl Iterator<Item = &TaskId>,
    heads: &Heads,
) -> Result<(HashMap<TaskId, Stream>, HashSet<TaskId>), EventStoreError> {
    let (mut wanted, mut compared, mut anew) = (Wanted::default(), Vec::new(), HashSet::new());
    for task in opened {
        let to_read = request.to_read(*task, heads.of(*task));
        match (to_read, to_read.after()) {
            (ToRead::AllAnew, _) => {
                anew.insert(*task);
                wanted.all(*task);
            }
            (ToRead::All, _) => wanted.all(*task),
            (_, Some(after)) => {
                wanted.after(*task, after);
                compared.push((*task, to_read));
            }
            (_, None) => {}
        }
    }
    let mut streams = read_streams(conn, wanted).await?;
    let mut again = Wanted::default();
    for (task, to_read) in compared {
        if !to_read.compare(&mut streams.entry(task).or_default().tail) {
            streams.remove(&task);
            anew.insert(task);
            again.all(task);
        }
    }
    streams.extend(read_streams(conn, again).await?);
    Ok((streams, anew))
}

/// Counts the tasks of workflows, each under a lock of its own. A statement sees what was committed
/// before it begins, so it comes after the one that locks.
async fn count_started(
    conn: &mut PgConnection,
    counted: &BTreeMap<WorkflowId, u32>,
) -> Result<BTreeMap<WorkflowId, u32>, EventStoreError> {
    let mut started = BTreeMap::new();
    for (workflow, most) in counted {
        execute(conn, sqlx::query(LOCK_STARTS).bind(workflow.to_string())).await?;
        let count = sqlx::query(COUNT_STARTED)
            .bind(workflow.to_string())
            .bind(i64::from(*most));
        let count: i64 = scalar(conn, count).await?;
        started.insert(workflow.clone(), u32::try_from(count).unwrap_or(*most));
    }
    Ok(started)
}

/// The result of [`READ_UNDER_LOCKS`].
struct UnderLocks {
    now: DateTime<Utc>,
    log: LogId,
    relay_only: HashSet<TaskId>,
    passed_over: HashSet<TaskId>,
    known: Vec<CommandRow>,
    pauses: Vec<WorkflowPause>,
}

async fn read_under_locks(
    conn: &mut PgConnection,
    request: &OpenRequest,
    heads: &Heads,
) -> Result<UnderLocks, EventStoreError> {
    let commands: Vec<Uuid> = request.commands.iter().map(|command| command.0).collect();
    let tasks: Vec<Uuid> = request.tasks.keys().map(|task| task.0).collect();
    // What was not locked and exists was locked by others, or has just been started by one of them.
    let unlocked: Vec<Uuid> = if request.on_locked.passes_over() {
        let tasks = request.tasks.keys().filter(|task| !heads.has(**task));
        tasks.map(|task| task.0).collect()
    } else {
        Vec::new()
    };
    let query = sqlx::query(READ_UNDER_LOCKS)
        .bind(commands)
        .bind(tasks)
        .bind(request.publisher.map(|publisher| publisher.0))
        .bind(unlocked);
    fetch_one(conn, query, |row| {
        let columns = Columns::of("tasks", row);
        Ok(UnderLocks {
            now: columns.time("now")?,
            log: LogId(columns.uuid("log_id")?),
            relay_only: columns.tasks("relay_only")?.into_iter().collect(),
            passed_over: columns.tasks("passed_over")?.into_iter().collect(),
            known: list(&columns, "known", rows::command)?,
            pauses: list(&columns, "pauses", rows::pause)?,
        })
    })
    .await
}

/// The rows of a table returned as JSON; null means no rows.
fn list<T>(
    columns: &Columns<'_, PgRow>,
    column: &'static str,
    decode: impl Fn(&JsonRow) -> Result<T, EventStoreError>,
) -> Result<Vec<T>, EventStoreError> {
    let found: Option<Vec<JsonRow>> = columns.opt_json(column)?;
    found.unwrap_or_default().iter().map(decode).collect()
}

#[async_trait]
impl BatchTx for PgBatch {
    async fn commit(
        self: Box<Self>,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxMessage>, EventStoreError> {
        detached(async move {
            let Self {
                mut link,
                recent_log,
                publisher,
                locked,
            } = *self;
            let conn = link.conn()?;
            let written = match timeout(WORK_TIMEOUT, write(conn, publisher, &locked, writes)).await
            {
                Ok(written) => written,
                // COMMIT has not been sent yet.
                Err(_) => Err(timed_out(WORK_TIMEOUT)),
            };
            let written = match written {
                Ok(written) => written,
                Err(error) => return Err(link.give_up(error).await),
            };
            let conn = link.conn()?;
            let committed = match timeout(WORK_TIMEOUT, raw_sql("COMMIT").execute(conn)).await {
                Ok(committed) => committed.map_err(classify_commit),
                Err(_) => Err(EventStoreError::CommitUnknown(Box::new(TimedOut(
                    WORK_TIMEOUT,
                )))),
            };
            match committed {
                Ok(_) => {
                    // The transaction has ended: return the connection to the pool without a
                    // rollback.
                    drop(link.0.take());
                    if let Some(batch) = written.batch {
                        recent_log.committed(batch, written.events);
                    }
                    Ok(written.messages)
                }
                Err(error) => Err(link.give_up(error).await),
            }
        })
        .await
    }
}
