//! Turns a step's submissions into a result: one executor for each kind of step, and the handlers
//! that automatic steps call. All of it is pure; anything that takes time is a timer.

mod agreement;
pub mod annotators;
mod context;
mod error;
mod gold;
mod handlers;
mod result;
mod steps;
mod units;
mod value;
mod vote;

pub use agreement::{AgreementReport, measure_agreement};
pub use context::{
    Closing, ExecutionContext, Handler, HandlerInput, HandlerOutput, HandlerRegistry,
};
pub use error::{ExecutorError, HandlerError};
pub use result::{ExecutionResult, StepExecutor};
pub use steps::create_executor;
pub use value::{Selection, ValueError, value_at};

pub use crate::state::AnnotationData;
pub(crate) use agreement::check_readable;
pub(crate) use context::{run_handler, selection};
pub(crate) use error::error_chain;
pub(crate) use gold::is_expected;
pub(crate) use steps::{admit, corrected, decision_of, task_output};
pub(crate) use value::check_bounds;
