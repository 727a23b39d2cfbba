//! Builds a worker out of its parts and supervises them. `glyph worker` runs it; the tests, the
//! demo and the load generator start it in their own process.
//!
//! Start: HTTP answers from the first moment, alive and not ready. The worker then waits for the
//! database and migrates it, connects the broker and opens the pipeline. A drain is the reverse:
//! take no new work, finish what has begun, publish, close. Both orders are tables in `phases.rs`.

mod broker;
mod database;
mod error;
mod health;
mod listener;
mod parts;
mod phases;
mod running;
mod servers;
mod token_watch;
mod worker;

pub use database::Database;
pub use error::AppError;
pub use parts::WorkerParts;
pub use running::RunningWorker;
pub use worker::run;
