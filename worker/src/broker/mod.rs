//! The broker interface of the pipeline. RabbitMQ ([`crate::amqp`]) and the embedded queue
//! ([`crate::embedded`]) implement it alike, so that one pipeline serves both.

pub mod headers;
mod prefetch;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use prefetch::{HELD_BYTES_MAX, Prefetch};

/// Names of queues after the prefix, beside those of commands and retries.
pub mod queues {
    /// Commands that cannot be read or ran out of retries.
    pub const DEAD: &str = "dead";
    /// `step.completed.#`, for downstream systems.
    pub const STEP_COMPLETED: &str = "step-completed";
    /// `transition.occurred.#`, for downstream systems.
    pub const TRANSITION_OCCURRED: &str = "transition-occurred";
    /// `job.requested.#`, for external workers; exists in embedded mode only.
    pub const JOB_REQUESTED: &str = "job-requested";
}

/// Everything that AMQP says about a message beside its body and its routing key. The embedded queue
/// keeps a part of it.
pub type MessageProperties = lapin::BasicProperties;

/// The header of the W3C trace context.
pub const HEADER_TRACEPARENT: &str = "traceparent";

/// A queue that commands arrive on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommandQueue {
    /// `{p}.submission`.
    Submission,
    /// `{p}.advance`.
    Advance,
    /// `{p}.control`: every other command.
    Control,
}

impl CommandQueue {
    /// Every queue.
    pub const ALL: [Self; 3] = [Self::Submission, Self::Advance, Self::Control];

    /// The name after the prefix.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submission => "submission",
            Self::Advance => "advance",
            Self::Control => "control",
        }
    }

    /// The queue that a command type is routed to.
    pub fn of(command_type: &str) -> Self {
        match command_type {
            "submission" => Self::Submission,
            "advance" => Self::Advance,
            _ => Self::Control,
        }
    }
}

/// A command as it came from the broker, not yet read.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Where it came from.
    pub queue: CommandQueue,
    /// Identifies the delivery; must be settled or given back exactly once.
    pub receipt: Receipt,
    /// The body: JSON.
    pub body: Vec<u8>,
    /// The message properties.
    pub properties: Properties,
    /// How often it has been delivered before (`x-delivery-count`); sizes the batch it joins.
    pub deliveries_before: u32,
}

/// Identifies a delivery within the life of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The channel. Every reconnect opens a new one, so that an old receipt settles nothing.
    pub channel: u64,
    /// The delivery on that channel.
    pub tag: u64,
}

/// The message properties of a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// The command's id, if it is not in the body.
    pub message_id: Option<String>,
    /// The command's type, if it is not in the body.
    pub message_type: Option<String>,
    /// The correlation id, by which the producer follows a piece of work.
    pub correlation_id: Option<String>,
    /// Where to send the outcome.
    pub reply_to: Option<String>,
    /// The user who published it, verified by the broker.
    pub user_id: Option<String>,
    /// The routing key it was first published with (kept through retries).
    pub routing_key: String,
    /// Text headers: `traceparent`, and those of a retry (`x-glyph-attempts`,
    /// `x-glyph-first-failed-at`).
    pub headers: BTreeMap<String, String>,
    /// Everything as the producer sent it, for copies; none where the queue keeps no more than is
    /// here.
    pub original: Option<Arc<MessageProperties>>,
}

impl Properties {
    /// What matters to the worker of what AMQP says.
    pub fn of_amqp(original: Arc<MessageProperties>, routing_key: &str) -> Self {
        let text =
            |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        let mut headers: BTreeMap<_, _> = original
            .headers()
            .iter()
            .flatten()
            .filter(|(name, _)| !headers::is_brokers_own(name.as_str()))
            .filter_map(|(name, value)| Some((name.to_string(), headers::as_text(value)?)))
            .collect();
        let first_key = headers.remove(headers::ROUTING_KEY);
        Self {
            message_id: text(original.message_id()),
            message_type: text(original.kind()),
            correlation_id: text(original.correlation_id()),
            reply_to: text(original.reply_to()),
            user_id: text(original.user_id()),
            routing_key: first_key.unwrap_or_else(|| routing_key.to_owned()),
            headers,
            original: Some(original),
        }
    }

    /// They as AMQP says them. A text that is too long for AMQP (255 bytes) is left out.
    pub fn to_amqp(&self) -> MessageProperties {
        if let Some(original) = &self.original {
            return (**original).clone();
        }
        let short = |text: &Option<String>| {
            let text = text.as_deref()?;
            lapin::types::ShortString::try_new(text).ok()
        };
        let mut properties = MessageProperties::default();
        if let Some(id) = short(&self.message_id) {
            properties = properties.with_message_id(id);
        }
        if let Some(kind) = short(&self.message_type) {
            properties = properties.with_type(kind);
        }
        if let Some(id) = short(&self.correlation_id) {
            properties = properties.with_correlation_id(id);
        }
        if let Some(queue) = short(&self.reply_to) {
            properties = properties.with_reply_to(queue);
        }
        let mut table = lapin::types::FieldTable::default();
        for (name, value) in &self.headers {
            if let Ok(name) = lapin::types::ShortString::try_new(name.as_str()) {
                let value = lapin::types::AMQPValue::LongString(value.as_str().into());
                table.insert(name, value);
            }
        }
        if table.inner().is_empty() {
            properties
        } else {
            properties.with_headers(table)
        }
    }

    /// The W3C trace context.
    pub fn traceparent(&self) -> Option<&str> {
        self.headers.get(HEADER_TRACEPARENT).map(String::as_str)
    }
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `{p}.events`, by routing key.
    Events,
    /// `{p}.commands`, by routing key (`glyph publish`, replays).
    Commands,
    /// `{p}.dead`.
    Dead,
    /// `{p}.retry.{delay}`, whose TTL leads back to the queue that the routing key names.
    Retry(RetryDelay),
    /// The queue that a producer named in `reply_to`.
    Reply(String),
    /// The queue that an operator named, which must exist.
    Queue(String),
}

/// The rungs of the retry ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetryDelay {
    /// One second.
    S1,
    /// Four seconds.
    S4,
    /// Sixteen seconds.
    S16,
    /// One minute.
    S60,
}

impl RetryDelay {
    /// Every rung, shortest first.
    pub const ALL: [Self; 4] = [Self::S1, Self::S4, Self::S16, Self::S60];

    /// Seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Self::S1 => 1,
            Self::S4 => 4,
            Self::S16 => 16,
            Self::S60 => 60,
        }
    }

    /// The rung after `attempts` failed attempts; none once the ladder is used up.
    pub fn after(attempts: u32) -> Option<Self> {
        usize::try_from(attempts)
            .ok()
            .and_then(|n| Self::ALL.get(n).copied())
    }
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// Where it goes.
    pub destination: Destination,
    /// The routing key, without prefix.
    pub routing_key: String,
    /// Its id; a copy of a command without an id has an empty one.
    pub message_id: String,
    /// Its type (AMQP `type`).
    pub message_type: String,
    /// The correlation id.
    pub correlation_id: Option<String>,
    /// Where an answer goes (commands only).
    pub reply_to: Option<String>,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
    /// For a copy: everything as the producer sent it. It is kept, and `headers` are added; of the
    /// fields here only the destination, the key and the body matter then.
    pub original: Option<Arc<MessageProperties>>,
    /// Content type.
    pub content_type: &'static str,
    /// The whole body.
    pub body: Arc<[u8]>,
    /// When it was created.
    pub timestamp: DateTime<Utc>,
    /// Whether it must reach a queue.
    pub mandatory: bool,
    /// Whether it survives a restart of the broker (all but replies).
    pub persistent: bool,
}

/// The outcome of publishing a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The broker has it.
    Confirmed,
    /// It is mandatory and reached no queue.
    Returned(String),
    /// The broker refused it.
    Nacked,
    /// No confirm came: the broker may or may not have it.
    Unknown(String),
}

/// Whether a broker can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerState {
    /// Connected, with live consumers unless intake is paused (where the process consumes).
    pub consuming: bool,
    /// Connected, with a live publishing channel.
    pub publishing: bool,
    /// The broker blocks publishers (alarm).
    pub blocked: bool,
    /// What is missing on the broker and may not be declared by this account; the rest is used.
    pub missing: Option<String>,
    /// The prefix belongs to another deployment: what to do about it.
    pub refused: Option<String>,
    /// Why the broker cannot be used.
    pub reason: Option<String>,
}

/// How full a queue is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueDepth {
    /// The queue's name, without the prefix.
    pub queue: String,
    /// Messages that wait; none if the queue is missing.
    pub messages: Option<u64>,
    /// Consumers; none where they are not counted.
    pub consumers: Option<u32>,
}

/// Where commands come from.
#[async_trait]
pub trait CommandSource: Send + Sync {
    /// The next command. `None` once intake has been stopped and every buffered delivery has been
    /// handed out or given back. Otherwise it waits, across any number of reconnects.
    async fn next(&self) -> Option<Delivery>;

    /// Settles deliveries whose command has a recorded outcome, or a confirmed copy in a retry
    /// queue or the dead queue. Acks follow by watermark. A receipt of a channel that is gone is
    /// ignored: the broker delivers again, and the inbox recognises the command.
    fn settle(&self, receipts: &[Receipt]);

    /// Gives back deliveries whose command has no outcome; the broker delivers them again.
    fn give_back(&self, receipts: &[Receipt]);

    /// Pauses intake (outbox full, database away) or resumes it. A paused source takes nothing from
    /// the broker, however often the connection is lost meanwhile: a delivery that nobody can work
    /// on would count as a failed one. Deliveries already buffered are still handed out.
    fn pause(&self, paused: bool);

    /// Stops intake permanently, for a drain.
    async fn stop(&self);

    /// Whether the source can be used, and every change of that.
    fn state(&self) -> watch::Receiver<BrokerState>;

    /// Messages in the dead queue; none if that cannot be known now.
    async fn dead_letters(&self) -> Option<u64>;
}

/// Where messages go.
#[async_trait]
pub trait MessagePublisher: Send + Sync {
    /// Publishes a window in order and waits for its confirms; one outcome for each message. Never
    /// hangs: a message that is not confirmed in time is [`PublishOutcome::Unknown`]. `lane` picks
    /// the channel, so that lanes do not wait for each other; windows of one lane must not overlap.
    async fn publish(&self, lane: usize, window: &[Publication]) -> Vec<PublishOutcome>;

    /// Whether the publisher can be used, and every change of that.
    fn state(&self) -> watch::Receiver<BrokerState>;

    /// How full the queues of the deployment are; none if that cannot be known now.
    async fn queues(&self) -> Option<Vec<QueueDepth>>;
}

/// A broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It cannot be reached, or the connection was lost.
    #[error("the broker at {address} cannot be reached")]
    Unreachable {
        /// Host and port, without credentials.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The broker refused a request.
    #[error("the broker refused {action}")]
    Refused {
        /// The refused request.
        action: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Objects are not there, and the account may not declare them.
    #[error(
        "{} missing on the broker, and this account may not declare; an account that may: \
         `glyph topology declare`",
        is_missing(.what)
    )]
    Missing {
        /// The objects, as `queue glyph.dead`.
        what: Vec<String>,
    },
    /// The prefix belongs to another deployment: to workers on another database.
    #[error(
        "the prefix {prefix} on this broker belongs to another deployment (workers on another \
         database), which would lose commands to this one; set GLYPH_PREFIX to another prefix, or, \
         if that deployment is gone, take the prefix over with `glyph topology adopt`"
    )]
    OtherDeployment {
        /// The prefix.
        prefix: String,
    },
    /// Others hold messages of a queue, which cannot be seen meanwhile.
    #[error(
        "others read queue {queue} just now and hold messages of it; try again once they have ended"
    )]
    InUse {
        /// The queue.
        queue: String,
    },
    /// It did not confirm in time.
    #[error("the broker did not confirm {action} within {seconds} s")]
    Unconfirmed {
        /// The unconfirmed request.
        action: String,
        /// How long the worker waited.
        seconds: u64,
    },
}

fn is_missing(what: &[String]) -> String {
    let verb = if what.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", what.join(", "))
}
