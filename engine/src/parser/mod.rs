//! Text to valid configuration: after this no configuration is invalid.
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
//! 3. `resolve`: templates and library steps, each value remembering where it was written;
//! 4. `structure`: unknown, missing and mistyped keys, against the schema of the types; what can
//!    be repaired is, so that one slip does not hide the next fault or cause another;
//! 5. `validate` (a file a topic), `graph`, `outcomes` with `ending_checks`, `soundness`: what the
//!    types cannot say.

mod document;
mod draft;
mod ending_checks;
mod expanded;
mod fault;
mod graph;
mod hash;
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
mod yaml;

pub use document::{diagnostic_schema, script_file_schema, workflow_file_schema};
pub use expanded::{Expanded, ExpandedValue, ValueOrigin, expand_workflow};
pub use hash::content_hash;
pub use parse::{
    check_workflow, check_workflow_bytes, parse_workflow, parse_workflow_with_handlers,
    parse_workflow_with_library,
};
pub use report::{DiagnosticCode, ParseError, Report, Severity, ValidationError};
pub use script::check_script;
