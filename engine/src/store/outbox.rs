//! Messages between commit and publisher confirm.
//!
//! A message about a task is a function of its event, so the outbox keeps only which events of a
//! task are to be told of: one row for each task and batch. Who publishes a row that it did not
//! commit builds the messages anew from the events. A message without an event (a rejection, a
//! goal, an act of an operator) is in the log itself, and has a row of its own that names it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{error::EventStoreError, log::LoggedMessage};
use crate::{events::StoredEvent, ids::TaskId};

/// A publisher of outbox rows: one run of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublisherId(pub Uuid);

/// A message to publish, written in the same transaction as what it tells of.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// The message's id: the event's, or derived from what caused it.
    pub message_id: Uuid,
    /// The task whose message order applies.
    pub task_id: Option<TaskId>,
    /// The version of the task's event that it is built from. The outbox keeps the version and not
    /// the body; without one the log keeps the message.
    pub version: Option<u64>,
    /// The routing key without prefix, as `step.completed.sentiment-dual.annotate`.
    pub routing_key: String,
    /// The message's kind, as `step.completed`.
    pub message_type: &'static str,
    /// The whole body.
    pub body: Arc<str>,
}

/// A message that waits to be published, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxMessage {
    /// The position of its row, which it may share with other messages of the task.
    pub position: i64,
    /// The message's id.
    pub message_id: Uuid,
    /// The task whose message order applies.
    pub task_id: Option<TaskId>,
    /// The version of the event that it is built from, if it has one.
    pub version: Option<u64>,
    /// The routing key without prefix.
    pub routing_key: String,
    /// The message's kind.
    pub message_type: String,
    /// The whole body.
    pub body: Arc<str>,
    /// Failed attempts so far.
    pub attempts: i32,
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// Its position. Within a task, positions ascend with versions.
    pub position: i64,
    /// The task whose message order applies.
    pub task_id: Option<TaskId>,
    /// What is to be published.
    pub content: OutboxContent,
    /// Failed attempts so far at its first message.
    pub attempts: i32,
}

/// What a row of the outbox stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum OutboxContent {
    /// The messages of some events.
    Events(EventRange),
    /// A message without an event.
    Message(LoggedMessage),
}

impl OutboxContent {
    /// The message that the row names; none if it stands for events.
    pub fn message(&self) -> Option<&LoggedMessage> {
        match self {
            Self::Message(message) => Some(message),
            Self::Events(_) => None,
        }
    }

    /// The events whose messages the row stands for; none if it names a message.
    pub fn events(&self) -> Option<EventRange> {
        match self {
            Self::Events(range) => Some(*range),
            Self::Message(_) => None,
        }
    }
}

/// Consecutive events of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRange {
    /// The task.
    pub task_id: TaskId,
    /// The version of the first event.
    pub from: u64,
    /// The version of the last event.
    pub to: u64,
}

/// The events of a range, with what comes before it and its messages name.
#[derive(Clone, Debug, Default)]
pub struct RangeEvents {
    /// Events before the range that say on which revision the task is and whose child it is, oldest
    /// first. What they say beyond that may be left out.
    pub before: Vec<StoredEvent>,
    /// The events of the range that are there, by version.
    pub events: Vec<StoredEvent>,
}

/// A row that goes back to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasedRow {
    /// Its position.
    pub position: i64,
    /// The first of its versions that was not confirmed; none if nothing of it was.
    pub from_version: Option<u64>,
}

/// The first message of a row that has failed to publish, which nobody shall try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedMessage {
    /// The position of its row.
    pub position: i64,
    /// Where the row begins and the version of the message's event; none for a message without an
    /// event.
    pub versions: Option<(u64, u64)>,
}

/// A row whose first message has failed to publish so far.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedOutboxRow {
    /// The row.
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

/// How long a row is leased to the publisher that committed or claimed it, unless the lease is
/// renewed. A process that is frozen for longer loses its messages to a relay; what it then sends
/// is a duplicate.
pub const OUTBOX_LEASE: Duration = Duration::from_secs(30);

/// Bytes of bodies and events after which a claim ends: what a relay holds in memory.
pub const CLAIM_BYTES_MAX: usize = 8 << 20;

/// Messages between commit and publisher confirm.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Writes messages that belong to no task's batch (goals), to the log and to the outbox; known
    /// ids are left unchanged: they were sent, or will be.
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<(), EventStoreError>;

    /// Leases rows that are not leased, or whose lease has expired, to `publisher`, oldest first.
    /// Skips a task's row while an older row of the task is leased to another publisher or is
    /// backing off. Ends after [`CLAIM_BYTES_MAX`] of bodies and events.
    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, EventStoreError>;

    /// The events that rows stand for: one result for each range, in order. What cannot be read
    /// fails its own range only.
    async fn events_of(
        &self,
        ranges: &[EventRange],
    ) -> Result<Vec<Result<RangeEvents, EventStoreError>>, EventStoreError>;

    /// Deletes rows all of whose messages are confirmed.
    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError>;

    /// Returns rows to the relay, each from the first version that was not confirmed; if `failed`,
    /// counts an attempt and backs off. Attempts are those at the first message: they begin anew
    /// where it is another one.
    async fn release(
        &self,
        rows: &[ReleasedRow],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError>;

    /// Gives up the first message of a row that has failed: the row begins behind it from then on, or
    /// is deleted with it. False, and nothing is changed, if the row is leased at this moment, has
    /// not failed, or does not begin there any more.
    async fn skip(&self, message: SkippedMessage) -> Result<bool, EventStoreError>;

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

    /// How far the message of a task's event has come; none if it is not in the outbox: it is
    /// confirmed, or was never written.
    async fn unconfirmed(
        &self,
        task: TaskId,
        version: u64,
    ) -> Result<Option<UnconfirmedMessage>, EventStoreError>;
}

/// The events that say on which revision a task is and whose child it is.
pub(super) const CONTEXT_EVENTS: [&str; 3] = [
    "workflow_started",
    "task_details_supplied",
    "workflow_migrated",
];

impl RangeEvents {
    /// Sorts what was read, each event with the number of its range, counted from 1.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn by_range(
        ranges: &[EventRange],
        found: Vec<(i64, Result<StoredEvent, EventStoreError>)>,
    ) -> Vec<Result<Self, EventStoreError>> {
        let mut sorted: Vec<_> = ranges.iter().map(|_| Ok(Vec::new())).collect();
        for (n, event) in found {
            let index = usize::try_from(n - 1).unwrap_or(usize::MAX);
            let Some(events) = sorted.get_mut(index) else {
                continue;
            };
            match (&mut *events, event) {
                (Ok(events), Ok(event)) => events.push(event),
                (Ok(_), Err(error)) => *events = Err(error),
                (Err(_), _) => {}
            }
        }
        ranges
            .iter()
            .zip(sorted)
            .map(|(range, events)| events.map(|events| Self::split(*range, events)))
            .collect()
    }

    /// Divides events into those before a range and those of it.
    pub(super) fn split(range: EventRange, mut events: Vec<StoredEvent>) -> Self {
        events.sort_by_key(|event| event.version);
        let of_range = events.split_off(events.partition_point(|e| e.version < range.from));
        Self {
            before: events,
            events: of_range,
        }
    }
}

/// Messages that become one row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NewRow {
    /// The versions of the first and the last one's events; none if there is one message, which
    /// has no event.
    pub(super) versions: Option<(u64, u64)>,
    /// The messages, at least one.
    pub(super) messages: Vec<NewMessage>,
}

impl NewRow {
    /// Divides the messages of one task into rows: those of events that follow one another in one
    /// row, each other message in one of its own, so that positions keep the order.
    pub(super) fn of(messages: Vec<NewMessage>) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for message in messages {
            match (message.version, rows.last_mut()) {
                (
                    Some(version),
                    Some(Self {
                        versions: Some((_, last)),
                        messages,
                    }),
                ) => {
                    *last = version;
                    messages.push(message);
                }
                (version, _) => rows.push(Self {
                    versions: version.map(|version| (version, version)),
                    messages: vec![message],
                }),
            }
        }
        rows
    }

    /// The message that the row names.
    pub(super) fn message(&self) -> Option<&NewMessage> {
        self.messages.first().filter(|_| self.versions.is_none())
    }
}

impl NewMessage {
    /// The message in its row.
    pub fn at(self, position: i64) -> OutboxMessage {
        OutboxMessage {
            position,
            message_id: self.message_id,
            task_id: self.task_id,
            version: self.version,
            routing_key: self.routing_key,
            message_type: self.message_type.to_owned(),
            body: self.body,
            attempts: 0,
        }
    }
}

impl From<&NewMessage> for LoggedMessage {
    fn from(message: &NewMessage) -> Self {
        Self {
            message_id: message.message_id,
            task_id: message.task_id,
            routing_key: message.routing_key.clone(),
            message_type: message.message_type.to_owned(),
            body: message.body.clone(),
        }
    }
}
