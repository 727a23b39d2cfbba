//! Durable queues in the SQLite file of the store, for running without a broker.
//!
//! The queues have the names, keys and headers that they have on RabbitMQ, without prefix. One
//! process consumes, by a lock on a file beside the database; others may enqueue. A message that
//! is delivered stays in the table until it is settled, so a crash returns it.
//!
//! Embedded mode is for trying out: nobody may ever consume the downstream queues, so each of them
//! keeps its newest [`DOWNSTREAM_MAX`] messages.

mod broker;
mod consumer;
mod dead;
mod error;
mod message;
mod queue;
mod route;
#[cfg(test)]
mod tests;

pub use broker::{EmbeddedDeadLetters, EmbeddedPublisher, EmbeddedSource};
pub use consumer::{Consumer, DELIVERY_LIMIT};
pub use dead::DeadLetter;
pub use error::EmbeddedError;
pub use message::{Delivery, Failure, NewMessage, Properties, QueueCount, Retry, Routed};
pub use queue::{DOWNSTREAM_MAX, EmbeddedQueue};
pub use route::{
    ADVANCE, COMMAND_QUEUES, CONTROL, DEAD, Exchange, STEP_COMPLETED, SUBMISSION,
    TRANSITION_OCCURRED,
};
