//! The one consumer, and how it settles its deliveries.

use std::{
    fs::{File, TryLockError},
    mem,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    error::EmbeddedError,
    message::{Failure, Retry},
    queue::{EmbeddedQueue, detached, header_path, json as text, stored},
    route::DEAD,
};
use crate::{
    broker::{CommandQueue, Delivery, Receipt},
    wire::reasons::{
        HEADER_ATTEMPTS, HEADER_ERROR, HEADER_FIRST_FAILED_AT, HEADER_REASON, REASON_DELIVERY_LIMIT,
    },
};

/// Failed deliveries before a message goes to the dead queue as `delivery_limit`.
pub const DELIVERY_LIMIT: u32 = 20;
/// How often the table is polled for messages of other processes and for retries.
const POLL: Duration = Duration::from_millis(200);

const ANY_READY: &str = "
    SELECT EXISTS (
        SELECT 1 FROM json_each(?1) AS wanted
        CROSS JOIN queue_messages AS m ON m.queue = wanted.value
        WHERE m.leased_by IS NULL AND m.available_at <= ?2
    )";

const READY: &str = "
    SELECT id FROM queue_messages
    WHERE queue = ?1 AND leased_by IS NULL AND available_at <= ?2
    ORDER BY id
    LIMIT ?3";

const LEASE: &str = "
    UPDATE queue_messages SET leased_by = ?1
    WHERE id IN (SELECT value FROM json_each(?2)) AND leased_by IS NULL
    RETURNING *";

const ACK: &str = "
    DELETE FROM queue_messages
    WHERE id IN (SELECT value FROM json_each(?2)) AND leased_by = ?1";

const RELEASE: &str = "
    UPDATE queue_messages SET leased_by = NULL
    WHERE id IN (SELECT value FROM json_each(?2)) AND leased_by = ?1";

const RETRY: &str = "
    UPDATE queue_messages SET leased_by = NULL, available_at = ?3,
        headers = json_patch(headers, ?4)
    WHERE id = ?2 AND leased_by = ?1";

const BURY: &str = "
    UPDATE queue_messages SET leased_by = NULL, available_at = enqueued_at, queue = ?3,
        headers = json_patch(headers, ?4)
    WHERE id = ?2 AND leased_by = ?1";

/// Returns deliveries to their queue and counts each as failed.
const RETURN: &str = "
    UPDATE queue_messages SET leased_by = NULL, delivery_count = delivery_count + 1
    WHERE id IN (SELECT value FROM json_each(?2)) AND leased_by = ?1";

/// Frees the leases of consumers that are gone: the holder of the lock is the only live one.
const RECOVER: &str = "
    UPDATE queue_messages SET leased_by = NULL, delivery_count = delivery_count + 1
    WHERE leased_by IS NOT NULL";

/// The names of the headers are parameters `?4` to `?7`; `?8` is the path of the last one.
const BURY_HOPELESS: &str = "
    UPDATE queue_messages SET queue = ?1, headers = json_patch(headers, json_object(
        ?4, ?9,
        ?5, 'every delivery came to nothing',
        ?6, delivery_count,
        ?7, COALESCE(headers ->> ?8, ?3)))
    WHERE leased_by IS NULL AND queue <> ?1 AND delivery_count > ?2";

/// The one consumer of a file. Dropping it, or the end of the process, frees the lock.
#[derive(Debug)]
pub struct Consumer {
    queue: EmbeddedQueue,
    /// Identifies this run of the consumer in the table.
    name: String,
    /// The open file that holds the lock.
    _lock: File,
}

impl EmbeddedQueue {
    /// Becomes the one consumer. Messages that an earlier consumer was working on are available
    /// again, and count as delivered once more.
    pub async fn consume(&self) -> Result<Consumer, EmbeddedError> {
        let lock = lock(self.store.path())?;
        let queue = self.clone();
        let recovered = detached(async move {
            let mut tx = queue.store.begin().await?;
            let recovered = sqlx::query(RECOVER)
                .execute(&mut *tx)
                .await?
                .rows_affected();
            bury_hopeless(&queue, &mut tx).await?;
            tx.commit().await?;
            Ok(recovered)
        })
        .await?;
        if recovered > 0 {
            tracing::info!(
                recovered,
                "deliveries of an earlier process are available again"
            );
        }
        Ok(Consumer {
            queue: self.clone(),
            name: Uuid::now_v7().to_string(),
            _lock: lock,
        })
    }
}

fn lock(database: &Path) -> Result<File, EmbeddedError> {
    // Two names of one database must share one lock.
    let database = database
        .canonicalize()
        .unwrap_or_else(|_| database.to_owned());
    let mut path = database.into_os_string();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path);
    let file = match file {
        Ok(file) => file,
        Err(source) => return Err(EmbeddedError::Lock { path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EmbeddedError::AlreadyConsumed { path }),
        Err(TryLockError::Error(source)) => Err(EmbeddedError::Lock { path, source }),
    }
}

async fn bury_hopeless(
    queue: &EmbeddedQueue,
    connection: &mut SqliteConnection,
) -> Result<(), EmbeddedError> {
    let buried = sqlx::query(BURY_HOPELESS)
        .bind(DEAD)
        .bind(DELIVERY_LIMIT)
        .bind(queue.store.now().to_rfc3339())
        .bind(HEADER_REASON)
        .bind(HEADER_ERROR)
        .bind(HEADER_ATTEMPTS)
        .bind(HEADER_FIRST_FAILED_AT)
        .bind(header_path(HEADER_FIRST_FAILED_AT))
        .bind(REASON_DELIVERY_LIMIT)
        .execute(connection)
        .await?
        .rows_affected();
    if buried > 0 {
        tracing::warn!(buried, "messages reached the delivery limit");
    }
    Ok(())
}

impl Consumer {
    /// Messages of these queues, oldest first, at most `limit`; waits until there is one. If the
    /// caller stops waiting, messages that were not handed over become available again.
    pub async fn next(
        &self,
        queues: &[CommandQueue],
        limit: u32,
    ) -> Result<Vec<Delivery>, EmbeddedError> {
        loop {
            let published = self.queue.published.notified();
            tokio::pin!(published);
            // From here on, every publication wakes this loop.
            published.as_mut().enable();
            let deliveries = self.receive(queues, limit).await?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
            tokio::select! {
                () = published => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Like [`next`](Self::next), without waiting.
    pub async fn receive(
        &self,
        queues: &[CommandQueue],
        limit: u32,
    ) -> Result<Vec<Delivery>, EmbeddedError> {
        let queues: Vec<&'static str> = queues.iter().map(|queue| queue.as_str()).collect();
        let any: bool = sqlx::query_scalar(ANY_READY)
            .bind(text(&queues))
            .bind(self.queue.store.now().timestamp_micros())
            .fetch_one(self.queue.store.readers())
            .await?;
        if !any || limit == 0 {
            return Ok(Vec::new());
        }
        let (queue, name) = (self.queue.clone(), self.name.clone());
        detached(async move { lease(queue, name, &queues, limit).await })
            .await
            .map(Leased::hand_over)
    }

    /// Deletes finished deliveries.
    pub async fn ack(&self, receipts: &[Receipt]) -> Result<(), EmbeddedError> {
        self.settle(ACK, receipts).await
    }

    /// Returns deliveries that failed without an outcome. Each counts as a delivery; beyond
    /// [`DELIVERY_LIMIT`] the message goes to the dead queue.
    pub async fn nack(&self, receipts: &[Receipt]) -> Result<(), EmbeddedError> {
        self.settle(RETURN, receipts).await
    }

    /// Returns deliveries that were not tried, as on shutdown; does not count them.
    pub async fn release(&self, receipts: &[Receipt]) -> Result<(), EmbeddedError> {
        self.settle(RELEASE, receipts).await
    }

    /// Schedules messages for a later delivery.
    pub async fn retry(&self, retries: Vec<Retry>) -> Result<(), EmbeddedError> {
        let (queue, name) = (self.queue.clone(), self.name.clone());
        detached(async move {
            let mut tx = queue.store.begin().await?;
            let now = queue.store.now();
            for retry in retries {
                sqlx::query(RETRY)
                    .bind(&name)
                    .bind(id_of(retry.receipt))
                    .bind((now + retry.delay).timestamp_micros())
                    .bind(text(&retry.headers))
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// Moves messages to the dead queue, with the reason in their headers. Their routing keys are
    /// kept.
    pub async fn bury(&self, failures: Vec<Failure>) -> Result<(), EmbeddedError> {
        let (queue, name) = (self.queue.clone(), self.name.clone());
        detached(async move {
            let mut tx = queue.store.begin().await?;
            for failure in failures {
                let reason = json!({
                    HEADER_REASON: failure.reason,
                    HEADER_ERROR: failure.error,
                    HEADER_ATTEMPTS: failure.attempts,
                    HEADER_FIRST_FAILED_AT: failure.first_failed_at,
                });
                sqlx::query(BURY)
                    .bind(&name)
                    .bind(id_of(failure.receipt))
                    .bind(DEAD)
                    .bind(reason.to_string())
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    async fn settle(&self, sql: &'static str, receipts: &[Receipt]) -> Result<(), EmbeddedError> {
        if receipts.is_empty() {
            return Ok(());
        }
        let (queue, name, receipts) = (self.queue.clone(), self.name.clone(), receipts.to_vec());
        detached(async move { settle(&queue, sql, &name, &receipts).await }).await
    }
}

async fn settle(
    queue: &EmbeddedQueue,
    sql: &'static str,
    name: &str,
    receipts: &[Receipt],
) -> Result<(), EmbeddedError> {
    let ids: Vec<u64> = receipts.iter().map(|receipt| receipt.tag).collect();
    let mut tx = queue.store.begin().await?;
    sqlx::query(sql)
        .bind(name)
        .bind(text(&ids))
        .execute(&mut *tx)
        .await?;
    if sql == RETURN {
        bury_hopeless(queue, &mut tx).await?;
    }
    tx.commit().await?;
    if sql != ACK {
        queue.published.notify_waiters();
    }
    Ok(())
}

async fn lease(
    queue: EmbeddedQueue,
    name: String,
    queues: &[&str],
    limit: u32,
) -> Result<Leased, EmbeddedError> {
    let mut tx = queue.store.begin().await?;
    let now = queue.store.now().timestamp_micros();
    let mut ids: Vec<i64> = Vec::new();
    for wanted in queues {
        let ready: Vec<i64> = sqlx::query_scalar(READY)
            .bind(wanted)
            .bind(now)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?;
        ids.extend(ready);
    }
    // Oldest first over all queues, so that no queue waits for another to be empty.
    ids.sort_unstable();
    ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let mut deliveries = sqlx::query(LEASE)
        .bind(&name)
        .bind(text(&ids))
        .fetch_all(&mut *tx)
        .await?
        .iter()
        .map(delivery)
        .collect::<Result<Vec<_>, _>>()?;
    deliveries.sort_unstable_by_key(|delivery| delivery.receipt.tag);
    tx.commit().await?;
    Ok(Leased {
        queue,
        name,
        deliveries,
    })
}

/// A row of a command queue as a delivery.
fn delivery(row: &SqliteRow) -> Result<Delivery, EmbeddedError> {
    let name: &str = row.try_get("queue")?;
    let queue = CommandQueue::ALL
        .into_iter()
        .find(|queue| queue.as_str() == name);
    let redelivered: i64 = row.try_get("delivery_count")?;
    let message = stored(row)?;
    Ok(Delivery {
        // Every row read here comes from a command queue.
        queue: queue.unwrap_or(CommandQueue::Control),
        receipt: Receipt {
            channel: 0,
            tag: u64::try_from(message.id).unwrap_or_default(),
        },
        body: message.body,
        properties: message.properties,
        deliveries_before: u32::try_from(redelivered).unwrap_or(u32::MAX),
    })
}

/// The id of the row that a receipt identifies.
fn id_of(receipt: Receipt) -> i64 {
    i64::try_from(receipt.tag).unwrap_or_default()
}

/// Deliveries on their way to a caller, which may be gone by now.
struct Leased {
    queue: EmbeddedQueue,
    name: String,
    deliveries: Vec<Delivery>,
}

impl Leased {
    fn hand_over(mut self) -> Vec<Delivery> {
        mem::take(&mut self.deliveries)
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        let receipts: Vec<Receipt> = self
            .deliveries
            .iter()
            .map(|delivery| delivery.receipt)
            .collect();
        let (queue, name) = (self.queue.clone(), mem::take(&mut self.name));
        // Without a runtime the process is ending; the next consumer recovers them.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = settle(&queue, RELEASE, &name, &receipts).await {
                    tracing::warn!(%error, "deliveries that nobody took stay leased until the next start");
                }
            });
        }
    }
}
