//! The names that an expression may use.

/// The variables an expression may name.
///
/// They are the `agreement`, `threshold` and `result` of the step that has ended, the data of its
/// last `annotation`, every `step` by id, the workflow's `context` and the task's `input`.
pub const VARIABLES: [&str; 7] = [
    "agreement",
    "threshold",
    "result",
    "annotation",
    "step",
    "context",
    "input",
];

/// Functions of the standard library in this build, and the engine's own (`sample`).
pub(super) const FUNCTIONS: [&str; 13] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "sample",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];
