//! Turns a step's submissions into a result: one executor for each kind of step, and the handlers
//! that automatic steps call. All of it is pure; anything that takes time is a timer.
//!
//! What an answer is, and what makes two alike, is in [`crate::answer`].

pub mod annotators;
mod bounds;
mod context;
mod error;
mod handlers;
mod result;
mod steps;

pub use context::{
    Closing, ExecutionContext, Handler, HandlerInput, HandlerOutput, HandlerRegistry,
};
pub use error::{ExecutorError, HandlerError};
pub use result::{ExecutionResult, StepExecutor};
pub use steps::create_executor;

pub use crate::state::AnnotationData;
pub(crate) use bounds::check_bounds;
pub(crate) use context::{asked, run_handler, settled, subject_value};
pub(crate) use error::error_chain;
pub(crate) use steps::{admit, corrected, task_output};
