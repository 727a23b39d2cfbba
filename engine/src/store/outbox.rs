//! Messages between commit and publisher confirm.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::error::EventStoreError;
use crate::ids::TaskId;

/// A publisher of outbox rows: one run of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublisherId(pub Uuid);

/// A message to publish, written in the same transaction as its events.
#[derive(Clone, Debug, PartialEq)]
pub struct NewOutboxRow {
    /// The message's id: the event's, or derived from what caused it.
    pub message_id: Uuid,
    /// The task whose message order applies.
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
    /// Its position. Within a task, positions ascend with versions.
    pub position: i64,
    /// The message's id.
    pub message_id: Uuid,
    /// The task whose message order applies.
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

/// A message that has failed to publish so far.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedOutboxRow {
    /// The message.
    pub row: OutboxRow,
    /// Why the last attempt failed.
    pub error: String,
}

/// How far a message that is not confirmed yet has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnconfirmedMessage {
    /// Failed attempts at publishing it.
    pub attempts: i32,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Statistics of the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OutboxStats {
    /// Rows waiting.
    pub pending: i64,
    /// Age of the oldest row, in seconds; 0 if there is none.
    pub oldest_seconds: f64,
}

/// How long a message is leased to the publisher that committed or claimed it, unless the lease is
/// renewed. A process that is frozen for longer loses its messages to a relay; what it then sends
/// is a duplicate.
pub const OUTBOX_LEASE: Duration = Duration::from_secs(30);

/// Bytes of bodies after which a claim ends: what a relay holds in memory.
pub const CLAIM_BYTES_MAX: usize = 8 << 20;

/// Messages between commit and publisher confirm.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Writes messages that belong to no task's batch (goals), to the log and to the outbox; known
    /// ids are left unchanged: they were sent, or will be.
    async fn enqueue(&self, rows: Vec<NewOutboxRow>) -> Result<(), EventStoreError>;

    /// Leases rows that are not leased, or whose lease has expired, to `publisher`, oldest first.
    /// Skips a task's row while an older row of the task is leased to another publisher or is
    /// backing off. Ends after [`CLAIM_BYTES_MAX`] of bodies.
    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, EventStoreError>;

    /// Deletes confirmed rows.
    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError>;

    /// Returns rows to the relay; if `failed`, counts an attempt and backs off.
    async fn release(
        &self,
        positions: &[i64],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError>;

    /// The rows leased to `publisher` after a position, oldest first. A publisher that got no reply
    /// to a commit or a claim reads here which rows it was given. Otherwise those rows would stay
    /// leased for ever, because the publisher renews all its leases.
    async fn leased(
        &self,
        publisher: PublisherId,
        after: i64,
    ) -> Result<Vec<OutboxRow>, EventStoreError>;

    /// Renews all leases of `publisher`.
    async fn renew(&self, publisher: PublisherId, lease: Duration) -> Result<(), EventStoreError>;

    /// How many rows wait, and for how long.
    async fn outbox_stats(&self) -> Result<OutboxStats, EventStoreError>;

    /// Rows that failed at least once, with the last error, oldest first.
    async fn outbox_failed(&self, limit: u32) -> Result<Vec<FailedOutboxRow>, EventStoreError>;

    /// How far a message has come; none if it is not in the outbox: it is confirmed, or was never
    /// written.
    async fn unconfirmed(
        &self,
        message: Uuid,
    ) -> Result<Option<UnconfirmedMessage>, EventStoreError>;
}
