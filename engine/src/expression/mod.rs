//! Conditions in the Common Expression Language: compiled once, evaluated often, bounded always.
//!
//! ```
//! use glyph_workflow_engine::expression::Expression;
//!
//! let expression = Expression::compile("agreement >= 0.5 && $.input.language == 'de'")?;
//! let facts = serde_json::json!({"agreement": 0.75, "input": {"language": "de"}});
//! assert!(expression.evaluate_bool(&facts)?);
//! # Ok::<(), glyph_workflow_engine::expression::ExpressionError>(())
//! ```
//!
//! The language has no input or output. Its loops, `exists` and `all`, and everything else that an
//! evaluation does, count against a budget, so an evaluation ends soon whatever data it meets. The
//! `cel` crate parses recursively with large frames; see [`limits`](crate::limits) for the bounds
//! checked before parsing, for the budget and for the stack size.

mod budget;
mod compare;
mod compile;
mod error;
mod evaluate;
mod fields;
mod functions;
mod hints;
mod interpreter;
mod json;
mod logic;
mod names;
mod number;
mod path;
mod scan;
mod stack;
#[cfg(test)]
mod tests;
mod value;
mod variables;

pub use compile::Expression;
pub use error::{ExpressionError, Fields};
pub use fields::StepReference;
pub use logic::{Known, KnownVariables, Settled, exclude_each_other, one_is_true};
pub use names::VARIABLES;
pub use variables::{Variable, Variables};
