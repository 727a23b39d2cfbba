//! What an executor answers.

use super::{ExecutionContext, ExecutorError};
use crate::{config::ExternalHandler, events::ConsensusCalculated, state::StepResult};

/// What a step does when something has changed.
pub trait StepExecutor: Send + Sync {
    /// Looks at the visit and says whether it is over, and with what.
    fn execute(&self, context: &ExecutionContext<'_>) -> Result<ExecutionResult, ExecutorError>;
}

/// Whether a visit is over.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecutionResult {
    /// It is not.
    Waiting {
        /// For what, for people.
        reason: String,
    },
    /// It is not: those who answered do not settle it, and more people are asked.
    NeedsMore {
        /// Submissions asked for now.
        slots: u32,
        /// How annotations were compared.
        consensus: Box<ConsensusCalculated>,
    },
    /// It is not: a handler outside is to be asked.
    NeedsCall {
        /// Which.
        handler: ExternalHandler,
    },
    /// It is.
    Completed {
        /// What it ends with.
        result: StepResult,
        /// How annotations were compared, where they were.
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
