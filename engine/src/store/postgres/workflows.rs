//! Revisions of workflows.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::{Connection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{StorageError, WorkflowConfigStore, WorkflowRow, content_hash, revision_id},
    PgEventStore,
    connection::WORK_TIMEOUT,
    error::classify,
    rows::{to_json, unsigned},
    tasks::{int, slug, unreadable},
};
use crate::{
    config::WorkflowConfig,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
};

/// One save of a workflow at a time, so that numbers follow each other.
const LOCK: &str = "
    SELECT pg_advisory_xact_lock(
        hashtextextended('glyph workflow ' || current_schema() || ' ' || $1, 0))";

const NEWEST: &str = "
    SELECT id, revision, content_hash FROM workflows
    WHERE workflow = $1 ORDER BY revision DESC LIMIT 1";

const INSERT: &str = "
    INSERT INTO workflows (id, workflow, revision, content_hash, config)
    VALUES ($1, $2, $3, $4, $5::jsonb)";

const LOAD: &str = "SELECT id, revision, config::text AS config FROM workflows WHERE id = $1";

const LOAD_NEWEST: &str = "
    SELECT id, revision, config::text AS config FROM workflows
    WHERE workflow = $1 ORDER BY revision DESC LIMIT 1";

const RESOLVE: &str = "
    SELECT w.ord, found.id
    FROM unnest($1::text[], $2::int[], $3::uuid[]) WITH ORDINALITY
         AS w (workflow, revision, id, ord)
    CROSS JOIN LATERAL (
        SELECT workflows.id FROM workflows
        WHERE CASE WHEN w.id IS NOT NULL THEN workflows.id = w.id
                   ELSE workflows.workflow = w.workflow
                        AND (w.revision IS NULL OR workflows.revision = w.revision) END
        ORDER BY workflows.revision DESC LIMIT 1
    ) found";

const REVISIONS: &str = "
    SELECT id, workflow, revision, content_hash, created_at FROM workflows
    WHERE $1::text IS NULL OR workflow = $1
    ORDER BY workflow, revision DESC";

#[async_trait]
impl WorkflowConfigStore for PgEventStore {
    async fn save(&self, config: &WorkflowConfig) -> Result<Uuid, StorageError> {
        let hash = content_hash(config);
        let text = to_json(config)?;
        let workflow = config.id.clone();
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = conn.begin().await.map_err(classify)?;
                sqlx::query(LOCK)
                    .bind(workflow.as_str())
                    .execute(&mut *tx)
                    .await
                    .map_err(classify)?;
                let newest: Option<(Uuid, i32, String)> = sqlx::query_as(NEWEST)
                    .bind(workflow.as_str())
                    .fetch_optional(&mut *tx)
                    .await
                    .map_err(classify)?;
                let revision = match newest {
                    Some((id, _, newest_hash)) if newest_hash == hash => return Ok(id),
                    Some((_, revision, _)) => revision.saturating_add(1),
                    None => 1,
                };
                let id = revision_id(&workflow, unsigned("workflows", i64::from(revision))?);
                sqlx::query(INSERT)
                    .bind(id.0)
                    .bind(workflow.as_str())
                    .bind(revision)
                    .bind(hash)
                    .bind(text)
                    .execute(&mut *tx)
                    .await
                    .map_err(classify)?;
                // Unknown is as good as failed here: the same content again answers the same id.
                tx.commit().await.map_err(classify)?;
                Ok(id.0)
            })
        })
        .await
    }

    async fn load(&self, id: Uuid) -> Result<Option<WorkflowConfig>, StorageError> {
        let row = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(LOAD)
                        .bind(id)
                        .fetch_optional(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        row.as_ref().map(config).transpose()
    }

    async fn load_by_name(&self, name: &str) -> Result<Option<WorkflowConfig>, StorageError> {
        let name = name.to_owned();
        let row = self
            .run(WORK_TIMEOUT, |conn| {
                Box::pin(async move {
                    let found = sqlx::query(LOAD_NEWEST)
                        .bind(name)
                        .fetch_optional(conn)
                        .await;
                    found.map_err(classify)
                })
            })
            .await?;
        row.as_ref().map(config).transpose()
    }

    async fn resolve(
        &self,
        selectors: &[WorkflowSelector],
    ) -> Result<HashMap<WorkflowSelector, RevisionId>, StorageError> {
        let mut names: Vec<Option<String>> = Vec::with_capacity(selectors.len());
        let mut revisions: Vec<Option<i32>> = Vec::with_capacity(selectors.len());
        let mut ids: Vec<Option<Uuid>> = Vec::with_capacity(selectors.len());
        for selector in selectors {
            let (name, revision, id) = match selector {
                WorkflowSelector::Latest(name) => (Some(name.to_string()), None, None),
                // A number that no column holds names no revision.
                WorkflowSelector::Numbered(name, revision) => (
                    Some(name.to_string()),
                    Some(i32::try_from(*revision).unwrap_or(-1)),
                    None,
                ),
                WorkflowSelector::Revision(id) => (None, None, Some(id.0)),
            };
            names.push(name);
            revisions.push(revision);
            ids.push(id);
        }
        let found: Vec<(i64, Uuid)> = self
            .run(WORK_TIMEOUT, |conn| {
                Box::pin(async move {
                    sqlx::query_as(RESOLVE)
                        .bind(names)
                        .bind(revisions)
                        .bind(ids)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        Ok(found
            .into_iter()
            .filter_map(|(ordinal, id)| {
                let index = usize::try_from(ordinal).ok()?.checked_sub(1)?;
                Some((selectors.get(index)?.clone(), RevisionId(id)))
            })
            .collect())
    }

    async fn revisions(
        &self,
        workflow: Option<&WorkflowId>,
    ) -> Result<Vec<WorkflowRow>, StorageError> {
        let workflow = workflow.map(ToString::to_string);
        let rows = self
            .run(WORK_TIMEOUT, |conn| {
                Box::pin(async move {
                    sqlx::query(REVISIONS)
                        .bind(workflow)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        rows.iter()
            .map(|row| {
                Ok(WorkflowRow {
                    id: RevisionId(row.try_get("id").map_err(classify)?),
                    workflow: slug("workflows", row.try_get("workflow").map_err(classify)?)?,
                    revision: unsigned("workflows", int(row, "revision")?)?,
                    content_hash: row.try_get("content_hash").map_err(classify)?,
                    created_at: row.try_get("created_at").map_err(classify)?,
                })
            })
            .collect()
    }
}

fn config(row: &PgRow) -> Result<WorkflowConfig, StorageError> {
    let text: &str = row.try_get("config").map_err(classify)?;
    let mut config: WorkflowConfig =
        serde_json::from_str(text).map_err(|error| unreadable("workflows", error))?;
    config.revision_id = RevisionId(row.try_get("id").map_err(classify)?);
    config.revision = unsigned("workflows", int(row, "revision")?)?;
    Ok(config)
}
