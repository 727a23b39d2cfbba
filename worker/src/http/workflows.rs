//! Workflows: create, list, look at.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use glyph_workflow_engine::{
    ParseError, ValidationError, WorkflowConfig, WorkflowConfigStore,
    config::StepLibrary,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
    parser::check_workflow_bytes,
    store::{StorageError, Store, WorkflowRow},
};
use serde::Serialize;

use super::{
    Api, Problem, Role,
    auth::Caller,
    request::{Limited, Parameters},
};

/// A stored revision with its content.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
}

impl From<WorkflowConfig> for WorkflowDocument {
    fn from(config: WorkflowConfig) -> Self {
        Self {
            id: config.revision_id,
            workflow: config.id.clone(),
            revision: config.revision,
            config,
            warnings: None,
        }
    }
}

impl WorkflowDocument {
    /// Checks a file and stores it as a new revision, unless its content is that of the newest.
    /// Answers whether it is new.
    pub async fn create(
        source: &[u8],
        library: &StepLibrary,
        store: &dyn Store,
    ) -> Result<(Self, bool), CreateError> {
        let report = check_workflow_bytes(source, library, &[]);
        let warnings = report.diagnostics.clone();
        let config = report.into_result()?;
        let newest = store
            .load_by_name(&config.id)
            .await?
            .map(|newest| newest.revision_id);
        let id = RevisionId(store.save(&config).await?);
        let stored = WorkflowConfigStore::load(store, id.0)
            .await?
            .ok_or(CreateError::Lost(id))?;
        let document = Self {
            warnings: Some(warnings),
            ..stored.into()
        };
        Ok((document, newest != Some(id)))
    }
}

/// A workflow could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The file has faults.
    #[error("the workflow is not valid")]
    Invalid(#[from] ParseError),
    /// The store failed.
    #[error("the workflow could not be stored")]
    Store(#[from] StorageError),
    /// The store does not find what it has just stored.
    #[error("revision {0} was stored and is not there")]
    Lost(RevisionId),
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Invalid(faults) => faults.into(),
            CreateError::Store(error) => error.into(),
            CreateError::Lost(_) => {
                tracing::error!(%error, "creating a workflow failed");
                Self::internal()
            }
        }
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

#[derive(Serialize)]
pub(super) struct WorkflowList {
    workflows: Vec<WorkflowRow>,
}

pub(super) async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<WorkflowList>, Problem> {
    let workflow = parameters.take("workflow", "a workflow id", |text| {
        WorkflowId::new(text).ok()
    })?;
    parameters.finish()?;
    let workflows = api.store.revisions(workflow.as_ref()).await?;
    Ok(Json(WorkflowList { workflows }))
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<WorkflowDocument>, Problem> {
    let config = resolve_one(&*api.store, &id).await?;
    let config = config.ok_or_else(|| Problem::workflow_not_found(&id))?;
    Ok(Json(config.into()))
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Limited(body): Limited,
) -> Result<(StatusCode, Json<WorkflowDocument>), Problem> {
    caller.require(Role::Operator)?;
    let library = &api.orchestrator.step_library;
    let (document, new) = WorkflowDocument::create(&body, library, &*api.store).await?;
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(document)))
}
