//! The only mapping from errors to a status and a problem document (RFC 9457).
//!
//! | who must act | status |
//! |---|---|
//! | the caller, on the request itself | 400, 401, 403, 404, 405, 413, 415, 422 |
//! | the caller, on the state of the task | 409 |
//! | nobody; ask again | 503, 504 |
//! | the developers | 500 |

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    OrchestrationError, ParseError, ValidationError,
    backtest::ChangeError,
    command::{Dead, Undecided},
    simulation::CrowdError,
    store::EventStoreError,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    broker::BrokerError,
    operations::{
        backtest::BacktestFailure, feed::FeedError, labels::LabelsError, migration::MigrationError,
        trial::TrialFailure,
    },
    telemetry,
    wire::{Unreadable, UnreadableCode},
};

/// Characters of a problem document's detail.
const DETAIL_CHARS_MAX: usize = 2_000;

/// Seconds after which a caller may retry when a service is missing.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// A problem document.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Problem {
    /// `about:blank`: the code says more than a page could.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The meaning of the status.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What exactly went wrong, and how to fix it.
    detail: String,
    /// A stable code for programs.
    code: String,
    /// The errors of a workflow file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diagnostics: Vec<ValidationError>,
}

impl Problem {
    fn new(status: StatusCode, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: clipped(detail.into()),
            code: code.into(),
            diagnostics: Vec::new(),
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The code for programs.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The request cannot be read.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// More bytes than allowed.
    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("the body has more than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// A state is larger than what is answered at once.
    pub(super) fn state_too_large(limit: usize) -> Self {
        let detail = format!(
            "the state has more than {} MiB; `GET /api/v1/tasks/{{task_id}}/events` answers the \
             history in pages",
            limit >> 20
        );
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "state_too_large", detail)
    }

    /// No such route.
    pub(super) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing at this path",
        )
    }

    /// The route has other methods.
    pub(super) fn no_method() -> Self {
        let detail = "the path exists, but not for this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// No task of that id.
    pub(super) fn task_not_found(task: impl std::fmt::Display) -> Self {
        let detail = format!("there is no task {task}; `start` makes one");
        Self::new(StatusCode::NOT_FOUND, "task_not_found", detail)
    }

    /// Nothing of that id.
    pub(super) fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        let detail = format!("there is no {what} {id}");
        let code = format!("{}_not_found", what.replace(' ', "_"));
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// No workflow of that name.
    pub(super) fn workflow_not_found(name: impl std::fmt::Display) -> Self {
        let detail = format!("there is no workflow `{name}`; GET /api/v1/workflows lists them");
        Self::new(StatusCode::NOT_FOUND, "workflow_not_found", detail)
    }

    /// No goal of that name.
    pub(super) fn goal_not_found(name: impl std::fmt::Display) -> Self {
        let detail = format!("there is no goal `{name}`");
        Self::new(StatusCode::NOT_FOUND, "goal_not_found", detail)
    }

    /// The state or the rules forbid the command.
    pub(super) fn rejected(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// The body is of another type.
    pub(super) fn unsupported_media_type(expected: &str) -> Self {
        let detail = format!("the body must be sent as `Content-Type: {expected}`");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported_media_type", detail)
    }

    /// The token is missing, unknown or expired.
    pub(super) fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// The token does not permit it.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// No answer in time.
    pub(super) fn timeout() -> Self {
        let detail = "no answer in time; a command may still be carried out: send it again with \
                      the same Idempotency-Key";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail)
    }

    /// A service is unavailable.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// A bug; the log has the details.
    pub(super) fn internal() -> Self {
        let detail = "this should not have happened; the worker's log has the details";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

/// A detail that repeats a long text of a request is cut off.
fn clipped(mut detail: String) -> String {
    if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
        detail.truncate(end);
        detail.push('…');
    }
    detail
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

impl From<Unreadable> for Problem {
    fn from(unreadable: Unreadable) -> Self {
        let status = match unreadable.code {
            UnreadableCode::Malformed => StatusCode::BAD_REQUEST,
            UnreadableCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Self::new(status, unreadable.code.as_str(), unreadable.error)
    }
}

impl From<EventStoreError> for Problem {
    fn from(error: EventStoreError) -> Self {
        if error.is_passing() {
            tracing::warn!(
                error = telemetry::chain(&error),
                "the store is not available"
            );
            return Self::unavailable("the database is not available; try again");
        }
        if let EventStoreError::NotMigrated { .. } = error {
            return Self::unavailable(error.to_string());
        }
        tracing::error!(error = telemetry::chain(&error), "the store failed");
        Self::internal()
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        tracing::warn!(
            error = telemetry::chain(&error),
            "the broker is not available"
        );
        Self::unavailable(error.to_string())
    }
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Store(error) => error.into(),
            error @ FeedError::Beyond { .. } => {
                Self::new(StatusCode::GONE, "beyond_the_log", error.to_string())
            }
            error @ (FeedError::Unbuilt { .. } | FeedError::Body { .. }) => {
                EventStoreError::Other(error.into()).into()
            }
        }
    }
}

impl From<OrchestrationError> for Problem {
    fn from(error: OrchestrationError) -> Self {
        match error {
            OrchestrationError::ConfigNotFound(id) => Self::workflow_not_found(id),
            OrchestrationError::TaskNotFound(task) => Self::task_not_found(task),
            OrchestrationError::VersionNotFound { .. } => Self::new(
                StatusCode::NOT_FOUND,
                "version_not_found",
                error.to_string(),
            ),
            OrchestrationError::TaskArchived { .. } => {
                Self::new(StatusCode::GONE, "task_archived", error.to_string())
            }
            OrchestrationError::EventStoreError(error) => error.into(),
            OrchestrationError::ParseError(error) => error.into(),
            OrchestrationError::Rejected(rejection) => {
                Self::rejected(rejection.code.as_str(), rejection.detail)
            }
            OrchestrationError::Undecided(undecided) => undecided.into(),
            OrchestrationError::Dead(dead) => dead.into(),
            OrchestrationError::ExecutionError(_)
            | OrchestrationError::StateError(_)
            | OrchestrationError::StoredWorkflow { .. } => {
                tracing::error!(error = telemetry::chain(&error), "the engine failed");
                Self::internal()
            }
        }
    }
}

impl From<ParseError> for Problem {
    fn from(error: ParseError) -> Self {
        let detail = format!("the workflow is not valid: {error}");
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_workflow", detail);
        Self {
            diagnostics: error.diagnostics,
            ..problem
        }
    }
}

impl From<MigrationError> for Problem {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::NoRevision(to) => Self::workflow_not_found(to),
            MigrationError::Engine(error) => error.into(),
            error @ (MigrationError::OtherWorkflow { .. }
            | MigrationError::UnknownRevision { .. }
            | MigrationError::UnknownStep { .. }
            | MigrationError::Ended(_)) => Self::malformed(error.to_string()),
        }
    }
}

impl From<LabelsError> for Problem {
    fn from(error: LabelsError) -> Self {
        match error {
            LabelsError::UnknownWorkflow(workflow) => Self::workflow_not_found(workflow),
            LabelsError::Engine(error) => error.into(),
        }
    }
}

impl From<BacktestFailure> for Problem {
    fn from(failure: BacktestFailure) -> Self {
        match failure {
            BacktestFailure::UnknownWorkflow(workflow) => Self::workflow_not_found(workflow),
            BacktestFailure::Change(ChangeError::Invalid(error)) => error.into(),
            BacktestFailure::Change(error) => Self::malformed(error.to_string()),
            BacktestFailure::Price(_) => Self::malformed(failure.to_string()),
            BacktestFailure::Engine(error) => error.into(),
            BacktestFailure::TimeUp => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", failure.to_string())
            }
            BacktestFailure::Backtest(_) | BacktestFailure::Panicked => {
                tracing::error!(error = telemetry::chain(&failure), "a backtest failed");
                Self::internal()
            }
        }
    }
}

impl From<TrialFailure> for Problem {
    fn from(failure: TrialFailure) -> Self {
        match failure {
            TrialFailure::Change(ChangeError::Invalid(error)) => error.into(),
            TrialFailure::Change(error) => Self::malformed(error.to_string()),
            TrialFailure::Crowd(CrowdError::OutOfRange(..)) => Self::malformed(failure.to_string()),
            TrialFailure::Crowd(CrowdError::Compile(_) | CrowdError::Model(_))
            | TrialFailure::Panicked => {
                tracing::error!(error = telemetry::chain(&failure), "a trial failed");
                Self::internal()
            }
        }
    }
}

impl From<Undecided> for Problem {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::TaskNotFound => {
                let detail = "there is no such task; `start` makes one, and so does `submit` with \
                              a `workflow`";
                Self::new(StatusCode::NOT_FOUND, "task_not_found", detail)
            }
            Undecided::Paused => Self::unavailable("what it is due for is paused"),
            Undecided::SetAside { reason, .. } => Self::unavailable(format!(
                "the database could not take it now ({reason}); send it again with the same id"
            )),
            Undecided::OutOfTime => Self::unavailable("there was no time for it; try again"),
            Undecided::Locked => Self::unavailable("its task is locked now; try again"),
            Undecided::Panicked(message) => {
                tracing::error!(message, "deciding a command panicked");
                Self::internal()
            }
            // Timers are never submitted over HTTP.
            Undecided::NotPerformed => Self::internal(),
        }
    }
}

impl From<Dead> for Problem {
    fn from(dead: Dead) -> Self {
        match dead {
            Dead::WorkflowNotFound(name) => Self::workflow_not_found(name),
            Dead::CommandIdReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "command_id_reused",
                "this Idempotency-Key was used for a command with other content; use a fresh one",
            ),
            Dead::Malformed(detail) => Self::malformed(detail),
        }
    }
}

/// A problem document for a query parameter with a bad value.
pub(super) fn bad_parameter(name: &str, value: &str, expected: &str) -> Problem {
    Problem::malformed(format!("the parameter `{name}={value}` is not {expected}"))
}

/// A problem document for a body that is valid JSON of the wrong form.
pub(super) fn bad_value(value: &Value, expected: &str) -> Problem {
    Problem::malformed(format!("`{value}` is not {expected}"))
}
