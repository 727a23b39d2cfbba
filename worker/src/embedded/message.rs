//! Messages that enter and leave the queues, in addition to the types of [`crate::broker`].

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::broker::{Properties, Receipt};

/// A message to be published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewMessage {
    /// The message properties; the routing key leads to the queue.
    pub properties: Properties,
    /// The body.
    pub body: Vec<u8>,
}

/// The outcome of publishing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// It is in a queue, on disk.
    Queued,
    /// No queue is bound to it, and none is needed.
    Dropped,
    /// No queue is bound to it although one is needed: it is not stored.
    Returned,
}

/// A message in any queue, read without taking it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMessage {
    /// Its id; ids grow from message to message.
    pub id: i64,
    /// The message properties.
    pub properties: Properties,
    /// The body.
    pub body: Vec<u8>,
}

/// A delivery to be delivered again later.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// The delivery.
    pub receipt: Receipt,
    /// How long it waits.
    pub delay: Duration,
    /// Headers to set in addition to the existing ones.
    pub headers: BTreeMap<String, String>,
}

/// A delivery that goes to the dead queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The delivery.
    pub receipt: Receipt,
    /// The code of the reason.
    pub reason: String,
    /// The error text, for people.
    pub error: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When it failed first.
    pub first_failed_at: DateTime<Utc>,
}

/// The counts of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueCount {
    /// The queue.
    pub queue: String,
    /// Messages that can be delivered now.
    pub ready: i64,
    /// Messages that wait for a retry.
    pub delayed: i64,
    /// Messages that are being processed.
    pub leased: i64,
}
