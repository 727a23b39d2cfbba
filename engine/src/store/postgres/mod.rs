//! The store on PostgreSQL.
//!
//! # Transactions
//!
//! A batch is one transaction of five round trips:
//!
//! - `BEGIN`
//! - lock all heads that exist, in id order
//! - read everything under the locks
//! - insert the heads of new streams, where there are any, and write everything
//! - `COMMIT`, which numbers what was added to the log
//!
//! READ COMMITTED gives each statement its own snapshot, so what is read after the lock can no
//! longer be changed by others.
//!
//! # Connections
//!
//! All database work runs to its end in a task of its own, even if the caller is cancelled: a
//! cancelled `COMMIT` has usually happened, and a connection cancelled in the middle of a statement
//! is unusable. Everything has a time limit on both sides. If the client's own limit expires, the
//! connection is considered dead and is closed, not returned to the pool.
//!
//! # Sessions
//!
//! Every connection needs a session of its own: settings, prepared statements and locks stay with
//! it. Session pooling is fine; transaction pooling is refused ([`UnsuitableServer`]), also when it
//! begins later.
//!
//! # Roles
//!
//! `migrate` needs an account that owns the schema. The store itself needs only what
//! `migrations/postgres/runtime_role.sql` grants: no DDL, and neither UPDATE nor DELETE on events.

mod batch;
mod commands;
mod connection;
mod deployment;
mod endpoint;
mod error;
mod event_store;
mod goals;
mod heads;
mod jobs;
mod log;
mod operator_commands;
mod outbox;
mod projections;
mod query;
mod rebuild;
mod recent_log;
mod retention;
mod rows;
mod session;
mod slots;
mod streams;
mod tasks;
mod timers;
mod workflows;
mod write;

pub use connection::{PgEventStore, PgSettings};
pub use endpoint::{PgEndpoint, PgUrlError};
