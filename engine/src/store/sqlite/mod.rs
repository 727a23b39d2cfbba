//! A store in one SQLite file, for embedded use and trying out.
//!
//! There is one writer at a time: `BEGIN IMMEDIATE` takes the place of the locks on heads, and
//! ascending positions are the order of the commits. SQLite has no clock worth using, so the store
//! is given one. Statements that touch many rows take one JSON array and read it by `json_each`.

mod acts;
mod batch;
mod commands;
mod due;
mod error;
mod goals;
mod outbox;
mod places;
mod projections;
mod read;
mod rebuild;
mod reliability;
mod rows;
mod store;
mod tasks;
#[cfg(test)]
mod tests;
mod workflows;
mod write;

pub use store::SqliteEventStore;
