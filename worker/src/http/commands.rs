//! The verbs that change a task: each request becomes a command for the pipeline.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    command::{ClaimRequest, Command, CommandEnvelope, ProcessResult, Sender},
    ids::{CommandId, StepId, TaskId, UserId, WorkflowSelector},
    store::AnnotatorPause,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Api, Problem, REQUEST_TIMEOUT,
    auth::Caller,
    error::bad_value,
    request::{CommandHeaders, IDEMPOTENCY_KEY, IGNORED, Limited, OUTCOME, TaskPath, asks_outcome},
    tasks::state_response,
};
use crate::{
    operations::outcome::CommandOutcome,
    settings::TokenHolder,
    wire::{CommandRequest, read_request_with},
};

/// The common parts of every command to a task.
pub(super) struct TaskRequest {
    pub(super) task: TaskId,
    pub(super) caller: Caller,
    pub(super) headers: CommandHeaders,
    /// Whether the answer is to be the outcome, whatever the operation else answers.
    pub(super) asks_outcome: bool,
    body: Bytes,
}

impl FromRequest<Api> for TaskRequest {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let TaskPath(task) = TaskPath::from_request_parts(&mut parts, api).await?;
        let caller = Caller::from_request_parts(&mut parts, api).await?;
        let headers = CommandHeaders::from_request_parts(&mut parts, api).await?;
        let asks_outcome = asks_outcome(&parts.headers);
        let request = Request::from_parts(parts, body);
        let Limited(body) = Limited::from_request(request, api).await?;
        Ok(Self {
            task,
            caller,
            headers,
            asks_outcome,
            body,
        })
    }
}

impl TaskRequest {
    /// The command of the request, with the fields of the body completed by `complete`, and the
    /// paths of fields that its type does not know.
    pub(super) fn read(
        &self,
        command_type: &'static str,
        complete: impl FnOnce(&mut Map<String, Value>) -> Result<(), Problem>,
    ) -> Result<(CommandEnvelope, Vec<String>), Problem> {
        let request = CommandRequest {
            command_type,
            task_id: self.task,
            command_id: self.headers.command_id,
            correlation_id: self.headers.correlation_id.as_deref(),
            traceparent: self.headers.traceparent.as_deref(),
            body: &self.body,
        };
        let mut read = read_request_with(&request, complete)?;
        read.envelope.sender = self.caller.sender();
        Ok((read.envelope, read.ignored.paths))
    }
}

/// The result of a command for the work of a person.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema of what the inbox keeps, completed")]
pub(super) struct WorkResult {
    /// The new state of the task. To an annotator it says only that the work is recorded.
    #[serde(flatten)]
    result: ProcessResult,
    /// Paths of the body that were ignored: fields that the command does not know, and an annotator's
    /// roles and skills, which are those of the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<String>,
}

/// Where a body names a person.
#[derive(Clone, Copy)]
pub(super) enum Person {
    /// Nowhere.
    Unnamed,
    /// At the top level.
    Top,
    /// At the top level, with roles and skills.
    Qualified,
    /// In the annotation, with roles.
    InAnnotation,
}

/// Starts the task and returns 201 with its state.
pub(super) async fn start(State(api): State<Api>, request: TaskRequest) -> Response {
    let task = request.task.0;
    let state = async |result: Value| {
        let state = api.orchestrator.get_task_state(task).await?;
        let mut response = state_response(StatusCode::CREATED, state.snapshot());
        // The state has no room for what was ignored.
        let ignored = ignored_of(&result).join(", ").escape_default().to_string();
        if let Ok(paths) = HeaderValue::from_str(&ignored)
            && !ignored.is_empty()
        {
            response.headers_mut().insert(IGNORED, paths);
        }
        Ok(response)
    };
    answered(&api, "start", Person::Unnamed, request, state).await
}

/// Ends a step and returns where the task goes next.
pub(super) async fn advance(State(api): State<Api>, request: TaskRequest) -> Response {
    let next = async |result| next_step(result).map(Json);
    answered(&api, "advance", Person::Unnamed, request, next).await
}

pub(super) async fn submit(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "submission", Person::InAnnotation, request).await
}

pub(super) async fn assign(State(api): State<Api>, request: TaskRequest) -> Response {
    change(&api, "assign", Person::Qualified, request).await
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
    let result = async |result: Value| Ok(Json(result));
    answered(api, command_type, person, request, result).await
}

/// Executes a command and returns what `answer` makes of its result, or its outcome if that is asked
/// for.
async fn answered<T: IntoResponse>(
    api: &Api,
    command_type: &'static str,
    person: Person,
    request: TaskRequest,
    answer: impl AsyncFnOnce(Value) -> Result<T, Problem>,
) -> Response {
    let (key, asks_outcome) = (request.headers.command_id, request.asks_outcome);
    with_key(key, async {
        let outcome = run(api, command_type, person, request).await?;
        if asks_outcome {
            return Ok(outcome_response(&outcome));
        }
        Ok(answer(result_of(outcome)?).await?.into_response())
    })
    .await
}

/// The outcome of a command as an answer: a rejection is one as well.
pub(super) fn outcome_response(outcome: &CommandOutcome) -> Response {
    ([(header::CONTENT_TYPE, OUTCOME)], Json(outcome)).into_response()
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

/// Executes the command of a request and returns its outcome, as far as the caller may know it.
async fn run(
    api: &Api,
    command_type: &'static str,
    person: Person,
    request: TaskRequest,
) -> Result<CommandOutcome, Problem> {
    let caller = request.caller.clone();
    let mut of_token = Vec::new();
    let (command, mut ignored) = request.read(command_type, |fields| {
        of_token = name_person(fields, &caller, person)?;
        Ok(())
    })?;
    ignored.extend(of_token.into_iter().map(str::to_owned));
    let Some(user) = caller.annotator() else {
        let mut outcome = submit_command(api, command).await?;
        tell_ignored(outcome.result.as_mut(), ignored);
        return Ok(outcome);
    };
    let step = command.command.step_id().map(str::to_owned);
    check_own_command(api, user, &caller.holder, &command.command).await?;
    let mut outcome = submit_command(api, command).await?;
    if outcome.result.is_none() {
        return Ok(outcome);
    }
    let step = match step {
        Some(step) => step,
        None => last_own_step(api, request.task, user).await?,
    };
    // What the task does next may follow from what others have answered.
    let mut result = json!({
        "status": "waiting",
        "step_id": step,
        "reason": "recorded; how the task goes on is not shown to annotators",
    });
    tell_ignored(Some(&mut result), ignored);
    outcome.result = Some(result);
    Ok(outcome)
}

/// What of the body was ignored, out of a result.
fn ignored_of(result: &Value) -> Vec<String> {
    let paths = result["ignored"].as_array().into_iter().flatten();
    let paths = paths.filter_map(Value::as_str);
    paths.map(str::to_owned).collect()
}

/// Adds to a result what of the body was ignored.
pub(super) fn tell_ignored(result: Option<&mut Value>, ignored: Vec<String>) {
    let fields = result.and_then(Value::as_object_mut);
    if let Some(fields) = fields.filter(|_| !ignored.is_empty()) {
        fields.insert("ignored".to_owned(), ignored.into());
    }
}

/// Executes a command to a task and returns its outcome.
pub(super) async fn submit_command(
    api: &Api,
    command: CommandEnvelope,
) -> Result<CommandOutcome, Problem> {
    let (task_id, command_id) = (command.command.task_id(), command.command_id);
    // Spawned: a caller that disconnects must not leave a command half executed.
    let commands = api.commands.clone();
    let submitted = tokio::spawn(async move { commands.submit(command).await });
    let outcome = tokio::time::timeout(REQUEST_TIMEOUT, submitted)
        .await
        .map_err(|_| Problem::timeout())?
        .map_err(|_| Problem::internal())?
        .map_err(|not_taken| Problem::unavailable(not_taken.reason))?;
    Ok(CommandOutcome::of(task_id, command_id, outcome)?)
}

/// The result that the inbox stores: the same for the first and every later copy of a command.
pub(super) fn result_of(outcome: CommandOutcome) -> Result<Value, Problem> {
    let result = outcome.into_result();
    result.map_err(|(code, detail)| Problem::rejected(code, detail))
}

/// Completes a body by what the token says of its user. A body that names another user than an
/// annotator's token is refused. Roles and skills of an annotator are those of the tokens file;
/// others in the body are ignored. Returns the paths of what is ignored.
pub(super) fn name_person(
    fields: &mut Map<String, Value>,
    caller: &Caller,
    person: Person,
) -> Result<Vec<&'static str>, Problem> {
    let Some(user) = caller.holder.user else {
        return Ok(Vec::new());
    };
    let (holder, qualities) = match person {
        Person::Unnamed => return Ok(Vec::new()),
        Person::Top => (Some(fields), &[][..]),
        Person::Qualified => (
            Some(fields),
            &[("roles", "roles"), ("skills", "skills")][..],
        ),
        Person::InAnnotation => {
            let annotation = fields.get_mut("annotation").and_then(Value::as_object_mut);
            (annotation, &[("roles", "annotation.roles")][..])
        }
    };
    // A missing field or one of the wrong type is refused when the command is parsed.
    let Some(holder) = holder else {
        return Ok(Vec::new());
    };
    match holder.get("user_id") {
        None | Some(Value::Null) => {
            holder.insert("user_id".to_owned(), user.to_string().into());
        }
        Some(Value::String(id)) if id.parse() == Ok(user) => {}
        Some(Value::String(_)) if caller.annotator().is_none() => {}
        Some(Value::String(id)) => {
            return Err(Problem::forbidden(format!(
                "the token stands for user {user}, and the body names user {id}"
            )));
        }
        Some(other) => return Err(bad_value(other, "a UUID in a string")),
    }
    if caller.annotator().is_none() {
        return Ok(Vec::new());
    }
    let mut ignored = Vec::new();
    for (name, path) in qualities {
        let own = match *name {
            "roles" => &caller.holder.roles,
            _ => &caller.holder.skills,
        };
        let sent = holder.remove(*name);
        if sent.is_some_and(|sent| !sent.is_null()) {
            ignored.push(*path);
        }
        if !own.is_empty() {
            holder.insert((*name).to_owned(), own.clone().into());
        }
    }
    Ok(ignored)
}

/// Refuses what an annotator may not do though the task would allow it: start a task, and take
/// work while being paused or beyond the number of slots that a step allows.
async fn check_own_command(
    api: &Api,
    user: UserId,
    holder: &TokenHolder,
    command: &Command,
) -> Result<(), Problem> {
    let (starts, takes) = match command {
        Command::Submission(submission) => (submission.workflow.is_some(), true),
        Command::Assign(_) => (false, true),
        _ => (false, false),
    };
    if !takes {
        return Ok(());
    }
    let Some(task) = api.store.task(command.task_id()).await? else {
        // A task that is started stays started.
        return if starts {
            let why = "the task has not been started, and an annotator cannot start one";
            Err(Problem::forbidden(why))
        } else {
            Ok(())
        };
    };
    let held = api.store.claimed_slots(user).await?;
    if held.iter().any(|slot| slot.task_id == task.task_id) {
        return Ok(());
    }
    let pauses = api.store.annotator_pauses(Some(user)).await?;
    let is_here = |pause: &AnnotatorPause| pause.is_open() && pause.workflow == task.workflow;
    if pauses.iter().any(is_here) {
        let why = format!(
            "the annotator is paused in the workflow `{}`",
            task.workflow
        );
        return Err(Problem::forbidden(why));
    }
    if matches!(command, Command::Assign(_)) {
        let request = ClaimRequest {
            command_id: CommandId(Uuid::nil()),
            correlation_id: None,
            traceparent: None,
            user_id: user,
            workflow: Some(WorkflowSelector::Latest(task.workflow.clone())),
            step: None,
            roles: holder.roles.clone(),
            skills: holder.skills.clone(),
            fresh: true,
            sender: Sender::default(),
        };
        if api.orchestrator.is_at_limit(&*api.store, &request).await? {
            let why = "the annotator holds as many slots as a step allows (`max_concurrent`)";
            return Err(Problem::forbidden(why));
        }
    }
    Ok(())
}

/// The step in which the person has worked last.
async fn last_own_step(api: &Api, task: TaskId, user: UserId) -> Result<String, Problem> {
    let state = api.orchestrator.get_task_state(task.0).await?;
    let state = state.snapshot();
    let visits = state.steps.iter().flat_map(|(step, of)| {
        let visits = of.visits.iter();
        visits.map(move |visit| (visit.activated_at, step, visit))
    });
    let own = visits.filter(|(_, _, visit)| visit.concerns(user));
    let last = own
        .max_by_key(|(since, ..)| *since)
        .map(|(_, step, _)| step);
    let last = last.or_else(|| state.steps.keys().next());
    Ok(last.map(ToString::to_string).unwrap_or_default())
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
    /// Paths of the body that were ignored: fields that the command does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<String>,
}

fn next_step(result: Value) -> Result<NextStep, Problem> {
    let nothing = NextStep {
        next_step: None,
        next_steps: Vec::new(),
        reason: None,
        status: None,
        output: None,
        error: None,
        ignored: ignored_of(&result),
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
