//! Why external input cannot be read.

use glyph_workflow_engine::ids::CommandId;

/// A command that can never be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Unreadable {
    /// The kind of fault.
    pub code: UnreadableCode,
    /// The error text, for people; begins with the path of the field if there is one.
    pub error: String,
    /// The command's id, if that could be read.
    pub command_id: Option<CommandId>,
}

/// Kinds of fault in an unreadable command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnreadableCode {
    /// Not JSON, or not the JSON of a command.
    Malformed,
    /// More bytes than [`COMMAND_BYTES_MAX`](glyph_workflow_engine::limits::COMMAND_BYTES_MAX).
    TooLarge,
}

impl UnreadableCode {
    /// The name in headers, answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
        }
    }
}

/// A fault found before the command's id is known.
pub(super) struct CommandFault {
    pub(super) code: UnreadableCode,
    pub(super) error: String,
}

impl CommandFault {
    pub(super) fn malformed(error: impl Into<String>) -> Self {
        Self {
            code: UnreadableCode::Malformed,
            error: error.into(),
        }
    }

    pub(super) fn into_unreadable(self, command_id: Option<CommandId>) -> Unreadable {
        Unreadable {
            code: self.code,
            error: self.error,
            command_id,
        }
    }
}

/// The beginning of an external text, for an error message.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}
