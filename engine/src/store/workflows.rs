//! Revisions of workflows.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::StorageError;
use crate::{
    config::WorkflowConfig,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
};

/// A stored revision of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowRow {
    /// The revision's UUID.
    pub id: RevisionId,
    /// The workflow's id.
    pub workflow: WorkflowId,
    /// The revision's number, from 1.
    pub revision: u32,
    /// Hash of its content.
    pub content_hash: String,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// Who stored it: the name of a token, or `cli:` and an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// Revisions of workflows.
#[async_trait]
pub trait WorkflowConfigStore: Send + Sync {
    /// Stores a new revision and returns its UUID. If the content equals the newest revision,
    /// returns that revision's UUID instead. Concurrent saves of one workflow get distinct numbers.
    async fn save(&self, config: &WorkflowConfig) -> Result<Uuid, StorageError> {
        self.save_by(config, None).await
    }

    /// The same; the name of who does it is kept with a new revision.
    async fn save_by(
        &self,
        config: &WorkflowConfig,
        actor: Option<&str>,
    ) -> Result<Uuid, StorageError>;

    /// The revision with that UUID.
    async fn load(&self, id: Uuid) -> Result<Option<WorkflowConfig>, StorageError>;

    /// The newest revision of the workflow with that id, never from a cache.
    async fn load_by_name(&self, name: &str) -> Result<Option<WorkflowConfig>, StorageError>;

    /// The revision each selector refers to now, never from a cache; unknown selectors are omitted.
    async fn resolve(
        &self,
        selectors: &[WorkflowSelector],
    ) -> Result<HashMap<WorkflowSelector, RevisionId>, StorageError>;

    /// All revisions, or those of one workflow: ordered by id, newest first.
    async fn revisions(
        &self,
        workflow: Option<&WorkflowId>,
    ) -> Result<Vec<WorkflowRow>, StorageError>;
}

/// The UUID of a revision, the same in every store.
pub fn revision_id(workflow: &WorkflowId, revision: u32) -> RevisionId {
    let name = format!("glyph/workflows/{workflow}@{revision}");
    RevisionId(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()))
}

/// A hash that identifies a configuration's content, in hexadecimal.
pub fn content_hash(config: &WorkflowConfig) -> String {
    hex(&crate::parser::content_hash(config))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}
