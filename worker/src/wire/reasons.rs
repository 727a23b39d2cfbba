//! Names, in headers, replies and metrics, of why a command is retried or given up.

use glyph_workflow_engine::store::SplitReason;

/// Why a command is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeadReason {
    /// It cannot be read, or no store can keep it.
    Malformed,
    /// It is larger than allowed.
    TooLarge,
    /// Its id was used for a command with different content.
    CommandIdReused,
    /// The task did not appear while the command waited.
    TaskNotFound,
    /// No such workflow or revision.
    WorkflowNotFound,
    /// Deciding it failed in every attempt.
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

/// Why a command is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetryReason {
    /// The task does not exist yet.
    TaskNotFound,
    /// Deciding it failed: a bug.
    Panicked,
    /// It failed alone although the store is there: it is tried again each minute, for ever.
    SetAside(SplitReason),
}

impl RetryReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::TaskNotFound,
        Self::Panicked,
        Self::SetAside(SplitReason::TooSlow),
        Self::SetAside(SplitReason::TooBig),
        Self::SetAside(SplitReason::Blocked),
        Self::SetAside(SplitReason::Conflict),
        Self::SetAside(SplitReason::ConnectionLost),
        Self::SetAside(SplitReason::Unexplained),
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TaskNotFound => "task_not_found",
            Self::Panicked => "panicked",
            Self::SetAside(reason) => reason.as_str(),
        }
    }
}

/// The prefix of every header of the worker.
pub const HEADER_PREFIX: &str = "x-glyph-";
/// Header: why a command is dead ([`DeadReason`]); the broker sets none on what it moves itself
/// ([`REASON_DELIVERY_LIMIT`], [`REASON_UNROUTABLE`]).
pub const HEADER_REASON: &str = "x-glyph-reason";
/// Header: the error text, for people.
pub const HEADER_ERROR: &str = "x-glyph-error";
/// Header: attempts made so far.
pub const HEADER_ATTEMPTS: &str = "x-glyph-attempts";
/// Header: when the first attempt failed, RFC 3339.
pub const HEADER_FIRST_FAILED_AT: &str = "x-glyph-first-failed-at";

/// Bytes of an error text in a header; AMQP limits the size of the header frame.
const ERROR_BYTES_MAX: usize = 1_024;

/// The headers of a command that failed: why, how often, and since when. A long error text is cut.
pub fn failure_headers(
    reason: &str,
    error: &str,
    attempts: u32,
    first_failed_at: String,
) -> [(&'static str, String); 4] {
    let error = &error[..error.floor_char_boundary(ERROR_BYTES_MAX)];
    [
        (HEADER_REASON, reason.to_owned()),
        (HEADER_ERROR, error.to_owned()),
        (HEADER_ATTEMPTS, attempts.to_string()),
        (HEADER_FIRST_FAILED_AT, first_failed_at),
    ]
}

/// Header: the job, and the number of its item, that has put a letter back.
pub const HEADER_REPLAY: &str = "x-glyph-replay";
/// Header: who has edited a letter.
pub const HEADER_EDITED_BY: &str = "x-glyph-edited-by";

/// The reason of a command that is dead because every delivery failed.
pub const REASON_DELIVERY_LIMIT: &str = "delivery_limit";
/// The reason of a command that is dead because its routing key leads to no queue.
pub const REASON_UNROUTABLE: &str = "unroutable";
