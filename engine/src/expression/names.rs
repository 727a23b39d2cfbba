//! The names that an expression may use.

/// The variables an expression may name.
///
/// They are the `agreement`, `threshold` and `result` of the step that has ended, the data of its
/// last `annotation` and of all its `annotations`, every `step` by id, the workflow's `context`, and
/// the task's `input`, `labels` and id (`task_id`, `task.id`).
pub const VARIABLES: [&str; 11] = [
    "agreement",
    "threshold",
    "result",
    "annotation",
    "annotations",
    "step",
    "context",
    "input",
    "labels",
    "task",
    "task_id",
];

/// The functions of the language that are offered, and the engine's own (`sample`).
pub(super) const FUNCTIONS: [&str; 16] = [
    "all",
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "exists",
    "has",
    "int",
    "sample",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// Names of types, used as values in comparisons such as `type(result.value) == string`.
pub(super) const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// Macros of the language that are not offered: they visit elements, and make more than an answer of
/// them.
pub(super) const REFUSED_MACROS: [&str; 4] = ["exists_one", "existsOne", "filter", "map"];

/// The known name that is most similar to `name`.
pub(super) fn nearest(name: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|candidate| (strsim::osa_distance(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}
