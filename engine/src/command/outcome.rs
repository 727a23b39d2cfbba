//! What becomes of a command.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{config::Target, ids::StepId, store::RecordedOutcome};

/// What an applied command led to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ProcessResult {
    /// The step goes on waiting.
    Waiting {
        /// The step.
        step_id: StepId,
        /// For what.
        reason: String,
    },
    /// The task went on.
    Advanced {
        /// The step it waits in now (the first, where there are several).
        next_step: StepId,
        /// All the steps it waits in now.
        next_steps: Vec<StepId>,
    },
    /// The task has its output.
    Completed {
        /// The output.
        output: Value,
    },
    /// The task ended without.
    Failed {
        /// Why.
        error: String,
    },
}

/// What became of a command; exactly one of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its effect is committed.
    Applied(ProcessResult),
    /// Its id is known; this is what it came to the first time.
    Duplicate(RecordedOutcome),
    /// The state or the rules forbid it; kept and answered.
    Rejected(Rejection),
    /// It cannot be decided now and may be decided later.
    Undecided(Undecided),
    /// It can never be decided.
    Dead(Dead),
}

impl Outcome {
    /// The name in metrics and answers.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Applied(_) => "applied",
            Self::Duplicate(_) => "duplicate",
            Self::Rejected(_) => "rejected",
            Self::Undecided(_) => "undecided",
            Self::Dead(_) => "dead",
        }
    }
}

/// Why a readable command is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The code.
    pub code: RejectionCode,
    /// For people: what, where, and how to mend it.
    pub detail: String,
}

/// Codes of rejections, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectionCode {
    /// The workflow has no such step.
    UnknownStep,
    /// The person has already submitted to this visit.
    DuplicateAnnotator,
    /// The visit was closed by its count, or every slot is taken.
    Surplus,
    /// The task has ended.
    TaskFinished,
    /// The task is paused, or its workflow.
    TaskPaused,
    /// The step is not waiting, or it is not clear which step is meant.
    StepNotActive,
    /// The person lacks a role.
    RoleRequired,
    /// The person would judge their own work.
    SelfReview,
    /// The annotation lacks what the step needs.
    InvalidAnnotation,
    /// There is nothing for this command to act on.
    NotWaiting,
    /// The task has been started, or runs in another workflow.
    AlreadyStarted,
    /// The migration does not map an active step.
    MigrationUnmapped,
}

impl RejectionCode {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::UnknownStep,
        Self::DuplicateAnnotator,
        Self::Surplus,
        Self::TaskFinished,
        Self::TaskPaused,
        Self::StepNotActive,
        Self::RoleRequired,
        Self::SelfReview,
        Self::InvalidAnnotation,
        Self::NotWaiting,
        Self::AlreadyStarted,
        Self::MigrationUnmapped,
    ];

    /// The name in tables, messages and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownStep => "unknown_step",
            Self::DuplicateAnnotator => "duplicate_annotator",
            Self::Surplus => "surplus",
            Self::TaskFinished => "task_finished",
            Self::TaskPaused => "task_paused",
            Self::StepNotActive => "step_not_active",
            Self::RoleRequired => "role_required",
            Self::SelfReview => "self_review",
            Self::InvalidAnnotation => "invalid_annotation",
            Self::NotWaiting => "not_waiting",
            Self::AlreadyStarted => "already_started",
            Self::MigrationUnmapped => "migration_unmapped",
        }
    }
}

impl fmt::Display for RejectionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a command cannot be decided now.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Undecided {
    /// There is no such task; the command may have overtaken its `start`.
    #[error("no such task")]
    TaskNotFound,
    /// It is timers of something that was paused after it was claimed: of a workflow, a task or a
    /// step. It comes again when that goes on.
    #[error("what it is due for is paused")]
    Paused,
    /// Deciding it panicked: a bug, reported with its message.
    #[error("deciding it failed: {0}")]
    Panicked(String),
    /// FireTimer work came without the outcome of its effect although the state asks for one; it comes
    /// again when its lease has run out.
    #[error("its effect has not been performed")]
    NotPerformed,
}

/// Why a command can never be decided.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Dead {
    /// No workflow or revision of that name.
    #[error("no workflow `{0}`")]
    WorkflowNotFound(String),
    /// The id was used for a command with other content.
    #[error("the command_id was used for a command with other content")]
    CommandIdReused,
    /// The store refuses its content.
    #[error("{0}")]
    Malformed(String),
}

/// `next_step` of an `advance`: the first step the task waits in, none once it has ended.
pub(crate) fn next_step(result: &ProcessResult) -> Option<String> {
    match result {
        ProcessResult::Waiting { step_id, .. } => Some(step_id.to_string()),
        ProcessResult::Advanced { next_step, .. } => Some(next_step.to_string()),
        ProcessResult::Completed { .. } | ProcessResult::Failed { .. } => None,
    }
}

/// The error text of a task that reached `_failed`.
pub(crate) fn failed_by_transition(from: &StepId) -> String {
    format!("step `{from}` led to `{}`", Target::Failed)
}
