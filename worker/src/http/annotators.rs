//! Annotators: their accuracy, and pausing them.

use std::{future::Future, time::Duration};

use axum::{Json, extract::State, http::StatusCode, response::Response};
use glyph_workflow_engine::{
    OrchestrationError,
    ids::{UserId, WorkflowId},
    store::AnnotatorPause,
};
use schemars::JsonSchema;
use tokio::time::timeout;

use super::{
    Api, Problem, REQUEST_TIMEOUT,
    auth::Caller,
    commands::with_key,
    request::{CommandHeaders, Limited, Parameters, Path},
    workflows::operator_command,
};
use crate::{
    operations::annotators::{AnnotatorList, annotator_list},
    wire::PauseVerb,
};

/// How long a report waits for models that learn.
const LEARNING_MAX: Duration = Duration::from_secs(20);
const _: () = assert!(LEARNING_MAX.as_secs() < REQUEST_TIMEOUT.as_secs());

pub(super) async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<AnnotatorList>, Problem> {
    let workflow = parameters.take("workflow", "a workflow id", |text| {
        WorkflowId::new(text).ok()
    })?;
    let user = parameters.take("user_id", "a UUID", |text| text.parse().ok().map(UserId))?;
    parameters.finish()?;
    let list = annotator_list(&*api.store, &api.orchestrator, workflow.as_ref(), user);
    Ok(Json(once_learned(&api, list).await?))
}

/// What is made of the models of annotators, unless they have too much of the log to read first:
/// they go on with it, and the problem says how far they are.
pub(super) async fn once_learned<T>(
    api: &Api,
    report: impl Future<Output = Result<T, OrchestrationError>>,
) -> Result<T, Problem> {
    if let Ok(report) = timeout(LEARNING_MAX, report).await {
        return Ok(report?);
    }
    Err(match api.orchestrator.models_behind_since() {
        Some(at) => Problem::unavailable(format!(
            "the models of annotators learn from the whole log first, and have come to {}: ask \
             again in a while",
            at.format("%F %T UTC")
        )),
        None => Problem::timeout(),
    })
}

/// The state of an annotator after an operator command.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema of what the inbox keeps")]
pub(super) struct AnnotatorOperatorResult {
    /// The workflow.
    workflow: WorkflowId,
    /// The annotator.
    user_id: UserId,
    /// The pause during which no slots are offered; null where there is none.
    paused: Option<AnnotatorPause>,
}

pub(super) async fn pause(
    State(api): State<Api>,
    caller: Caller,
    path: Path<(String, String)>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    change(api, &caller, PauseVerb::PauseAnnotator, path, headers, body).await
}

pub(super) async fn resume(
    State(api): State<Api>,
    caller: Caller,
    path: Path<(String, String)>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    change(
        api,
        &caller,
        PauseVerb::ResumeAnnotator,
        path,
        headers,
        body,
    )
    .await
}

async fn change(
    api: Api,
    caller: &Caller,
    verb: fn(UserId) -> PauseVerb,
    Path((workflow, user)): Path<(String, String)>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    if let Ok(user) = user.parse() {
        return operator_command(
            api,
            caller,
            verb(UserId(user)),
            Path(workflow),
            headers,
            body,
        )
        .await;
    }
    with_key(headers.command_id, async {
        let detail = format!("the annotator `{user}` is no UUID");
        Err::<StatusCode, _>(Problem::malformed(detail))
    })
    .await
}
