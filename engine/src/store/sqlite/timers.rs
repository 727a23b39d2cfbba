//! Timers.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{EventStoreError, Timer, TimerLane, TimerQueue, TimerStats, rows},
    connection::{SqliteEventStore, commit, detached},
    query::{fetch, fetch_one, nth},
    rows::{later, micros},
    write,
};

/// Skips timers whose workflow is paused.
const CLAIMABLE: &str = "
    SELECT EXISTS (
        SELECT 1 FROM timers
        WHERE due_at <= ?1 AND (leased_until IS NULL OR leased_until <= ?1)
          AND (kind = 'handler_call') = ?2
          AND NOT EXISTS (
              SELECT 1 FROM workflow_pauses AS p
              WHERE p.ended_at IS NULL AND (p.until IS NULL OR p.until > ?1)
                AND p.workflow = (SELECT t.workflow FROM tasks AS t WHERE t.task_id = timers.task_id))
    )";

const CLAIM: &str = "
    UPDATE timers SET leased_until = ?2
    WHERE id IN (
        SELECT id FROM timers
        WHERE due_at <= ?1 AND (leased_until IS NULL OR leased_until <= ?1)
          AND (kind = 'handler_call') = ?4
          AND NOT EXISTS (
              SELECT 1 FROM workflow_pauses AS p
              WHERE p.ended_at IS NULL AND (p.until IS NULL OR p.until > ?1)
                AND p.workflow = (SELECT t.workflow FROM tasks AS t WHERE t.task_id = timers.task_id))
        ORDER BY due_at, id
        LIMIT ?3
    )
    RETURNING id, task_id, step_id, visit, kind, n, due_at";

const STATS: &str = "SELECT COUNT(*) FILTER (WHERE due_at <= ?1), COUNT(*) FROM timers";

#[async_trait]
impl TimerQueue for SqliteEventStore {
    async fn claim_timers(
        &self,
        lane: TimerLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Timer>, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let query = sqlx::query(CLAIMABLE)
                .bind(micros(store.now()))
                .bind(lane == TimerLane::Calls);
            if !store.scalar::<bool>(query).await? {
                return Ok(Vec::new());
            }
            let mut tx = store.begin().await?;
            let now = store.now();
            let query = sqlx::query(CLAIM)
                .bind(micros(now))
                .bind(later(now, lease))
                .bind(i64::from(limit))
                .bind(lane == TimerLane::Calls);
            let mut claimed = fetch(&mut *tx, query, rows::due).await?;
            commit(tx).await?;
            // RETURNING guarantees no order.
            claimed.sort_unstable_by_key(|row| (row.due_at, row.id));
            Ok(claimed)
        })
        .await
    }

    async fn drop_timers(&self, ids: &[Uuid]) -> Result<(), EventStoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids = ids.to_vec();
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            write::timers_unset(&mut tx, &ids).await?;
            commit(tx).await
        })
        .await
    }

    async fn timer_stats(&self) -> Result<TimerStats, EventStoreError> {
        let query = sqlx::query(STATS).bind(micros(self.now()));
        fetch_one(self.readers(), query, |row| {
            Ok(TimerStats {
                due: nth(row, 0)?,
                total: nth(row, 1)?,
            })
        })
        .await
    }
}
