//! Annotators: their accuracy, and pausing them.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use glyph_workflow_engine::{
    ids::{UserId, WorkflowId},
    store::AnnotatorPause,
};
use schemars::JsonSchema;

use super::{
    Api, Problem,
    auth::Caller,
    commands::with_key,
    request::{CommandHeaders, Limited, Parameters, Path},
    workflows::operator_command,
};
use crate::{
    operations::annotators::{AnnotatorList, annotator_list},
    wire::PauseVerb,
};

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
    Ok(Json(list.await?))
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
