//! What goes into the queues and comes out of them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

/// What surrounds a body: the AMQP properties that the product uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// The message's id.
    pub message_id: Option<String>,
    /// The message's kind; for commands, their type.
    pub message_type: Option<String>,
    /// What the producer uses to follow a piece of work.
    pub correlation_id: Option<String>,
    /// The queue that wants the outcome.
    pub reply_to: Option<String>,
    /// Anything else.
    pub headers: Map<String, Value>,
}

impl Properties {
    /// The W3C trace context, which travels as a header.
    pub fn traceparent(&self) -> Option<&str> {
        self.headers.get("traceparent")?.as_str()
    }
}

/// A message to be published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewMessage {
    /// Leads to its queue.
    pub routing_key: String,
    /// What surrounds the body.
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

/// A message that is leased to the consumer until it is settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Settles it.
    pub tag: i64,
    /// The queue it comes from.
    pub queue: String,
    /// The key it was published with.
    pub routing_key: String,
    /// What surrounds the body.
    pub properties: Properties,
    /// The body.
    pub body: Vec<u8>,
    /// When it was published.
    pub enqueued_at: DateTime<Utc>,
    /// Earlier deliveries that came to nothing.
    pub redelivered: u32,
}

/// A delivery to be delivered again later.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// The delivery.
    pub tag: i64,
    /// How long it waits.
    pub delay: Duration,
    /// Headers to set beside those that it has.
    pub headers: Map<String, Value>,
}

/// A delivery that goes to the dead queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The delivery.
    pub tag: i64,
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
