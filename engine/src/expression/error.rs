//! Why an expression is refused or has no value.

use crate::limits;

/// Why an expression is refused or has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Nothing but blanks and comments.
    #[error("the expression is empty")]
    Empty,
    /// More bytes than [`limits::EXPRESSION_BYTES_MAX`].
    #[error(
        "the expression has {bytes} bytes, more than {}",
        limits::EXPRESSION_BYTES_MAX
    )]
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// More nested brackets than [`limits::EXPRESSION_DEPTH_MAX`].
    #[error("brackets nest deeper than {}", limits::EXPRESSION_DEPTH_MAX)]
    TooDeep {
        /// Byte at which the bound is crossed.
        offset: usize,
    },
    /// More names, literals and operators than one expression may have.
    #[error("the expression has more than {max} names, literals and operators")]
    TooComplex {
        /// The bound.
        max: usize,
        /// Byte at which the bound is crossed.
        offset: usize,
    },
    /// The text is not an expression.
    #[error("{message}")]
    Syntax {
        /// What the parser expected.
        message: String,
        /// Byte of the fault.
        offset: usize,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A name that no evaluation defines.
    #[error("there is no variable `{name}`; known are {}", super::names::VARIABLES.join(", "))]
    UnknownVariable {
        /// The name.
        name: String,
        /// Byte of the name.
        offset: usize,
        /// The most similar known name.
        suggestion: Option<String>,
    },
    /// A function that does not exist.
    #[error("there is no function `{name}`; known are {}", super::names::FUNCTIONS.join(", "))]
    UnknownFunction {
        /// The name.
        name: String,
        /// Byte of the name.
        offset: usize,
        /// The most similar known name.
        suggestion: Option<String>,
    },
    /// A key that results, or the states of steps, never have.
    #[error("`{}` has no `{name}`; it has {}", of.as_str(), of.keys().join(", "))]
    UnknownField {
        /// The kind of object that is read.
        of: Fields,
        /// The key.
        name: String,
        /// Byte of the key.
        offset: usize,
        /// The most similar known key.
        suggestion: Option<String>,
    },
    /// A macro of the language that is not offered.
    #[error(
        "`{name}` is not offered: of the functions that visit every element there are `exists` and `all`, as in \
         `annotations.exists(a, a.flag == true)`"
    )]
    Loop {
        /// The macro.
        name: String,
        /// Byte of the name.
        offset: usize,
    },
    /// The expression evidently yields something other than true or false.
    #[error("the expression yields {found}, not true or false")]
    NeverBool {
        /// What it yields.
        found: &'static str,
    },
    /// The evaluation failed.
    #[error("{reason}")]
    Evaluation {
        /// Why.
        reason: String,
    },
    /// The value is neither true nor false.
    #[error("the expression yielded {found}, not true or false")]
    NotBool {
        /// The value, cut to a readable length.
        found: String,
    },
    /// The thread with the large stack did not start, or it panicked.
    #[error("the expression could not be run: {reason}")]
    Stack {
        /// Why.
        reason: String,
    },
}

/// Objects that have the same keys in every task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// A `result`.
    Result,
    /// The state of a step: `step["id"]`.
    Step,
    /// The probabilities of a result: `result.posterior`.
    Posterior,
    /// The task: `task`.
    Task,
}

impl Fields {
    /// The object as written in expressions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Step => "step[\"id\"]",
            Self::Posterior => "result.posterior",
            Self::Task => "task",
        }
    }

    /// Its keys.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Result => &[
                "kind",
                "value",
                "agreement",
                "resolved_by",
                "decision",
                "annotations",
                "posterior",
                "reached",
                "agreed",
                "disputed",
                "audit",
            ],
            Self::Step => &["completed", "visits", "result", "prepared"],
            Self::Posterior => &["confidence", "classes", "probabilities", "unseen"],
            Self::Task => &["id"],
        }
    }
}

impl ExpressionError {
    /// The byte of the source at which the fault is, if it has a location.
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::TooDeep { offset }
            | Self::TooComplex { offset, .. }
            | Self::Syntax { offset, .. }
            | Self::UnknownVariable { offset, .. }
            | Self::UnknownFunction { offset, .. }
            | Self::UnknownField { offset, .. }
            | Self::Loop { offset, .. } => Some(*offset),
            Self::Empty
            | Self::TooLong { .. }
            | Self::NeverBool { .. }
            | Self::Evaluation { .. }
            | Self::NotBool { .. }
            | Self::Stack { .. } => None,
        }
    }

    /// The known name most similar to the unknown one.
    pub fn suggestion(&self) -> Option<&str> {
        match self {
            Self::Syntax { suggestion, .. }
            | Self::UnknownVariable { suggestion, .. }
            | Self::UnknownFunction { suggestion, .. }
            | Self::UnknownField { suggestion, .. } => suggestion.as_deref(),
            Self::Empty
            | Self::TooLong { .. }
            | Self::TooDeep { .. }
            | Self::TooComplex { .. }
            | Self::Loop { .. }
            | Self::NeverBool { .. }
            | Self::Evaluation { .. }
            | Self::NotBool { .. }
            | Self::Stack { .. } => None,
        }
    }
}
