//! The result of an executor.

use super::{ExecutionContext, ExecutorError};
use crate::{config::ExternalHandler, events::ConsensusCalculated, state::StepResult};

/// What a step does when something has changed.
pub trait StepExecutor: Send + Sync {
    /// Examines the visit and returns whether it is over, and with what result.
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError>;
}

/// Whether a visit is over.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecutionResult {
    /// Not over.
    Waiting {
        /// What it waits for, in words for people.
        reason: String,
    },
    /// Not over: the submissions so far do not settle it, so more people are asked.
    NeedsMore {
        /// The number of submissions now asked for.
        slots: u32,
        /// How annotations were compared.
        consensus: Box<ConsensusCalculated>,
    },
    /// Not over: an external handler must be called.
    NeedsCall {
        /// The handler.
        handler: ExternalHandler,
    },
    /// Over.
    Completed {
        /// The result.
        result: StepResult,
        /// How annotations were compared, if they were.
        consensus: Option<Box<ConsensusCalculated>>,
    },
}

impl ExecutionResult {
    pub(crate) fn completed(result: StepResult) -> Self {
        Self::Completed {
            result,
            consensus: None,
        }
    }
}
