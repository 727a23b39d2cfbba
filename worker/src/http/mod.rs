//! The HTTP API: the same commands as the queue, and everything to look at.
//!
//! [`router`] gives the whole API as a value, so that tests need no socket. Faults leave as RFC 9457
//! problem documents, made in `error.rs` alone.

mod agreement;
mod annotators;
mod assignments;
mod auth;
mod commands;
mod docs;
mod error;
mod explain;
mod goals;
mod health;
mod migration;
mod openapi;
mod operation;
mod request;
mod router;
mod tasks;
mod workflows;

pub use auth::{Role, TokenError, Tokens};
pub use error::Problem;
pub use explain::{ChildStanding, Explanation, explain};
pub use goals::{ActionDocument, GoalDocument};
pub use health::{Health, PartState, Readiness};
pub use openapi::openapi_document;
pub use router::{Api, CommandSink, NotTaken, REQUEST_TIMEOUT, operations_router, router};
pub use tasks::{explain_task, state_document};
pub use workflows::{ListedWorkflow, WorkflowDocument, resolve_one};
