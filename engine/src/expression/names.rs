//! The names that an expression may use.

/// The variables an expression may name.
///
/// `agreement` and `threshold` of the step left, its `result`, the data of its last `annotation`,
/// every `step` by id, the workflow's `context` and the task's `input`.
pub const VARIABLES: [&str; 7] = [
    "agreement",
    "threshold",
    "result",
    "annotation",
    "step",
    "context",
    "input",
];

/// Functions of the standard library that this build has, and its own (`sample`).
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
