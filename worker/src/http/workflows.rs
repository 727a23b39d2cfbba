//! Workflows: create, list, show, and operator commands on them.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use glyph_workflow_engine::{
    WorkflowConfig,
    ids::WorkflowId,
    parser::yaml_of,
    store::{RecordedOutcome, WorkflowPause},
};
use schemars::JsonSchema;
use serde_json::Value;

use super::{
    Api, Problem,
    auth::Caller,
    commands::with_key,
    request::{CommandHeaders, Limited, Parameters, Path},
};
use crate::{
    diagram::svg,
    operations::{
        answers::AnswersDocument,
        secrets::hide,
        workflows::{
            FlowDocument, ListedWorkflow, WorkflowDiff, WorkflowDocument, WorkflowList, file_of,
            resolve_one,
        },
    },
    projections::flow::flow_of,
    wire::{OperatorRequest, PauseVerb, read_operator_command},
};

pub(super) async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<WorkflowList>, Problem> {
    let workflow = parameters.take("workflow", "a workflow id", |text| {
        WorkflowId::new(text).ok()
    })?;
    let archived = parameters.take("archived", "true or false", |text| text.parse().ok())?;
    parameters.finish()?;
    let archived = archived.unwrap_or(false);
    let workflows = ListedWorkflow::list(&*api.store, workflow.as_ref(), archived).await?;
    Ok(Json(WorkflowList { workflows }))
}

/// The revision of a workflow id, `id@revision` or a revision's UUID.
pub(super) async fn named(api: &Api, name: &str) -> Result<WorkflowConfig, Problem> {
    let config = resolve_one(&*api.store, name).await?;
    config.ok_or_else(|| Problem::workflow_not_found(name))
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let config = named(&api, &id).await?;
    let document = WorkflowDocument::with_pause(config, &*api.store).await?;
    let mut document = serde_json::to_value(document).map_err(|_| Problem::internal())?;
    if !caller.sees_everything() {
        hide(&mut document);
    }
    Ok(Json(document))
}

pub(super) async fn diagram(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let config = named(&api, &id).await?;
    let media_type = [(header::CONTENT_TYPE, "image/svg+xml")];
    Ok((media_type, svg(&config)).into_response())
}

pub(super) async fn yaml(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let config = named(&api, &id).await?;
    let mut file = file_of(&config);
    if !caller.sees_everything() {
        hide(&mut file);
    }
    let media_type = [(header::CONTENT_TYPE, "application/yaml")];
    Ok((media_type, yaml_of(&file)).into_response())
}

pub(super) async fn diff(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    mut parameters: Parameters,
) -> Result<Json<WorkflowDiff>, Problem> {
    let to = parameters.take("to", "a workflow", |text| Some(text.to_owned()))?;
    parameters.finish()?;
    let to = to.ok_or_else(|| Problem::malformed("say with what: add the parameter `to`"))?;
    let (from, to) = (named(&api, &id).await?, named(&api, &to).await?);
    let hide = |file: &mut Value| {
        if !caller.sees_everything() {
            hide(file);
        }
    };
    Ok(Json(WorkflowDiff::of(&from, &to, hide)))
}

pub(super) async fn answers(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<AnswersDocument>, Problem> {
    let config = named(&api, &id).await?;
    let answers = AnswersDocument::of(&config).map_err(|error| {
        tracing::error!(%error, "a stored revision does not say clearly what it asks for");
        Problem::internal()
    })?;
    Ok(Json(answers))
}

pub(super) async fn pause(
    State(api): State<Api>,
    caller: Caller,
    id: Path<String>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    operator_command(api, &caller, PauseVerb::Pause, id, headers, body).await
}

pub(super) async fn resume(
    State(api): State<Api>,
    caller: Caller,
    id: Path<String>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    operator_command(api, &caller, PauseVerb::Resume, id, headers, body).await
}

pub(super) async fn archive(
    State(api): State<Api>,
    caller: Caller,
    id: Path<String>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    operator_command(api, &caller, PauseVerb::Archive, id, headers, body).await
}

pub(super) async fn restore(
    State(api): State<Api>,
    caller: Caller,
    id: Path<String>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    operator_command(api, &caller, PauseVerb::Restore, id, headers, body).await
}

pub(super) async fn flow(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<FlowDocument>, Problem> {
    let workflow = named(&api, &id).await?.id;
    let flow = flow_of(&*api.store, &workflow, Utc::now()).await?;
    Ok(Json(FlowDocument { workflow, flow }))
}

/// The pause of a workflow after an operator command.
#[derive(JsonSchema)]
pub(super) struct OperatorResult {
    /// The workflow.
    #[expect(dead_code, reason = "the schema of what the inbox keeps")]
    workflow: WorkflowId,
    /// The pause of all its tasks; null where there is none.
    #[expect(dead_code, reason = "the schema of what the inbox keeps")]
    paused: Option<WorkflowPause>,
}

/// Executes an operator command on a whole workflow, or on an annotator in it. The path names the
/// workflow, not a revision: an operator command applies to all revisions.
pub(super) async fn operator_command(
    api: Api,
    caller: &Caller,
    verb: PauseVerb,
    Path(id): Path<String>,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Response {
    with_key(headers.command_id, async {
        let workflow = WorkflowId::new(&id).map_err(|_| Problem::workflow_not_found(&id))?;
        let operator_command = read_operator_command(&OperatorRequest {
            verb,
            workflow,
            command_id: headers.command_id,
            correlation_id: headers.correlation_id.as_deref(),
            traceparent: headers.traceparent.as_deref(),
            actor: Some(&caller.holder.name),
            body: &body,
        })?;
        match api
            .orchestrator
            .operator_command(&*api.store, operator_command)
            .await?
        {
            RecordedOutcome::Applied { result } => Ok(Json(result)),
            RecordedOutcome::Rejected { reason, detail } => Err(Problem::rejected(reason, detail)),
        }
    })
    .await
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Limited(body): Limited,
) -> Result<(StatusCode, Json<WorkflowDocument>), Problem> {
    let actor = &caller.holder.name;
    let created = WorkflowDocument::create(&body, Some(actor), &api.orchestrator);
    let (document, new) = created.await?;
    if new {
        let (workflow, revision) = (&document.workflow, document.revision);
        tracing::info!(%workflow, revision, actor, "a revision was created");
    }
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(document)))
}
