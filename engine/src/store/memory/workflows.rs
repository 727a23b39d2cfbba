//! Revisions of workflows.

use std::collections::HashMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{StorageError, WorkflowConfigStore, WorkflowRow, content_hash, revision_id},
    data::{MemoryStore, refuse_nul},
};
use crate::{
    config::WorkflowConfig,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
};

#[async_trait]
impl WorkflowConfigStore for MemoryStore {
    async fn save_by(
        &self,
        config: &WorkflowConfig,
        actor: Option<&str>,
    ) -> Result<Uuid, StorageError> {
        let hash = content_hash(config);
        refuse_nul(config)?;
        let now = self.now();
        let mut data = self.data();
        let newest = data
            .workflows
            .iter()
            .map(|(row, _)| row)
            .rfind(|r| r.workflow == config.id);
        let revision = match newest {
            Some(row) if row.content_hash == hash => return Ok(row.id.0),
            Some(row) => row.revision.saturating_add(1),
            None => 1,
        };
        let id = revision_id(&config.id, revision);
        let row = WorkflowRow {
            id,
            workflow: config.id.clone(),
            revision,
            content_hash: hash,
            created_at: now,
            actor: actor.map(ToOwned::to_owned),
        };
        let mut config = config.clone();
        config.revision_id = id;
        config.revision = revision;
        data.workflows.push((row, config));
        Ok(id.0)
    }

    async fn load(&self, id: Uuid) -> Result<Option<WorkflowConfig>, StorageError> {
        let data = self.data();
        let found = data.workflows.iter().find(|(row, _)| row.id.0 == id);
        Ok(found.map(|(_, config)| config.clone()))
    }

    async fn load_by_name(&self, name: &str) -> Result<Option<WorkflowConfig>, StorageError> {
        let data = self.data();
        let found = data
            .workflows
            .iter()
            .rfind(|(row, _)| row.workflow == *name);
        Ok(found.map(|(_, config)| config.clone()))
    }

    async fn resolve(
        &self,
        selectors: &[WorkflowSelector],
    ) -> Result<HashMap<WorkflowSelector, RevisionId>, StorageError> {
        let data = self.data();
        let find = |selector: &WorkflowSelector| {
            data.workflows
                .iter()
                .map(|(row, _)| row)
                .rfind(|row| match selector {
                    WorkflowSelector::Latest(id) => row.workflow == *id,
                    WorkflowSelector::Numbered(id, revision) => {
                        row.workflow == *id && row.revision == *revision
                    }
                    WorkflowSelector::Revision(id) => row.id == *id,
                })
        };
        Ok(selectors
            .iter()
            .filter_map(|s| Some((s.clone(), find(s)?.id)))
            .collect())
    }

    async fn revisions(
        &self,
        workflow: Option<&WorkflowId>,
    ) -> Result<Vec<WorkflowRow>, StorageError> {
        let data = self.data();
        let mut rows: Vec<_> = data
            .workflows
            .iter()
            .map(|(row, _)| row)
            .filter(|row| workflow.is_none_or(|workflow| row.workflow == *workflow))
            .cloned()
            .collect();
        rows.sort_by(|a, b| (&a.workflow, b.revision).cmp(&(&b.workflow, a.revision)));
        Ok(rows)
    }
}
