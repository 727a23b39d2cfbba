//! Messages between commit and publisher confirm.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    super::{
        CLAIM_BYTES_MAX, EventStoreError, FailedOutboxRow, NewOutboxRow, Outbox, OutboxRow,
        OutboxStats, PublisherId, UnconfirmedMessage, rows,
    },
    connection::{SqliteEventStore, commit, detached},
    query::{execute, fetch, fetch_one, nth},
    rows::{array, later, micros, plain, seconds_between},
};
use crate::ids::TaskId;

/// Returns those that were not in the log.
const SAY: &str = "
    INSERT INTO log_messages (after_event, message_id, task_id, routing_key, message_type, body)
    SELECT (SELECT COALESCE(MAX(position), 0) FROM workflow_events),
           value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (message_id) DO NOTHING
    RETURNING message_id";

const ENQUEUE: &str = "
    INSERT INTO outbox (message_id, task_id, routing_key, message_type, body, created_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, ?2
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
                SELECT o.position, LENGTH(o.body) AS bytes FROM outbox AS o
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
    RETURNING position, message_id, task_id, routing_key, message_type, body, attempts";

const CONFIRMED: &str = "DELETE FROM outbox WHERE position IN (SELECT value FROM json_each(?1))";

const RELEASE: &str = "
    UPDATE outbox SET owner = NULL, leased_until = NULL
    WHERE position IN (SELECT value FROM json_each(?1))";

const RELEASE_FAILED: &str = "
    UPDATE outbox SET owner = NULL, leased_until = NULL,
        attempts = attempts + 1, last_error = ?2, next_attempt_at = ?3
    WHERE position IN (SELECT value FROM json_each(?1))";

const RENEW: &str = "UPDATE outbox SET leased_until = ?2 WHERE owner = ?1";

const STATS: &str = "SELECT COUNT(*), MIN(created_at) FROM outbox";

const HELD: &str = "
    SELECT position, message_id, task_id, routing_key, message_type, body, attempts
    FROM outbox WHERE owner = ?1 AND position > ?2
    ORDER BY position";

const FAILED: &str = "
    SELECT position, message_id, task_id, routing_key, message_type, body, attempts, last_error
    FROM outbox WHERE attempts > 0
    ORDER BY position
    LIMIT ?1";

const UNCONFIRMED: &str = "SELECT attempts, last_error FROM outbox WHERE message_id = ?1";

/// Adds messages that no event stands for to the log, unless they are in it; returns the ids of the
/// new ones.
pub(super) async fn say(
    connection: &mut SqliteConnection,
    messages: impl Iterator<Item = &NewOutboxRow>,
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
    messages: &[NewOutboxRow],
    now: DateTime<Utc>,
) -> Result<(), EventStoreError> {
    let new = say(connection, messages.iter()).await?;
    let is_new = |message: &&NewOutboxRow| new.contains(&message.message_id);
    let rows = columns(messages.iter().filter(is_new))?;
    if rows.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(ENQUEUE).bind(array(&rows)?).bind(micros(now));
    execute(connection, query).await
}

type MessageColumns<'m> = (Uuid, Option<TaskId>, &'m str, &'static str, &'m str);

fn columns<'m>(
    messages: impl Iterator<Item = &'m NewOutboxRow>,
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
    async fn enqueue(&self, rows: Vec<NewOutboxRow>) -> Result<(), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            enqueue(&mut tx, &rows, store.now()).await?;
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

    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError> {
        if positions.is_empty() {
            return Ok(());
        }
        self.execute(sqlx::query(CONFIRMED).bind(array(positions)?))
            .await
    }

    async fn release(
        &self,
        positions: &[i64],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError> {
        if positions.is_empty() {
            return Ok(());
        }
        let positions = array(positions)?;
        let query = match failed {
            None => sqlx::query(RELEASE).bind(positions),
            Some((error, delay)) => sqlx::query(RELEASE_FAILED)
                .bind(positions)
                .bind(error.replace('\0', "\u{fffd}"))
                .bind(later(self.now(), delay)),
        };
        self.execute(query).await
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
        message: Uuid,
    ) -> Result<Option<UnconfirmedMessage>, EventStoreError> {
        let query = sqlx::query(UNCONFIRMED).bind(message.hyphenated());
        self.fetch_optional(query, rows::unconfirmed).await
    }
}
