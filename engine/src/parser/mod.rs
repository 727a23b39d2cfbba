//! From text to valid configuration; all later code may rely on its validity.
//!
//! ```
//! use glyph_workflow_engine::parser::parse_workflow;
//!
//! let faults = parse_workflow(
//!     "workflow:
//!   id: hello
//!   steps:
//!     - { id: annotate, type: anotation }
//! ")
//! .unwrap_err();
//! let fault = &faults.diagnostics[0];
//! assert_eq!((fault.path.as_str(), fault.line), ("workflow.steps[0].type", Some(4)));
//! assert_eq!(fault.suggestion.as_deref(), Some("did you mean `annotation`?"));
//! ```
//!
//! A file passes through these stages, and every stage reports all it finds:
//!
//! 1. `source_map`: bounds, duplicate keys, and the line and column of every part;
//! 2. `yaml`: the values;
//! 3. `resolve`: templates and library steps; each value keeps the location where it was written;
//! 4. `structure`: unknown, missing and mistyped keys, checked against the schema of the types.
//!    Typos are repaired where possible, so that one fault neither hides nor causes another;
//! 5. `validate` (one file for each topic), `graph` over `ways`, `outcomes` with `ending_checks`,
//!    `soundness` with what it lists: rules that the types cannot express.

mod branches;
mod chains;
mod document;
mod draft;
mod editor_schema;
mod ending_checks;
mod expanded;
mod fault;
mod graph;
mod hash;
mod loops;
mod map;
mod meetings;
mod outcomes;
mod parse;
mod path;
mod report;
mod resolve;
mod script;
mod soundness;
mod source_map;
mod structure;
mod suggest;
mod tree;
mod validate;
mod verdicts;
mod ways;
mod yaml;

pub use document::{diagnostic_schema, script_file_schema};
pub use editor_schema::workflow_file_schema;
pub use expanded::{Expanded, ExpandedValue, ValueOrigin, expand_workflow};
pub use hash::content_hash;
pub use parse::{
    check_workflow, check_workflow_bytes, parse_workflow, parse_workflow_with_handlers,
    parse_workflow_with_library,
};
pub use report::{DiagnosticCode, ParseError, Report, Severity, ValidationError};
pub use script::check_script;
pub use yaml::{parse_value, yaml_of};

pub(crate) use suggest::Suggester;
