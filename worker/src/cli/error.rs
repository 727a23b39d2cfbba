//! Why a verb failed, and its exit code.

use glyph_workflow_engine::{
    OrchestrationError,
    backtest::ChangeError,
    command::{Dead, Undecided},
    store::EventStoreError,
};

use crate::{
    broker::BrokerError,
    operations::{backtest::BacktestFailure, labels::LabelsError},
    settings::SettingsError,
    telemetry,
};

/// Why a verb failed. The texts say what, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The request could not be carried out.
    #[error("{message}")]
    Failed {
        /// The code for programs.
        code: String,
        /// The text for people.
        message: String,
    },
    /// The result has been printed, and it is a failure.
    #[error("failed")]
    Shown,
    /// Wrong arguments or settings.
    #[error("{0}")]
    Usage(String),
    /// The errors of the settings have been printed.
    #[error("the settings are not valid")]
    SettingsShown,
    /// An input file is invalid.
    #[error("{0}")]
    InvalidFile(String),
    /// The errors of a file have been printed.
    #[error("the file is not valid")]
    InvalidFileShown,
    /// A service cannot be reached.
    #[error("{0}")]
    Unreachable(String),
}

impl CliError {
    /// A failure with a code.
    pub fn failed(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed {
            code: code.into(),
            message: message.into(),
        }
    }

    /// There is nothing of that name.
    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::failed(
            format!("{what}_not_found"),
            format!("there is no {what} `{name}`"),
        )
    }

    /// The exit code: 1 failed, 2 wrong usage or settings, 3 invalid input file, 4 a service cannot
    /// be reached.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed { .. } | Self::Shown => 1,
            Self::Usage(_) | Self::SettingsShown => 2,
            Self::InvalidFile(_) | Self::InvalidFileShown => 3,
            Self::Unreachable(_) => 4,
        }
    }

    /// The code for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Failed { code, .. } => code,
            Self::Shown => "failed",
            Self::Usage(_) | Self::SettingsShown => "usage",
            Self::InvalidFile(_) | Self::InvalidFileShown => "invalid_file",
            Self::Unreachable(_) => "unreachable",
        }
    }

    /// Whether it still has to be printed.
    pub fn is_shown(&self) -> bool {
        matches!(
            self,
            Self::Shown | Self::SettingsShown | Self::InvalidFileShown
        )
    }
}

impl From<SettingsError> for CliError {
    fn from(error: SettingsError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<EventStoreError> for CliError {
    fn from(error: EventStoreError) -> Self {
        if let EventStoreError::NotMigrated { .. } = error {
            return Self::failed("not_migrated", error.to_string());
        }
        let text = telemetry::chain(&error);
        match error {
            EventStoreError::Unsuitable(_) => {
                Self::failed("unsuitable_server", format!("DATABASE_URL: {text}"))
            }
            EventStoreError::Data(_) => Self::failed("malformed", text),
            _ if error.is_passing() => Self::Unreachable(format!("DATABASE_URL: {text}")),
            _ => Self::failed("store", text),
        }
    }
}

impl From<BrokerError> for CliError {
    fn from(error: BrokerError) -> Self {
        let text = telemetry::chain(&error);
        match error {
            BrokerError::Unreachable { .. } | BrokerError::Unconfirmed { .. } => {
                Self::Unreachable(format!("AMQP_URL: {text}"))
            }
            BrokerError::Refused { .. }
            | BrokerError::Missing { .. }
            | BrokerError::InUse { .. } => Self::failed("broker", text),
            BrokerError::OtherDeployment { .. } => Self::failed("other_deployment", text),
        }
    }
}

impl From<Undecided> for CliError {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::TaskNotFound => Self::failed(
                "task_not_found",
                "there is no such task; `glyph task start` makes one",
            ),
            Undecided::Paused => Self::failed("task_paused", "what it is due for is paused"),
            Undecided::SetAside { .. } | Undecided::OutOfTime | Undecided::Locked => {
                Self::failed("not_decided", undecided.to_string())
            }
            Undecided::Panicked(message) => {
                Self::failed("bug", format!("deciding the command failed: {message}"))
            }
            Undecided::NotPerformed => {
                Self::failed("bug", "the command is no timer with an effect")
            }
        }
    }
}

impl From<Dead> for CliError {
    fn from(dead: Dead) -> Self {
        match dead {
            Dead::WorkflowNotFound(name) => Self::failed(
                "workflow_not_found",
                format!("there is no workflow `{name}`; `glyph workflow list` shows them"),
            ),
            Dead::CommandIdReused => Self::failed(
                "command_id_reused",
                "this --command-id was used for a command with other content",
            ),
            Dead::Malformed(message) => Self::failed("malformed", message),
        }
    }
}

impl From<LabelsError> for CliError {
    fn from(error: LabelsError) -> Self {
        match error {
            LabelsError::UnknownWorkflow(workflow) => Self::not_found("workflow", workflow),
            LabelsError::Engine(error) => error.into(),
        }
    }
}

impl From<BacktestFailure> for CliError {
    fn from(failure: BacktestFailure) -> Self {
        match failure {
            BacktestFailure::UnknownWorkflow(workflow) => Self::not_found("workflow", workflow),
            BacktestFailure::Change(ChangeError::Invalid(error)) => {
                let faults = error.diagnostics.iter().map(ToString::to_string);
                let faults: Vec<String> = faults.collect();
                let faults = faults.join("\n  ");
                Self::InvalidFile(format!("the changed workflow is not valid:\n  {faults}"))
            }
            BacktestFailure::Change(error) => Self::Usage(format!("--set {error}")),
            BacktestFailure::Engine(error) => error.into(),
            BacktestFailure::Price(_)
            | BacktestFailure::Backtest(_)
            | BacktestFailure::TimeUp
            | BacktestFailure::Panicked => Self::failed("backtest", telemetry::chain(&failure)),
        }
    }
}

impl From<OrchestrationError> for CliError {
    fn from(error: OrchestrationError) -> Self {
        match error {
            OrchestrationError::EventStoreError(error) => error.into(),
            OrchestrationError::Undecided(undecided) => undecided.into(),
            OrchestrationError::Dead(dead) => dead.into(),
            OrchestrationError::TaskNotFound(_) => {
                Self::failed("task_not_found", error.to_string())
            }
            OrchestrationError::VersionNotFound { .. } => {
                Self::failed("version_not_found", error.to_string())
            }
            OrchestrationError::TaskArchived { .. } => {
                Self::failed("task_archived", error.to_string())
            }
            OrchestrationError::ConfigNotFound(_) => {
                Self::failed("workflow_not_found", error.to_string())
            }
            OrchestrationError::Rejected(rejection) => {
                Self::failed(rejection.code.as_str(), rejection.detail)
            }
            OrchestrationError::ParseError(_)
            | OrchestrationError::ExecutionError(_)
            | OrchestrationError::StateError(_)
            | OrchestrationError::StoredWorkflow { .. } => {
                Self::failed("engine", telemetry::chain(&error))
            }
        }
    }
}
