//! The transaction of a batch: open, read under the locks, decide elsewhere, commit.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row, pool::PoolConnection, postgres::Postgres, raw_sql};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    super::{
        COMMIT_LEASE, CommandRecord, CommandRow, Draft, DueRow, EventStoreError, NewOutboxRow,
        OpenBatch, OpenRequest, OpenedTask, OutboxRow, PublisherId, RecordedOutcome,
        SNAPSHOT_SCHEMA_VERSION, SnapshotRow, TaskRow, TaskWrite, WorkflowPause,
    },
    connection::{WORK_TIMEOUT, discard, roll_back, spawned, timed_out},
    error::{TimedOut, classify, classify_commit, connection_survives},
    rows::{event_data, snapshot_text, to_json, unsigned},
    slots::PlaceRows,
    streams::{Wanted, read_streams},
    tasks::{command_row, slug},
};
use crate::{
    events::StoredEvent,
    ids::{CommandId, Slug, TaskId},
};

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

/// Claims for one person run one at a time: what the person holds cannot grow between counting and
/// claiming.
const LOCK_CLAIMANT: &str = "
    SELECT pg_advisory_xact_lock(
        hashtextextended('glyph claims ' || current_schema() || ' ' || $1, 0))";

/// A statement after the lock, so a snapshot under it.
const COUNT_HELD: &str = "SELECT count(*) FROM claims WHERE user_id = $1";

/// For claims that do not wait: a task that somebody is just writing to is passed over, as if it
/// were not there.
const LOCK_FREE_HEADS: &str = "
    SELECT task_id, version FROM tasks WHERE task_id = ANY ($1) ORDER BY task_id
    FOR UPDATE SKIP LOCKED";

/// The clock, the commands, the outbox and the pauses of workflows, under the locks. A row of the
/// task that belongs to the publisher and is about to lapse counts as the relay's: the relay may
/// take it before the commit. While no workflow is paused or lately was, the last part is a look at
/// two empty ranges of an index, and the tasks are not asked when they were last active.
const READ_UNDER_LOCKS: &str = "
    SELECT 0 AS what, clock_timestamp() AS decided_at, NULL::uuid AS command_id,
           NULL::uuid AS task_id, NULL::text AS type, NULL::text AS outcome, NULL::text AS reason,
           NULL::text AS detail, NULL::text AS result, NULL::bytea AS content_hash,
           NULL::text AS payload, NULL::timestamptz AS since, NULL::timestamptz AS until
    UNION ALL
    SELECT 1, decided_at, command_id, task_id, type, outcome, reason, detail, result::text,
           content_hash, payload::text, NULL, NULL
    FROM commands WHERE command_id = ANY ($1)
    UNION ALL
    SELECT 2, NULL, NULL, wanted.id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM unnest($2::uuid[]) AS wanted (id)
    WHERE EXISTS (
        SELECT FROM outbox
        WHERE outbox.task_id = wanted.id
          AND (outbox.owner IS DISTINCT FROM $3 OR outbox.owner IS NULL
               OR outbox.leased_until < clock_timestamp() + interval '5 seconds'))
    UNION ALL
    SELECT 3, ended_at, pause_id, NULL, workflow, CASE WHEN archived THEN 'archived' END, reason,
           NULL, NULL, NULL, NULL, since, until
    FROM workflow_pauses
    WHERE ended_at IS NULL
       OR ended_at > (SELECT min(updated_at) FROM tasks WHERE task_id = ANY ($2))";

/// Everything that a batch writes. The heads move only from the versions that were decided on;
/// the caller compares their number and rolls back where one did not.
const WRITE: &str = "
    WITH moved AS (
        UPDATE tasks t
        SET version = n.version, workflow = n.workflow, revision = n.revision,
            workflow_id = n.workflow_id, status = n.status,
            current_steps = string_to_array(n.steps, ','), labels = n.labels::jsonb,
            incidents = n.incidents, started_at = n.started_at, updated_at = n.updated_at
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::int[], $6::uuid[],
                    $7::text[], $8::text[], $9::text[], $10::int[], $11::timestamptz[],
                    $12::timestamptz[])
             AS n (task_id, expected, version, workflow, revision, workflow_id, status, steps,
                   labels, incidents, started_at, updated_at)
        WHERE t.task_id = n.task_id AND t.version = n.expected
        RETURNING 1
    ), unused AS (
        DELETE FROM tasks WHERE task_id = ANY ($13) AND version = 0
    ), appended AS (
        INSERT INTO workflow_events
            (stream_id, version, event_id, event_type, event_data, metadata, occurred_at, txid)
        SELECT e.stream_id, e.version, e.event_id, e.event_type, e.event_data::jsonb,
               e.metadata::jsonb, e.occurred_at,
               (SELECT greatest(pg_current_xact_id(), pg_snapshot_xmax(pg_current_snapshot())))
        FROM unnest($14::uuid[], $15::bigint[], $16::uuid[], $17::text[], $18::text[], $19::text[],
                    $20::timestamptz[])
             AS e (stream_id, version, event_id, event_type, event_data, metadata, occurred_at)
    ), decided AS (
        INSERT INTO commands
            (command_id, task_id, type, outcome, reason, detail, result, content_hash, payload,
             decided_at)
        SELECT c.command_id, c.task_id, c.type, c.outcome, c.reason, c.detail, c.result::jsonb,
               c.content_hash, c.payload::jsonb, c.decided_at
        FROM unnest($21::uuid[], $22::uuid[], $23::text[], $24::text[], $25::text[], $26::text[],
                    $27::text[], $28::bytea[], $29::text[], $30::timestamptz[])
             AS c (command_id, task_id, type, outcome, reason, detail, result, content_hash,
                   payload, decided_at)
    ), queued AS (
        INSERT INTO outbox
            (message_id, task_id, routing_key, message_type, body, owner, leased_until)
        SELECT m.message_id, m.task_id, m.routing_key, m.message_type, m.body, m.owner,
               CASE WHEN m.owner IS NOT NULL
                    THEN clock_timestamp() + make_interval(secs => $37) END
        FROM unnest($31::uuid[], $32::uuid[], $33::text[], $34::text[], $35::text[], $36::uuid[])
             AS m (message_id, task_id, routing_key, message_type, body, owner)
        RETURNING position
    )
    SELECT (SELECT count(*) FROM moved), (SELECT array_agg(position ORDER BY position) FROM queued)";

/// What most batches have nothing of.
const WRITE_SELDOM: &str = "
    WITH unset AS (
        DELETE FROM timers WHERE id = ANY ($1)
    ), due AS (
        INSERT INTO timers (id, task_id, step_id, visit, kind, n, due_at)
        SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::text[], $7::int[],
                             $8::timestamptz[])
        ON CONFLICT (id) DO UPDATE
        SET task_id = excluded.task_id, step_id = excluded.step_id, visit = excluded.visit,
            kind = excluded.kind, n = excluded.n, due_at = excluded.due_at, leased_until = NULL
    ), kept AS (
        INSERT INTO drafts (task_id, step_id, visit, user_id, draft, saved_at)
        SELECT d.task_id, d.step_id, d.visit, d.user_id, d.draft::jsonb, d.saved_at
        FROM unnest($9::uuid[], $10::text[], $11::int[], $12::uuid[], $13::text[],
                    $14::timestamptz[])
             AS d (task_id, step_id, visit, user_id, draft, saved_at)
        ON CONFLICT (task_id, step_id, visit, user_id) DO UPDATE
        SET draft = excluded.draft, saved_at = excluded.saved_at
    )
    INSERT INTO workflow_snapshots (task_id, version, schema_version, checksum, state)
    SELECT s.task_id, s.version, $15, s.checksum, s.state::json
    FROM unnest($16::uuid[], $17::bigint[], $18::bytea[], $19::text[])
         AS s (task_id, version, checksum, state)
    ON CONFLICT (task_id, version) DO UPDATE
    SET schema_version = excluded.schema_version, checksum = excluded.checksum,
        state = excluded.state, created_at = clock_timestamp()";

const VERSIONS: &str = "SELECT task_id, version FROM tasks WHERE task_id = ANY ($1)";

/// Begins the transaction of a batch.
pub(super) async fn open(
    pool: PgPool,
    request: OpenRequest,
) -> Result<Box<dyn OpenBatch>, EventStoreError> {
    spawned(async move {
        let mut link = Link(Some(pool.acquire().await.map_err(classify)?));
        let read = match timeout(WORK_TIMEOUT, lock_and_read(link.conn()?, &request)).await {
            Ok(read) => read,
            Err(_) => Err(timed_out(WORK_TIMEOUT)),
        };
        match read {
            Ok(read) => Ok(Box::new(PgBatch {
                link,
                publisher: request.publisher,
                read,
            }) as Box<dyn OpenBatch>),
            Err(error) => Err(link.give_up(error).await),
        }
    })
    .await
}

/// The connection of an open transaction. Dropped before the end, it is rolled back by a task of
/// its own, so the locks go at once and the pool gets back a clean connection or none.
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
        // Without a runtime there is nobody to roll back, but then the process ends, too, and the
        // server sees it.
        if let (Some(conn), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(roll_back(conn));
        }
    }
}

struct PgBatch {
    link: Link,
    publisher: Option<PublisherId>,
    read: Read,
}

/// What was read under the locks.
#[derive(Default)]
struct Read {
    now: DateTime<Utc>,
    tasks: HashMap<TaskId, OpenedTask>,
    /// Versions of the locked heads.
    versions: HashMap<TaskId, u64>,
    relay_only: HashSet<TaskId>,
    /// Heads made by this transaction.
    created: HashSet<TaskId>,
    known: HashMap<CommandId, CommandRow>,
    pauses: Vec<WorkflowPause>,
    held_by_claimant: u32,
}

async fn lock_and_read(
    conn: &mut PgConnection,
    request: &OpenRequest,
) -> Result<Read, EventStoreError> {
    raw_sql("BEGIN")
        .execute(&mut *conn)
        .await
        .map_err(classify)?;
    let mut read = Read::default();

    if let Some(claimant) = request.claimant {
        // Before the heads, always: who waits for a head holds this one, and nobody who holds a
        // head waits for this one.
        sqlx::query(LOCK_CLAIMANT)
            .bind(claimant.user_id.0.to_string())
            .execute(&mut *conn)
            .await
            .map_err(classify)?;
        let held: i64 = sqlx::query_scalar(COUNT_HELD)
            .bind(claimant.user_id.0)
            .fetch_one(&mut *conn)
            .await
            .map_err(classify)?;
        read.held_by_claimant = u32::try_from(held).unwrap_or(u32::MAX);
    }

    let unknown: Vec<Uuid> = request
        .tasks
        .iter()
        .filter(|(_, held)| **held == 0)
        .map(|(task, _)| task.0)
        .collect();
    if !unknown.is_empty() {
        let created: Vec<Uuid> = sqlx::query_scalar(CREATE_HEADS)
            .bind(unknown)
            .fetch_all(&mut *conn)
            .await
            .map_err(classify)?;
        read.created = created.into_iter().map(TaskId).collect();
    }

    let tasks: Vec<Uuid> = request.tasks.keys().map(|task| task.0).collect();
    let mut wanted = Wanted::default();
    if !tasks.is_empty() {
        let lock = match request.claimant {
            Some(claimant) if !claimant.waits => LOCK_FREE_HEADS,
            Some(_) | None => LOCK_HEADS,
        };
        let heads: Vec<(Uuid, i64)> = sqlx::query_as(lock)
            .bind(&tasks)
            .fetch_all(&mut *conn)
            .await
            .map_err(classify)?;
        for (task, version) in heads {
            let task = TaskId(task);
            let version: u64 = unsigned("tasks", version)?;
            let held = request.tasks.get(&task).copied().unwrap_or_default();
            if version > held {
                wanted.add(task, held);
            }
            read.versions.insert(task, version);
        }
    }

    // The clock is read under the locks, so it is never before that of the events they guard.
    let commands: Vec<Uuid> = request.commands.iter().map(|command| command.0).collect();
    let rows = sqlx::query(READ_UNDER_LOCKS)
        .bind(commands)
        .bind(&tasks)
        .bind(request.publisher.map(|publisher| publisher.0))
        .fetch_all(&mut *conn)
        .await
        .map_err(classify)?;
    for row in rows {
        match row.try_get::<i32, _>("what").map_err(classify)? {
            0 => read.now = row.try_get("decided_at").map_err(classify)?,
            1 => {
                let row = command_row(&row)?;
                read.known.insert(row.command_id, row);
            }
            2 => {
                read.relay_only
                    .insert(TaskId(row.try_get("task_id").map_err(classify)?));
            }
            _ => read.pauses.push(WorkflowPause {
                pause_id: CommandId(row.try_get("command_id").map_err(classify)?),
                workflow: slug("workflow_pauses", row.try_get("type").map_err(classify)?)?,
                reason: row.try_get("reason").map_err(classify)?,
                since: row.try_get("since").map_err(classify)?,
                until: row.try_get("until").map_err(classify)?,
                archived: row
                    .try_get::<Option<&str>, _>("outcome")
                    .map_err(classify)?
                    .is_some(),
                ended_at: row.try_get("decided_at").map_err(classify)?,
            }),
        }
    }

    let mut streams = read_streams(conn, wanted).await?;
    for task in request.tasks.keys() {
        let stream = streams.remove(task).unwrap_or_default();
        let opened = OpenedTask {
            snapshot: stream.snapshot,
            tail: stream.tail,
            version: read.versions.get(task).copied().unwrap_or_default(),
            relay_only: read.relay_only.contains(task),
        };
        read.tasks.insert(*task, opened);
    }
    Ok(read)
}

#[async_trait]
impl OpenBatch for PgBatch {
    fn now(&self) -> DateTime<Utc> {
        self.read.now
    }

    fn take_task(&mut self, task: TaskId) -> OpenedTask {
        self.read.tasks.remove(&task).unwrap_or_default()
    }

    fn known(&self, command: CommandId) -> Option<&CommandRow> {
        self.read.known.get(&command)
    }

    fn pauses(&self) -> &[WorkflowPause] {
        &self.read.pauses
    }

    fn held_by_claimant(&self) -> u32 {
        self.read.held_by_claimant
    }

    async fn commit(
        self: Box<Self>,
        writes: Vec<TaskWrite>,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        spawned(async move {
            let Self {
                mut link,
                publisher,
                read,
            } = *self;
            let conn = link.conn()?;
            let written = match timeout(WORK_TIMEOUT, write(conn, publisher, &read, writes)).await {
                Ok(written) => written,
                // COMMIT was not sent yet.
                Err(_) => Err(timed_out(WORK_TIMEOUT)),
            };
            let rows = match written {
                Ok(rows) => rows,
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
                    // Ended: back to the pool without a rollback.
                    drop(link.0.take());
                    Ok(rows)
                }
                Err(error) => Err(link.give_up(error).await),
            }
        })
        .await
    }
}

/// Writes everything of a batch, short of COMMIT.
async fn write(
    conn: &mut PgConnection,
    publisher: Option<PublisherId>,
    read: &Read,
    writes: Vec<TaskWrite>,
) -> Result<Vec<OutboxRow>, EventStoreError> {
    let mut heads = Heads::default();
    let mut events = Events::default();
    let mut commands = Commands::default();
    let mut messages = Messages::default();
    let mut seldom = Seldom::default();
    let mut places = PlaceRows::default();
    let mut unused = read.created.clone();
    let mut ids: HashSet<CommandId> = read.known.keys().copied().collect();
    for write in writes {
        check_versions(&write, read)?;
        if let Some(_twice) = write.commands.iter().find(|c| !ids.insert(c.command_id)) {
            let version = write.expected_version;
            return Err(EventStoreError::VersionConflict {
                task_id: write.task_id,
                expected: version,
                actual: version,
            });
        }
        if let Some(task) = &write.task {
            unused.remove(&write.task_id);
            heads.push(write.expected_version, task)?;
        }
        for event in &write.events {
            events.push(event)?;
        }
        for command in &write.commands {
            commands.push(command)?;
        }
        let owner = publisher.filter(|_| !read.relay_only.contains(&write.task_id));
        for row in write.outbox {
            messages.push(row, owner);
        }
        places.push(write.task_id, write.places);
        seldom.push(write.due_set, write.due_unset, write.drafts, write.snapshot);
    }
    let unused: Vec<Uuid> = unused.into_iter().map(|task| task.0).collect();
    let moving = heads.task_ids.clone();
    let expected = heads.expected.clone();

    let row = sqlx::query(WRITE)
        .bind(heads.task_ids)
        .bind(heads.expected)
        .bind(heads.versions)
        .bind(heads.workflows)
        .bind(heads.revisions)
        .bind(heads.revision_ids)
        .bind(heads.statuses)
        .bind(heads.steps)
        .bind(heads.labels)
        .bind(heads.incidents)
        .bind(heads.started_at)
        .bind(heads.updated_at)
        .bind(unused)
        .bind(events.stream_ids)
        .bind(events.versions)
        .bind(events.event_ids)
        .bind(events.types)
        .bind(events.data)
        .bind(events.metadata)
        .bind(events.occurred_at)
        .bind(commands.ids)
        .bind(commands.task_ids)
        .bind(commands.types)
        .bind(commands.outcomes)
        .bind(commands.reasons)
        .bind(commands.details)
        .bind(commands.results)
        .bind(commands.hashes)
        .bind(commands.payloads)
        .bind(commands.decided_at)
        .bind(&messages.ids)
        .bind(&messages.task_ids)
        .bind(&messages.keys)
        .bind(&messages.types)
        .bind(&messages.bodies)
        .bind(&messages.owners)
        .bind(COMMIT_LEASE.as_secs_f64())
        .fetch_one(&mut *conn)
        .await
        .map_err(classify)?;
    let moved: i64 = row.try_get(0).map_err(classify)?;
    let positions: Option<Vec<i64>> = row.try_get(1).map_err(classify)?;
    if usize::try_from(moved) != Ok(moving.len()) {
        return Err(conflict(conn, &moving, &expected).await?);
    }
    seldom.write(&mut *conn).await?;
    places.write(conn).await?;
    messages.owned(positions.unwrap_or_default())
}

/// Versions are compared where the locks are known, before anything is sent; the comparison in the
/// statement is the backstop.
fn check_versions(write: &TaskWrite, read: &Read) -> Result<(), EventStoreError> {
    let actual = read
        .versions
        .get(&write.task_id)
        .copied()
        .unwrap_or_default();
    let conflict = |expected| {
        Err(EventStoreError::VersionConflict {
            task_id: write.task_id,
            expected,
            actual,
        })
    };
    if write.expected_version != actual {
        return conflict(write.expected_version);
    }
    let mut version = actual;
    for event in &write.events {
        if event.version != version + 1 || event.task_id != write.task_id {
            return conflict(event.version.saturating_sub(1));
        }
        version = event.version;
    }
    let head = write.task.as_ref().map_or(actual, |task| task.version);
    if head == version && (write.events.is_empty() == write.task.is_none()) {
        Ok(())
    } else {
        conflict(head)
    }
}

/// Names the first head that did not move.
async fn conflict(
    conn: &mut PgConnection,
    tasks: &[Uuid],
    expected: &[i64],
) -> Result<EventStoreError, EventStoreError> {
    let heads: Vec<(Uuid, i64)> = sqlx::query_as(VERSIONS)
        .bind(tasks)
        .fetch_all(conn)
        .await
        .map_err(classify)?;
    let heads: HashMap<Uuid, i64> = heads.into_iter().collect();
    let lost = tasks
        .iter()
        .zip(expected)
        .find(|(task, expected)| heads.get(task) == Some(expected));
    let (task, expected) = lost
        .or_else(|| tasks.iter().zip(expected).next())
        .ok_or_else(|| EventStoreError::Other("heads moved that nobody asked to move".into()))?;
    Ok(EventStoreError::VersionConflict {
        task_id: TaskId(*task),
        expected: unsigned("tasks", *expected)?,
        actual: unsigned("tasks", heads.get(task).copied().unwrap_or_default())?,
    })
}

/// A number in a signed column; one that does not fit is no data that this build made.
fn signed<T: TryFrom<U>, U>(number: U) -> Result<T, EventStoreError>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(number).map_err(|error| EventStoreError::Data(Box::new(error)))
}

// Columns as arrays: one statement writes any number of rows.

#[derive(Default)]
struct Heads {
    task_ids: Vec<Uuid>,
    expected: Vec<i64>,
    versions: Vec<i64>,
    workflows: Vec<String>,
    revisions: Vec<i32>,
    revision_ids: Vec<Uuid>,
    statuses: Vec<&'static str>,
    steps: Vec<String>,
    labels: Vec<String>,
    incidents: Vec<i32>,
    started_at: Vec<DateTime<Utc>>,
    updated_at: Vec<DateTime<Utc>>,
}

impl Heads {
    fn push(&mut self, expected: u64, task: &TaskRow) -> Result<(), EventStoreError> {
        self.task_ids.push(task.task_id.0);
        self.expected.push(signed(expected)?);
        self.versions.push(signed(task.version)?);
        self.workflows.push(task.workflow.to_string());
        self.revisions.push(signed(task.revision)?);
        self.revision_ids.push(task.revision_id.0);
        self.statuses.push(task.status.as_str());
        // An array of arrays cannot be unnested by one level; step ids hold no comma.
        let steps: Vec<&str> = task.current_steps.iter().map(Slug::as_str).collect();
        self.steps.push(steps.join(","));
        self.labels.push(to_json(&task.labels)?);
        self.incidents.push(signed(task.incidents)?);
        self.started_at.push(task.started_at);
        self.updated_at.push(task.updated_at);
        Ok(())
    }
}

#[derive(Default)]
struct Events {
    stream_ids: Vec<Uuid>,
    versions: Vec<i64>,
    event_ids: Vec<Uuid>,
    types: Vec<&'static str>,
    data: Vec<String>,
    metadata: Vec<String>,
    occurred_at: Vec<DateTime<Utc>>,
}

impl Events {
    fn push(&mut self, event: &StoredEvent) -> Result<(), EventStoreError> {
        self.stream_ids.push(event.task_id.0);
        self.versions.push(signed(event.version)?);
        self.event_ids.push(event.event_id);
        self.types.push(event.event.event_type());
        self.data.push(event_data(&event.event)?);
        self.metadata.push(to_json(&event.metadata)?);
        self.occurred_at.push(event.occurred_at);
        Ok(())
    }
}

#[derive(Default)]
struct Commands {
    ids: Vec<Uuid>,
    task_ids: Vec<Option<Uuid>>,
    types: Vec<&'static str>,
    outcomes: Vec<&'static str>,
    reasons: Vec<Option<String>>,
    details: Vec<Option<String>>,
    results: Vec<Option<String>>,
    hashes: Vec<Vec<u8>>,
    payloads: Vec<Option<String>>,
    decided_at: Vec<DateTime<Utc>>,
}

impl Commands {
    fn push(&mut self, command: &CommandRecord) -> Result<(), EventStoreError> {
        let (outcome, reason, detail, result) = match &command.outcome {
            RecordedOutcome::Applied { result } => ("applied", None, None, Some(to_json(result)?)),
            RecordedOutcome::Rejected { reason, detail } => {
                ("rejected", Some(reason.clone()), Some(detail.clone()), None)
            }
        };
        self.ids.push(command.command_id.0);
        self.task_ids.push(command.task_id.map(|task| task.0));
        self.types.push(command.command_type);
        self.outcomes.push(outcome);
        self.reasons.push(reason);
        self.details.push(detail);
        self.results.push(result);
        self.hashes.push(command.content_hash.to_vec());
        self.payloads
            .push(command.payload.as_ref().map(to_json).transpose()?);
        self.decided_at.push(command.decided_at);
        Ok(())
    }
}

#[derive(Default)]
struct Messages {
    ids: Vec<Uuid>,
    task_ids: Vec<Option<Uuid>>,
    keys: Vec<String>,
    types: Vec<&'static str>,
    bodies: Vec<SharedText>,
    owners: Vec<Option<Uuid>>,
}

impl Messages {
    fn push(&mut self, row: NewOutboxRow, owner: Option<PublisherId>) {
        self.ids.push(row.message_id);
        self.task_ids.push(row.task_id.map(|task| task.0));
        self.keys.push(row.routing_key);
        self.types.push(row.message_type);
        self.bodies.push(SharedText(row.body));
        self.owners.push(owner.map(|owner| owner.0));
    }

    /// The rows that have an owner, with the positions they got: those ascend as the rows were
    /// given.
    fn owned(self, positions: Vec<i64>) -> Result<Vec<OutboxRow>, EventStoreError> {
        if positions.len() != self.ids.len() {
            return Err(EventStoreError::Other(
                "not every message got a position".into(),
            ));
        }
        let rows = positions
            .into_iter()
            .enumerate()
            .zip(self.keys)
            .zip(self.bodies);
        Ok(rows
            .filter(|(((index, _), _), _)| self.owners[*index].is_some())
            .map(|(((index, position), routing_key), body)| OutboxRow {
                position,
                message_id: self.ids[index],
                task_id: self.task_ids[index].map(TaskId),
                routing_key,
                message_type: self.types[index].to_owned(),
                body: body.0,
                attempts: 0,
            })
            .collect())
    }
}

/// A text that is bound without being copied first.
struct SharedText(Arc<str>);

impl sqlx::Type<Postgres> for SharedText {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <&str as sqlx::Type<Postgres>>::type_info()
    }
}

impl sqlx::postgres::PgHasArrayType for SharedText {
    fn array_type_info() -> sqlx::postgres::PgTypeInfo {
        <&str as sqlx::postgres::PgHasArrayType>::array_type_info()
    }
}

impl sqlx::Encode<'_, Postgres> for SharedText {
    fn encode_by_ref(
        &self,
        buffer: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        <&str as sqlx::Encode<Postgres>>::encode_by_ref(&&*self.0, buffer)
    }
}

/// Due work, drafts and snapshots.
#[derive(Default)]
struct Seldom {
    due_unset: HashSet<Uuid>,
    due_set: HashMap<Uuid, DueRow>,
    drafts: HashMap<(TaskId, String, u32, Uuid), Draft>,
    snapshots: Vec<SnapshotRow>,
}

impl Seldom {
    /// A row that comes twice counts as it came last; what is deleted and written is written: one
    /// statement may touch a row once.
    fn push(
        &mut self,
        due_set: Vec<DueRow>,
        due_unset: Vec<Uuid>,
        drafts: Vec<Draft>,
        snapshot: Option<SnapshotRow>,
    ) {
        self.due_unset.extend(due_unset);
        self.due_set
            .extend(due_set.into_iter().map(|row| (row.id, row)));
        self.drafts.extend(drafts.into_iter().map(|draft| {
            let key = (
                draft.task_id,
                draft.step_id.to_string(),
                draft.visit,
                draft.user_id.0,
            );
            (key, draft)
        }));
        self.snapshots.extend(snapshot);
    }

    async fn write(mut self, conn: &mut PgConnection) -> Result<(), EventStoreError> {
        self.due_unset.retain(|id| !self.due_set.contains_key(id));
        if self.due_unset.is_empty()
            && self.due_set.is_empty()
            && self.drafts.is_empty()
            && self.snapshots.is_empty()
        {
            return Ok(());
        }
        let due: Vec<_> = self.due_set.into_values().collect();
        let drafts: Vec<_> = self.drafts.into_values().collect();
        let each_due = |f: fn(&DueRow) -> Uuid| due.iter().map(f).collect::<Vec<_>>();
        let texts = self
            .snapshots
            .iter()
            .map(|snapshot| snapshot_text(&snapshot.state))
            .collect::<Result<Vec<_>, _>>()?;
        let (states, checksums): (Vec<_>, Vec<_>) = texts
            .into_iter()
            .map(|(text, checksum)| (text, checksum.to_vec()))
            .unzip();
        sqlx::query(WRITE_SELDOM)
            .bind(self.due_unset.into_iter().collect::<Vec<_>>())
            .bind(each_due(|row| row.id))
            .bind(each_due(|row| row.task_id.0))
            .bind(
                due.iter()
                    .map(|row| row.step_id.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(
                due.iter()
                    .map(|row| signed(row.visit))
                    .collect::<Result<Vec<i32>, _>>()?,
            )
            .bind(due.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>())
            .bind(
                due.iter()
                    .map(|row| signed(row.n))
                    .collect::<Result<Vec<i32>, _>>()?,
            )
            .bind(due.iter().map(|row| row.due_at).collect::<Vec<_>>())
            .bind(
                drafts
                    .iter()
                    .map(|draft| draft.task_id.0)
                    .collect::<Vec<_>>(),
            )
            .bind(
                drafts
                    .iter()
                    .map(|draft| draft.step_id.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                drafts
                    .iter()
                    .map(|draft| signed(draft.visit))
                    .collect::<Result<Vec<i32>, _>>()?,
            )
            .bind(
                drafts
                    .iter()
                    .map(|draft| draft.user_id.0)
                    .collect::<Vec<_>>(),
            )
            .bind(
                drafts
                    .iter()
                    .map(|draft| to_json(&draft.draft))
                    .collect::<Result<Vec<_>, _>>()?,
            )
            .bind(
                drafts
                    .iter()
                    .map(|draft| draft.saved_at)
                    .collect::<Vec<_>>(),
            )
            .bind(i32::from(SNAPSHOT_SCHEMA_VERSION))
            .bind(
                self.snapshots
                    .iter()
                    .map(|snapshot| snapshot.task_id.0)
                    .collect::<Vec<_>>(),
            )
            .bind(
                self.snapshots
                    .iter()
                    .map(|snapshot| signed(snapshot.version))
                    .collect::<Result<Vec<i64>, _>>()?,
            )
            .bind(checksums)
            .bind(states)
            .execute(conn)
            .await
            .map_err(classify)?;
        Ok(())
    }
}
