//! The dead queue, for operators.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Row;

use super::{
    error::EmbeddedError,
    message::StoredMessage,
    queue::{EmbeddedQueue, detached, header_path, json},
    route::{DEAD, Exchange},
};
use crate::{
    broker::{BrokerError, CommandQueue, DeadLetter, DeadLetters},
    wire::reasons::{HEADER_ATTEMPTS, HEADER_ERROR, HEADER_FIRST_FAILED_AT, HEADER_REASON},
};

/// Dead letters per read of the table.
const DEAD_PAGE: u32 = 1_000;

const COUNT: &str = "SELECT COUNT(*) FROM queue_messages WHERE queue = ?1";

const DROP: &str = "
    DELETE FROM queue_messages
    WHERE queue = ?1 AND id IN (SELECT value FROM json_each(?2))
    RETURNING id";

const ROUTES: &str = "
    SELECT id, routing_key, message_type FROM queue_messages
    WHERE queue = ?1 AND id IN (SELECT value FROM json_each(?2))
    ORDER BY id";

/// Removes the headers that the worker wrote when the message died; the last parameters are their
/// paths.
const REPLAY: &str = "
    UPDATE queue_messages SET queue = ?2, available_at = ?3, delivery_count = 0,
        headers = json_remove(headers, ?4, ?5, ?6, ?7)
    WHERE id = ?1";

/// The dead queue of a file.
#[derive(Clone, Debug)]
pub struct EmbeddedDeadLetters {
    queue: EmbeddedQueue,
}

impl EmbeddedDeadLetters {
    /// The dead queue beside `queue`.
    pub fn new(queue: EmbeddedQueue) -> Self {
        Self { queue }
    }

    /// Every dead letter with its id, at most `limit`, oldest first.
    async fn all(&self, limit: usize) -> Result<Vec<(i64, DeadLetter)>, BrokerError> {
        let (mut letters, mut after) = (Vec::new(), 0);
        while letters.len() < limit {
            let page = self
                .queue
                .dead_letters(after, DEAD_PAGE)
                .await
                .map_err(refused("a look"))?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            letters.extend(page);
        }
        letters.truncate(limit);
        Ok(letters)
    }

    async fn chosen(
        &self,
        chosen: &(dyn for<'a> Fn(&'a DeadLetter) -> bool + Sync),
    ) -> Result<Vec<i64>, BrokerError> {
        let letters = self.all(usize::MAX).await?;
        Ok(letters
            .into_iter()
            .filter(|(_, dead)| chosen(dead))
            .map(|(id, _)| id)
            .collect())
    }
}

#[async_trait]
impl DeadLetters for EmbeddedDeadLetters {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        Ok(self
            .all(limit)
            .await?
            .into_iter()
            .map(|(_, letter)| letter)
            .collect())
    }

    async fn set_aside(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        let mut found = Vec::new();
        for queue in CommandQueue::ALL {
            let mut after = 0;
            while found.len() < limit {
                let page = self.queue.browse(queue.as_str(), after, DEAD_PAGE).await;
                let page = page.map_err(refused("a look"))?;
                let Some(last) = page.last() else { break };
                after = last.id;
                found.extend(page.into_iter().map(read).filter(DeadLetter::is_set_aside));
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn replay(
        &self,
        chosen: &(dyn for<'a> Fn(&'a DeadLetter) -> bool + Sync),
    ) -> Result<usize, BrokerError> {
        let ids = self.chosen(chosen).await?;
        let replayed = self
            .queue
            .replay_dead(&ids)
            .await
            .map_err(refused("a replay"))?;
        Ok(replayed.len())
    }

    async fn drop(
        &self,
        chosen: &(dyn for<'a> Fn(&'a DeadLetter) -> bool + Sync),
    ) -> Result<usize, BrokerError> {
        let ids = self.chosen(chosen).await?;
        let dropped = self
            .queue
            .drop_dead(&ids)
            .await
            .map_err(refused("a drop"))?;
        Ok(dropped.len())
    }
}

fn refused(action: &'static str) -> impl Fn(EmbeddedError) -> BrokerError {
    move |error| BrokerError::Refused {
        action: action.to_owned(),
        source: Box::new(error),
    }
}

impl EmbeddedQueue {
    /// Dead messages after an id, oldest first, each with its id.
    pub async fn dead_letters(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, DeadLetter)>, EmbeddedError> {
        let found = self.browse(DEAD, after, limit).await?;
        let letters = found.into_iter().map(|stored| (stored.id, read(stored)));
        Ok(letters.collect())
    }

    /// The number of dead messages.
    pub async fn dead_count(&self) -> Result<i64, EmbeddedError> {
        Ok(sqlx::query_scalar(COUNT)
            .bind(DEAD)
            .fetch_one(self.store.readers())
            .await?)
    }

    /// Deletes dead messages; returns the ids of those that existed.
    pub async fn drop_dead(&self, ids: &[i64]) -> Result<Vec<i64>, EmbeddedError> {
        let (queue, ids) = (self.clone(), json(ids));
        detached(async move {
            let mut tx = queue.store.begin().await?;
            let dropped = sqlx::query_scalar(DROP)
                .bind(DEAD)
                .bind(ids)
                .fetch_all(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(dropped)
        })
        .await
    }

    /// Puts dead messages back into the queues of their routing keys, with their ids. If a key
    /// leads nowhere, the message goes to the queue of its type. Returns the ids of the moved
    /// messages.
    pub async fn replay_dead(&self, ids: &[i64]) -> Result<Vec<i64>, EmbeddedError> {
        let (queue, ids) = (self.clone(), json(ids));
        detached(async move {
            let mut tx = queue.store.begin().await?;
            let now = queue.store.now().timestamp_micros();
            let dead = sqlx::query(ROUTES)
                .bind(DEAD)
                .bind(ids)
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
                    .bind(header_path(HEADER_REASON))
                    .bind(header_path(HEADER_ERROR))
                    .bind(header_path(HEADER_ATTEMPTS))
                    .bind(header_path(HEADER_FIRST_FAILED_AT))
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

/// A dead message, with the headers that say why it died.
fn read(message: StoredMessage) -> DeadLetter {
    let command_id = command_id(&message);
    let mut headers: BTreeMap<String, String> = message.properties.headers;
    let mut text = |name: &str| headers.remove(name).filter(|text| !text.is_empty());
    let first_failed_at = text(HEADER_FIRST_FAILED_AT);
    DeadLetter {
        command_id,
        reason: text(HEADER_REASON).unwrap_or_default(),
        error: text(HEADER_ERROR),
        attempts: text(HEADER_ATTEMPTS)
            .and_then(|attempts| attempts.parse().ok())
            .unwrap_or_default(),
        first_failed_at: first_failed_at
            .and_then(|at| at.parse::<DateTime<Utc>>().ok())
            .map(|at| at.to_rfc3339()),
        routing_key: message.properties.routing_key,
        bytes: message.body.len(),
        body: String::from_utf8_lossy(&message.body).into_owned(),
    }
}

/// The id in the body, or else the one in the properties.
fn command_id(message: &StoredMessage) -> Option<String> {
    let body: Option<Value> = serde_json::from_slice(&message.body).ok();
    let inner = body.and_then(|body| Some(body.get("command_id")?.as_str()?.to_owned()));
    inner.or_else(|| message.properties.message_id.clone())
}
