//! Outcomes of commands.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    config::Target,
    ids::StepId,
    store::{RecordedOutcome, SplitReason},
};

/// The result of an applied command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ProcessResult {
    /// The step still waits.
    Waiting {
        /// The step.
        step_id: StepId,
        /// What it waits for.
        reason: String,
    },
    /// The task advanced.
    Advanced {
        /// The step that the task waits in now (the first if there are several).
        next_step: StepId,
        /// All steps that the task waits in now.
        next_steps: Vec<StepId>,
    },
    /// The task completed with an output.
    Completed {
        /// The output.
        output: Value,
    },
    /// The task ended without an output.
    Failed {
        /// Why.
        error: String,
    },
}

/// The outcome of a command; exactly one of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its effect is committed.
    Applied(ProcessResult),
    /// Its id is known; this is the first outcome.
    Duplicate(RecordedOutcome),
    /// The state or the rules forbid it. The rejection is recorded and reported.
    Rejected(Rejection),
    /// It cannot be decided now and may be decided later.
    Undecided(Undecided),
    /// It can never be decided.
    Dead(Dead),
}

impl Outcome {
    /// The name in metrics and responses.
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

/// Why a well-formed command is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The code.
    pub code: RejectionCode,
    /// For people: what is wrong, where, and how to fix it.
    pub detail: String,
}

/// Rejection codes, in the order in which the rules are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectionCode {
    /// The workflow has no such step.
    UnknownStep,
    /// The person has already submitted to this visit.
    DuplicateAnnotator,
    /// The visit closed with enough submissions, or every slot is taken.
    Surplus,
    /// The task has ended.
    TaskFinished,
    /// The task or its workflow is paused.
    TaskPaused,
    /// The step is not active, or the command does not make clear which step it means.
    StepNotActive,
    /// The person lacks a role.
    RoleRequired,
    /// The person would review or adjudicate their own work.
    SelfReview,
    /// The annotation lacks content that the step needs.
    InvalidAnnotation,
    /// Nothing waits for this command.
    NotWaiting,
    /// The task was started before, or runs in another workflow.
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

    /// The name in tables, messages and responses.
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
    /// There is no such task; the command may have arrived before its `start`.
    #[error("no such task")]
    TaskNotFound,
    /// The timer belongs to a workflow, task or step that was paused after the timer was leased.
    /// It fires again after the resume.
    #[error("what it is due for is paused")]
    Paused,
    /// Deciding it panicked: a bug, reported with its message.
    #[error("deciding it failed: {0}")]
    Panicked(String),
    /// The batch had no time left for it: it is run again at once.
    #[error("the batch had no time left for it")]
    OutOfTime,
    /// Another transaction has locked its task, and the batch passed over it: it is run again soon.
    #[error("its task is locked by another transaction")]
    Locked,
    /// It failed alone, and its content is not to blame: it is tried again after a while, for ever.
    #[error("it is set aside ({reason}): {error}")]
    SetAside {
        /// Why.
        reason: SplitReason,
        /// What was wrong, for people.
        error: String,
    },
    /// A timer fired without the outcome of its effect although the state requires one. It fires
    /// again when its lease has expired.
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

/// `next_step` of an `advance`: the first step that the task waits in; none once it has ended.
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
