//! Postgres.
//!
//! # Transactions
//!
//! A batch is one transaction of five round trips: `BEGIN`; heads of new streams; the lock of all
//! heads in id order; one read under the locks; one write of everything, and `COMMIT`. READ
//! COMMITTED gives each statement a snapshot of its own, so what is read after the lock is what no
//! one else can change any more.
//!
//! # Connections
//!
//! All database work runs in a task of its own, to its end, even if the caller goes away: a
//! cancelled `COMMIT` has usually happened, and a connection cancelled in the middle of a
//! statement is worth nothing. Everything has a time limit on both sides; where the client's own
//! runs out, the link is taken for dead and the connection is closed, not returned.
//!
//! # Roles
//!
//! `migrate` needs an account that owns the schema. The store itself needs no more than
//! `migrations/postgres/runtime_role.sql` grants: no DDL, and neither UPDATE nor DELETE on events.

mod batch;
mod commands;
mod connection;
mod error;
mod event_store;
mod goals;
mod heads;
mod log;
mod operator_commands;
mod outbox;
mod projections;
mod query;
mod rebuild;
mod rows;
mod slots;
mod streams;
mod tasks;
mod timers;
mod workflows;
mod write;

pub use connection::{PgEventStore, PgSettings};
