//! Projections of the log: checkpoint and rows, under the one lock of the file.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    super::{
        EventStoreError, LogEntry, NewOutboxRow, OpenProjection, ProjectionRows, ProjectionStore,
        ProjectionWrite,
    },
    connection::{SqliteEventStore, commit, detached},
    goals,
    operator_commands::act_in,
    outbox::enqueue,
    rows::{Columns, array, json, micros},
    streams::log_after,
};

const CHECKPOINT: &str = "SELECT position FROM projections WHERE name = ?1";

const LAST: &str = "SELECT COALESCE(MAX(position), 0) FROM workflow_events";

const ROWS: &str = "SELECT key, value FROM projection_rows WHERE projection = ?1";

const MOVE: &str = "
    INSERT INTO projections (name, position) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET position = excluded.position";

const SET: &str = "
    INSERT INTO projection_rows (projection, key, value)
    SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2) WHERE true ORDER BY key
    ON CONFLICT (projection, key) DO UPDATE SET value = excluded.value";

const UNSET: &str = "
    DELETE FROM projection_rows
    WHERE projection = ?1 AND key IN (SELECT value FROM json_each(?2))";

/// Answers what was not said before.
const SAY: &str = "
    INSERT INTO goal_actions (message_id, message_type, routing_key, caused_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, ?2
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (message_id) DO NOTHING
    RETURNING message_id";

const FORGET: [&str; 2] = [
    "DELETE FROM projection_rows WHERE projection = ?1",
    "DELETE FROM projections WHERE name = ?1",
];

/// An open step. It is the only writer of the file, so nothing is decided beside it.
struct Step {
    store: SqliteEventStore,
    tx: Transaction<'static, Sqlite>,
    name: String,
    now: DateTime<Utc>,
    settled: DateTime<Utc>,
    at_beginning: bool,
    entries: Vec<LogEntry>,
    rows: ProjectionRows,
}

async fn open(store: SqliteEventStore, name: String, limit: u32) -> Result<Step, EventStoreError> {
    let mut tx = store.begin().await?;
    let now = store.now();
    let checkpoint: Option<i64> = sqlx::query_scalar(CHECKPOINT)
        .bind(&name)
        .fetch_optional(&mut *tx)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    let after = checkpoint.unwrap_or(0);
    let entries = log_after(&mut tx, after, limit).await?;
    let last: i64 = sqlx::query_scalar(LAST)
        .fetch_one(&mut *tx)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    let is_all = entries.last().map_or(after, |e| e.position.position) >= last;
    let rows = rows(&mut tx, &name).await?;
    Ok(Step {
        store,
        tx,
        name,
        now,
        settled: if is_all { now } else { DateTime::UNIX_EPOCH },
        at_beginning: checkpoint.is_none(),
        entries,
        rows,
    })
}

async fn rows(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<ProjectionRows, EventStoreError> {
    sqlx::query(ROWS)
        .bind(name)
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(|row| {
            let columns = Columns::of("projection_rows", row);
            Ok((columns.get("key")?, columns.json("value")?))
        })
        .collect()
}

async fn execute(
    connection: &mut SqliteConnection,
    sql: &'static str,
    name: &str,
    rows: String,
) -> Result<(), EventStoreError> {
    sqlx::query(sql)
        .bind(name)
        .bind(rows)
        .execute(connection)
        .await
        .map(drop)
        .map_err(EventStoreError::from_sqlite)
}

async fn not_yet_said(
    connection: &mut SqliteConnection,
    mut messages: Vec<NewOutboxRow>,
    now: DateTime<Utc>,
) -> Result<Vec<NewOutboxRow>, EventStoreError> {
    if messages.is_empty() {
        return Ok(messages);
    }
    let rows: Vec<_> = messages
        .iter()
        .map(|m| (m.message_id, m.message_type, &m.routing_key))
        .collect();
    let new: HashSet<Uuid> = sqlx::query_scalar(SAY)
        .bind(array(&rows)?)
        .bind(micros(now))
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .into_iter()
        .map(Hyphenated::into_uuid)
        .collect();
    messages.retain(|message| new.contains(&message.message_id));
    Ok(messages)
}

impl Step {
    async fn write(mut self, write: ProjectionWrite) -> Result<(), EventStoreError> {
        let (set, unset): (Vec<_>, Vec<_>) =
            write.rows.into_iter().partition(|(_, row)| row.is_some());
        if !set.is_empty() {
            let set = set
                .iter()
                .map(|(key, row)| Ok((key, json(row)?)))
                .collect::<Result<Vec<_>, EventStoreError>>()?;
            execute(&mut self.tx, SET, &self.name, array(&set)?).await?;
        }
        if !unset.is_empty() {
            let unset: Vec<_> = unset.into_iter().map(|(key, _)| key).collect();
            execute(&mut self.tx, UNSET, &self.name, array(&unset)?).await?;
        }
        let mut messages = write.messages;
        messages.extend(not_yet_said(&mut self.tx, write.once, self.now).await?);
        enqueue(&mut self.tx, &messages, self.store.now()).await?;
        goals::add(&mut self.tx, &write.actions, self.now).await?;
        for act in write.acts {
            act_in(&mut self.tx, act, self.store.now()).await?;
        }
        if let Some(last) = self.entries.last() {
            sqlx::query(MOVE)
                .bind(&self.name)
                .bind(last.position.position)
                .execute(&mut *self.tx)
                .await
                .map_err(EventStoreError::from_sqlite)?;
        }
        commit(self.tx).await
    }
}

#[async_trait]
impl OpenProjection for Step {
    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn settled(&self) -> DateTime<Utc> {
        self.settled
    }

    fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    fn at_beginning(&self) -> bool {
        self.at_beginning
    }

    fn take_rows(&mut self) -> ProjectionRows {
        std::mem::take(&mut self.rows)
    }

    async fn commit(self: Box<Self>, write: ProjectionWrite) -> Result<(), EventStoreError> {
        detached(self.write(write)).await
    }
}

#[async_trait]
impl ProjectionStore for SqliteEventStore {
    /// Two processes wait for each other, as writers do, so the answer is never `None`.
    async fn open_projection(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Option<Box<dyn OpenProjection>>, EventStoreError> {
        let step = detached(open(self.clone(), name.to_owned(), limit)).await?;
        Ok(Some(Box::new(step)))
    }

    async fn projection_rows(&self, name: &str) -> Result<ProjectionRows, EventStoreError> {
        let mut connection = self
            .readers()
            .acquire()
            .await
            .map_err(EventStoreError::from_sqlite)?;
        rows(&mut connection, name).await
    }

    async fn reset_projection(&self, name: &str) -> Result<(), EventStoreError> {
        let (store, name) = (self.clone(), name.to_owned());
        detached(async move {
            let mut tx = store.begin().await?;
            for sql in FORGET {
                sqlx::query(sql)
                    .bind(&name)
                    .execute(&mut *tx)
                    .await
                    .map_err(EventStoreError::from_sqlite)?;
            }
            commit(tx).await
        })
        .await
    }
}
