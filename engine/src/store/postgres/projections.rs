//! Projections of the log: lock, checkpoint, rows.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, Row, Transaction};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, LogEntry, LogPosition, NewOutboxRow, OpenProjection, ProjectionRows,
        ProjectionStore, ProjectionWrite,
    },
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT, spawned, timed_out},
    error::classify,
    goals,
    operator_commands::act_in,
    outbox,
    rows::to_json,
    streams::read_log,
    tasks::unreadable,
};

const TRY_LOCK: &str = "
    SELECT pg_try_advisory_xact_lock(
        hashtextextended('glyph projection ' || $1 || ' ' || current_schema(), 0))";

const LOCK: &str = "
    SELECT pg_advisory_xact_lock(
        hashtextextended('glyph projection ' || $1 || ' ' || current_schema(), 0))";

const CHECKPOINT: &str = "SELECT txid::text::bigint, position FROM projections WHERE name = $1";

const CLOCK: &str = "SELECT clock_timestamp()";

const OWN_ID: &str = "SELECT pg_current_xact_id()::text";

/// Whether all transactions with lower ids have ended.
const QUIET: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8";

const MORE: &str = "
    SELECT EXISTS (SELECT FROM workflow_events WHERE (txid, position) > ($1::text::xid8, $2))";

const ROWS: &str = "SELECT key, value::text FROM projection_rows WHERE projection = $1";

const MOVE: &str = "
    INSERT INTO projections (name, txid, position) VALUES ($1, $2::text::xid8, $3)
    ON CONFLICT (name) DO UPDATE SET txid = excluded.txid, position = excluded.position";

const SET: &str = "
    INSERT INTO projection_rows (projection, key, value)
    SELECT $1, r.key, r.value::jsonb FROM unnest($2::text[], $3::text[]) AS r (key, value)
    ON CONFLICT (projection, key) DO UPDATE SET value = excluded.value";

const UNSET: &str = "DELETE FROM projection_rows WHERE projection = $1 AND key = ANY ($2)";

/// Answers what was not said before.
const SAY: &str = "
    INSERT INTO goal_actions (message_id, message_type, routing_key)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])
    ON CONFLICT (message_id) DO NOTHING RETURNING message_id";

const FORGET: &str = "
    WITH gone AS (DELETE FROM projection_rows WHERE projection = $1)
    DELETE FROM projections WHERE name = $1";

/// No transaction lives longer: the limits of its connection end it. What was decided so long ago
/// is committed and read, or will never be.
const TRANSACTION_MAX: Duration = Duration::from_secs(60);

#[async_trait]
impl ProjectionStore for PgEventStore {
    async fn open_projection(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Option<Box<dyn OpenProjection>>, EventStoreError> {
        let (pool, name) = (self.pool.clone(), name.to_owned());
        // What the caller does goes between two halves that nobody can cancel. Dropped in between,
        // the transaction rolls back and the step is taken again.
        let step = spawned(async move {
            let tx = pool.begin().await.map_err(classify)?;
            match timeout(LONG_WORK_TIMEOUT, Step::read(tx, name, limit)).await {
                Ok(step) => step,
                Err(_) => Err(timed_out(LONG_WORK_TIMEOUT)),
            }
        })
        .await?;
        Ok(step.map(|step| Box::new(step) as _))
    }

    async fn projection_rows(&self, name: &str) -> Result<ProjectionRows, EventStoreError> {
        let name = name.to_owned();
        self.run(LONG_WORK_TIMEOUT, |conn| {
            Box::pin(async move { rows(conn, &name).await })
        })
        .await
    }

    async fn reset_projection(&self, name: &str) -> Result<(), EventStoreError> {
        let (pool, name) = (self.pool.clone(), name.to_owned());
        spawned(async move {
            let mut tx = pool.begin().await.map_err(classify)?;
            for sql in [LOCK, FORGET] {
                sqlx::query(sql)
                    .bind(&name)
                    .execute(&mut *tx)
                    .await
                    .map_err(classify)?;
            }
            tx.commit().await.map_err(classify)
        })
        .await
    }
}

/// An open step: its lock is that of the transaction.
struct Step {
    tx: Transaction<'static, Postgres>,
    name: String,
    now: DateTime<Utc>,
    settled: DateTime<Utc>,
    at_beginning: bool,
    entries: Vec<LogEntry>,
    rows: ProjectionRows,
}

impl Step {
    /// `None` where another process is at it.
    async fn read(
        mut tx: Transaction<'static, Postgres>,
        name: String,
        limit: u32,
    ) -> Result<Option<Self>, EventStoreError> {
        let locked: bool = sqlx::query_scalar(TRY_LOCK)
            .bind(&name)
            .fetch_one(&mut *tx)
            .await
            .map_err(classify)?;
        if !locked {
            return Ok(None);
        }
        let checkpoint: Option<(i64, i64)> = sqlx::query_as(CHECKPOINT)
            .bind(&name)
            .fetch_optional(&mut *tx)
            .await
            .map_err(classify)?;
        let position = |(transaction, position)| LogPosition {
            transaction,
            position,
        };
        let after = checkpoint.map_or_else(LogPosition::default, position);
        // The order makes `settled` true. Whoever reads the clock to decide something holds a lock
        // on a row, and so has a transaction id, before the clock is read. An id that is taken
        // after this reading of the clock is higher than theirs: once all lower ones have ended,
        // what was decided before the reading is seen by the statements that follow.
        let now: DateTime<Utc> = scalar(&mut tx, CLOCK).await?;
        let own_id: String = scalar(&mut tx, OWN_ID).await?;
        let is_quiet: bool = sqlx::query_scalar(QUIET)
            .bind(own_id)
            .fetch_one(&mut *tx)
            .await
            .map_err(classify)?;
        let entries = read_log(&mut tx, after, limit).await?;
        let last = entries.last().map_or(after, |entry| entry.position);
        let has_more: bool = sqlx::query_scalar(MORE)
            .bind(last.transaction.to_string())
            .bind(last.position)
            .fetch_one(&mut *tx)
            .await
            .map_err(classify)?;
        let settled = match (has_more, is_quiet) {
            (false, true) => now,
            // What lies before the longest transaction is committed, and so read.
            (false, false) => now - TimeDelta::from_std(TRANSACTION_MAX).unwrap_or_default(),
            (true, _) => DateTime::UNIX_EPOCH,
        };
        let rows = rows(&mut tx, &name).await?;
        Ok(Some(Self {
            tx,
            name,
            now,
            settled,
            at_beginning: checkpoint.is_none(),
            entries,
            rows,
        }))
    }

    async fn write(mut self, write: ProjectionWrite) -> Result<(), EventStoreError> {
        let last = self.entries.last().map(|entry| entry.position);
        let (set, unset): (Vec<_>, Vec<_>) =
            write.rows.into_iter().partition(|(_, row)| row.is_some());
        if !set.is_empty() {
            let (keys, values): (Vec<_>, Vec<_>) = set.into_iter().unzip();
            let values = values.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
            sqlx::query(SET)
                .bind(&self.name)
                .bind(keys)
                .bind(values)
                .execute(&mut *self.tx)
                .await
                .map_err(classify)?;
        }
        if !unset.is_empty() {
            sqlx::query(UNSET)
                .bind(&self.name)
                .bind(unset.into_iter().map(|(key, _)| key).collect::<Vec<_>>())
                .execute(&mut *self.tx)
                .await
                .map_err(classify)?;
        }
        let mut messages = write.messages;
        messages.extend(not_yet_said(&mut self.tx, write.once).await?);
        if !messages.is_empty() {
            outbox::enqueue(&mut self.tx, &messages).await?;
        }
        goals::add(&mut self.tx, &write.actions).await?;
        for act in write.acts {
            act_in(&mut self.tx, act).await?;
        }
        if let Some(last) = last {
            sqlx::query(MOVE)
                .bind(&self.name)
                .bind(last.transaction.to_string())
                .bind(last.position)
                .execute(&mut *self.tx)
                .await
                .map_err(classify)?;
        }
        // Unknown is as good as failed: the checkpoint and the rows tell the next step.
        self.tx.commit().await.map_err(classify)
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
        spawned(async move {
            match timeout(WORK_TIMEOUT, self.write(write)).await {
                Ok(written) => written,
                Err(_) => Err(timed_out(WORK_TIMEOUT)),
            }
        })
        .await
    }
}

async fn scalar<T>(conn: &mut PgConnection, sql: &'static str) -> Result<T, EventStoreError>
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    sqlx::query_scalar(sql)
        .fetch_one(conn)
        .await
        .map_err(classify)
}

async fn rows(conn: &mut PgConnection, name: &str) -> Result<ProjectionRows, EventStoreError> {
    let rows = sqlx::query(ROWS)
        .bind(name)
        .fetch_all(conn)
        .await
        .map_err(classify)?;
    rows.iter()
        .map(|row| {
            let text: &str = row.try_get("value").map_err(classify)?;
            let value: Value =
                serde_json::from_str(text).map_err(|error| unreadable("projection_rows", error))?;
            Ok((row.try_get("key").map_err(classify)?, value))
        })
        .collect()
}

async fn not_yet_said(
    conn: &mut PgConnection,
    mut messages: Vec<NewOutboxRow>,
) -> Result<Vec<NewOutboxRow>, EventStoreError> {
    if messages.is_empty() {
        return Ok(messages);
    }
    let ids: Vec<Uuid> = messages.iter().map(|m| m.message_id).collect();
    let types: Vec<&str> = messages.iter().map(|m| m.message_type).collect();
    let keys: Vec<&str> = messages.iter().map(|m| m.routing_key.as_str()).collect();
    let new: Vec<Uuid> = sqlx::query_scalar(SAY)
        .bind(ids)
        .bind(types)
        .bind(keys)
        .fetch_all(conn)
        .await
        .map_err(classify)?;
    messages.retain(|message| new.contains(&message.message_id));
    Ok(messages)
}
