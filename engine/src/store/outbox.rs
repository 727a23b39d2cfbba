//! Messages between commit and confirm.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::error::EventStoreError;
use crate::ids::TaskId;

/// Who publishes outbox rows: one process (or one life of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublisherId(pub Uuid);

/// A message to be published, written with the events that cause it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewOutboxRow {
    /// The message's id: the event's, or derived from what caused it.
    pub message_id: Uuid,
    /// The task whose order it keeps.
    pub task_id: Option<TaskId>,
    /// The routing key without prefix, as `step.completed.sentiment-dual.annotate`.
    pub routing_key: String,
    /// The message's kind, as `step.completed`.
    pub message_type: &'static str,
    /// The whole body.
    pub body: Arc<str>,
}

/// A message that waits to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// Its position: within a task, ascending positions are ascending versions.
    pub position: i64,
    /// The message's id.
    pub message_id: Uuid,
    /// The task whose order it keeps.
    pub task_id: Option<TaskId>,
    /// The routing key without prefix.
    pub routing_key: String,
    /// The message's kind.
    pub message_type: String,
    /// The whole body.
    pub body: Arc<str>,
    /// Failed attempts so far.
    pub attempts: i32,
}

/// A message that could not be published so far.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedOutboxRow {
    /// The message.
    pub row: OutboxRow,
    /// Why the last attempt failed.
    pub error: String,
}

/// State of the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OutboxStats {
    /// Rows that wait.
    pub pending: i64,
    /// Age of the oldest, in seconds; 0 where there is none.
    pub oldest_seconds: f64,
}

/// How long a message belongs to the publisher whose commit wrote it or who claimed it, unless the
/// lease is renewed. A process that is frozen for longer loses its messages to a relay, and what it
/// then sends is a duplicate.
pub const OUTBOX_LEASE: Duration = Duration::from_secs(30);

/// Messages between commit and confirm.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Writes messages that belong to no task's batch (goals); known ids are left as they are.
    async fn enqueue(&self, rows: Vec<NewOutboxRow>) -> Result<(), EventStoreError>;

    /// Leases rows that nobody holds, or whose holder's lease has run out, to `publisher`: oldest
    /// first, and of one task only what has no older row held by someone else or backing off.
    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, EventStoreError>;

    /// Deletes confirmed rows.
    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError>;

    /// Gives rows back to the relay; where `failed`, counts an attempt and backs off.
    async fn release(
        &self,
        positions: &[i64],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError>;

    /// What `publisher` holds beyond a position, oldest first. So a publisher that got no answer
    /// to a commit or a claim finds out what it was given; else it would hold it for ever, as it
    /// renews its leases.
    async fn leased(
        &self,
        publisher: PublisherId,
        after: i64,
    ) -> Result<Vec<OutboxRow>, EventStoreError>;

    /// Prolongs the leases of everything that `publisher` holds.
    async fn renew(&self, publisher: PublisherId, lease: Duration) -> Result<(), EventStoreError>;

    /// How much waits, and for how long.
    async fn outbox_stats(&self) -> Result<OutboxStats, EventStoreError>;

    /// Rows that failed at least once, with the last error, oldest first.
    async fn outbox_failed(&self, limit: u32) -> Result<Vec<FailedOutboxRow>, EventStoreError>;
}
