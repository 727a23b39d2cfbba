//! Builds a worker out of its parts and supervises them: what `glyph worker` runs, and what the
//! tests, the demo and the load generator start in their own process.
//!
//! HTTP answers from the first moment, alive and not ready; then the database is waited for and
//! migrated, then the broker is connected and the road opened. A drain goes the other way: no new
//! work, finish what is begun, publish, close. Both orders are tables in `phases.rs`.

mod broker;
mod database;
mod error;
mod health;
mod parts;
mod phases;
mod running;
mod servers;
mod worker;

pub use database::Database;
pub use error::AppError;
pub use parts::WorkerParts;
pub use running::RunningWorker;
pub use worker::run;
