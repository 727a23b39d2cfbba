//! A store in memory.

mod batch;
mod commands;
mod data;
mod deployment;
mod event_store;
mod goals;
mod jobs;
mod locks;
mod log;
mod operator_commands;
mod outbox;
mod projections;
mod rebuild;
mod retention;
mod slots;
mod streams;
mod tasks;
mod timers;
mod workflows;

pub use data::{Clock, MemoryDump, MemoryStore};
