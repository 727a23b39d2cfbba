//! Which step comes next.

mod compiled;
mod evaluator;
mod joins;
mod scope;

pub use compiled::{CompileError, CompiledWorkflow};
pub use evaluator::{Choice, ConditionError, TransitionEvaluator};
pub use joins::Join;
pub(crate) use scope::{result_json, variables};
