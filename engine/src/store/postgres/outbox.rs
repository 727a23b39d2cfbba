//! Messages between commit and publisher confirm.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, Postgres};

use super::{
    super::{
        CLAIM_BYTES_MAX, EventRange, EventStoreError, FailedOutboxRow, NewMessage, Outbox,
        OutboxRow, OutboxStats, PublisherId, RangeEvents, ReleasedRow, SkippedMessage,
        UnconfirmedMessage, outbox::CONTEXT_EVENTS, rows,
    },
    PgEventStore,
    connection::WORK_TIMEOUT,
    error::classify,
    query::{BEGIN_PLANNED_ONCE, begin, commit_repeatable, execute, fetch, fetch_one, nth},
    rows::{column, signed, try_column},
    streams::{cause_columns, event_columns},
};
use crate::{ids::TaskId, limits::PAGE_MAX};

/// The columns of a row `o` of the outbox, with the message `m` that it names.
macro_rules! outbox_columns {
    () => {
        "o.position, o.task_id, o.from_version, o.to_version, o.message_id, m.routing_key,
         m.message_type, m.body, o.attempts"
    };
}

/// Rows of the outbox with the messages that they name.
macro_rules! outbox_with_messages {
    () => {
        " FROM outbox o LEFT JOIN log_messages m ON m.message_id = o.message_id"
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
        RETURNING position, message_id, task_id, octet_length(body) AS bytes
    )
    INSERT INTO outbox (task_id, message_id, bytes)
    SELECT task_id, message_id, bytes FROM said ORDER BY position";

/// Rows that one statement of a claim looks at. Rows that are kept back cost a look at their task
/// each, so a statement that looked at all of them would hold the lock for as long as they are many.
const WINDOW_ROWS: i64 = 1024;

/// The last row of a window; none if fewer rows are left.
const WINDOW_END: &str =
    "SELECT position FROM outbox WHERE position > $1 ORDER BY position OFFSET $2 - 1 LIMIT 1";

/// Rows of a window that are not leased, if no older row of the task is leased to another publisher
/// or waits for its next attempt. A locked row is being confirmed or released by its publisher; skip
/// it, and the rows of its task behind it: it may go on waiting after that. An older row before the
/// window has had its turn: if the publisher did not get it then, it may have become free since, and
/// nothing overtakes it.
const CLAIM: &str = concat!(
    "
    WITH found AS (
        SELECT o.position, o.task_id, o.message_id, o.bytes FROM outbox o
        WHERE o.position > $5 AND o.position <= $6
          AND (o.leased_until IS NULL OR o.leased_until <= statement_timestamp())
          AND (o.next_attempt_at IS NULL OR o.next_attempt_at <= statement_timestamp())
          AND NOT EXISTS (
              SELECT FROM outbox older
              WHERE older.task_id = o.task_id AND older.position < o.position
                AND ((older.owner <> $1 AND older.leased_until > statement_timestamp())
                     OR older.next_attempt_at > statement_timestamp()
                     OR (older.position <= $5
                         AND (older.owner = $1 AND older.leased_until > statement_timestamp())
                             IS NOT TRUE)))
        ORDER BY o.position LIMIT $3
        FOR UPDATE OF o SKIP LOCKED
    ), free AS (
        SELECT position, message_id FROM (
            SELECT position, message_id, sum(bytes) OVER (ORDER BY position) - bytes AS before
            FROM found
            WHERE NOT EXISTS (
                SELECT FROM outbox older
                WHERE older.task_id = found.task_id AND older.position < found.position
                  AND older.position > $5
                  AND (older.owner = $1 AND older.leased_until > statement_timestamp()) IS NOT TRUE
                  AND older.position NOT IN (SELECT position FROM found))
        ) summed WHERE before < $4
    )
    UPDATE outbox o
    SET owner = $1, leased_until = clock_timestamp() + make_interval(secs => $2),
        next_attempt_at = NULL
    FROM free LEFT JOIN log_messages m ON m.message_id = free.message_id
    WHERE o.position = free.position
    RETURNING ",
    outbox_columns!(),
    ", o.bytes"
);

/// Locked in order, because deleting several rows could otherwise deadlock with another deletion.
const CONFIRMED: &str = "
    DELETE FROM outbox WHERE position IN (
        SELECT position FROM outbox WHERE position = ANY ($1) ORDER BY position FOR UPDATE)";

/// Locked in order, as for a deletion. A row whose first message changes has failed at that one not
/// at all, or once.
const RELEASE: &str = "
    WITH released AS (
        SELECT o.position, coalesce(r.from_version > o.from_version, false) AS moves,
               r.from_version
        FROM unnest($1::bigint[], $2::bigint[]) AS r (position, from_version)
        JOIN outbox o USING (position)
        ORDER BY o.position FOR UPDATE OF o
    )
    UPDATE outbox o
    SET owner = NULL, leased_until = NULL,
        from_version = CASE WHEN r.moves THEN r.from_version ELSE o.from_version END,
        attempts = CASE WHEN r.moves THEN 0 ELSE o.attempts END
                   + CASE WHEN $3::text IS NULL THEN 0 ELSE 1 END,
        last_error = coalesce($3, CASE WHEN NOT r.moves THEN o.last_error END),
        next_attempt_at = CASE WHEN $3::text IS NOT NULL
                               THEN clock_timestamp() + make_interval(secs => $4) END
    FROM released r WHERE o.position = r.position";

/// A row that is gone with its first message, which has failed.
const SKIP_WHOLE: &str = "
    DELETE FROM outbox
    WHERE position = $1 AND attempts > 0 AND from_version IS NOT DISTINCT FROM $2
      AND to_version IS NOT DISTINCT FROM $3
      AND (leased_until IS NULL OR leased_until <= statement_timestamp())";

/// A row that begins behind its first message, which has failed.
const SKIP_FIRST: &str = "
    UPDATE outbox
    SET from_version = $3 + 1, attempts = 0, last_error = NULL, next_attempt_at = NULL,
        owner = NULL, leased_until = NULL
    WHERE position = $1 AND attempts > 0 AND from_version = $2 AND to_version > $3
      AND (leased_until IS NULL OR leased_until <= statement_timestamp())";

/// Of the events before a range, only what messages name: an input may be large.
const EVENTS_OF: &str = concat!(
    "
    SELECT w.n, found.*
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) WITH ORDINALITY
         AS w (task_id, first, last, n)
    CROSS JOIN LATERAL (
        SELECT ",
    event_columns!("e"),
    "
        FROM stored_events e
        WHERE e.stream_id = w.task_id AND e.version BETWEEN w.first AND w.last
        UNION ALL
        SELECT e.stream_id, e.version, e.event_id, e.event_type,
               (e.event_data::jsonb - '{input,labels,expected,context}'::text[])::text, ",
    cause_columns!("e"),
    "
        FROM stored_events e
        WHERE e.stream_id = w.task_id AND e.version < w.first AND e.event_type = ANY ($4)
    ) found"
);

const HELD: &str = concat!(
    "SELECT ",
    outbox_columns!(),
    outbox_with_messages!(),
    " WHERE o.owner = $1 AND o.position > $2 ORDER BY o.position"
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
    outbox_columns!(),
    ", o.last_error",
    outbox_with_messages!(),
    " WHERE o.attempts > 0 ORDER BY o.position LIMIT $1"
);

/// Of a row, only the first message has been tried.
const UNCONFIRMED: &str = "
    SELECT CASE WHEN from_version = $2 THEN attempts ELSE 0 END AS attempts,
           CASE WHEN from_version = $2 THEN last_error END AS last_error
    FROM outbox WHERE task_id = $1 AND from_version <= $2 AND to_version >= $2";

#[async_trait]
impl Outbox for PgEventStore {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<(), EventStoreError> {
        self.run(WORK_TIMEOUT, |conn| {
            Box::pin(async move { enqueue(conn, &messages).await })
        })
        .await
    }

    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        // What an earlier window has claimed stays claimed if a later one fails: `leased` tells it.
        let (mut claimed, mut after) = (Vec::new(), 0);
        let (mut rows_left, mut bytes_left) =
            (i64::from(limit), signed::<i64, _>(CLAIM_BYTES_MAX)?);
        while rows_left > 0 && bytes_left > 0 {
            let query = sqlx::query(WINDOW_END).bind(after).bind(WINDOW_ROWS);
            let end = self.fetch_optional(WORK_TIMEOUT, query, |row| nth::<i64>(row, 0));
            let end = end.await?;
            let found = self.run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    // Otherwise the planner may compare each window with the whole table.
                    let tx = conn.begin_with(BEGIN_PLANNED_ONCE).await;
                    let mut tx = tx.map_err(classify)?;
                    execute(&mut tx, sqlx::query(LOCK)).await?;
                    let query = sqlx::query(CLAIM)
                        .bind(publisher.0)
                        .bind(lease.as_secs_f64())
                        .bind(rows_left)
                        .bind(bytes_left)
                        .bind(after)
                        .bind(end.unwrap_or(i64::MAX));
                    let claimed = fetch(&mut tx, query, |row| {
                        Ok((rows::outbox(row)?, i64::from(nth::<i32>(row, 9)?)))
                    });
                    let claimed = claimed.await?;
                    // If this reply is lost, `leased` returns what was claimed.
                    commit_repeatable(tx).await?;
                    Ok(claimed)
                })
            });
            for (row, bytes) in found.await? {
                rows_left -= 1;
                bytes_left -= bytes;
                claimed.push(row);
            }
            let Some(end) = end else { break };
            after = end;
        }
        // RETURNING guarantees no order.
        claimed.sort_by_key(|row| row.position);
        Ok(claimed)
    }

    async fn events_of(
        &self,
        ranges: &[EventRange],
    ) -> Result<Vec<Result<RangeEvents, EventStoreError>>, EventStoreError> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let query = sqlx::query(EVENTS_OF)
            .bind(column(ranges, |range| range.task_id.0))
            .bind(try_column(ranges, |range| signed::<i64, _>(range.from))?)
            .bind(try_column(ranges, |range| signed::<i64, _>(range.to))?)
            .bind(CONTEXT_EVENTS.map(str::to_owned).to_vec());
        let found = self.fetch(WORK_TIMEOUT, query, |row| {
            Ok((nth::<i64>(row, 0)?, rows::event(row)))
        });
        Ok(RangeEvents::by_range(ranges, found.await?))
    }

    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError> {
        self.execute(WORK_TIMEOUT, sqlx::query(CONFIRMED).bind(positions))
            .await
    }

    async fn release(
        &self,
        released: &[ReleasedRow],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError> {
        let (error, back_off) = failed.unzip();
        // An error text of another system may contain what a text column cannot store.
        let error = error.map(|error| error.replace('\0', "\u{fffd}"));
        let from = try_column(released, |row| {
            row.from_version.map(signed::<i64, _>).transpose()
        })?;
        let query = sqlx::query(RELEASE)
            .bind(column(released, |row| row.position))
            .bind(from)
            .bind(error)
            .bind(back_off.unwrap_or_default().as_secs_f64());
        self.execute(WORK_TIMEOUT, query).await
    }

    async fn skip(&self, message: SkippedMessage) -> Result<bool, EventStoreError> {
        let versions = message.versions.map(|(from, version)| {
            Ok::<_, EventStoreError>((signed::<i64, _>(from)?, signed::<i64, _>(version)?))
        });
        let (from, version) = versions.transpose()?.unzip();
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                execute(&mut tx, sqlx::query(LOCK)).await?;
                let mut changed = 0;
                for sql in [SKIP_WHOLE, SKIP_FIRST] {
                    let query = sqlx::query(sql)
                        .bind(message.position)
                        .bind(from)
                        .bind(version);
                    changed += execute(&mut tx, query).await?;
                }
                commit_repeatable(tx).await?;
                Ok(changed > 0)
            })
        })
        .await
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
        task: TaskId,
        version: u64,
    ) -> Result<Option<UnconfirmedMessage>, EventStoreError> {
        let query = sqlx::query(UNCONFIRMED)
            .bind(task.0)
            .bind(signed::<i64, _>(version)?);
        self.fetch_optional(WORK_TIMEOUT, query, rows::unconfirmed)
            .await
    }
}

/// Adds messages to the log and to the outbox, leased to no publisher; known ids are left unchanged.
pub(super) async fn enqueue(
    conn: &mut PgConnection,
    messages: &[NewMessage],
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
