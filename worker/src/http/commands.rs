//! The verbs that change a task: each request becomes a command for the pipeline.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    command::{CommandEnvelope, Outcome, ProcessResult},
    ids::{CommandId, StepId, TaskId},
    store::RecordedOutcome,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Api, Problem, REQUEST_TIMEOUT,
    auth::Caller,
    error::bad_value,
    request::{CommandHeaders, IDEMPOTENCY_KEY, Limited, TaskPath},
    tasks::state_response,
};
use crate::wire::{CommandRequest, read_request_with};

/// The common parts of every command to a task.
pub(super) struct TaskRequest {
    pub(super) task: TaskId,
    caller: Caller,
    pub(super) headers: CommandHeaders,
    body: Bytes,
}

impl FromRequest<Api> for TaskRequest {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let TaskPath(task) = TaskPath::from_request_parts(&mut parts, api).await?;
        let caller = Caller::from_request_parts(&mut parts, api).await?;
        let headers = CommandHeaders::from_request_parts(&mut parts, api).await?;
        let request = Request::from_parts(parts, body);
        let Limited(body) = Limited::from_request(request, api).await?;
        Ok(Self {
            task,
            caller,
            headers,
            body,
        })
    }
}

impl TaskRequest {
    /// The command of the request, with the fields of the body completed by `complete`.
    pub(super) fn read(
        &self,
        command_type: &'static str,
        complete: impl FnOnce(&mut Map<String, Value>) -> Result<(), Problem>,
    ) -> Result<CommandEnvelope, Problem> {
        let request = CommandRequest {
            command_type,
            task_id: self.task,
            command_id: self.headers.command_id,
            correlation_id: self.headers.correlation_id.as_deref(),
            traceparent: self.headers.traceparent.as_deref(),
            body: &self.body,
        };
        Ok(read_request_with(&request, complete)?.envelope)
    }
}

/// Where a body names a person.
#[derive(Clone, Copy)]
pub(super) enum Person {
    /// Nowhere.
    Unnamed,
    /// At the top level.
    Top,
    /// In the annotation.
    InAnnotation,
}

/// Starts the task and returns 201 with its state.
pub(super) async fn start(State(api): State<Api>, request: TaskRequest) -> Response {
    let task = request.task.0;
    let key = request.headers.command_id;
    with_key(key, async {
        run(&api, "start", Person::Unnamed, request).await?;
        let state = api.orchestrator.get_task_state(task).await?;
        Ok(state_response(StatusCode::CREATED, state.snapshot()))
    })
    .await
}

/// Ends a step and returns where the task goes next.
pub(super) async fn advance(State(api): State<Api>, request: TaskRequest) -> Response {
    let key = request.headers.command_id;
    with_key(key, async {
        let result = run(&api, "advance", Person::Unnamed, request).await?;
        next_step(result).map(Json)
    })
    .await
}

pub(super) async fn submit(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "submission", Person::InAnnotation, request).await
}

pub(super) async fn assign(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "assign", Person::Top, request).await
}

pub(super) async fn release(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "release", Person::Top, request).await
}

pub(super) async fn activity(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "activity", Person::Top, request).await
}

pub(super) async fn pause(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "pause", Person::Unnamed, request).await
}

pub(super) async fn resume(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "resume", Person::Unnamed, request).await
}

pub(super) async fn cancel(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "cancel", Person::Unnamed, request).await
}

pub(super) async fn retry(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "retry", Person::Unnamed, request).await
}

/// Executes a command and returns its `ProcessResult`.
async fn change(
    api: &Api,
    command_type: &'static str,
    person: Person,
    request: TaskRequest,
) -> Response {
    let key = request.headers.command_id;
    with_key(key, async {
        run(api, command_type, person, request).await.map(Json)
    })
    .await
}

/// Returns the result of `work` with the key of the command, in every response: a caller that sent
/// no key needs it to retry.
pub(super) async fn with_key<T: IntoResponse>(
    key: CommandId,
    work: impl Future<Output = Result<T, Problem>>,
) -> Response {
    let mut response = work.await.into_response();
    if let Ok(value) = HeaderValue::from_str(&key.to_string()) {
        response.headers_mut().insert(IDEMPOTENCY_KEY, value);
    }
    response
}

/// Executes the command of a request and returns the result stored in the inbox.
async fn run(
    api: &Api,
    command_type: &'static str,
    person: Person,
    request: TaskRequest,
) -> Result<Value, Problem> {
    let caller = request.caller;
    let command = request.read(command_type, |fields| name_person(fields, caller, person))?;
    submit_command(api, command).await
}

/// Executes a command and returns the result stored in the inbox.
pub(super) async fn submit_command(api: &Api, command: CommandEnvelope) -> Result<Value, Problem> {
    // Spawned: a caller that disconnects must not leave a command half executed.
    let commands = api.commands.clone();
    let submitted = tokio::spawn(async move { commands.submit(command).await });
    let outcome = tokio::time::timeout(REQUEST_TIMEOUT, submitted)
        .await
        .map_err(|_| Problem::timeout())?
        .map_err(|_| Problem::internal())?
        .map_err(|not_taken| Problem::unavailable(not_taken.reason))?;
    recorded(outcome)
}

/// The result that the inbox stores for an outcome: the same for the first and every later copy.
fn recorded(outcome: Outcome) -> Result<Value, Problem> {
    match outcome {
        Outcome::Applied(result) => Ok(serde_json::to_value(result).unwrap_or_default()),
        Outcome::Duplicate(RecordedOutcome::Applied { result }) => Ok(result),
        Outcome::Duplicate(RecordedOutcome::Rejected { reason, detail }) => {
            Err(Problem::rejected(reason, detail))
        }
        Outcome::Rejected(rejection) => {
            Err(Problem::rejected(rejection.code.as_str(), rejection.detail))
        }
        Outcome::Undecided(undecided) => Err(undecided.into()),
        Outcome::Dead(dead) => Err(dead.into()),
    }
}

/// Writes the token's user into a body; a body that names another user is refused.
pub(super) fn name_person(
    fields: &mut Map<String, Value>,
    caller: Caller,
    person: Person,
) -> Result<(), Problem> {
    let Some(user) = caller.user else {
        return Ok(());
    };
    let holder = match person {
        Person::Unnamed => None,
        Person::Top => Some(fields),
        Person::InAnnotation => fields.get_mut("annotation").and_then(Value::as_object_mut),
    };
    // A missing field or one of the wrong type is refused when the command is parsed.
    let Some(holder) = holder else {
        return Ok(());
    };
    match holder.get("user_id") {
        None | Some(Value::Null) => {
            holder.insert("user_id".to_owned(), user.to_string().into());
            Ok(())
        }
        Some(Value::String(id)) if id.parse() == Ok(user) => Ok(()),
        Some(Value::String(id)) => Err(Problem::forbidden(format!(
            "the token stands for user {user}, and the body names user {id}"
        ))),
        Some(other) => Err(bad_value(other, "a UUID in a string")),
    }
}

/// Where the task goes next.
#[derive(Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the answer")]
pub(super) struct NextStep {
    /// The step that waits now; null at the end of the task.
    next_step: Option<StepId>,
    /// All waiting steps, where branches run in parallel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    next_steps: Vec<StepId>,
    /// What the step waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// At the end of the task: `completed` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// The output of a completed task.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value>,
    /// Why a task failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn next_step(result: Value) -> Result<NextStep, Problem> {
    let nothing = NextStep {
        next_step: None,
        next_steps: Vec::new(),
        reason: None,
        status: None,
        output: None,
        error: None,
    };
    let result = serde_json::from_value(result).map_err(|error| {
        tracing::error!(%error, "a recorded result cannot be read");
        Problem::internal()
    })?;
    Ok(match result {
        ProcessResult::Advanced {
            next_step,
            next_steps,
        } => NextStep {
            next_step: Some(next_step),
            next_steps,
            ..nothing
        },
        ProcessResult::Waiting { step_id, reason } => NextStep {
            next_step: Some(step_id),
            reason: Some(reason),
            ..nothing
        },
        ProcessResult::Completed { output } => NextStep {
            status: Some("completed"),
            output: Some(output),
            ..nothing
        },
        ProcessResult::Failed { error } => NextStep {
            status: Some("failed"),
            error: Some(error),
            ..nothing
        },
    })
}
