//! Revisions of workflows.

use std::collections::HashMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{StorageError, WorkflowConfigStore, WorkflowRow, content_hash, revision_id, rows},
    PgEventStore,
    connection::WORK_TIMEOUT,
    query::{begin, commit_repeatable, execute, fetch_optional, nth},
    rows::{signed, to_json},
};
use crate::{
    config::WorkflowConfig,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
};

/// The columns of a revision, without its content.
macro_rules! workflow_columns {
    () => {
        "id, workflow, revision, content_hash, created_at, actor"
    };
}

/// The columns with the content of a revision, as text.
macro_rules! config_columns {
    () => {
        "id, revision, config::text AS config"
    };
}

/// One save per workflow at a time, so the numbers have no gaps.
const LOCK: &str = "
    SELECT pg_advisory_xact_lock(
        hashtextextended('glyph workflow ' || current_schema() || ' ' || $1, 0))";

const NEWEST: &str = concat!(
    "SELECT ",
    workflow_columns!(),
    " FROM workflows WHERE workflow = $1 ORDER BY revision DESC LIMIT 1"
);

const INSERT: &str = "
    INSERT INTO workflows (id, workflow, revision, content_hash, config, actor)
    VALUES ($1, $2, $3, $4, $5::jsonb, $6)";

const LOAD: &str = concat!(
    "SELECT ",
    config_columns!(),
    " FROM workflows WHERE id = $1"
);

const LOAD_NEWEST: &str = concat!(
    "SELECT ",
    config_columns!(),
    " FROM workflows WHERE workflow = $1 ORDER BY revision DESC LIMIT 1"
);

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

const REVISIONS: &str = concat!(
    "SELECT ",
    workflow_columns!(),
    "
    FROM workflows
    WHERE $1::text IS NULL OR workflow = $1
    ORDER BY workflow, revision DESC"
);

#[async_trait]
impl WorkflowConfigStore for PgEventStore {
    async fn save_by(
        &self,
        config: &WorkflowConfig,
        actor: Option<&str>,
    ) -> Result<Uuid, StorageError> {
        let hash = content_hash(config);
        let text = to_json(config)?;
        let workflow = config.id.clone();
        let actor = actor.map(ToOwned::to_owned);
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                execute(&mut tx, sqlx::query(LOCK).bind(workflow.as_str())).await?;
                let newest = fetch_optional(
                    &mut tx,
                    sqlx::query(NEWEST).bind(workflow.as_str()),
                    rows::workflow,
                );
                let revision = match newest.await? {
                    Some(row) if row.content_hash == hash => return Ok(row.id.0),
                    Some(row) => row.revision.saturating_add(1),
                    None => 1,
                };
                let id = revision_id(&workflow, revision);
                let query = sqlx::query(INSERT)
                    .bind(id.0)
                    .bind(workflow.as_str())
                    .bind(signed::<i32, _>(revision)?)
                    .bind(hash)
                    .bind(text)
                    .bind(actor);
                execute(&mut tx, query).await?;
                // Saving the same content again returns the same id.
                commit_repeatable(tx).await?;
                Ok(id.0)
            })
        })
        .await
    }

    async fn load(&self, id: Uuid) -> Result<Option<WorkflowConfig>, StorageError> {
        let query = sqlx::query(LOAD).bind(id);
        self.fetch_optional(WORK_TIMEOUT, query, rows::config).await
    }

    async fn load_by_name(&self, name: &str) -> Result<Option<WorkflowConfig>, StorageError> {
        let query = sqlx::query(LOAD_NEWEST).bind(name);
        self.fetch_optional(WORK_TIMEOUT, query, rows::config).await
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
                // A number too large for the column names no revision.
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
        let query = sqlx::query(RESOLVE).bind(names).bind(revisions).bind(ids);
        let found: Vec<(i64, Uuid)> = self
            .fetch(WORK_TIMEOUT, query, |row| Ok((nth(row, 0)?, nth(row, 1)?)))
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
        let query = sqlx::query(REVISIONS).bind(workflow.map(WorkflowId::as_str));
        self.fetch(WORK_TIMEOUT, query, rows::workflow).await
    }
}
