//! Durable queues in the SQLite file of the store, for running without a broker.
//!
//! The queues have the names, keys and headers that they have on RabbitMQ, without a prefix. A lock
//! on a file beside the database lets only one process consume; other processes may publish. A
//! delivered message stays in the table until it is settled, so a crash returns it.
//!
//! Embedded mode is for trying out. Nothing may ever consume the downstream queues, so each of them
//! keeps only its newest [`DOWNSTREAM_MAX`] messages.

mod consumer;
mod dead_letters;
mod error;
mod message;
mod migrations;
mod publisher;
mod queue;
mod route;
mod source;
#[cfg(test)]
mod tests;

pub use consumer::{Consumer, DELIVERY_LIMIT};
pub use dead_letters::EmbeddedDeadLetters;
pub use error::EmbeddedError;
pub use message::{Failure, NewMessage, QueueCount, Retry, Routed, StoredMessage};
pub use publisher::EmbeddedPublisher;
pub use queue::{DOWNSTREAM_MAX, EmbeddedQueue};
pub use route::Exchange;
pub use source::EmbeddedSource;
