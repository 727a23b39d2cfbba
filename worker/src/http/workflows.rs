//! Workflows: create, list, look at.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    OrchestrationError, ValidationError, WorkflowConfig, WorkflowConfigStore, WorkflowOrchestrator,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
    store::{RecordedOutcome, StorageError, Store, WorkflowPause, WorkflowRow},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api, Problem,
    commands::with_key,
    request::{CommandHeaders, Limited, Parameters},
};
use crate::wire::{ActRequest, WorkflowAct, read_act};

/// A stored revision with its content.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct WorkflowDocument {
    /// The revision's UUID.
    pub id: RevisionId,
    /// The workflow's id.
    pub workflow: WorkflowId,
    /// The revision's number.
    pub revision: u32,
    /// The workflow, with templates and library steps resolved.
    pub config: WorkflowConfig,
    /// What is probably not meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<ValidationError>>,
    /// The pause that holds all tasks of the workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<WorkflowPause>,
}

impl From<WorkflowConfig> for WorkflowDocument {
    fn from(config: WorkflowConfig) -> Self {
        Self {
            id: config.revision_id,
            workflow: config.id.clone(),
            revision: config.revision,
            config,
            warnings: None,
            paused: None,
        }
    }
}

impl WorkflowDocument {
    /// A stored revision with what holds its workflow now.
    pub async fn with_pause(
        config: WorkflowConfig,
        store: &dyn Store,
    ) -> Result<Self, StorageError> {
        let (holding, _) = store.workflow_pauses().await?;
        let paused = holding.into_iter().find(|p| p.workflow == config.id);
        Ok(Self {
            paused,
            ..config.into()
        })
    }

    /// Checks a file and stores it as a new revision, unless its content is that of the newest.
    /// Answers whether it is new.
    pub async fn create(
        source: &[u8],
        orchestrator: &WorkflowOrchestrator,
    ) -> Result<(Self, bool), OrchestrationError> {
        let created = orchestrator.create_workflow_from(source).await?;
        let document = Self {
            warnings: Some(created.warnings),
            ..created.config.into()
        };
        Ok((document, created.is_new))
    }
}

/// The revision that `text` names now, if it names one.
pub async fn resolve_one(
    store: &dyn Store,
    text: &str,
) -> Result<Option<WorkflowConfig>, StorageError> {
    let Ok(selector) = text.parse::<WorkflowSelector>() else {
        return Ok(None);
    };
    let found = store.resolve(std::slice::from_ref(&selector)).await?;
    match found.get(&selector) {
        Some(id) => WorkflowConfigStore::load(store, id.0).await,
        None => Ok(None),
    }
}

/// A revision with what holds its workflow.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ListedWorkflow {
    #[serde(flatten)]
    row: WorkflowRow,
    /// The pause that holds all tasks of the workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<WorkflowPause>,
}

impl ListedWorkflow {
    /// All revisions, or those of one workflow: by id, newest first. Those of archived workflows are
    /// left out, unless they are asked for or the workflow is named.
    pub async fn list(
        store: &dyn Store,
        workflow: Option<&WorkflowId>,
        archived: bool,
    ) -> Result<Vec<Self>, StorageError> {
        let rows = store.revisions(workflow).await?;
        let (holding, _) = store.workflow_pauses().await?;
        let listed = rows.into_iter().map(|row| Self {
            paused: holding.iter().find(|p| p.workflow == row.workflow).cloned(),
            row,
        });
        let is_archived = |one: &Self| one.paused.as_ref().is_some_and(|pause| pause.archived);
        let shown = |one: &Self| archived || workflow.is_some() || !is_archived(one);
        Ok(listed.filter(shown).collect())
    }

    /// The revision.
    pub fn row(&self) -> &WorkflowRow {
        &self.row
    }

    /// What holds its workflow.
    pub fn paused(&self) -> Option<&WorkflowPause> {
        self.paused.as_ref()
    }
}

/// Stored revisions.
#[derive(Serialize, JsonSchema)]
pub(super) struct WorkflowList {
    workflows: Vec<ListedWorkflow>,
}

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

pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<WorkflowDocument>, Problem> {
    let config = resolve_one(&*api.store, &id).await?;
    let config = config.ok_or_else(|| Problem::workflow_not_found(&id))?;
    Ok(Json(
        WorkflowDocument::with_pause(config, &*api.store).await?,
    ))
}

pub(super) async fn pause(
    State(api): State<Api>,
    id: Path<String>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    act(api, WorkflowAct::Pause, id, headers, body).await
}

pub(super) async fn resume(
    State(api): State<Api>,
    id: Path<String>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    act(api, WorkflowAct::Resume, id, headers, body).await
}

pub(super) async fn archive(
    State(api): State<Api>,
    id: Path<String>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    act(api, WorkflowAct::Archive, id, headers, body).await
}

pub(super) async fn restore(
    State(api): State<Api>,
    id: Path<String>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    act(api, WorkflowAct::Restore, id, headers, body).await
}

/// What holds a workflow after an act on it, as the engine answers it.
#[derive(JsonSchema)]
pub(super) struct ActResult {
    /// The workflow.
    #[expect(dead_code, reason = "the schema of what the inbox keeps")]
    workflow: WorkflowId,
    /// The pause that holds all its tasks; null where none does.
    #[expect(dead_code, reason = "the schema of what the inbox keeps")]
    paused: Option<WorkflowPause>,
}

/// Carries out an act on a whole workflow, or on an annotator in it. The path names the workflow,
/// not a revision: an act is about them all.
pub(super) async fn act(
    api: Api,
    verb: WorkflowAct,
    Path(id): Path<String>,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Response {
    let key = headers.command_id.to_string();
    let acted = async {
        let workflow = WorkflowId::new(&id).map_err(|_| Problem::workflow_not_found(&id))?;
        let act = read_act(&ActRequest {
            verb,
            workflow,
            command_id: headers.command_id,
            correlation_id: headers.correlation_id.as_deref(),
            traceparent: headers.traceparent.as_deref(),
            body: &body,
        })?;
        match api.orchestrator.act(&*api.store, act).await? {
            RecordedOutcome::Applied { result } => Ok(Json(result)),
            RecordedOutcome::Rejected { reason, detail } => Err(Problem::rejected(reason, detail)),
        }
    };
    let answer: Result<_, Problem> = acted.await;
    with_key(answer.into_response(), &key)
}

pub(super) async fn create(
    State(api): State<Api>,
    Limited(body): Limited,
) -> Result<(StatusCode, Json<WorkflowDocument>), Problem> {
    let (document, new) = WorkflowDocument::create(&body, &api.orchestrator).await?;
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(document)))
}
