//! Messages between commit and publisher confirm.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{PgConnection, Postgres};
use uuid::Uuid;

use super::{
    super::{
        CLAIM_BYTES_MAX, EventStoreError, FailedOutboxRow, NewOutboxRow, Outbox, OutboxRow,
        OutboxStats, PublisherId, UnconfirmedMessage, rows,
    },
    PgEventStore,
    connection::WORK_TIMEOUT,
    query::{begin, commit_repeatable, execute, fetch, fetch_one, nth},
    rows::{column, signed},
};
use crate::limits::PAGE_MAX;

/// The columns of a message, qualified by the table or by its alias in a statement.
macro_rules! outbox_columns {
    ($of:literal) => {
        concat!(
            $of,
            ".position, ",
            $of,
            ".message_id, ",
            $of,
            ".task_id, ",
            $of,
            ".routing_key, ",
            $of,
            ".message_type, ",
            $of,
            ".body, ",
            $of,
            ".attempts"
        )
    };
}

/// One claim or renewal at a time: two concurrent relays could split a task between them, and a
/// renewal could take back half of what a relay claims.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('glyph outbox ' || current_schema(), 0))";

/// A message that is in the log already was enqueued then.
const ENQUEUE: &str = "
    WITH batch AS (
        INSERT INTO log_batches (has_events) VALUES (false) RETURNING batch
    ), said AS (
        INSERT INTO log_messages (message_id, batch, task_id, routing_key, message_type, body)
        SELECT m.message_id, batch.batch, m.task_id, m.routing_key, m.message_type, m.body
        FROM batch CROSS JOIN
             unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
             AS m (message_id, task_id, routing_key, message_type, body)
        ON CONFLICT (message_id) DO NOTHING
        RETURNING position, message_id, task_id, routing_key, message_type, body
    )
    INSERT INTO outbox (message_id, task_id, routing_key, message_type, body)
    SELECT message_id, task_id, routing_key, message_type, body FROM said ORDER BY position";

/// Rows that are not leased, if no older row of the task is leased to another publisher or waits
/// for its next attempt. A locked row is being confirmed or released by its publisher; skip it.
const CLAIM: &str = concat!(
    "
    WITH found AS (
        SELECT o.position, octet_length(o.body) AS bytes FROM outbox o
        WHERE (o.leased_until IS NULL OR o.leased_until <= statement_timestamp())
          AND (o.next_attempt_at IS NULL OR o.next_attempt_at <= statement_timestamp())
          AND NOT EXISTS (
              SELECT FROM outbox older
              WHERE older.task_id = o.task_id AND older.position < o.position
                AND ((older.owner <> $1 AND older.leased_until > statement_timestamp())
                     OR older.next_attempt_at > statement_timestamp()))
        ORDER BY o.position LIMIT $3
        FOR UPDATE OF o SKIP LOCKED
    ), free AS (
        SELECT position FROM (
            SELECT position, sum(bytes) OVER (ORDER BY position) - bytes AS before FROM found
        ) summed WHERE before < $4
    )
    UPDATE outbox o
    SET owner = $1, leased_until = clock_timestamp() + make_interval(secs => $2),
        next_attempt_at = NULL
    FROM free WHERE o.position = free.position
    RETURNING ",
    outbox_columns!("o")
);

/// Locked in order, because deleting several rows could otherwise deadlock with another deletion.
const CONFIRMED: &str = "
    DELETE FROM outbox WHERE position IN (
        SELECT position FROM outbox WHERE position = ANY ($1) ORDER BY position FOR UPDATE)";

const RELEASE: &str = "
    WITH claimed AS (
        SELECT position FROM outbox WHERE position = ANY ($1) ORDER BY position FOR UPDATE
    )
    UPDATE outbox o
    SET owner = NULL, leased_until = NULL,
        attempts = o.attempts + CASE WHEN $2::text IS NULL THEN 0 ELSE 1 END,
        last_error = coalesce($2, o.last_error),
        next_attempt_at = CASE WHEN $2::text IS NOT NULL
                               THEN clock_timestamp() + make_interval(secs => $3) END
    FROM claimed WHERE o.position = claimed.position";

const HELD: &str = concat!(
    "SELECT ",
    outbox_columns!("outbox"),
    " FROM outbox WHERE owner = $1 AND position > $2 ORDER BY position"
);

/// An expired lease stays expired.
const RENEW: &str = "
    WITH claimed AS (
        SELECT position FROM outbox
        WHERE owner = $1 AND leased_until > statement_timestamp()
        ORDER BY position FOR UPDATE SKIP LOCKED
    )
    UPDATE outbox o SET leased_until = clock_timestamp() + make_interval(secs => $2)
    FROM claimed WHERE o.position = claimed.position";

const STATS: &str = "
    SELECT count(*),
           coalesce(greatest(extract(epoch FROM clock_timestamp() - min(created_at)), 0), 0)::float8
    FROM outbox";

const FAILED: &str = concat!(
    "SELECT ",
    outbox_columns!("outbox"),
    ", last_error FROM outbox WHERE attempts > 0 ORDER BY position LIMIT $1"
);

const UNCONFIRMED: &str = "SELECT attempts, last_error FROM outbox WHERE message_id = $1";

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
        let mut claimed = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    let mut tx = begin(conn).await?;
                    execute(&mut tx, sqlx::query(LOCK)).await?;
                    let query = sqlx::query(CLAIM)
                        .bind(publisher.0)
                        .bind(lease.as_secs_f64())
                        .bind(i64::from(limit))
                        .bind(signed::<i64, _>(CLAIM_BYTES_MAX)?);
                    let claimed = fetch(&mut tx, query, rows::outbox).await?;
                    // If this reply is lost, `leased` returns what was claimed.
                    commit_repeatable(tx).await?;
                    Ok(claimed)
                })
            })
            .await?;
        // RETURNING guarantees no order.
        claimed.sort_by_key(|row| row.position);
        Ok(claimed)
    }

    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError> {
        self.execute(WORK_TIMEOUT, sqlx::query(CONFIRMED).bind(positions))
            .await
    }

    async fn release(
        &self,
        positions: &[i64],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError> {
        let (error, back_off) = failed.unzip();
        // An error text of another system may contain what a text column cannot store.
        let error = error.map(|error| error.replace('\0', "\u{fffd}"));
        let query = sqlx::query(RELEASE)
            .bind(positions)
            .bind(error)
            .bind(back_off.unwrap_or_default().as_secs_f64());
        self.execute(WORK_TIMEOUT, query).await
    }

    async fn leased(
        &self,
        publisher: PublisherId,
        after: i64,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let query = sqlx::query(HELD).bind(publisher.0).bind(after);
        self.fetch(WORK_TIMEOUT, query, rows::outbox).await
    }

    async fn renew(&self, publisher: PublisherId, lease: Duration) -> Result<(), EventStoreError> {
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                execute(&mut tx, sqlx::query(LOCK)).await?;
                let query = sqlx::query(RENEW)
                    .bind(publisher.0)
                    .bind(lease.as_secs_f64());
                execute(&mut tx, query).await?;
                commit_repeatable(tx).await
            })
        })
        .await
    }

    async fn outbox_stats(&self) -> Result<OutboxStats, EventStoreError> {
        self.run(WORK_TIMEOUT, |conn: &mut PgConnection| {
            Box::pin(fetch_one(conn, sqlx::query(STATS), |row| {
                Ok(OutboxStats {
                    pending: nth(row, 0)?,
                    oldest_seconds: nth(row, 1)?,
                })
            }))
        })
        .await
    }

    async fn outbox_failed(&self, limit: u32) -> Result<Vec<FailedOutboxRow>, EventStoreError> {
        let query = sqlx::query(FAILED).bind(i64::from(limit.clamp(1, PAGE_MAX)));
        self.fetch(WORK_TIMEOUT, query, rows::failed_outbox).await
    }

    async fn unconfirmed(
        &self,
        message: Uuid,
    ) -> Result<Option<UnconfirmedMessage>, EventStoreError> {
        let query = sqlx::query(UNCONFIRMED).bind(message);
        self.fetch_optional(WORK_TIMEOUT, query, rows::unconfirmed)
            .await
    }
}

/// Adds messages to the log and to the outbox, leased to no publisher; known ids are left unchanged.
pub(super) async fn enqueue(
    conn: &mut PgConnection,
    messages: &[NewOutboxRow],
) -> Result<(), EventStoreError> {
    if messages.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(ENQUEUE)
        .bind(column(messages, |row| row.message_id))
        .bind(column(messages, |row| row.task_id.map(|task| task.0)))
        .bind(column(messages, |row| row.routing_key.clone()))
        .bind(column(messages, |row| row.message_type))
        .bind(column(messages, |row| SharedText(row.body.clone())));
    execute(conn, query).await.map(drop)
}

/// A text bound without copying it first.
pub(super) struct SharedText(pub(super) Arc<str>);

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
