//! Names, in headers, answers and metrics, of why a command is tried again or given up.

/// Why a command is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeadReason {
    /// It cannot be read, or no store can keep it.
    Malformed,
    /// It is larger than allowed.
    TooLarge,
    /// Its id was used for a command with other content.
    CommandIdReused,
    /// No such task came into being while it waited.
    TaskNotFound,
    /// No such workflow or revision.
    WorkflowNotFound,
    /// Deciding it failed on every attempt.
    RetriesExhausted,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::TooLarge,
        Self::CommandIdReused,
        Self::TaskNotFound,
        Self::WorkflowNotFound,
        Self::RetriesExhausted,
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::CommandIdReused => "command_id_reused",
            Self::TaskNotFound => "task_not_found",
            Self::WorkflowNotFound => "workflow_not_found",
            Self::RetriesExhausted => "retries_exhausted",
        }
    }
}

/// Why a command is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetryReason {
    /// There is no such task yet.
    TaskNotFound,
    /// Deciding it failed: a bug.
    Panicked,
}

impl RetryReason {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::TaskNotFound, Self::Panicked];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TaskNotFound => "task_not_found",
            Self::Panicked => "panicked",
        }
    }
}

/// What the name of every header of the worker begins with.
pub const HEADER_PREFIX: &str = "x-glyph-";
/// Header: why a command is dead ([`DeadReason`], or [`REASON_DELIVERY_LIMIT`]).
pub const HEADER_REASON: &str = "x-glyph-reason";
/// Header: what was wrong, for people.
pub const HEADER_ERROR: &str = "x-glyph-error";
/// Header: attempts made so far.
pub const HEADER_ATTEMPTS: &str = "x-glyph-attempts";
/// Header: when the first attempt failed, RFC 3339.
pub const HEADER_FIRST_FAILED_AT: &str = "x-glyph-first-failed-at";

/// Why a command is dead of which every delivery came to nothing.
pub const REASON_DELIVERY_LIMIT: &str = "delivery_limit";
