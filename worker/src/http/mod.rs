//! The HTTP API: the same commands as the queue, and queries.
//!
//! [`router`] returns the whole API as a value, so that tests need no socket. Errors are RFC 9457
//! problem documents, built in `error.rs` alone.

mod access;
mod agreement;
mod annotate;
mod annotator_reports;
mod annotators;
mod api;
mod assignments;
mod auth;
mod backtests;
mod commands;
mod console;
mod cookie;
mod docs;
mod error;
mod feed;
mod goals;
mod health;
mod incidents;
mod jobs;
mod labels;
mod letters;
mod log;
mod migration;
mod openapi;
mod operation;
mod outbox;
mod rejected;
mod request;
mod router;
mod schemas;
mod session;
mod status;
mod stuck;
mod tasks;
mod trials;
mod workflows;

pub use api::{Api, BrokerSlot, CommandSink, NotTaken, REQUEST_TIMEOUT};
pub use error::Problem;
pub use health::{Health, PartState, Readiness};
pub use request::{OUTCOME, REASON};
pub use router::{openapi_document, operation_names, operations_router, router};
