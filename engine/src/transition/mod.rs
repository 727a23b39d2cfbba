//! Which way next.

mod compiled;
mod evaluator;
mod scope;

pub use compiled::CompiledWorkflow;
pub use evaluator::{Choice, ConditionError, TransitionEvaluator};
pub(crate) use scope::{result_json, variables};
