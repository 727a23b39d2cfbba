//! Why a step cannot do its work.

use crate::{
    expression::ExpressionError,
    ids::{StepId, TaskId, WorkflowId},
    state::TaskStatus,
};

/// A step cannot do its work; the task gets an incident with this as its reason.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The step's expression could not be evaluated.
    #[error("the expression `{expression}` of step `{step_id}` could not be evaluated")]
    Expression {
        /// The step.
        step_id: StepId,
        /// The expression's source.
        expression: String,
        /// The cause.
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
        /// The cause.
        #[source]
        source: HandlerError,
    },
    /// The step's child task could not start, or ended without an output.
    #[error("child task {child} of step `{step_id}` {status}: {reason}")]
    Child {
        /// The step.
        step_id: StepId,
        /// The child.
        child: TaskId,
        /// How it ended.
        status: TaskStatus,
        /// The reason.
        reason: String,
    },
    /// The subject of a child task is too large.
    #[error("`input_mapping` of step `{step_id}` makes a value that is not kept: {reason}")]
    ChildInput {
        /// The step.
        step_id: StepId,
        /// By how much it exceeds the bounds.
        reason: String,
    },
    /// A child task would be nested too deeply.
    #[error(
        "step `{step_id}` cannot run `{workflow}`: sub-workflows may nest {depth_max} deep here \
         (`settings.max_sub_workflow_depth`)"
    )]
    ChildDepth {
        /// The step.
        step_id: StepId,
        /// The workflow of the child.
        workflow: WorkflowId,
        /// The maximum depth of a child below the root.
        depth_max: u32,
    },
    /// The step lacks a key that its kind requires; validation rejects such files.
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
    /// Its `config` is invalid.
    #[error("its `config` is not valid: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// Its result is larger, or nested deeper, than a command may be.
    #[error("its value is not kept: {reason}")]
    Output {
        /// By how much it exceeds the bounds.
        reason: String,
    },
    /// Its input is missing.
    #[error("{reason}")]
    Input {
        /// What is missing.
        reason: String,
    },
}

/// An error with all its causes in one line, for reasons that people read.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
