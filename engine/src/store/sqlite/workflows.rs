//! Revisions of workflows.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    super::{
        EventStoreError, StorageError, WorkflowConfigStore, WorkflowRow, content_hash, revision_id,
    },
    connection::{SqliteEventStore, commit, detached},
    rows::{self, Columns, json, micros},
};
use crate::{
    config::WorkflowConfig,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
};

const NEWEST: &str = "
    SELECT id, revision, content_hash, config FROM workflows
    WHERE workflow = ?1 ORDER BY revision DESC LIMIT 1";

const BY_NUMBER: &str = "SELECT id FROM workflows WHERE workflow = ?1 AND revision = ?2";

const BY_ID: &str = "SELECT id, revision, config FROM workflows WHERE id = ?1";

const INSERT: &str = "
    INSERT INTO workflows (id, workflow, revision, content_hash, config, created_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const REVISIONS: &str = "
    SELECT id, workflow, revision, content_hash, created_at FROM workflows
    WHERE ?1 IS NULL OR workflow = ?1
    ORDER BY workflow, revision DESC";

fn config(row: &SqliteRow) -> Result<WorkflowConfig, EventStoreError> {
    let columns = Columns::of("workflows", row);
    let mut config: WorkflowConfig = columns.json("config")?;
    config.revision_id = RevisionId(columns.uuid("id")?);
    config.revision = columns.unsigned("revision")?;
    Ok(config)
}

async fn save(store: SqliteEventStore, config: WorkflowConfig) -> Result<Uuid, StorageError> {
    let hash = content_hash(&config);
    // The lock of the file gives concurrent saves distinct numbers.
    let mut tx = store.begin().await?;
    let newest = sqlx::query(NEWEST)
        .bind(&*config.id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    let revision: u32 = match &newest {
        None => 1,
        Some(row) => {
            let columns = Columns::of("workflows", row);
            if columns.get::<&str>("content_hash")? == hash {
                return columns.uuid("id");
            }
            columns.unsigned::<u32>("revision")? + 1
        }
    };
    let id = revision_id(&config.id, revision);
    sqlx::query(INSERT)
        .bind(id.0.hyphenated())
        .bind(&*config.id)
        .bind(revision)
        .bind(hash)
        .bind(json(&config)?)
        .bind(micros(store.now()))
        .execute(&mut *tx)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    commit(tx).await?;
    Ok(id.0)
}

#[async_trait]
impl WorkflowConfigStore for SqliteEventStore {
    async fn save(&self, config: &WorkflowConfig) -> Result<Uuid, StorageError> {
        detached(save(self.clone(), config.clone())).await
    }

    async fn load(&self, id: Uuid) -> Result<Option<WorkflowConfig>, StorageError> {
        sqlx::query(BY_ID)
            .bind(id.hyphenated())
            .fetch_optional(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?
            .as_ref()
            .map(config)
            .transpose()
    }

    async fn load_by_name(&self, name: &str) -> Result<Option<WorkflowConfig>, StorageError> {
        sqlx::query(NEWEST)
            .bind(name)
            .fetch_optional(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?
            .as_ref()
            .map(config)
            .transpose()
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
            let row = query
                .fetch_optional(self.readers())
                .await
                .map_err(EventStoreError::from_sqlite)?;
            if let Some(row) = row {
                let id = Columns::of("workflows", &row).get::<Hyphenated>("id")?;
                found.insert(selector.clone(), RevisionId(id.into_uuid()));
            }
        }
        Ok(found)
    }

    async fn revisions(
        &self,
        workflow: Option<&WorkflowId>,
    ) -> Result<Vec<WorkflowRow>, StorageError> {
        sqlx::query(REVISIONS)
            .bind(workflow.map(WorkflowId::as_str))
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?
            .iter()
            .map(rows::workflow)
            .collect()
    }
}
