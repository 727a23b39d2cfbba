//! A store in one SQLite file, for embedding and evaluation.
//!
//! There is one writer at a time: `BEGIN IMMEDIATE` replaces the locks on heads, and ascending
//! positions are the commit order. SQLite has no suitable clock of its own, so the caller provides
//! one. Statements that touch many rows take one JSON array and read it with `json_each`.

mod batch;
mod commands;
mod connection;
mod deployment;
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
mod retention;
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
