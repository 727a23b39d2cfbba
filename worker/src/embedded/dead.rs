//! The dead queue, for operators.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Row;

use super::{
    Delivery, EmbeddedError, EmbeddedQueue, Exchange,
    queue::{detached, json},
    route::DEAD,
};

const COUNT: &str = "SELECT COUNT(*) FROM queue_messages WHERE queue = ?1";

const DROP: &str = "
    DELETE FROM queue_messages
    WHERE queue = ?1 AND id IN (SELECT value FROM json_each(?2))
    RETURNING id";

const ROUTES: &str = "
    SELECT id, routing_key, message_type FROM queue_messages
    WHERE queue = ?1 AND id IN (SELECT value FROM json_each(?2))
    ORDER BY id";

const REPLAY: &str = "
    UPDATE queue_messages SET queue = ?2, available_at = ?3, delivery_count = 0,
        headers = json_remove(headers,
            '$.\"x-glyph-reason\"', '$.\"x-glyph-error\"', '$.\"x-glyph-attempts\"',
            '$.\"x-glyph-first-failed-at\"')
    WHERE id = ?1";

/// A dead message with what its headers say about its end.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The message; its tag names it to [`EmbeddedQueue::drop_dead`] and
    /// [`EmbeddedQueue::replay_dead`].
    pub message: Delivery,
    /// The code.
    pub reason: String,
    /// For people.
    pub error: String,
    /// Attempts before it was given up.
    pub attempts: u64,
    /// When it failed first.
    pub first_failed_at: Option<DateTime<Utc>>,
}

impl From<Delivery> for DeadLetter {
    fn from(message: Delivery) -> Self {
        let text = |name: &str| {
            let value = message.properties.headers.get(name).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        Self {
            reason: text("x-glyph-reason"),
            error: text("x-glyph-error"),
            attempts: message
                .properties
                .headers
                .get("x-glyph-attempts")
                .and_then(Value::as_u64)
                .unwrap_or_default(),
            first_failed_at: text("x-glyph-first-failed-at").parse().ok(),
            message,
        }
    }
}

impl EmbeddedQueue {
    /// Dead messages after a tag, oldest first.
    pub async fn dead_letters(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, EmbeddedError> {
        let found = self.browse(DEAD, after, limit).await?;
        Ok(found.into_iter().map(DeadLetter::from).collect())
    }

    /// How many messages are dead.
    pub async fn dead_count(&self) -> Result<i64, EmbeddedError> {
        Ok(sqlx::query_scalar(COUNT)
            .bind(DEAD)
            .fetch_one(self.store.readers())
            .await?)
    }

    /// Deletes dead messages; answers the tags of those that were there.
    pub async fn drop_dead(&self, tags: &[i64]) -> Result<Vec<i64>, EmbeddedError> {
        let (queue, tags) = (self.clone(), json(tags));
        detached(async move {
            let mut tx = queue.store.begin().await?;
            let dropped = sqlx::query_scalar(DROP)
                .bind(DEAD)
                .bind(tags)
                .fetch_all(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(dropped)
        })
        .await
    }

    /// Puts dead messages back into the queues of their routing keys (or, where a key leads
    /// nowhere, of their types), with their ids; answers the tags of those that went.
    pub async fn replay_dead(&self, tags: &[i64]) -> Result<Vec<i64>, EmbeddedError> {
        let (queue, tags) = (self.clone(), json(tags));
        detached(async move {
            let mut tx = queue.store.begin().await?;
            let now = queue.store.now().timestamp_micros();
            let dead = sqlx::query(ROUTES)
                .bind(DEAD)
                .bind(tags)
                .fetch_all(&mut *tx)
                .await?;
            let mut replayed = Vec::new();
            for row in &dead {
                let id: i64 = row.try_get("id")?;
                let key: &str = row.try_get("routing_key")?;
                let kind: Option<&str> = row.try_get("message_type")?;
                let target = Exchange::Commands
                    .queue(key)
                    .or_else(|| Exchange::Commands.queue(kind?));
                let Some(target) = target else { continue };
                sqlx::query(REPLAY)
                    .bind(id)
                    .bind(target)
                    .bind(now)
                    .execute(&mut *tx)
                    .await?;
                replayed.push(id);
            }
            tx.commit().await?;
            queue.published.notify_waiters();
            Ok(replayed)
        })
        .await
    }
}
