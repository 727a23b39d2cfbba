//! Why a step cannot do its work.

use crate::{expression::ExpressionError, ids::StepId};

/// A step cannot do its work; the task gets an incident with this as its reason.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The step's expression could not be evaluated.
    #[error("the expression `{expression}` of step `{step_id}` could not be evaluated")]
    Expression {
        /// The step.
        step_id: StepId,
        /// Its source.
        expression: String,
        /// Why.
        #[source]
        source: ExpressionError,
    },
    /// No handler of that name is registered.
    #[error("step `{step_id}` names the handler `{handler}`, which is not registered")]
    UnknownHandler {
        /// The step.
        step_id: StepId,
        /// The name.
        handler: String,
    },
    /// The handler failed.
    #[error("the handler `{handler}` of step `{step_id}` failed")]
    Handler {
        /// The step.
        step_id: StepId,
        /// The name.
        handler: String,
        /// Why.
        #[source]
        source: HandlerError,
    },
    /// The step lacks what its kind needs; validation lets no such file pass.
    #[error("step `{step_id}` lacks `{key}`")]
    MissingKey {
        /// The step.
        step_id: StepId,
        /// The key.
        key: &'static str,
    },
}

/// Why a handler failed.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// Its `config` is not what it needs.
    #[error("its `config` is not valid: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// What it works on is not there.
    #[error("{reason}")]
    Input {
        /// What is missing.
        reason: String,
    },
}
