//! What models of annotators are learnt from, and how far they have come.

use async_trait::async_trait;
use sqlx::Row;
use uuid::Uuid;

use super::{
    super::{EventStoreError, LearntRow, LogFilter, LogPage, LogPosition, ReliabilityStore},
    connection::{SqliteEventStore, commit, detached},
    rows::{self, Columns, array, checksum},
};

/// The next so many events; of those that are not asked for, the place alone.
const PAGE: &str = "
    SELECT page.position, page.stream_id, page.version, page.event_id, page.event_type,
           page.metadata, page.occurred_at, page.workflow,
           CASE WHEN page.workflow = ?3 THEN page.event_data END AS event_data
    FROM (
        SELECT e.*, CASE WHEN e.event_type IN (SELECT value FROM json_each(?4)) THEN coalesce(
            (SELECT workflow FROM tasks WHERE task_id = e.stream_id),
            (SELECT first.event_data ->> 'workflow' FROM workflow_events AS first
             WHERE first.stream_id = e.stream_id AND first.version = 1)
        ) END AS workflow
        FROM workflow_events AS e
        WHERE e.position > ?1
        ORDER BY e.position
        LIMIT ?2
    ) AS page
    ORDER BY page.position";

const LEARNT: &str =
    "SELECT workflow, step_id, position, state, checksum FROM learnt_models WHERE model = ?1";

/// Another process may have come further; then its state stays.
const KEEP: &str = "
    INSERT INTO learnt_models (model, workflow, step_id, position, state, checksum)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (model) DO UPDATE SET
        position = excluded.position, state = excluded.state, checksum = excluded.checksum
    WHERE position < excluded.position";

const POSITION: &str = "SELECT position FROM learnt_models WHERE model = ?1";
const FORGET: &str = "DELETE FROM learnt_models";

fn at(position: i64) -> LogPosition {
    LogPosition {
        transaction: 0,
        position,
    }
}

#[async_trait]
impl ReliabilityStore for SqliteEventStore {
    async fn read_workflow_log(
        &self,
        filter: LogFilter,
        after: LogPosition,
        limit: u32,
    ) -> Result<LogPage, EventStoreError> {
        let rows = sqlx::query(PAGE)
            .bind(after.position)
            .bind(i64::from(limit))
            .bind(filter.workflow.as_str())
            .bind(array(&filter.event_types)?)
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?;
        let mut page = LogPage {
            entries: Vec::new(),
            through: after,
            read: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        };
        for row in &rows {
            let columns = Columns::of("workflow_events", row);
            page.through = at(columns.get("position")?);
            let workflow: Option<&str> = columns.get("workflow")?;
            if workflow == Some(filter.workflow.as_str()) {
                page.entries.push((page.through, rows::event(row)?));
            }
        }
        Ok(page)
    }

    async fn learnt(&self, model: Uuid) -> Result<Option<LearntRow>, EventStoreError> {
        let row = sqlx::query(LEARNT)
            .bind(model.hyphenated())
            .fetch_optional(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns::of("learnt_models", &row);
        let state: &str = columns.get("state")?;
        let proof: &[u8] = columns.get("checksum")?;
        if proof != checksum(state) {
            tracing::warn!(%model, "a learnt model is not whole; it is learnt anew");
            return Ok(None);
        }
        Ok(Some(LearntRow {
            model,
            workflow: columns.slug("workflow")?,
            step_id: columns.slug("step_id")?,
            position: at(columns.get("position")?),
            state: state.to_owned(),
        }))
    }

    async fn learnt_position(&self, model: Uuid) -> Result<Option<LogPosition>, EventStoreError> {
        let row = sqlx::query(POSITION)
            .bind(model.hyphenated())
            .fetch_optional(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?;
        row.map(|row| row.try_get(0).map(at).map_err(EventStoreError::from_sqlite))
            .transpose()
    }

    async fn keep_learnt(&self, row: LearntRow) -> Result<(), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let proof = checksum(&row.state);
            sqlx::query(KEEP)
                .bind(row.model.hyphenated())
                .bind(row.workflow.as_str())
                .bind(row.step_id.as_str())
                .bind(row.position.position)
                .bind(&row.state)
                .bind(proof.as_slice())
                .execute(&mut *tx)
                .await
                .map_err(EventStoreError::from_sqlite)?;
            commit(tx).await
        })
        .await
    }

    async fn forget_learnt(&self) -> Result<(), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            sqlx::query(FORGET)
                .execute(&mut *tx)
                .await
                .map_err(EventStoreError::from_sqlite)?;
            commit(tx).await
        })
        .await
    }
}
