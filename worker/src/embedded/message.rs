//! What goes into the queues and comes out of them, beside what [`crate::broker`] has names for.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::broker::{Properties, Receipt};

/// A message to be published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewMessage {
    /// What surrounds the body; its routing key leads to its queue.
    pub properties: Properties,
    /// The body.
    pub body: Vec<u8>,
}

/// What became of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// It is in a queue, on disk.
    Queued,
    /// It has no listener, and needs none.
    Dropped,
    /// It has no queue and needs one: it is nowhere.
    Returned,
}

/// A message in any queue, looked at without taking it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMessage {
    /// Its id; grows from message to message.
    pub id: i64,
    /// What surrounds the body.
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
    /// Headers to set beside those that it has.
    pub headers: BTreeMap<String, String>,
}

/// A delivery that goes to the dead queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The delivery.
    pub receipt: Receipt,
    /// The code.
    pub reason: String,
    /// For people.
    pub error: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When it failed first.
    pub first_failed_at: DateTime<Utc>,
}

/// How much a queue holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueCount {
    /// The queue.
    pub queue: String,
    /// Messages that can be delivered now.
    pub ready: i64,
    /// Messages that wait for a retry.
    pub delayed: i64,
    /// Messages that are being worked on.
    pub leased: i64,
}
