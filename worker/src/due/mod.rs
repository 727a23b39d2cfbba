//! Work whose time has come.
//!
//! A due row becomes a command with an id derived from the row and goes along the same road as
//! any other. The transaction that settles the command also deletes the row, so a crash at any
//! point repeats nothing: the row is claimed again, and its command is a duplicate.

mod runner;

pub use runner::DueRunner;
