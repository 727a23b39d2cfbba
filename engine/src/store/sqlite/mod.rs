//! A store in one SQLite file, for embedded use and trying out.
//!
//! There is one writer at a time: `BEGIN IMMEDIATE` takes the place of the locks on heads, and
//! ascending positions are the order of the commits. SQLite has no clock worth using, so the store
//! is given one. Statements that touch many rows take one JSON array and read it by `json_each`.

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
#[cfg(test)]
mod tests;
mod timers;
mod workflows;
mod write;

pub use connection::SqliteEventStore;
