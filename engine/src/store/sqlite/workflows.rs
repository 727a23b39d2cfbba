//! Revisions of workflows.

use std::collections::HashMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{
        StorageError, WorkflowConfigStore, WorkflowRow, content_hash, revision_id,
        rows::{self, Columns},
    },
    connection::{SqliteEventStore, commit, detached},
    query::{execute, fetch_optional},
    rows::{json, micros},
};
use crate::{
    config::WorkflowConfig,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
};

const NEWEST: &str = "
    SELECT id, workflow, revision, content_hash, config, created_at, actor FROM workflows
    WHERE workflow = ?1 ORDER BY revision DESC LIMIT 1";

const BY_NUMBER: &str = "SELECT id FROM workflows WHERE workflow = ?1 AND revision = ?2";

const BY_ID: &str = "SELECT id, revision, config FROM workflows WHERE id = ?1";

const INSERT: &str = "
    INSERT INTO workflows (id, workflow, revision, content_hash, config, created_at, actor)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const REVISIONS: &str = "
    SELECT id, workflow, revision, content_hash, created_at, actor FROM workflows
    WHERE ?1 IS NULL OR workflow = ?1
    ORDER BY workflow, revision DESC";

async fn save(
    store: SqliteEventStore,
    config: WorkflowConfig,
    actor: Option<String>,
) -> Result<Uuid, StorageError> {
    let hash = content_hash(&config);
    // The file lock gives concurrent saves distinct numbers.
    let mut tx = store.begin().await?;
    let query = sqlx::query(NEWEST).bind(config.id.as_str());
    let revision = match fetch_optional(&mut *tx, query, rows::workflow).await? {
        Some(row) if row.content_hash == hash => return Ok(row.id.0),
        Some(row) => row.revision.saturating_add(1),
        None => 1,
    };
    let id = revision_id(&config.id, revision);
    let query = sqlx::query(INSERT)
        .bind(id.0.hyphenated())
        .bind(config.id.as_str())
        .bind(revision)
        .bind(hash)
        .bind(json(&config)?)
        .bind(micros(store.now()))
        .bind(actor);
    execute(&mut tx, query).await?;
    commit(tx).await?;
    Ok(id.0)
}

#[async_trait]
impl WorkflowConfigStore for SqliteEventStore {
    async fn save_by(
        &self,
        config: &WorkflowConfig,
        actor: Option<&str>,
    ) -> Result<Uuid, StorageError> {
        let actor = actor.map(ToOwned::to_owned);
        detached(save(self.clone(), config.clone(), actor)).await
    }

    async fn load(&self, id: Uuid) -> Result<Option<WorkflowConfig>, StorageError> {
        let query = sqlx::query(BY_ID).bind(id.hyphenated());
        self.fetch_optional(query, rows::config).await
    }

    async fn load_by_name(&self, name: &str) -> Result<Option<WorkflowConfig>, StorageError> {
        let query = sqlx::query(NEWEST).bind(name);
        self.fetch_optional(query, rows::config).await
    }

    async fn resolve(
        &self,
        selectors: &[WorkflowSelector],
    ) -> Result<HashMap<WorkflowSelector, RevisionId>, StorageError> {
        let mut found = HashMap::new();
        for selector in selectors {
            if found.contains_key(selector) {
                continue;
            }
            let query = match selector {
                WorkflowSelector::Latest(id) => sqlx::query(NEWEST).bind(id.as_str()),
                WorkflowSelector::Numbered(id, revision) => {
                    sqlx::query(BY_NUMBER).bind(id.as_str()).bind(*revision)
                }
                WorkflowSelector::Revision(id) => sqlx::query(BY_ID).bind(id.0.hyphenated()),
            };
            let id = self.fetch_optional(query, |row| {
                Columns::of("workflows", row).uuid("id").map(RevisionId)
            });
            if let Some(id) = id.await? {
                found.insert(selector.clone(), id);
            }
        }
        Ok(found)
    }

    async fn revisions(
        &self,
        workflow: Option<&WorkflowId>,
    ) -> Result<Vec<WorkflowRow>, StorageError> {
        let query = sqlx::query(REVISIONS).bind(workflow.map(WorkflowId::as_str));
        self.fetch(query, rows::workflow).await
    }
}
