//! Messages between commit and confirm.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{EventStoreError, NewOutboxRow, Outbox, OutboxRow, OutboxStats, PublisherId},
    PgEventStore,
    connection::WORK_TIMEOUT,
    error::classify,
};
use crate::{ids::TaskId, limits::PAGE_MAX};

/// One claim or renewal at a time: two relays that claimed at once could split a task between
/// them, and a renewal could take back half of what a relay claims.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('glyph outbox ' || current_schema(), 0))";

const ENQUEUE: &str = "
    INSERT INTO outbox (message_id, task_id, routing_key, message_type, body)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
    ON CONFLICT (message_id) DO NOTHING";

/// Rows that nobody holds, where no older row of the task is held by someone else or waits for its
/// next attempt. What is locked is just being confirmed or given back by its holder.
const CLAIM: &str = "
    WITH free AS (
        SELECT o.position FROM outbox o
        WHERE (o.leased_until IS NULL OR o.leased_until <= statement_timestamp())
          AND (o.next_attempt_at IS NULL OR o.next_attempt_at <= statement_timestamp())
          AND NOT EXISTS (
              SELECT FROM outbox older
              WHERE older.task_id = o.task_id AND older.position < o.position
                AND ((older.owner <> $1 AND older.leased_until > statement_timestamp())
                     OR older.next_attempt_at > statement_timestamp()))
        ORDER BY o.position LIMIT $3
        FOR UPDATE OF o SKIP LOCKED
    )
    UPDATE outbox o
    SET owner = $1, leased_until = clock_timestamp() + make_interval(secs => $2),
        next_attempt_at = NULL
    FROM free WHERE o.position = free.position
    RETURNING o.position, o.message_id, o.task_id, o.routing_key, o.message_type, o.body, o.attempts";

/// Locked in order, as the deletion of several rows could else deadlock with another.
const CONFIRMED: &str = "
    DELETE FROM outbox WHERE position IN (
        SELECT position FROM outbox WHERE position = ANY ($1) ORDER BY position FOR UPDATE)";

const RELEASE: &str = "
    WITH held AS (
        SELECT position FROM outbox WHERE position = ANY ($1) ORDER BY position FOR UPDATE
    )
    UPDATE outbox o
    SET owner = NULL, leased_until = NULL,
        attempts = o.attempts + CASE WHEN $2::text IS NULL THEN 0 ELSE 1 END,
        last_error = coalesce($2, o.last_error),
        next_attempt_at = CASE WHEN $2::text IS NOT NULL
                               THEN clock_timestamp() + make_interval(secs => $3) END
    FROM held WHERE o.position = held.position";

const HELD: &str = "
    SELECT position, message_id, task_id, routing_key, message_type, body, attempts
    FROM outbox WHERE owner = $1 AND position > $2 ORDER BY position";

/// A lease that has run out stays run out.
const RENEW: &str = "
    WITH held AS (
        SELECT position FROM outbox
        WHERE owner = $1 AND leased_until > statement_timestamp()
        ORDER BY position FOR UPDATE SKIP LOCKED
    )
    UPDATE outbox o SET leased_until = clock_timestamp() + make_interval(secs => $2)
    FROM held WHERE o.position = held.position";

const STATS: &str = "
    SELECT count(*),
           coalesce(greatest(extract(epoch FROM clock_timestamp() - min(created_at)), 0), 0)::float8
    FROM outbox";

const FAILED: &str = "
    SELECT position, message_id, task_id, routing_key, message_type, body, attempts,
           coalesce(last_error, '') AS last_error
    FROM outbox WHERE attempts > 0 ORDER BY position LIMIT $1";

#[async_trait]
impl Outbox for PgEventStore {
    async fn enqueue(&self, rows: Vec<NewOutboxRow>) -> Result<(), EventStoreError> {
        self.run(WORK_TIMEOUT, |conn| {
            Box::pin(async move { enqueue(conn, &rows).await })
        })
        .await
    }

    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    let mut tx = conn.begin().await.map_err(classify)?;
                    sqlx::query(LOCK)
                        .execute(&mut *tx)
                        .await
                        .map_err(classify)?;
                    let rows = sqlx::query(CLAIM)
                        .bind(publisher.0)
                        .bind(lease.as_secs_f64())
                        .bind(i64::from(limit))
                        .fetch_all(&mut *tx)
                        .await
                        .map_err(classify)?;
                    // Where this reply is lost, `held` tells what was claimed.
                    tx.commit().await.map_err(classify)?;
                    Ok(rows)
                })
            })
            .await?;
        let mut rows = rows.iter().map(outbox_row).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by_key(|row| row.position);
        Ok(rows)
    }

    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError> {
        let positions = positions.to_vec();
        self.run(WORK_TIMEOUT, |conn| {
            Box::pin(async move {
                let done = sqlx::query(CONFIRMED).bind(positions).execute(conn).await;
                done.map(drop).map_err(classify)
            })
        })
        .await
    }

    async fn release(
        &self,
        positions: &[i64],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError> {
        let positions = positions.to_vec();
        let (error, back_off) = failed.unzip();
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                // A text of another system may hold what a text column cannot.
                let error = error.map(|error| error.replace('\0', "\u{fffd}"));
                let done = sqlx::query(RELEASE)
                    .bind(positions)
                    .bind(error)
                    .bind(back_off.unwrap_or_default().as_secs_f64())
                    .execute(conn)
                    .await;
                done.map(drop).map_err(classify)
            })
        })
        .await
    }

    async fn held(
        &self,
        publisher: PublisherId,
        after: i64,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(HELD)
                        .bind(publisher.0)
                        .bind(after)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        rows.iter().map(outbox_row).collect()
    }

    async fn renew(&self, publisher: PublisherId, lease: Duration) -> Result<(), EventStoreError> {
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = conn.begin().await.map_err(classify)?;
                sqlx::query(LOCK)
                    .execute(&mut *tx)
                    .await
                    .map_err(classify)?;
                sqlx::query(RENEW)
                    .bind(publisher.0)
                    .bind(lease.as_secs_f64())
                    .execute(&mut *tx)
                    .await
                    .map_err(classify)?;
                tx.commit().await.map_err(classify)
            })
        })
        .await
    }

    async fn outbox_stats(&self) -> Result<OutboxStats, EventStoreError> {
        let (pending, oldest_seconds) = self
            .run(WORK_TIMEOUT, |conn| {
                Box::pin(async move {
                    let stats = sqlx::query_as::<_, (i64, f64)>(STATS).fetch_one(conn).await;
                    stats.map_err(classify)
                })
            })
            .await?;
        Ok(OutboxStats {
            pending,
            oldest_seconds,
        })
    }

    async fn outbox_failed(&self, limit: u32) -> Result<Vec<(OutboxRow, String)>, EventStoreError> {
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(FAILED)
                        .bind(i64::from(limit.clamp(1, PAGE_MAX)))
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    outbox_row(row)?,
                    row.try_get("last_error").map_err(classify)?,
                ))
            })
            .collect()
    }
}

/// Writes messages that nobody owns; known ids are left as they are.
pub(super) async fn enqueue(
    conn: &mut PgConnection,
    rows: &[NewOutboxRow],
) -> Result<(), EventStoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(ENQUEUE)
        .bind(rows.iter().map(|row| row.message_id).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.task_id.map(|task| task.0))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.routing_key.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.message_type).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.body).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map_err(classify)?;
    Ok(())
}

fn outbox_row(row: &PgRow) -> Result<OutboxRow, EventStoreError> {
    let body: &str = row.try_get("body").map_err(classify)?;
    Ok(OutboxRow {
        position: row.try_get("position").map_err(classify)?,
        message_id: row.try_get("message_id").map_err(classify)?,
        task_id: row
            .try_get::<Option<Uuid>, _>("task_id")
            .map_err(classify)?
            .map(TaskId),
        routing_key: row.try_get("routing_key").map_err(classify)?,
        message_type: row.try_get("message_type").map_err(classify)?,
        body: Arc::from(body),
        attempts: row.try_get("attempts").map_err(classify)?,
    })
}
