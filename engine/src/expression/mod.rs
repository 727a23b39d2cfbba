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
//! The language has no input or output and, here, no loops either: the macros that visit every
//! element (`all`, `exists`, `map`, …) are refused, so the length of the source bounds the work of
//! an evaluation. The `cel` crate parses and evaluates recursively with large frames; see
//! [`limits`](crate::limits) for the bounds checked before parsing and for the stack size.

mod compile;
mod error;
mod evaluate;
mod names;
mod scan;
mod stack;

pub use compile::{Expression, StepReference};
pub use error::{ExpressionError, Fields};
pub use names::VARIABLES;
