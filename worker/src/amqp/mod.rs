//! RabbitMQ behind the traits of [`crate::broker`].
//!
//! There are two connections, because a memory or disk alarm blocks everything on a connection that
//! publishes, acks included: [`AmqpSource`] consumes on one, [`AmqpPublisher`] publishes on the
//! other. Each has a supervisor that rebuilds it from scratch whenever anything on it fails, for
//! ever. [`AmqpDeadLetters`] connects for each operation.
//!
//! | what happens | what the worker does |
//! |---|---|
//! | the broker is unavailable, at start or later | waits for it; not ready meanwhile |
//! | a delivery is settled | acks by watermark, one frame for a batch |
//! | its channel is gone by then | counts it; the broker redelivers, the inbox knows the id |
//! | no confirm in time | treats the outcome as unknown, rebuilds the connection |
//! | a mandatory message is returned | treats the whole window as unknown until confirmed singly |
//! | the broker raises an alarm | reports `blocked`; publishes nothing, keeps consuming |
//! | the account may not declare | uses what an operator declared; not ready while something is missing |
//! | something of the topology is deleted | declares it again, and puts back commands that found no queue |
//! | another deployment has the prefix | uses nothing, not ready; refused at start |
//!
//! TLS is rustls with the system's roots (`SSL_CERT_FILE` names others); the host name is checked.

mod acks;
mod asyncapi;
mod connection;
mod consumer;
mod dead_letters;
mod declare;
mod message;
mod moves;
mod publisher;
mod settings;
mod tap;
mod topology;
mod upkeep;

pub use asyncapi::asyncapi_document;
pub use consumer::AmqpSource;
pub use dead_letters::AmqpDeadLetters;
pub use declare::{Declared, adopt_prefix, declare_topology, delete_topology};
pub use publisher::{AmqpPublisher, queue_depths};
pub use settings::{AmqpSettings, AmqpUrlError};
pub use tap::{AmqpTap, Tapped};
pub use topology::{DELIVERY_LIMIT, Topology};
