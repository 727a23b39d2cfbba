//! Timers.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    super::{
        EventStoreError, Timer, TimerLane, TimerQueue, TimerStats, rows, timers::TIMERS_COUNTED_MAX,
    },
    connection::{SqliteEventStore, commit, detached},
    query::{fetch, fetch_one, nth},
    rows::{later, micros},
    write,
};

/// Timers of a lane that are due, of workflows that are not paused. Workflows are found one after the
/// other by an index, so that the timers of a paused one are not read.
macro_rules! due {
    ($lane:literal, $which:literal) => {
        concat!(
            "
        WITH RECURSIVE workflows (workflow) AS (
            SELECT min(workflow) FROM timers WHERE kind ",
            $lane,
            "
            UNION ALL
            SELECT (SELECT min(t.workflow) FROM timers AS t
                    WHERE t.kind ",
            $lane,
            " AND t.workflow > workflows.workflow)
            FROM workflows WHERE workflow IS NOT NULL
        )
        SELECT id, due_at FROM timers
        WHERE kind ",
            $lane,
            " AND due_at <= ?1",
            $which,
            "
          AND workflow IN (
              SELECT w.workflow FROM workflows AS w
              WHERE NOT EXISTS (
                  SELECT 1 FROM workflow_pauses AS p
                  WHERE p.workflow = w.workflow AND p.ended_at IS NULL
                    AND (p.until IS NULL OR p.until > ?1)))
        ORDER BY due_at, id
        LIMIT "
        )
    };
}

/// Those that nobody has leased.
macro_rules! claimable {
    ($lane:literal) => {
        due!($lane, " AND (leased_until IS NULL OR leased_until <= ?1)")
    };
}

macro_rules! is_claimable {
    ($lane:literal) => {
        concat!("SELECT EXISTS (", claimable!($lane), "1)")
    };
}

macro_rules! claim {
    ($lane:literal) => {
        concat!(
            "UPDATE timers SET leased_until = ?2 WHERE id IN (SELECT id FROM (",
            claimable!($lane),
            "?3)) RETURNING id, task_id, step_id, visit, kind, n, due_at"
        )
    };
}

macro_rules! stats {
    ($lane:literal) => {
        concat!(
            "SELECT count(*), coalesce((?1 - min(due_at)) / 1e6, 0.0) FROM (",
            due!($lane, ""),
            "?2)"
        )
    };
}

const IS_CALL: &str = is_claimable!("= 'handler_call'");
const IS_DECISION: &str = is_claimable!("<> 'handler_call'");
const CLAIM_CALLS: &str = claim!("= 'handler_call'");
const CLAIM_DECISIONS: &str = claim!("<> 'handler_call'");
const CALLS_DUE: &str = stats!("= 'handler_call'");
const DECISIONS_DUE: &str = stats!("<> 'handler_call'");
const TOTAL: &str = "SELECT count(*) FROM (SELECT 1 FROM timers LIMIT ?1)";

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
            let (is_claimable, claim) = match lane {
                TimerLane::Calls => (IS_CALL, CLAIM_CALLS),
                TimerLane::Decisions => (IS_DECISION, CLAIM_DECISIONS),
            };
            let query = sqlx::query(is_claimable).bind(micros(store.now()));
            if !store.scalar::<bool>(query).await? {
                return Ok(Vec::new());
            }
            let mut tx = store.begin().await?;
            let now = store.now();
            let query = sqlx::query(claim)
                .bind(micros(now))
                .bind(later(now, lease))
                .bind(i64::from(limit));
            let mut claimed = fetch(&mut *tx, query, rows::due).await?;
            commit(tx).await?;
            // RETURNING guarantees no order.
            claimed.sort_unstable_by_key(|row| (row.due_at, row.id));
            Ok(claimed)
        })
        .await
    }

    async fn drop_timers(&self, rows: &[Timer]) -> Result<(), EventStoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = rows.to_vec();
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            write::timers_dropped(&mut tx, &rows).await?;
            commit(tx).await
        })
        .await
    }

    async fn timer_stats(&self) -> Result<TimerStats, EventStoreError> {
        let mut stats = TimerStats::default();
        for sql in [CALLS_DUE, DECISIONS_DUE] {
            let query = sqlx::query(sql)
                .bind(micros(self.now()))
                .bind(TIMERS_COUNTED_MAX);
            let (due, oldest): (i64, f64) = fetch_one(self.readers(), query, |row| {
                Ok((nth(row, 0)?, nth(row, 1)?))
            })
            .await?;
            stats.due += due;
            stats.oldest_seconds = stats.oldest_seconds.max(oldest);
        }
        let query = sqlx::query(TOTAL).bind(TIMERS_COUNTED_MAX);
        stats.total = self.scalar(query).await?;
        Ok(stats)
    }
}
