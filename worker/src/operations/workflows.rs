//! Workflows: create, list, look up.

use glyph_workflow_engine::{
    OrchestrationError, ValidationError, WorkflowConfig, WorkflowConfigStore, WorkflowOrchestrator,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
    store::{StorageError, Store, WorkflowPause, WorkflowRow},
};
use schemars::JsonSchema;
use serde::Serialize;

/// A stored revision with its content.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct WorkflowDocument {
    /// The revision's UUID.
    pub id: RevisionId,
    /// The workflow's id.
    pub workflow: WorkflowId,
    /// The revision's number.
    pub revision: u32,
    /// The configuration, with templates and library steps resolved.
    pub config: WorkflowConfig,
    /// Warnings: parts of the workflow that are probably mistakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<ValidationError>>,
    /// The pause of all tasks of the workflow.
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
    /// A stored revision with the current pause of its workflow.
    pub async fn with_pause(
        config: WorkflowConfig,
        store: &dyn Store,
    ) -> Result<Self, StorageError> {
        let active = store.workflow_pauses().await?.active;
        let paused = active.into_iter().find(|p| p.workflow == config.id);
        Ok(Self {
            paused,
            ..config.into()
        })
    }

    /// Validates a file and stores it as a new revision, unless its content equals the newest, and
    /// keeps who did it. Returns whether it is new.
    pub async fn create(
        source: &[u8],
        actor: Option<&str>,
        orchestrator: &WorkflowOrchestrator,
    ) -> Result<(Self, bool), OrchestrationError> {
        let created = orchestrator.create_workflow_from(source, actor).await?;
        let document = Self {
            warnings: Some(created.warnings),
            ..created.config.into()
        };
        Ok((document, created.is_new))
    }
}

/// The revision that `text` names now, if there is one.
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

/// A revision with the pause of its workflow.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ListedWorkflow {
    #[serde(flatten)]
    row: WorkflowRow,
    /// The pause of all tasks of the workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<WorkflowPause>,
}

impl ListedWorkflow {
    /// All revisions, or those of one workflow: by id, newest first. Archived workflows are left
    /// out, unless they are requested or the workflow is named.
    pub async fn list(
        store: &dyn Store,
        workflow: Option<&WorkflowId>,
        archived: bool,
    ) -> Result<Vec<Self>, StorageError> {
        let rows = store.revisions(workflow).await?;
        let active = store.workflow_pauses().await?.active;
        let listed = rows.into_iter().map(|row| Self {
            paused: active.iter().find(|p| p.workflow == row.workflow).cloned(),
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

    /// The pause of its workflow.
    pub fn paused(&self) -> Option<&WorkflowPause> {
        self.paused.as_ref()
    }
}
