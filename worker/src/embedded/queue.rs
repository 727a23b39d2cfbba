//! Publishing and counting.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use glyph_workflow_engine::store::{EventStoreError, SqliteEventStore, hex};
use serde_json::{Map, Value};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use tokio::sync::Notify;

use super::{
    error::EmbeddedError,
    message::{NewMessage, QueueCount, Routed, StoredMessage},
    migrations,
    route::{DEAD, Exchange, is_command_queue, is_event_queue},
};
use crate::broker::Properties;

/// Messages that a downstream queue keeps; nothing here consumes them, and older ones are dropped.
pub const DOWNSTREAM_MAX: u32 = 100_000;
/// Messages that a process adds to such a queue before the oldest are dropped.
const TRIM_EVERY: u32 = 1_000;

/// Bodies are passed in hexadecimal: JSON has no bytes.
const INSERT: &str = "
    INSERT INTO queue_messages
        (queue, routing_key, message_id, message_type, correlation_id, reply_to, headers, body,
         enqueued_at, available_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, unhex(value ->> 7), ?2, ?2
    FROM json_each(?1) ORDER BY key";

const TRIM: &str = "
    DELETE FROM queue_messages
    WHERE queue = ?1 AND leased_by IS NULL AND id <= (
        SELECT id FROM queue_messages
        WHERE queue = ?1 AND leased_by IS NULL
        ORDER BY id DESC LIMIT 1 OFFSET ?2
    )";

const COUNTS: &str = "
    SELECT queue,
           COUNT(*) FILTER (WHERE leased_by IS NULL AND available_at <= ?1) AS ready,
           COUNT(*) FILTER (WHERE leased_by IS NULL AND available_at > ?1) AS delayed,
           COUNT(*) FILTER (WHERE leased_by IS NOT NULL) AS leased
    FROM queue_messages GROUP BY queue ORDER BY queue";

const BROWSE: &str = "
    SELECT * FROM queue_messages
    WHERE queue = ?1 AND id > ?2 ORDER BY id LIMIT ?3";

/// The queues in the file of a store. Clones share them, and wake each other's consumer.
#[derive(Clone, Debug)]
pub struct EmbeddedQueue {
    pub(super) store: SqliteEventStore,
    pub(super) published: Arc<Notify>,
    /// Messages added to each downstream queue since it was last trimmed.
    added: Arc<Mutex<HashMap<String, u32>>>,
    downstream_max: u32,
    event_queues: bool,
}

impl EmbeddedQueue {
    /// The same queues, with or without those of events: their messages are dropped then.
    #[must_use]
    pub fn with_event_queues(mut self, declared: bool) -> Self {
        self.event_queues = declared;
        self
    }

    /// Opens the queues in the file of `store`. Creates their tables if they are missing.
    pub async fn open(store: SqliteEventStore) -> Result<Self, EventStoreError> {
        migrations::apply(&store).await?;
        Ok(Self {
            store,
            published: Arc::default(),
            added: Arc::default(),
            downstream_max: DOWNSTREAM_MAX,
            event_queues: true,
        })
    }

    /// Sets how many messages each downstream queue keeps.
    #[must_use]
    pub fn with_downstream_max(mut self, messages: u32) -> Self {
        self.downstream_max = messages;
        self
    }

    /// Publishes all messages in one transaction. After `Ok`, the queued ones are on disk. After an
    /// error none is, but if the commit is unknown, all may be.
    pub async fn publish(
        &self,
        exchange: Exchange,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Routed>, EmbeddedError> {
        let routed: Vec<(Option<&'static str>, NewMessage)> = messages
            .into_iter()
            .map(|message| {
                let queue = exchange.queue(&message.properties.routing_key);
                let declared = |name: &&str| self.event_queues || !is_event_queue(name);
                (queue.filter(declared), message)
            })
            .collect();
        let outcomes = routed
            .iter()
            .map(|(queue, _)| match queue {
                Some(_) => Routed::Queued,
                None if exchange.mandatory() => Routed::Returned,
                None => Routed::Dropped,
            })
            .collect();
        let queued: Vec<(String, NewMessage)> = routed
            .into_iter()
            .filter_map(|(queue, message)| Some((queue?.to_owned(), message)))
            .collect();
        self.insert(queued).await?;
        Ok(outcomes)
    }

    /// Sends a message to the named queue, as replies to `reply_to` are sent. The queue counts as a
    /// downstream one.
    pub async fn send(&self, queue: &str, message: NewMessage) -> Result<(), EmbeddedError> {
        self.insert(vec![(queue.to_owned(), message)]).await
    }

    /// The counts of each queue; empty queues are left out.
    pub async fn counts(&self) -> Result<Vec<QueueCount>, EmbeddedError> {
        sqlx::query(COUNTS)
            .bind(self.store.now().timestamp_micros())
            .fetch_all(self.store.readers())
            .await?
            .iter()
            .map(|row| {
                Ok(QueueCount {
                    queue: row.try_get("queue")?,
                    ready: row.try_get("ready")?,
                    delayed: row.try_get("delayed")?,
                    leased: row.try_get("leased")?,
                })
            })
            .collect()
    }

    /// Messages of a queue after an id, oldest first, without taking them.
    pub async fn browse(
        &self,
        queue: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, EmbeddedError> {
        sqlx::query(BROWSE)
            .bind(queue)
            .bind(after)
            .bind(limit)
            .fetch_all(self.store.readers())
            .await?
            .iter()
            .map(stored)
            .collect()
    }

    async fn insert(&self, messages: Vec<(String, NewMessage)>) -> Result<(), EmbeddedError> {
        if messages.is_empty() {
            return Ok(());
        }
        let queue = self.clone();
        detached(async move {
            let rows: Vec<_> = messages
                .iter()
                .map(|(queue, message)| {
                    let properties = &message.properties;
                    (
                        queue,
                        &properties.routing_key,
                        &properties.message_id,
                        &properties.message_type,
                        &properties.correlation_id,
                        &properties.reply_to,
                        json(&properties.headers),
                        hex(&message.body),
                    )
                })
                .collect();
            let mut tx = queue.store.begin().await?;
            sqlx::query(INSERT)
                .bind(json(&rows))
                .bind(queue.store.now().timestamp_micros())
                .execute(&mut *tx)
                .await?;
            queue
                .trim(&mut tx, messages.iter().map(|(queue, _)| queue.as_str()))
                .await?;
            tx.commit().await?;
            queue.published.notify_waiters();
            Ok(())
        })
        .await
    }

    /// Drops the oldest messages of downstream queues, from time to time.
    async fn trim(
        &self,
        connection: &mut SqliteConnection,
        queues: impl Iterator<Item = &str>,
    ) -> Result<(), EmbeddedError> {
        for queue in self.to_trim(queues) {
            let dropped = sqlx::query(TRIM)
                .bind(&queue)
                .bind(self.downstream_max)
                .execute(&mut *connection)
                .await?
                .rows_affected();
            if dropped > 0 {
                tracing::debug!(
                    queue,
                    dropped,
                    "dropped the oldest messages that nobody consumed"
                );
            }
        }
        Ok(())
    }

    fn to_trim<'q>(&self, queues: impl Iterator<Item = &'q str>) -> Vec<String> {
        let every = TRIM_EVERY.min(self.downstream_max / 10).max(1);
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in queues.filter(|queue| *queue != DEAD && !is_command_queue(queue)) {
            // The first message also trims what an earlier process left.
            *added.entry(queue.to_owned()).or_insert(every - 1) += 1;
        }
        let due: Vec<String> = added
            .iter()
            .filter(|(_, count)| **count >= every)
            .map(|(queue, _)| queue.clone())
            .collect();
        for queue in &due {
            added.insert(queue.clone(), 0);
        }
        due
    }
}

/// Converts a row to a message.
pub(super) fn stored(row: &SqliteRow) -> Result<StoredMessage, EmbeddedError> {
    Ok(StoredMessage {
        id: row.try_get("id")?,
        properties: Properties {
            message_id: row.try_get("message_id")?,
            message_type: row.try_get("message_type")?,
            correlation_id: row.try_get("correlation_id")?,
            reply_to: row.try_get("reply_to")?,
            user_id: None,
            routing_key: row.try_get("routing_key")?,
            headers: headers(row.try_get("headers")?)?,
            original: None,
        },
        body: row.try_get("body")?,
    })
}

/// Converts headers that are not texts (SQL writes counts as numbers) to texts.
fn headers(text: &str) -> Result<BTreeMap<String, String>, EmbeddedError> {
    let headers: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        EmbeddedError::Store(EventStoreError::Row {
            table: "queue_messages",
            source: error.into(),
        })
    })?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let headers = headers.into_iter();
    Ok(headers.map(|(name, value)| (name, text(value))).collect())
}

/// The path of a header in the column of headers.
pub(super) fn header_path(name: &str) -> String {
    format!("$.\"{name}\"")
}

/// JSON for a statement; nothing passed here can fail to serialize.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("strings, numbers and maps of them serialize")
}

/// Runs database work to its end, even if the caller goes away.
pub(super) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, EmbeddedError>> + Send + 'static,
) -> Result<T, EmbeddedError> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(EmbeddedError::Store(EventStoreError::CommitUnknown(
                Box::new(error),
            ))),
        },
    }
}
