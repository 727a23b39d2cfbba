//! Timers.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{EventStoreError, Timer, TimerLane, TimerQueue, TimerStats, rows},
    PgEventStore,
    connection::WORK_TIMEOUT,
    query::{fetch_one, nth},
};

/// The columns of a timer, qualified by the table or by its alias in a statement.
macro_rules! timer_columns {
    ($of:literal) => {
        concat!(
            $of,
            ".id, ",
            $of,
            ".task_id, ",
            $of,
            ".step_id, ",
            $of,
            ".visit, ",
            $of,
            ".kind, ",
            $of,
            ".n, ",
            $of,
            ".due_at"
        )
    };
}
pub(super) use timer_columns;

/// Skips timers whose workflow is paused.
const CLAIM: &str = concat!(
    "
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
    RETURNING ",
    timer_columns!("t")
);

/// A locked timer is being written by a batch or claimed; it returns when its lease expires.
const DROP: &str = "
    DELETE FROM timers WHERE id IN (
        SELECT id FROM timers WHERE id = ANY ($1) ORDER BY id FOR UPDATE SKIP LOCKED)";

const STATS: &str = "
    SELECT count(*) FILTER (WHERE due_at <= statement_timestamp()), count(*) FROM timers";

#[async_trait]
impl TimerQueue for PgEventStore {
    async fn claim_timers(
        &self,
        lane: TimerLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Timer>, EventStoreError> {
        let query = sqlx::query(CLAIM)
            .bind(lease.as_secs_f64())
            .bind(i64::from(limit))
            .bind(lane == TimerLane::Calls);
        let mut claimed = self.fetch(WORK_TIMEOUT, query, rows::due).await?;
        // RETURNING guarantees no order.
        claimed.sort_by_key(|row| (row.due_at, row.id));
        Ok(claimed)
    }

    async fn drop_timers(&self, ids: &[Uuid]) -> Result<(), EventStoreError> {
        self.execute(WORK_TIMEOUT, sqlx::query(DROP).bind(ids))
            .await
    }

    async fn timer_stats(&self) -> Result<TimerStats, EventStoreError> {
        self.run(WORK_TIMEOUT, |conn: &mut PgConnection| {
            Box::pin(fetch_one(conn, sqlx::query(STATS), |row| {
                Ok(TimerStats {
                    due: nth(row, 0)?,
                    total: nth(row, 1)?,
                })
            }))
        })
        .await
    }
}
