//! The writes of a commit: one statement for what every batch has, one for rarer parts.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{
        CommandRecord, Draft, EventStoreError, LogEntry, LogPosition, NewMessage, OUTBOX_LEASE,
        OutboxMessage, PublisherId, SNAPSHOT_SCHEMA_VERSION, SnapshotRow, TaskRow, TaskWrite,
        Timer,
        outbox::NewRow,
        rows::{WithSize, own_correlation},
    },
    commands::without_output,
    heads::{Heads, all_inserted, not_moved},
    outbox::SharedText,
    query::{execute, fetch_one, nth, roomy},
    recent_log::Batch,
    rows::{column, event_data, signed, snapshot_text, to_json, try_column},
    slots::SlotRows,
};
use crate::{
    events::StoredEvent,
    ids::{CommandId, Slug, TaskId},
};

/// Writes the heads of new streams, before anything else and in id order (see [`heads`]). A stream
/// of which commands are only rejected gets a head for the length of the transaction: a rejection,
/// too, holds only if nobody has started the task meanwhile.
///
/// [`heads`]: super::heads
const NEW_HEADS: &str = "
    INSERT INTO tasks
        (task_id, version, workflow, revision, workflow_id, status, current_steps, labels,
         incidents, started_at, updated_at)
    SELECT n.task_id, n.version, n.workflow, n.revision, n.workflow_id, n.status,
           string_to_array(n.steps, ','), n.labels::jsonb, n.incidents, n.started_at, n.updated_at
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::uuid[], $6::text[],
                $7::text[], $8::text[], $9::int[], $10::timestamptz[], $11::timestamptz[])
         AS n (task_id, version, workflow, revision, workflow_id, status, steps, labels, incidents,
               started_at, updated_at)
    ORDER BY n.task_id
    ON CONFLICT (task_id) DO NOTHING";

/// Writes the parts that every batch has. The heads are updated only from the versions decided on;
/// the caller counts them and rolls back if one was not updated.
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
    ), batch AS (
        INSERT INTO log_batches (has_events)
        SELECT cardinality($14) > 0 WHERE cardinality($14) > 0 OR cardinality($37) > 0
        RETURNING batch, written_at
    ), appended AS (
        INSERT INTO stored_events
            (stream_id, version, event_id, event_type, event_data, occurred_at, command_id,
             correlation_id, traceparent, actor, schema_version, gold, batch)
        SELECT e.stream_id, e.version, e.event_id, e.event_type, e.event_data,
               e.occurred_at, e.command_id, e.correlation_id, e.traceparent, e.actor,
               e.schema_version, e.gold, batch.batch
        FROM batch CROSS JOIN
             unnest($14::uuid[], $15::bigint[], $16::uuid[], $17::text[], $18::text[],
                    $19::timestamptz[], $20::uuid[], $43::text[], $44::text[], $45::text[],
                    $46::int[], $47::boolean[])
             AS e (stream_id, version, event_id, event_type, event_data, occurred_at, command_id,
                   correlation_id, traceparent, actor, schema_version, gold)
        RETURNING position
    ), decided AS (
        INSERT INTO commands
            (command_id, task_id, type, outcome, reason, detail, result, content_hash, payload,
             decided_at)
        SELECT c.command_id, c.task_id, c.type, c.outcome, c.reason, c.detail, c.result::json,
               c.content_hash, c.payload::jsonb, c.decided_at
        FROM unnest($21::uuid[], $22::uuid[], $23::text[], $24::text[], $25::text[], $26::text[],
                    $27::text[], $28::bytea[], $29::text[], $30::timestamptz[])
             AS c (command_id, task_id, type, outcome, reason, detail, result, content_hash,
                   payload, decided_at)
    ), said AS (
        INSERT INTO log_messages (message_id, batch, task_id, routing_key, message_type, body)
        SELECT m.message_id, batch.batch, m.task_id, m.routing_key, m.message_type, m.body
        FROM batch CROSS JOIN
             unnest($37::uuid[], $38::uuid[], $39::text[], $40::text[], $41::text[])
             AS m (message_id, task_id, routing_key, message_type, body)
    ), queued AS (
        INSERT INTO outbox
            (task_id, from_version, to_version, message_id, bytes, owner, leased_until)
        SELECT m.*, CASE WHEN m.owner IS NOT NULL
                         THEN clock_timestamp() + make_interval(secs => $42) END
        FROM unnest($31::uuid[], $32::bigint[], $33::bigint[], $34::uuid[], $35::int[], $36::uuid[])
             AS m (task_id, from_version, to_version, message_id, bytes, owner)
        RETURNING position
    )
    SELECT (SELECT count(*) FROM moved),
           (SELECT array_agg(position ORDER BY position) FROM queued),
           (SELECT batch FROM batch), (SELECT written_at FROM batch),
           (SELECT array_agg(position ORDER BY position) FROM appended)";

/// Writes the parts that most batches do not have.
const WRITE_SELDOM: &str = "
    WITH unset AS (
        DELETE FROM timers WHERE id = ANY ($1)
    ), due AS (
        INSERT INTO timers (id, task_id, step_id, visit, kind, n, due_at, workflow)
        SELECT d.*, coalesce(t.workflow, '')
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::text[], $7::int[],
                    $8::timestamptz[]) AS d (id, task_id, step_id, visit, kind, n, due_at)
        LEFT JOIN tasks t ON t.task_id = d.task_id
        ON CONFLICT (id) DO UPDATE
        SET task_id = excluded.task_id, step_id = excluded.step_id, visit = excluded.visit,
            kind = excluded.kind, n = excluded.n, due_at = excluded.due_at, leased_until = NULL,
            workflow = excluded.workflow
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

/// What a batch knows under its locks.
#[derive(Debug, Default)]
pub(super) struct Locked {
    pub(super) heads: Heads,
    /// Tasks whose messages go to the relay.
    pub(super) relay_only: HashSet<TaskId>,
    /// Commands of the request that are already in the inbox.
    pub(super) known: HashSet<CommandId>,
}

/// What [`write()`] has written.
#[derive(Debug)]
pub(super) struct Written {
    /// The messages that have a publisher.
    pub(super) messages: Vec<OutboxMessage>,
    /// What it adds to the log; `None` where that is nothing.
    pub(super) batch: Option<Batch>,
    /// The events, in their order, without their entry: COMMIT gives it.
    pub(super) events: Vec<WithSize<LogEntry>>,
}

/// About what a row takes in the arguments besides its texts.
const ROW_BYTES: usize = 256;

/// Writes everything of a batch, except COMMIT.
///
/// Versions are checked against the locked heads before anything is sent; the comparison in the
/// statement is the backstop.
pub(super) async fn write(
    conn: &mut PgConnection,
    publisher: Option<PublisherId>,
    locked: &Locked,
    writes: Vec<TaskWrite>,
) -> Result<Written, EventStoreError> {
    let mut tasks = Tasks::default();
    let mut started = Tasks::default();
    let mut expected = Vec::new();
    let mut events = Events::default();
    let mut commands = Commands::default();
    let mut messages = OutboxRows::default();
    let mut seldom = Seldom::default();
    let mut slots = SlotRows::default();
    let mut unused = Vec::new();
    let mut written = Vec::new();
    let mut ids = locked.known.clone();
    for write in writes {
        write.check(locked.heads.version(write.task_id), |id| ids.insert(id))?;
        match &write.task {
            Some(task) if locked.heads.has(write.task_id) => {
                expected.push((write.task_id, write.expected_version));
                tasks.push(write.expected_version, task)?;
            }
            Some(task) => started.push(write.expected_version, task)?,
            None if locked.heads.has(write.task_id) => {}
            None => unused.push(write.task_id.0),
        }
        let first = events.data.len();
        for event in &write.events {
            events.push(event)?;
        }
        for command in &write.commands {
            commands.push(command)?;
        }
        let owner = publisher.filter(|_| !locked.relay_only.contains(&write.task_id));
        messages.push(
            write.task_id,
            write.outbox,
            owner,
            write.expected_version,
            &events.data[first..],
        )?;
        if let Some(task) = write.task {
            let bytes = events.data[first..].iter().map(String::len);
            written.extend(write.events.into_iter().zip(bytes).map(|(event, bytes)| {
                // The database numbers it.
                let entry = LogEntry {
                    position: LogPosition::default(),
                    workflow: task.workflow.clone(),
                    started_at: task.started_at,
                    event,
                };
                (entry, bytes)
            }));
        }
        slots.push(write.task_id, write.slots);
        seldom.push(
            write.timers_set,
            write.timers_unset,
            write.drafts,
            write.snapshot,
        );
    }
    started.insert(conn, &unused).await?;

    let rows = tasks.task_ids.len() + events.data.len() + commands.ids.len() + messages.ids.len();
    let texts = events.texts() + commands.texts() + messages.said.texts();
    let query = sqlx::query_with(WRITE, roomy(texts + rows * ROW_BYTES))
        .bind(tasks.task_ids)
        .bind(tasks.expected)
        .bind(tasks.versions)
        .bind(tasks.workflows)
        .bind(tasks.revisions)
        .bind(tasks.revision_ids)
        .bind(tasks.statuses)
        .bind(tasks.steps)
        .bind(tasks.labels)
        .bind(tasks.incidents)
        .bind(tasks.started_at)
        .bind(tasks.updated_at)
        .bind(unused)
        .bind(events.stream_ids)
        .bind(events.versions)
        .bind(events.event_ids)
        .bind(events.types)
        .bind(events.data)
        .bind(events.occurred_at)
        .bind(events.command_ids)
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
        .bind(&messages.task_ids)
        .bind(&messages.from)
        .bind(&messages.to)
        .bind(&messages.ids)
        .bind(&messages.bytes)
        .bind(&messages.owners)
        .bind(&messages.said.ids)
        .bind(&messages.said.tasks)
        .bind(&messages.said.keys)
        .bind(&messages.said.types)
        .bind(&messages.said.bodies)
        .bind(OUTBOX_LEASE.as_secs_f64())
        .bind(events.correlation_ids)
        .bind(events.traceparents)
        .bind(events.actors)
        .bind(events.schema_versions)
        .bind(events.gold);
    let numbered = fetch_one(conn, query, |row| {
        let batch: (Option<i64>, Option<DateTime<Utc>>) = (nth(row, 2)?, nth(row, 3)?);
        Ok(Numbered {
            moved: nth(row, 0)?,
            outbox: nth::<Option<_>>(row, 1)?.unwrap_or_default(),
            batch: match batch {
                (Some(number), Some(written_at)) => Some(Batch { number, written_at }),
                _ => None,
            },
            events: nth::<Option<_>>(row, 4)?.unwrap_or_default(),
        })
    })
    .await?;
    if usize::try_from(numbered.moved) != Ok(expected.len()) {
        return Err(not_moved(conn, &expected).await?);
    }
    seldom.write(conn).await?;
    slots.write(conn).await?;
    if numbered.events.len() != written.len() {
        return Err(EventStoreError::Other(
            "not every event got a position".into(),
        ));
    }
    for ((event, _), position) in written.iter_mut().zip(numbered.events) {
        event.position.position = position;
    }
    Ok(Written {
        messages: messages.owned(numbered.outbox)?,
        batch: numbered.batch,
        events: written,
    })
}

/// The result of [`WRITE`]. Positions ascend in the order of the rows.
struct Numbered {
    moved: i64,
    outbox: Vec<i64>,
    batch: Option<Batch>,
    events: Vec<i64>,
}

// Columns as arrays: one statement writes any number of rows.

#[derive(Default)]
struct Tasks {
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

impl Tasks {
    /// Writes the heads of new streams, and empty ones.
    async fn insert(
        mut self,
        conn: &mut PgConnection,
        empty: &[Uuid],
    ) -> Result<(), EventStoreError> {
        // The columns of an empty head are null, or as in an empty list.
        fn padded<T>(whole: Vec<T>, empty: usize) -> Vec<Option<T>> {
            let whole = whole.into_iter().map(Some);
            whole.chain((0..empty).map(|_| None)).collect()
        }
        let count = self.task_ids.len() + empty.len();
        if count == 0 {
            return Ok(());
        }
        self.task_ids.extend(empty);
        self.versions.resize(count, 0);
        self.steps.resize_with(count, String::new);
        self.labels.resize_with(count, || "{}".to_owned());
        self.incidents.resize(count, 0);
        let query = sqlx::query(NEW_HEADS)
            .bind(self.task_ids)
            .bind(self.versions)
            .bind(padded(self.workflows, empty.len()))
            .bind(padded(self.revisions, empty.len()))
            .bind(padded(self.revision_ids, empty.len()))
            .bind(padded(self.statuses, empty.len()))
            .bind(self.steps)
            .bind(self.labels)
            .bind(self.incidents)
            .bind(padded(self.started_at, empty.len()))
            .bind(padded(self.updated_at, empty.len()));
        all_inserted(execute(conn, query).await?, count)
    }

    fn push(&mut self, expected: u64, task: &TaskRow) -> Result<(), EventStoreError> {
        self.task_ids.push(task.task_id.0);
        self.expected.push(signed(expected)?);
        self.versions.push(signed(task.version)?);
        self.workflows.push(task.workflow.to_string());
        self.revisions.push(signed(task.revision)?);
        self.revision_ids.push(task.revision_id.0);
        self.statuses.push(task.status.as_str());
        // `unnest` cannot unnest an array of arrays by one level; step ids contain no comma.
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
    occurred_at: Vec<DateTime<Utc>>,
    command_ids: Vec<Uuid>,
    correlation_ids: Vec<Option<String>>,
    traceparents: Vec<Option<String>>,
    actors: Vec<Option<String>>,
    schema_versions: Vec<i32>,
    gold: Vec<bool>,
}

impl Events {
    /// Bytes of what is long.
    fn texts(&self) -> usize {
        self.data.iter().map(String::len).sum()
    }

    fn push(&mut self, event: &StoredEvent) -> Result<(), EventStoreError> {
        self.stream_ids.push(event.task_id.0);
        self.versions.push(signed(event.version)?);
        self.event_ids.push(event.event_id);
        self.types.push(event.event.event_type());
        self.data.push(event_data(&event.event)?);
        self.occurred_at.push(event.occurred_at);
        let cause = &event.metadata;
        self.command_ids.push(cause.command_id.0);
        self.correlation_ids
            .push(own_correlation(cause).map(str::to_owned));
        self.traceparents.push(cause.traceparent.clone());
        self.actors.push(cause.actor.clone());
        self.schema_versions.push(cause.schema_version.into());
        self.gold.push(cause.gold);
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
    /// Bytes of what is long.
    fn texts(&self) -> usize {
        let texts = self.results.iter().chain(&self.payloads);
        texts.flatten().map(String::len).sum()
    }

    fn push(&mut self, command: &CommandRecord) -> Result<(), EventStoreError> {
        let outcome = command.outcome.columns();
        self.ids.push(command.command_id.0);
        self.task_ids.push(command.task_id.map(|task| task.0));
        self.types.push(command.command_type);
        self.outcomes.push(outcome.outcome);
        self.reasons.push(outcome.reason.map(str::to_owned));
        self.details.push(outcome.detail.map(str::to_owned));
        let result = outcome.result.map(|result| match command.task_id {
            Some(_) => to_json(&without_output(result)),
            None => to_json(result),
        });
        self.results.push(result.transpose()?);
        self.hashes.push(command.content_hash.to_vec());
        self.payloads
            .push(command.payload.as_ref().map(to_json).transpose()?);
        self.decided_at.push(command.decided_at);
        Ok(())
    }
}

/// Rows of the outbox, with the messages that they stand for.
#[derive(Default)]
struct OutboxRows {
    task_ids: Vec<Option<Uuid>>,
    from: Vec<Option<i64>>,
    to: Vec<Option<i64>>,
    bytes: Vec<i32>,
    owners: Vec<Option<Uuid>>,
    ids: Vec<Option<Uuid>>,
    messages: Vec<Vec<NewMessage>>,
    said: Said,
}

/// Messages that no event stands for, for the log.
#[derive(Default)]
struct Said {
    ids: Vec<Uuid>,
    tasks: Vec<Option<Uuid>>,
    keys: Vec<String>,
    types: Vec<&'static str>,
    bodies: Vec<SharedText>,
}

impl Said {
    /// Bytes of what is long.
    fn texts(&self) -> usize {
        self.bodies.iter().map(|body| body.0.len()).sum()
    }

    fn push(&mut self, message: &NewMessage) {
        self.ids.push(message.message_id);
        self.tasks.push(message.task_id.map(|task| task.0));
        self.keys.push(message.routing_key.clone());
        self.types.push(message.message_type);
        self.bodies.push(SharedText(message.body.clone()));
    }
}

impl OutboxRows {
    /// Adds the messages of one task. `data` are the events of the write, which follow `before`.
    fn push(
        &mut self,
        task: TaskId,
        messages: Vec<NewMessage>,
        owner: Option<PublisherId>,
        before: u64,
        data: &[String],
    ) -> Result<(), EventStoreError> {
        for row in NewRow::of(messages) {
            let named = row.message();
            let bytes = match row.versions {
                Some((from, to)) => {
                    let behind = |version| usize::try_from(version - before).unwrap_or_default();
                    let read = data.iter().take(behind(to)).skip(behind(from) - 1);
                    read.map(String::len).sum()
                }
                None => named.map_or(0, |message| message.body.len()),
            };
            let (from, to) = row.versions.unzip();
            self.task_ids
                .push(named.map_or(Some(task), |m| m.task_id).map(|id| id.0));
            self.from.push(from.map(signed).transpose()?);
            self.to.push(to.map(signed).transpose()?);
            self.bytes.push(i32::try_from(bytes).unwrap_or(i32::MAX));
            self.owners.push(owner.map(|owner| owner.0));
            self.ids.push(named.map(|message| message.message_id));
            if let Some(message) = named {
                self.said.push(message);
            }
            self.messages.push(row.messages);
        }
        Ok(())
    }

    /// The messages that have a publisher, with the positions of their rows. Positions ascend in
    /// the order of the rows.
    fn owned(self, positions: Vec<i64>) -> Result<Vec<OutboxMessage>, EventStoreError> {
        if positions.len() != self.messages.len() {
            return Err(EventStoreError::Other(
                "not every row of the outbox got a position".into(),
            ));
        }
        let rows = positions.into_iter().zip(self.messages).zip(self.owners);
        Ok(rows
            .filter(|(_, owner)| owner.is_some())
            .flat_map(|((position, messages), _)| messages.into_iter().map(move |m| m.at(position)))
            .collect())
    }
}

/// Timers, drafts and snapshots.
#[derive(Default)]
pub(super) struct Seldom {
    timers_unset: HashSet<Uuid>,
    timers_set: HashMap<Uuid, Timer>,
    drafts: HashMap<(TaskId, String, u32, Uuid), Draft>,
    snapshots: Vec<SnapshotRow>,
}

impl Seldom {
    /// If a row occurs twice, the last occurrence counts; a row that is both deleted and written is
    /// written. One statement may touch a row only once.
    pub(super) fn push(
        &mut self,
        timers_set: Vec<Timer>,
        timers_unset: Vec<Uuid>,
        drafts: Vec<Draft>,
        snapshot: Option<SnapshotRow>,
    ) {
        self.timers_unset.extend(timers_unset);
        self.timers_set
            .extend(timers_set.into_iter().map(|row| (row.id, row)));
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

    pub(super) async fn write(mut self, conn: &mut PgConnection) -> Result<(), EventStoreError> {
        self.timers_unset
            .retain(|id| !self.timers_set.contains_key(id));
        if self.timers_unset.is_empty()
            && self.timers_set.is_empty()
            && self.drafts.is_empty()
            && self.snapshots.is_empty()
        {
            return Ok(());
        }
        let due: Vec<_> = self.timers_set.into_values().collect();
        let drafts: Vec<_> = self.drafts.into_values().collect();
        let snapshots = self.snapshots;
        let texts = try_column(&snapshots, |snapshot| snapshot_text(&snapshot.state))?;
        let (states, checksums): (Vec<_>, Vec<_>) = texts
            .into_iter()
            .map(|(text, checksum)| (text, checksum.to_vec()))
            .unzip();
        let query = sqlx::query(WRITE_SELDOM)
            .bind(self.timers_unset.into_iter().collect::<Vec<_>>())
            .bind(column(&due, |row| row.id))
            .bind(column(&due, |row| row.task_id.0))
            .bind(column(&due, |row| {
                row.step_id.as_deref().map(str::to_owned)
            }))
            .bind(try_column(&due, |row| signed::<i32, _>(row.visit))?)
            .bind(column(&due, |row| row.kind.as_str()))
            .bind(try_column(&due, |row| signed::<i32, _>(row.n))?)
            .bind(column(&due, |row| row.due_at))
            .bind(column(&drafts, |draft| draft.task_id.0))
            .bind(column(&drafts, |draft| draft.step_id.to_string()))
            .bind(try_column(&drafts, |draft| signed::<i32, _>(draft.visit))?)
            .bind(column(&drafts, |draft| draft.user_id.0))
            .bind(try_column(&drafts, |draft| to_json(&draft.draft))?)
            .bind(column(&drafts, |draft| draft.saved_at))
            .bind(i32::from(SNAPSHOT_SCHEMA_VERSION))
            .bind(column(&snapshots, |snapshot| snapshot.task_id.0))
            .bind(try_column(&snapshots, |snapshot| {
                signed::<i64, _>(snapshot.version)
            })?)
            .bind(checksums)
            .bind(states);
        execute(conn, query).await.map(drop)
    }
}
