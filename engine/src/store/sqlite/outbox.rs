//! Messages between commit and publisher confirm.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    super::{
        CLAIM_BYTES_MAX, EventRange, EventStoreError, FailedOutboxRow, NewMessage, Outbox,
        OutboxRow, OutboxStats, PublisherId, RangeEvents, ReleasedRow, SkippedMessage,
        UnconfirmedMessage, outbox::CONTEXT_EVENTS, rows,
    },
    connection::{SqliteEventStore, commit, detached},
    query::{execute, fetch, fetch_one, fetch_optional, nth},
    rows::{array, integer, later, micros, plain, seconds_between},
};
use crate::ids::TaskId;

/// Returns those that were not in the log.
const SAY: &str = "
    INSERT INTO log_messages (after_event, message_id, task_id, routing_key, message_type, body)
    SELECT (SELECT COALESCE(MAX(position), 0) FROM stored_events),
           value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (message_id) DO NOTHING
    RETURNING message_id";

const ENQUEUE: &str = "
    INSERT INTO outbox (task_id, message_id, bytes, created_at)
    SELECT value ->> 1, value ->> 0, octet_length(value ->> 4), ?2
    FROM json_each(?1) WHERE true ORDER BY key";

/// Whether anything can be claimed. Queried on a reading connection, so an idle relay does not
/// block writers.
const CLAIMABLE: &str = "
    SELECT EXISTS (
        SELECT 1 FROM outbox
        WHERE (leased_until IS NULL OR leased_until <= ?1) AND (next_attempt_at IS NULL OR next_attempt_at <= ?1)
    )";

const CLAIM: &str = "
    UPDATE outbox SET owner = ?1, leased_until = ?2
    WHERE position IN (
        SELECT position FROM (
            SELECT position, SUM(bytes) OVER (ORDER BY position) - bytes AS before
            FROM (
                SELECT o.position, o.bytes FROM outbox AS o
                WHERE (o.leased_until IS NULL OR o.leased_until <= ?3) AND (o.next_attempt_at IS NULL OR o.next_attempt_at <= ?3)
                  AND NOT EXISTS (
                      SELECT 1 FROM outbox AS older
                      WHERE older.task_id = o.task_id AND older.position < o.position
                        AND (older.next_attempt_at > ?3
                             OR (older.leased_until > ?3 AND older.owner <> ?1))
                  )
                ORDER BY o.position
                LIMIT ?4
            )
        ) WHERE before < ?5
    )
    RETURNING position, task_id, from_version, to_version, message_id, attempts,
              (SELECT m.routing_key FROM log_messages AS m
               WHERE m.message_id = outbox.message_id) AS routing_key,
              (SELECT m.message_type FROM log_messages AS m
               WHERE m.message_id = outbox.message_id) AS message_type,
              (SELECT m.body FROM log_messages AS m
               WHERE m.message_id = outbox.message_id) AS body";

const CONFIRMED: &str = "DELETE FROM outbox WHERE position IN (SELECT value FROM json_each(?1))";

/// A row whose first message changes has failed at that one not at all, or once.
const RELEASE: &str = "
    UPDATE outbox SET owner = NULL, leased_until = NULL,
        attempts = iif(r.from_version > outbox.from_version, 0, attempts)
                   + iif(?2 IS NULL, 0, 1),
        last_error = coalesce(?2, iif(r.from_version > outbox.from_version, NULL, last_error)),
        next_attempt_at = iif(?2 IS NULL, NULL, ?3),
        from_version = iif(r.from_version > outbox.from_version, r.from_version,
                           outbox.from_version)
    FROM (SELECT value ->> 0 AS position, value ->> 1 AS from_version FROM json_each(?1)) AS r
    WHERE outbox.position = r.position";

/// A row that is gone with its first message, which has failed.
const SKIP_WHOLE: &str = "
    DELETE FROM outbox
    WHERE position = ?1 AND attempts > 0 AND from_version IS ?2 AND to_version IS ?3
      AND (leased_until IS NULL OR leased_until <= ?4)
    RETURNING position";

/// A row that begins behind its first message, which has failed.
const SKIP_FIRST: &str = "
    UPDATE outbox
    SET from_version = ?3 + 1, attempts = 0, last_error = NULL, next_attempt_at = NULL,
        owner = NULL, leased_until = NULL
    WHERE position = ?1 AND attempts > 0 AND from_version = ?2 AND to_version > ?3
      AND (leased_until IS NULL OR leased_until <= ?4)
    RETURNING position";

/// Of the events before a range, only what messages name: an input may be large.
const EVENTS_OF: &str = "
    SELECT r.key + 1 AS n, e.stream_id, e.version, e.event_id, e.event_type, e.event_data,
           e.occurred_at, e.command_id, e.correlation_id, e.traceparent, e.actor, e.schema_version,
           e.gold
    FROM json_each(?1) AS r
    CROSS JOIN stored_events AS e
        ON e.stream_id = r.value ->> 0 AND e.version BETWEEN r.value ->> 1 AND r.value ->> 2
    UNION ALL
    SELECT r.key + 1, e.stream_id, e.version, e.event_id, e.event_type,
           json_remove(e.event_data, '$.input', '$.labels', '$.expected', '$.context'),
           e.occurred_at, e.command_id, e.correlation_id, e.traceparent, e.actor, e.schema_version,
           e.gold
    FROM json_each(?1) AS r
    CROSS JOIN stored_events AS e
        ON e.stream_id = r.value ->> 0 AND e.version < r.value ->> 1
    WHERE e.event_type IN (SELECT value FROM json_each(?2))";

const RENEW: &str = "UPDATE outbox SET leased_until = ?2 WHERE owner = ?1";

const STATS: &str = "SELECT COUNT(*), MIN(created_at) FROM outbox";

const HELD: &str = "
    SELECT o.position, o.task_id, o.from_version, o.to_version, o.message_id, m.routing_key,
           m.message_type, m.body, o.attempts
    FROM outbox AS o LEFT JOIN log_messages AS m ON m.message_id = o.message_id
    WHERE o.owner = ?1 AND o.position > ?2
    ORDER BY o.position";

const FAILED: &str = "
    SELECT o.position, o.task_id, o.from_version, o.to_version, o.message_id, m.routing_key,
           m.message_type, m.body, o.attempts, o.last_error
    FROM outbox AS o LEFT JOIN log_messages AS m ON m.message_id = o.message_id
    WHERE o.attempts > 0
    ORDER BY o.position
    LIMIT ?1";

/// Of a row, only the first message has been tried.
const UNCONFIRMED: &str = "
    SELECT iif(from_version = ?2, attempts, 0) AS attempts,
           iif(from_version = ?2, last_error, NULL) AS last_error
    FROM outbox WHERE task_id = ?1 AND from_version <= ?2 AND to_version >= ?2";

/// Adds messages that no event stands for to the log, unless they are in it; returns the ids of the
/// new ones.
pub(super) async fn say(
    connection: &mut SqliteConnection,
    messages: impl Iterator<Item = &NewMessage>,
) -> Result<HashSet<Uuid>, EventStoreError> {
    let rows = columns(messages)?;
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let query = sqlx::query(SAY).bind(array(&rows)?);
    let new = fetch(connection, query, |row| {
        Ok(nth::<Hyphenated>(row, 0)?.into_uuid())
    });
    Ok(new.await?.into_iter().collect())
}

/// Adds messages to the log and to the outbox, leased to no publisher; known ids are left unchanged.
pub(super) async fn enqueue(
    connection: &mut SqliteConnection,
    messages: &[NewMessage],
    now: DateTime<Utc>,
) -> Result<(), EventStoreError> {
    let new = say(connection, messages.iter()).await?;
    let is_new = |message: &&NewMessage| new.contains(&message.message_id);
    let rows = columns(messages.iter().filter(is_new))?;
    if rows.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(ENQUEUE).bind(array(&rows)?).bind(micros(now));
    execute(connection, query).await
}

type MessageColumns<'m> = (Uuid, Option<TaskId>, &'m str, &'static str, &'m str);

fn columns<'m>(
    messages: impl Iterator<Item = &'m NewMessage>,
) -> Result<Vec<MessageColumns<'m>>, EventStoreError> {
    messages
        .map(|message| {
            Ok((
                message.message_id,
                message.task_id,
                plain(&message.routing_key)?,
                message.message_type,
                plain(&message.body)?,
            ))
        })
        .collect()
}

#[async_trait]
impl Outbox for SqliteEventStore {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<(), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            enqueue(&mut tx, &messages, store.now()).await?;
            commit(tx).await
        })
        .await
    }

    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let query = sqlx::query(CLAIMABLE).bind(micros(store.now()));
            if !store.scalar::<bool>(query).await? {
                return Ok(Vec::new());
            }
            let mut tx = store.begin().await?;
            let now = store.now();
            let query = sqlx::query(CLAIM)
                .bind(publisher.0.hyphenated())
                .bind(later(now, lease))
                .bind(micros(now))
                .bind(i64::from(limit))
                .bind(i64::try_from(CLAIM_BYTES_MAX).unwrap_or(i64::MAX));
            let mut claimed = fetch(&mut *tx, query, rows::outbox).await?;
            commit(tx).await?;
            // RETURNING guarantees no order.
            claimed.sort_unstable_by_key(|row| row.position);
            Ok(claimed)
        })
        .await
    }

    async fn events_of(
        &self,
        ranges: &[EventRange],
    ) -> Result<Vec<Result<RangeEvents, EventStoreError>>, EventStoreError> {
        let wanted: Vec<_> = ranges
            .iter()
            .map(|range| (range.task_id, integer(range.from), integer(range.to)))
            .collect();
        let query = sqlx::query(EVENTS_OF)
            .bind(array(&wanted)?)
            .bind(array(&CONTEXT_EVENTS)?);
        let found = self.fetch(query, |row| Ok((nth::<i64>(row, 0)?, rows::event(row))));
        Ok(RangeEvents::by_range(ranges, found.await?))
    }

    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError> {
        if positions.is_empty() {
            return Ok(());
        }
        self.execute(sqlx::query(CONFIRMED).bind(array(positions)?))
            .await
    }

    async fn release(
        &self,
        released: &[ReleasedRow],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError> {
        if released.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = released
            .iter()
            .map(|row| (row.position, row.from_version.map(integer)))
            .collect();
        let (error, delay) = failed.unzip();
        let query = sqlx::query(RELEASE)
            .bind(array(&rows)?)
            .bind(error.map(|error| error.replace('\0', "\u{fffd}")))
            .bind(later(self.now(), delay.unwrap_or_default()));
        self.execute(query).await
    }

    async fn skip(&self, message: SkippedMessage) -> Result<bool, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let now = micros(store.now());
            let (from, version) = message.versions.unzip();
            let mut changed = false;
            for sql in [SKIP_WHOLE, SKIP_FIRST] {
                let query = sqlx::query(sql)
                    .bind(message.position)
                    .bind(from.map(integer))
                    .bind(version.map(integer))
                    .bind(now);
                changed |= fetch_optional(&mut *tx, query, |_| Ok(())).await?.is_some();
            }
            commit(tx).await?;
            Ok(changed)
        })
        .await
    }

    async fn leased(
        &self,
        publisher: PublisherId,
        after: i64,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let query = sqlx::query(HELD).bind(publisher.0.hyphenated()).bind(after);
        self.fetch(query, rows::outbox).await
    }

    async fn renew(&self, publisher: PublisherId, lease: Duration) -> Result<(), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            // The clock is read after the file is locked, so waiting for the lock does not shorten
            // a lease.
            let query = sqlx::query(RENEW)
                .bind(publisher.0.hyphenated())
                .bind(later(store.now(), lease));
            execute(&mut tx, query).await?;
            commit(tx).await
        })
        .await
    }

    async fn outbox_stats(&self) -> Result<OutboxStats, EventStoreError> {
        let (pending, oldest): (i64, Option<i64>) =
            fetch_one(self.readers(), sqlx::query(STATS), |row| {
                Ok((nth(row, 0)?, nth(row, 1)?))
            })
            .await?;
        let oldest_seconds = oldest.map_or(0.0, |at| seconds_between(at, micros(self.now())));
        Ok(OutboxStats {
            pending,
            oldest_seconds,
        })
    }

    async fn outbox_failed(&self, limit: u32) -> Result<Vec<FailedOutboxRow>, EventStoreError> {
        let query = sqlx::query(FAILED).bind(i64::from(limit));
        self.fetch(query, rows::failed_outbox).await
    }

    async fn unconfirmed(
        &self,
        task: TaskId,
        version: u64,
    ) -> Result<Option<UnconfirmedMessage>, EventStoreError> {
        let query = sqlx::query(UNCONFIRMED)
            .bind(task.0.hyphenated())
            .bind(integer(version));
        self.fetch_optional(query, rows::unconfirmed).await
    }
}
