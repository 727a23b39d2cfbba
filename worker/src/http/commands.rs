//! The verbs that change a task: each request becomes a command on the common road.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    command::{Outcome, ProcessResult},
    ids::{StepId, TaskId, UserId},
    store::RecordedOutcome,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Api, Problem,
    auth::Caller,
    error::bad_value,
    request::{CommandHeaders, IDEMPOTENCY_KEY, Limited, TaskPath},
    tasks::state_response,
};
use crate::wire::commands::{CommandRequest, read_request};

/// One verb of the API.
#[derive(Clone, Copy)]
struct Verb {
    command_type: &'static str,
    /// Where the body names a person, below its top.
    person: Option<Person>,
}

/// Where a body names a person.
#[derive(Clone, Copy)]
pub(super) enum Person {
    Top,
    InAnnotation,
}

macro_rules! verbs {
    ($($name:ident = $command_type:literal, $person:expr, $answer:ident;)+) => {$(
        pub(super) async fn $name(
            State(api): State<Api>,
            TaskPath(task): TaskPath,
            caller: Caller,
            headers: CommandHeaders,
            body: Limited,
        ) -> Response {
            let verb = Verb {
                command_type: $command_type,
                person: $person,
            };
            let key = headers.command_id.to_string();
            let answer = run(&api, verb, task, caller, headers, body).await;
            let answer = match answer {
                Ok(result) => $answer(&api, task, result).await,
                Err(problem) => problem.into_response(),
            };
            with_key(answer, &key)
        }
    )+};
}

verbs! {
    start = "start", None, created;
    submit = "submission", Some(Person::InAnnotation), result;
    advance = "advance", None, next_step;
    assign = "assign", Some(Person::Top), result;
    release = "release", Some(Person::Top), result;
    activity = "activity", Some(Person::Top), result;
    pause = "pause", None, result;
    resume = "resume", None, result;
    cancel = "cancel", None, result;
    retry = "retry", None, result;
    carry_out_migration = "migrate", None, result;
}

/// The key of the command stands in every answer: whoever sent none needs it to ask again.
pub(super) fn with_key(mut response: Response, key: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(key) {
        response.headers_mut().insert(IDEMPOTENCY_KEY, value);
    }
    response
}

/// Carries a verb out and answers the result that the inbox keeps.
async fn run(
    api: &Api,
    verb: Verb,
    task: TaskId,
    caller: Caller,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Result<Value, Problem> {
    let body = match (caller.user, verb.person) {
        (Some(user), Some(person)) => named(&body, user, person)?,
        _ => body.to_vec(),
    };
    let request = CommandRequest {
        command_type: verb.command_type,
        task_id: task,
        command_id: headers.command_id,
        correlation_id: headers.correlation_id.as_deref(),
        traceparent: headers.traceparent.as_deref(),
        body: &body,
    };
    let command = read_request(&request)?.envelope;
    // In a task of its own: a caller who hangs up must not leave a command half carried out.
    let commands = api.commands.clone();
    let submitted = tokio::spawn(async move { commands.submit(command).await });
    let outcome = tokio::time::timeout(super::REQUEST_TIMEOUT, submitted)
        .await
        .map_err(|_| Problem::timeout())?
        .map_err(|_| Problem::internal())?
        .map_err(|not_taken| Problem::unavailable(not_taken.reason))?;
    recorded(outcome)
}

/// What the inbox keeps of an outcome: the same answer for the first and every later copy.
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

/// The body with the person that the token stands for; naming another one is refused.
pub(super) fn named(body: &[u8], user: UserId, person: Person) -> Result<Vec<u8>, Problem> {
    let mut value: Value = match body {
        [] => json!({}),
        body => serde_json::from_slice(body)
            .map_err(|error| Problem::malformed(format!("not JSON: {error}")))?,
    };
    let holder = match person {
        Person::Top => Some(&mut value),
        Person::InAnnotation => value.get_mut("annotation"),
    };
    // What is missing or of another shape is refused where commands are read.
    if let Some(Value::Object(fields)) = holder {
        match fields.get("user_id") {
            None | Some(Value::Null) => {
                fields.insert("user_id".to_owned(), user.to_string().into());
            }
            Some(Value::String(id)) if id.parse() == Ok(user) => {}
            Some(Value::String(id)) => {
                return Err(Problem::forbidden(format!(
                    "the token stands for user {user}, and the body names user {id}"
                )));
            }
            Some(other) => return Err(bad_value(other, "a UUID in a string")),
        }
    }
    Ok(value.to_string().into_bytes())
}

/// 201 with the state.
async fn created(api: &Api, task: TaskId, _: Value) -> Response {
    match api.orchestrator.get_task_state(task.0).await {
        Ok(state) => state_response(StatusCode::CREATED, state.snapshot()),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The ProcessResult.
#[expect(
    clippy::unused_async,
    reason = "one shape for the answers of all verbs"
)]
async fn result(_: &Api, _: TaskId, result: Value) -> Response {
    Json(result).into_response()
}

/// Where the task goes from here.
#[derive(Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the answer")]
pub(super) struct NextStep {
    /// The step that waits now; null at the end.
    next_step: Option<StepId>,
    /// All of them, where branches run side by side.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    next_steps: Vec<StepId>,
    /// For what it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// At the end: `completed` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// What a completed task ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value>,
    /// Why a task failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[expect(
    clippy::unused_async,
    reason = "one shape for the answers of all verbs"
)]
async fn next_step(_: &Api, _: TaskId, result: Value) -> Response {
    let nothing = NextStep {
        next_step: None,
        next_steps: Vec::new(),
        reason: None,
        status: None,
        output: None,
        error: None,
    };
    let answer = match serde_json::from_value(result) {
        Ok(ProcessResult::Advanced {
            next_step,
            next_steps,
        }) => NextStep {
            next_step: Some(next_step),
            next_steps,
            ..nothing
        },
        Ok(ProcessResult::Waiting { step_id, reason }) => NextStep {
            next_step: Some(step_id),
            reason: Some(reason),
            ..nothing
        },
        Ok(ProcessResult::Completed { output }) => NextStep {
            status: Some("completed"),
            output: Some(output),
            ..nothing
        },
        Ok(ProcessResult::Failed { error }) => NextStep {
            status: Some("failed"),
            error: Some(error),
            ..nothing
        },
        Err(error) => {
            tracing::error!(%error, "a recorded result cannot be read");
            return Problem::internal().into_response();
        }
    };
    Json(answer).into_response()
}
