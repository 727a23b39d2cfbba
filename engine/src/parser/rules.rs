//! Keys that go with every type of step, and keys of what is no step. Those of one type are in
//! [`StepSpec`](crate::config::StepSpec).

/// Keys that any step may have.
pub(super) const ANY_STEP: &[&str] = &[
    "id",
    "name",
    "description",
    "type",
    "completion",
    "on_error",
    "hooks",
    "join_mode",
    "join_count",
    "join_timeout",
];

/// Keys of `assignment` that a `sub_workflow` step can have: nobody is assigned to it.
pub(super) const CHILD_ASSIGNMENT: &[&str] = &["propagate_assignment"];

/// What the output of a task has.
pub(super) const OUTPUT_KEYS: [&str; 5] =
    ["result", "agreement", "resolved_by", "steps", "context"];
