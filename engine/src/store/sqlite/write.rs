//! The writes of a commit, one statement per table.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{SqliteConnection, error::DatabaseError};
use uuid::Uuid;

use super::{
    super::{
        CommandRecord, Draft, EventStoreError, OUTBOX_LEASE, OutboxMessage, PublisherId,
        SNAPSHOT_SCHEMA_VERSION, SnapshotRow, TaskRow, TaskWrite, Timer,
        outbox::NewRow,
        rows::{checksum, own_correlation},
        workflows::hex,
    },
    heads::Head,
    outbox::say,
    query::{execute, fetch, nth},
    rows::{array, event_data, integer, json, micros, plain},
    slots,
};
use crate::{events::StoredEvent, ids::TaskId};

const EVENTS: &str = "
    INSERT INTO stored_events
        (stream_id, version, event_id, event_type, event_data, occurred_at, command_id,
         correlation_id, traceparent, actor, schema_version, gold)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11
    FROM json_each(?1) ORDER BY key";

const TASKS: &str = "
    INSERT INTO tasks
        (task_id, workflow, revision, workflow_id, version, status, current_steps, labels,
         incidents, started_at, updated_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (task_id) DO UPDATE SET
        workflow = excluded.workflow, revision = excluded.revision,
        workflow_id = excluded.workflow_id, version = excluded.version,
        status = excluded.status, current_steps = excluded.current_steps,
        labels = excluded.labels, incidents = excluded.incidents,
        started_at = excluded.started_at, updated_at = excluded.updated_at";

const COMMANDS: &str = "
    INSERT INTO commands
        (command_id, task_id, type, outcome, reason, detail, result, content_hash, payload, decided_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, unhex(value ->> 7), value ->> 8, value ->> 9
    FROM json_each(?1) ORDER BY key";

const OUTBOX: &str = "
    INSERT INTO outbox
        (task_id, from_version, to_version, message_id, bytes, created_at, owner, leased_until)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3,
           coalesce(value ->> 4, (
               SELECT sum(octet_length(e.event_data)) FROM stored_events AS e
               WHERE e.stream_id = value ->> 0
                 AND e.version BETWEEN value ->> 1 AND value ->> 2), 0),
           ?2, iif(value ->> 5, ?3, NULL), iif(value ->> 5, ?4, NULL)
    FROM json_each(?1) ORDER BY key
    RETURNING position";

const UNSET_TIMERS: &str = "DELETE FROM timers WHERE id IN (SELECT value FROM json_each(?1))";

const DROP_TIMERS: &str = "
    DELETE FROM timers
    WHERE (id, due_at) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";

const SET_TIMERS: &str = "
    INSERT INTO timers (id, task_id, step_id, visit, kind, n, due_at, workflow)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
           coalesce((SELECT t.workflow FROM tasks AS t WHERE t.task_id = value ->> 1), '')
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (id) DO UPDATE SET
        task_id = excluded.task_id, step_id = excluded.step_id, visit = excluded.visit,
        kind = excluded.kind, n = excluded.n, due_at = excluded.due_at, leased_until = NULL,
        workflow = excluded.workflow";

const DRAFTS: &str = "
    INSERT INTO drafts (task_id, step_id, visit, user_id, draft, saved_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (task_id, step_id, visit, user_id) DO UPDATE SET
        draft = excluded.draft, saved_at = excluded.saved_at";

const SNAPSHOTS: &str = "
    INSERT INTO workflow_snapshots (task_id, version, schema_version, state, checksum)
    SELECT value ->> 0, value ->> 1, ?2, value ->> 2, unhex(value ->> 3)
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (task_id, version) DO UPDATE SET
        schema_version = excluded.schema_version, state = excluded.state,
        checksum = excluded.checksum";

/// Writes everything of a batch and returns the messages now leased to `publisher`.
pub(super) async fn all(
    connection: &mut SqliteConnection,
    writes: &[TaskWrite],
    heads: &HashMap<TaskId, Head>,
    publisher: Option<PublisherId>,
    now: DateTime<Utc>,
) -> Result<Vec<OutboxMessage>, EventStoreError> {
    events(connection, writes).await?;
    tasks(
        connection,
        writes.iter().filter_map(|write| write.task.as_ref()),
    )
    .await?;
    commands(connection, writes).await?;
    let unset: Vec<Uuid> = writes
        .iter()
        .flat_map(|write| write.timers_unset.clone())
        .collect();
    timers_unset(connection, &unset).await?;
    timers_set(
        connection,
        writes.iter().flat_map(|write| &write.timers_set),
    )
    .await?;
    let changes = writes.iter().map(|write| (write.task_id, &write.slots));
    slots::write(connection, changes).await?;
    drafts(connection, writes.iter().flat_map(|write| &write.drafts)).await?;
    snapshots(
        connection,
        writes.iter().filter_map(|write| write.snapshot.as_ref()),
    )
    .await?;
    outbox(connection, writes, heads, publisher, now).await
}

async fn write(
    connection: &mut SqliteConnection,
    sql: &'static str,
    rows: String,
) -> Result<(), EventStoreError> {
    execute(connection, sqlx::query(sql).bind(rows)).await
}

/// A key exists although the lock and the inbox said otherwise: a bug, distinct from content that
/// cannot be stored.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only a refusal of content is meant"
)]
fn twice(error: EventStoreError, write: &TaskWrite) -> EventStoreError {
    let unique = match &error {
        EventStoreError::Data(source) => source
            .downcast_ref::<sqlx::Error>()
            .and_then(sqlx::Error::as_database_error)
            .is_some_and(DatabaseError::is_unique_violation),
        _ => false,
    };
    if unique {
        EventStoreError::VersionConflict {
            task_id: write.task_id,
            expected: write.expected_version,
            actual: write.expected_version,
        }
    } else {
        error
    }
}

/// The columns of an event.
fn event(event: &StoredEvent) -> Result<impl Serialize, EventStoreError> {
    let cause = &event.metadata;
    Ok((
        event.task_id,
        integer(event.version),
        event.event_id,
        event.event.event_type(),
        event_data(&event.event)?,
        micros(event.occurred_at),
        cause.command_id,
        own_correlation(cause).map(plain).transpose()?,
        cause.traceparent.as_deref().map(plain).transpose()?,
        cause.actor.as_deref().map(plain).transpose()?,
        cause.schema_version,
        cause.gold,
    ))
}

async fn events(
    connection: &mut SqliteConnection,
    writes: &[TaskWrite],
) -> Result<(), EventStoreError> {
    let events = writes.iter().flat_map(|write| &write.events);
    let rows = events.map(event).collect::<Result<Vec<_>, _>>()?;
    match writes.iter().find(|write| !write.events.is_empty()) {
        Some(first) => write(connection, EVENTS, array(&rows)?)
            .await
            .map_err(|error| twice(error, first)),
        None => Ok(()),
    }
}

pub(super) async fn tasks(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = &TaskRow>,
) -> Result<(), EventStoreError> {
    let rows = rows
        .map(|row| {
            Ok((
                row.task_id,
                &row.workflow,
                row.revision,
                row.revision_id,
                integer(row.version),
                row.status,
                json(&row.current_steps)?,
                json(&row.labels)?,
                row.incidents,
                micros(row.started_at),
                micros(row.updated_at),
            ))
        })
        .collect::<Result<Vec<_>, EventStoreError>>()?;
    if rows.is_empty() {
        return Ok(());
    }
    write(connection, TASKS, array(&rows)?).await
}

async fn commands(
    connection: &mut SqliteConnection,
    writes: &[TaskWrite],
) -> Result<(), EventStoreError> {
    let rows: Vec<_> = writes.iter().flat_map(|write| &write.commands).collect();
    match writes.iter().find(|write| !write.commands.is_empty()) {
        Some(first) => records(connection, &rows)
            .await
            .map_err(|error| twice(error, first)),
        None => Ok(()),
    }
}

/// Writes rows of the inbox.
pub(super) async fn records(
    connection: &mut SqliteConnection,
    rows: &[&CommandRecord],
) -> Result<(), EventStoreError> {
    let rows = rows
        .iter()
        .map(|command| {
            let outcome = command.outcome.columns();
            Ok((
                command.command_id,
                command.task_id,
                command.command_type,
                outcome.outcome,
                outcome.reason.map(plain).transpose()?,
                outcome.detail.map(plain).transpose()?,
                outcome.result.map(json).transpose()?,
                hex(&command.content_hash),
                command.payload.as_ref().map(json).transpose()?,
                micros(command.decided_at),
            ))
        })
        .collect::<Result<Vec<_>, EventStoreError>>()?;
    write(connection, COMMANDS, array(&rows)?).await
}

/// Writes messages; returns those now leased to `publisher`, in order of writing.
async fn outbox(
    connection: &mut SqliteConnection,
    writes: &[TaskWrite],
    heads: &HashMap<TaskId, Head>,
    publisher: Option<PublisherId>,
    now: DateTime<Utc>,
) -> Result<Vec<OutboxMessage>, EventStoreError> {
    let mut rows = Vec::new();
    let mut messages = Vec::new();
    for write in writes {
        let relay_only = heads.get(&write.task_id).is_none_or(|head| head.relay_only);
        let leased = publisher.is_some() && !relay_only;
        for row in NewRow::of(write.outbox.clone()) {
            let named = row.message();
            let (from, to) = row.versions.unzip();
            rows.push((
                named.map_or(Some(write.task_id), |message| message.task_id),
                from.map(integer),
                to.map(integer),
                named.map(|message| message.message_id),
                named.map(|message| message.body.len()),
                leased,
            ));
            messages.push((row.messages, leased));
        }
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let no_event = writes.iter().flat_map(|write| &write.outbox);
    say(
        connection,
        no_event.filter(|message| message.version.is_none()),
    )
    .await?;
    let query = sqlx::query(OUTBOX)
        .bind(array(&rows)?)
        .bind(micros(now))
        .bind(publisher.map(|publisher| publisher.0.hyphenated()))
        .bind(micros(now + OUTBOX_LEASE));
    let mut positions: Vec<i64> = fetch(connection, query, |row| nth(row, 0)).await?;
    // RETURNING guarantees no order; positions ascend in the order of the rows.
    positions.sort_unstable();
    Ok(positions
        .into_iter()
        .zip(messages)
        .filter(|(_, (_, leased))| *leased)
        .flat_map(|(position, (messages, _))| messages.into_iter().map(move |m| m.at(position)))
        .collect())
}

/// Deletes timers that are still due at the same time.
pub(super) async fn timers_dropped(
    connection: &mut SqliteConnection,
    rows: &[Timer],
) -> Result<(), EventStoreError> {
    let rows = rows.iter().map(|row| (row.id, micros(row.due_at)));
    let rows: Vec<_> = rows.collect();
    write(connection, DROP_TIMERS, array(&rows)?).await
}

/// Deletes timers.
async fn timers_unset(
    connection: &mut SqliteConnection,
    ids: &[Uuid],
) -> Result<(), EventStoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    write(connection, UNSET_TIMERS, array(ids)?).await
}

/// Writes or moves timers; an earlier claim of the timer no longer applies.
pub(super) async fn timers_set(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = &Timer>,
) -> Result<(), EventStoreError> {
    let rows: Vec<_> = rows
        .map(|row| {
            (
                row.id,
                row.task_id,
                &row.step_id,
                row.visit,
                row.kind.as_str(),
                row.n,
                micros(row.due_at),
            )
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    write(connection, SET_TIMERS, array(&rows)?).await
}

async fn drafts(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = &Draft>,
) -> Result<(), EventStoreError> {
    let rows = rows
        .map(|row| {
            Ok((
                row.task_id,
                &row.step_id,
                row.visit,
                row.user_id,
                json(&row.draft)?,
                micros(row.saved_at),
            ))
        })
        .collect::<Result<Vec<_>, EventStoreError>>()?;
    if rows.is_empty() {
        return Ok(());
    }
    write(connection, DRAFTS, array(&rows)?).await
}

/// Writes snapshots, each with the checksum of its text.
pub(super) async fn snapshots(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = &SnapshotRow>,
) -> Result<(), EventStoreError> {
    let rows = rows
        .map(|row| {
            let text = json(&row.state)?;
            let proof = hex(&checksum(&text));
            Ok((row.task_id, integer(row.version), text, proof))
        })
        .collect::<Result<Vec<_>, EventStoreError>>()?;
    if rows.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(SNAPSHOTS)
        .bind(array(&rows)?)
        .bind(i64::from(SNAPSHOT_SCHEMA_VERSION));
    execute(connection, query).await
}
