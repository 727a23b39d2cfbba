//! Which keys go with which types, as tables.

use crate::config::{CompletionType, StepType};

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

/// Keys that only steps of a type have.
pub(super) fn keys_of(kind: StepType) -> &'static [&'static str] {
    match kind {
        StepType::Annotation => &["consensus", "assignment", "field"],
        StepType::Review | StepType::Adjudication => &["assignment", "field"],
        StepType::AutoProcess => &["handler", "config"],
        StepType::Conditional => &["condition", "true_branch", "false_branch"],
        StepType::SubWorkflow => &["workflow", "input_mapping", "output_mapping", "assignment"],
    }
}

/// Keys of `assignment` that a `sub_workflow` step can have: nobody is assigned to it.
pub(super) const CHILD_ASSIGNMENT: &[&str] = &["propagate_assignment"];

/// What the output of a task has.
pub(super) const OUTPUT_KEYS: [&str; 5] =
    ["result", "agreement", "resolved_by", "steps", "context"];

/// Keys that a step of a type cannot do without.
pub(super) fn required_of(kind: StepType) -> Option<&'static str> {
    match kind {
        StepType::Annotation | StepType::Review | StepType::Adjudication => None,
        StepType::AutoProcess => Some("handler"),
        StepType::Conditional => Some("condition"),
        StepType::SubWorkflow => Some("workflow"),
    }
}

/// How a step of a type can complete.
pub(super) fn completions_of(kind: StepType) -> &'static [CompletionType] {
    match kind {
        StepType::Annotation => &[
            CompletionType::AnnotationCount,
            CompletionType::Confidence,
            CompletionType::Manual,
        ],
        StepType::Review | StepType::Adjudication => &[CompletionType::ReviewDecision],
        StepType::AutoProcess | StepType::Conditional | StepType::SubWorkflow => {
            &[CompletionType::Auto]
        }
    }
}

/// Keys that go with a rule of completion, besides `type`.
pub(super) fn completion_keys(kind: CompletionType) -> &'static [&'static str] {
    match kind {
        CompletionType::AnnotationCount => &[
            "count",
            "unique_annotators",
            "min_required",
            "timeout",
            "timeout_action",
        ],
        CompletionType::Confidence => &[
            "target",
            "min",
            "max",
            "classes",
            "unique_annotators",
            "timeout",
            "timeout_action",
        ],
        CompletionType::ReviewDecision => &["timeout", "timeout_action"],
        CompletionType::Manual => &["unique_annotators", "timeout", "timeout_action"],
        CompletionType::Auto => &[],
    }
}

/// The name in YAML.
pub(super) fn completion_name(kind: CompletionType) -> &'static str {
    match kind {
        CompletionType::AnnotationCount => "annotation_count",
        CompletionType::Confidence => "confidence",
        CompletionType::ReviewDecision => "review_decision",
        CompletionType::Auto => "auto",
        CompletionType::Manual => "manual",
    }
}
