//! RabbitMQ behind the traits of [`crate::broker`].
//!
//! Two connections, as a memory or disk alarm stops everything on a connection that publishes, acks
//! included: [`AmqpSource`] consumes on one, [`AmqpPublisher`] publishes on the other. Each has a
//! supervisor that builds it anew from nothing whenever anything on it fails, for ever.
//! [`AmqpDeadLetters`] connects for each verb of an operator.
//!
//! | what happens | what it means here |
//! |---|---|
//! | the broker is not there, at start or later | waited for; not ready meanwhile |
//! | a delivery is settled | acked by watermark, within one frame for a batch |
//! | its channel is gone by then | counted; the broker delivers again, the inbox knows |
//! | no confirm in time | the outcome is unknown, the connection is built anew |
//! | a mandatory message comes back | the whole window is in unknown until confirmed singly |
//! | the broker raises an alarm | `blocked`; nothing is published, consuming goes on |
//! | the account may not declare | what an operator made is used as it is |
//!
//! TLS is rustls with the system's roots (`SSL_CERT_FILE` names others); the host name is checked.

mod acks;
mod connection;
mod consumer;
mod dead_letters;
mod declare;
mod message;
mod publisher;
mod settings;
mod topology;

pub use consumer::AmqpSource;
pub use dead_letters::AmqpDeadLetters;
pub use declare::delete_topology;
pub use publisher::AmqpPublisher;
pub use settings::{AmqpSettings, AmqpUrlError};
pub use topology::{DELIVERY_LIMIT, Topology};
