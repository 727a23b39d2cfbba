//! Work whose time has come.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{DueKind, DueLane, DueQueue, DueRow, DueStats, EventStoreError},
    PgEventStore,
    connection::WORK_TIMEOUT,
    error::classify,
    rows::unsigned,
    tasks::{int, slug},
};
use crate::ids::TaskId;

/// Rows whose workflow is paused are passed over.
const CLAIM: &str = "
    WITH due AS (
        SELECT id FROM timers
        WHERE due_at <= statement_timestamp()
          AND (leased_until IS NULL OR leased_until <= statement_timestamp())
          AND (kind = 'handler_call') = $3
          AND NOT EXISTS (
              SELECT FROM workflow_pauses p
              WHERE p.ended_at IS NULL AND (p.until IS NULL OR p.until > statement_timestamp())
                AND p.workflow = (SELECT t.workflow FROM tasks t WHERE t.task_id = timers.task_id))
        ORDER BY due_at, id LIMIT $2
        FOR UPDATE SKIP LOCKED
    )
    UPDATE timers t SET leased_until = clock_timestamp() + make_interval(secs => $1)
    FROM due WHERE t.id = due.id
    RETURNING t.id, t.task_id, t.step_id, t.visit, t.kind, t.n, t.due_at";

/// What is locked is being written by a batch or claimed; it comes back with its lease.
const DROP: &str = "
    DELETE FROM timers WHERE id IN (
        SELECT id FROM timers WHERE id = ANY ($1) ORDER BY id FOR UPDATE SKIP LOCKED)";

const STATS: &str = "
    SELECT count(*) FILTER (WHERE due_at <= statement_timestamp()), count(*) FROM timers";

#[async_trait]
impl DueQueue for PgEventStore {
    async fn claim_due(
        &self,
        lane: DueLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<DueRow>, EventStoreError> {
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(CLAIM)
                        .bind(lease.as_secs_f64())
                        .bind(i64::from(limit))
                        .bind(lane == DueLane::Calls)
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        let mut rows = rows.iter().map(due_row).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by_key(|row| (row.due_at, row.id));
        Ok(rows)
    }

    async fn drop_due(&self, ids: &[Uuid]) -> Result<(), EventStoreError> {
        let ids = ids.to_vec();
        self.run(WORK_TIMEOUT, |conn| {
            Box::pin(async move {
                let done = sqlx::query(DROP).bind(ids).execute(conn).await;
                done.map(drop).map_err(classify)
            })
        })
        .await
    }

    async fn due_stats(&self) -> Result<DueStats, EventStoreError> {
        let (due, total) = self
            .run(WORK_TIMEOUT, |conn| {
                Box::pin(async move {
                    let stats = sqlx::query_as::<_, (i64, i64)>(STATS).fetch_one(conn).await;
                    stats.map_err(classify)
                })
            })
            .await?;
        Ok(DueStats { due, total })
    }
}

/// A row of `timers`.
pub(super) fn due_row(row: &PgRow) -> Result<DueRow, EventStoreError> {
    let step: Option<&str> = row.try_get("step_id").map_err(classify)?;
    let kind: &str = row.try_get("kind").map_err(classify)?;
    Ok(DueRow {
        id: row.try_get("id").map_err(classify)?,
        task_id: TaskId(row.try_get("task_id").map_err(classify)?),
        step_id: step.map(|step| slug("timers", step)).transpose()?,
        visit: unsigned("timers", int(row, "visit")?)?,
        kind: DueKind::from_name(kind).ok_or_else(|| EventStoreError::Row {
            table: "timers",
            source: format!("`{kind}` is no kind of due work").into(),
        })?,
        n: unsigned("timers", int(row, "n")?)?,
        due_at: row.try_get("due_at").map_err(classify)?,
    })
}
