//! The writes of a commit, one statement per table.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{SqliteConnection, error::DatabaseError};
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    super::{
        CommandRecord, Draft, EventStoreError, NewOutboxRow, OUTBOX_LEASE, OutboxRow, PublisherId,
        SNAPSHOT_SCHEMA_VERSION, SnapshotRow, TaskRow, TaskWrite, Timer, rows::checksum,
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
    INSERT INTO workflow_events
        (stream_id, version, event_id, event_type, event_data, metadata, occurred_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
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
        (message_id, task_id, routing_key, message_type, body, created_at, owner, leased_until)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, ?2,
           iif(value ->> 5, ?3, NULL), iif(value ->> 5, ?4, NULL)
    FROM json_each(?1) ORDER BY key
    RETURNING position, message_id";

const UNSET_TIMERS: &str = "DELETE FROM timers WHERE id IN (SELECT value FROM json_each(?1))";

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
) -> Result<Vec<OutboxRow>, EventStoreError> {
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

async fn events(
    connection: &mut SqliteConnection,
    writes: &[TaskWrite],
) -> Result<(), EventStoreError> {
    let event = |event: &StoredEvent| {
        Ok((
            event.task_id,
            integer(event.version),
            event.event_id,
            event.event.event_type(),
            event_data(&event.event)?,
            json(&event.metadata)?,
            micros(event.occurred_at),
        ))
    };
    let rows = writes
        .iter()
        .flat_map(|write| &write.events)
        .map(event)
        .collect::<Result<Vec<_>, EventStoreError>>()?;
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
) -> Result<Vec<OutboxRow>, EventStoreError> {
    let messages: Vec<(&NewOutboxRow, bool)> = writes
        .iter()
        .flat_map(|write| &write.outbox)
        .map(|message| {
            let relay_only = message
                .task_id
                .is_some_and(|task| heads.get(&task).is_none_or(|head| head.relay_only));
            (message, publisher.is_some() && !relay_only)
        })
        .collect();
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let events = writes.iter().flat_map(|write| &write.events);
    let of_events: HashSet<Uuid> = events.map(|event| event.event_id).collect();
    let no_event = messages
        .iter()
        .map(|(message, _)| *message)
        .filter(|message| !of_events.contains(&message.message_id));
    say(connection, no_event).await?;
    let rows = messages
        .iter()
        .map(|(message, claimed)| {
            Ok((
                message.message_id,
                message.task_id,
                plain(&message.routing_key)?,
                message.message_type,
                plain(&message.body)?,
                claimed,
            ))
        })
        .collect::<Result<Vec<_>, EventStoreError>>()?;
    let query = sqlx::query(OUTBOX)
        .bind(array(&rows)?)
        .bind(micros(now))
        .bind(publisher.map(|publisher| publisher.0.hyphenated()))
        .bind(micros(now + OUTBOX_LEASE));
    let positions = fetch(connection, query, |row| {
        Ok((nth::<Hyphenated>(row, 1)?.into_uuid(), nth(row, 0)?))
    });
    let positions: HashMap<Uuid, i64> = positions.await?.into_iter().collect();
    Ok(messages
        .into_iter()
        .filter(|(_, claimed)| *claimed)
        .filter_map(|(message, _)| {
            Some(OutboxRow {
                position: *positions.get(&message.message_id)?,
                message_id: message.message_id,
                task_id: message.task_id,
                routing_key: message.routing_key.clone(),
                message_type: message.message_type.to_owned(),
                body: message.body.clone(),
                attempts: 0,
            })
        })
        .collect())
}

/// Deletes timers.
pub(super) async fn timers_unset(
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
