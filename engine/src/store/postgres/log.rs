//! What models of annotators are learnt from, and how far they have come.

use async_trait::async_trait;
use sqlx::Row;
use uuid::Uuid;

use super::{
    super::{EventStoreError, LearntRow, LogFilter, LogPage, LogPosition, ReliabilityStore},
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    error::classify,
    rows::checksum,
    streams::stored_event,
    tasks::slug,
};

/// The next so many events below the oldest running transaction, as for every reader of the log; of
/// those that are not asked for, the place alone.
const PAGE: &str = "
    SELECT page.txid::text::bigint AS txid, page.position, page.stream_id, page.version,
           page.event_id, page.event_type, page.metadata::text AS metadata, page.occurred_at,
           page.workflow,
           CASE WHEN page.workflow = $4 THEN page.event_data::text END AS event_data
    FROM (
        SELECT e.*, CASE WHEN e.event_type = ANY($5) THEN coalesce(
            (SELECT t.workflow FROM tasks t WHERE t.task_id = e.stream_id),
            (SELECT first.event_data ->> 'workflow' FROM workflow_events first
             WHERE first.stream_id = e.stream_id AND first.version = 1)
        ) END AS workflow
        FROM workflow_events e
        WHERE (e.txid, e.position) > ($1::text::xid8, $2)
          AND e.txid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY e.txid, e.position LIMIT $3
    ) page
    ORDER BY page.txid, page.position";

const LEARNT: &str = "
    SELECT workflow, step_id, txid::text::bigint AS txid, position, state::text AS state, checksum
    FROM learnt_models WHERE model = $1";

/// Another process may have come further; then its state stays.
const KEEP: &str = "
    INSERT INTO learnt_models AS kept (model, workflow, step_id, txid, position, state, checksum)
    VALUES ($1, $2, $3, $4::text::xid8, $5, $6::json, $7)
    ON CONFLICT (model) DO UPDATE SET
        txid = excluded.txid, position = excluded.position, state = excluded.state,
        checksum = excluded.checksum, saved_at = clock_timestamp()
    WHERE (kept.txid, kept.position) < (excluded.txid, excluded.position)";

const POSITION: &str = "SELECT txid::text::bigint, position FROM learnt_models WHERE model = $1";
const FORGET: &str = "DELETE FROM learnt_models";

#[async_trait]
impl ReliabilityStore for PgEventStore {
    async fn read_workflow_log(
        &self,
        filter: LogFilter,
        after: LogPosition,
        limit: u32,
    ) -> Result<LogPage, EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let rows = sqlx::query(PAGE)
                    .bind(after.transaction.to_string())
                    .bind(after.position)
                    .bind(i64::from(limit))
                    .bind(filter.workflow.as_str())
                    .bind(&filter.event_types)
                    .fetch_all(conn)
                    .await
                    .map_err(classify)?;
                let mut page = LogPage {
                    entries: Vec::new(),
                    through: after,
                    read: u32::try_from(rows.len()).unwrap_or(u32::MAX),
                };
                for row in &rows {
                    page.through = LogPosition {
                        transaction: row.try_get("txid").map_err(classify)?,
                        position: row.try_get("position").map_err(classify)?,
                    };
                    let workflow: Option<&str> = row.try_get("workflow").map_err(classify)?;
                    if workflow == Some(filter.workflow.as_str()) {
                        page.entries.push((page.through, stored_event(row)?));
                    }
                }
                Ok(page)
            })
        })
        .await
    }

    async fn learnt(&self, model: Uuid) -> Result<Option<LearntRow>, EventStoreError> {
        let row = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(LEARNT)
                        .bind(model)
                        .fetch_optional(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        let Some(row) = row else { return Ok(None) };
        let state: &str = row.try_get("state").map_err(classify)?;
        let proof: &[u8] = row.try_get("checksum").map_err(classify)?;
        if proof != checksum(state) {
            tracing::warn!(%model, "a learnt model is not whole; it is learnt anew");
            return Ok(None);
        }
        Ok(Some(LearntRow {
            model,
            workflow: slug("learnt_models", row.try_get("workflow").map_err(classify)?)?,
            step_id: slug("learnt_models", row.try_get("step_id").map_err(classify)?)?,
            position: LogPosition {
                transaction: row.try_get("txid").map_err(classify)?,
                position: row.try_get("position").map_err(classify)?,
            },
            state: state.to_owned(),
        }))
    }

    async fn learnt_position(&self, model: Uuid) -> Result<Option<LogPosition>, EventStoreError> {
        let found: Option<(i64, i64)> = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query_as(POSITION)
                        .bind(model)
                        .fetch_optional(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        Ok(found.map(|(transaction, position)| LogPosition {
            transaction,
            position,
        }))
    }

    async fn keep_learnt(&self, row: LearntRow) -> Result<(), EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let proof = checksum(&row.state);
                sqlx::query(KEEP)
                    .bind(row.model)
                    .bind(row.workflow.as_str())
                    .bind(row.step_id.as_str())
                    .bind(row.position.transaction.to_string())
                    .bind(row.position.position)
                    .bind(row.state)
                    .bind(proof.as_slice())
                    .execute(conn)
                    .await
                    .map(drop)
                    .map_err(classify)
            })
        })
        .await
    }

    async fn forget_learnt(&self) -> Result<(), EventStoreError> {
        self.run(WORK_TIMEOUT, |conn| {
            Box::pin(async move {
                sqlx::query(FORGET)
                    .execute(conn)
                    .await
                    .map(drop)
                    .map_err(classify)
            })
        })
        .await
    }
}
