//! Timers.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;

use super::{
    super::{
        EventStoreError, Timer, TimerLane, TimerQueue, TimerStats, rows, timers::TIMERS_COUNTED_MAX,
    },
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

/// The workflows that have timers of a lane and are not paused. Each is found by one step through an
/// index, whatever the number of its timers.
macro_rules! open_workflows {
    ($lane:literal) => {
        concat!(
            "
    WITH RECURSIVE workflows AS (
        (SELECT workflow FROM timers WHERE kind ",
            $lane,
            " ORDER BY workflow LIMIT 1)
        UNION ALL
        SELECT next.workflow
        FROM workflows CROSS JOIN LATERAL (
            SELECT t.workflow FROM timers t
            WHERE t.kind ",
            $lane,
            " AND t.workflow > workflows.workflow
            ORDER BY t.workflow LIMIT 1
        ) next
    ), open AS (
        SELECT workflow FROM workflows
        WHERE NOT EXISTS (
            SELECT FROM workflow_pauses p
            WHERE p.workflow = workflows.workflow AND p.ended_at IS NULL
              AND (p.until IS NULL OR p.until > statement_timestamp()))
    )"
        )
    };
}

/// The oldest timer of each workflow first, then the second of each: a backlog in one workflow delays
/// no other.
macro_rules! claim {
    ($lane:literal) => {
        concat!(
            open_workflows!($lane),
            ", due AS (
        SELECT found.id
        FROM open CROSS JOIN LATERAL (
            SELECT t.id, t.due_at FROM timers t
            WHERE t.kind ",
            $lane,
            " AND t.workflow = open.workflow AND t.due_at <= statement_timestamp()
              AND (t.leased_until IS NULL OR t.leased_until <= statement_timestamp())
            ORDER BY t.due_at LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) found
        ORDER BY row_number() OVER (PARTITION BY open.workflow ORDER BY found.due_at, found.id),
                 found.due_at, found.id
        LIMIT $2
    )
    UPDATE timers t SET leased_until = clock_timestamp() + make_interval(secs => $1)
    FROM due WHERE t.id = due.id
    RETURNING ",
            timer_columns!("t")
        )
    };
}

/// How many timers of one lane are due, counted up to a bound, and the age of the oldest.
macro_rules! stats {
    ($lane:literal) => {
        concat!(
            open_workflows!($lane),
            "
    SELECT count(found.due_at),
           coalesce(extract(epoch FROM statement_timestamp() - min(found.due_at)), 0)::float8
    FROM (
        SELECT due.due_at
        FROM open CROSS JOIN LATERAL (
            SELECT t.due_at FROM timers t
            WHERE t.kind ",
            $lane,
            " AND t.workflow = open.workflow AND t.due_at <= statement_timestamp()
            ORDER BY t.due_at LIMIT $1
        ) due
        LIMIT $1
    ) found"
        )
    };
}

const CLAIM_CALLS: &str = claim!("= 'handler_call'");
const CLAIM_DECISIONS: &str = claim!("<> 'handler_call'");
const CALLS_DUE: &str = stats!("= 'handler_call'");
const DECISIONS_DUE: &str = stats!("<> 'handler_call'");
const TOTAL: &str = "SELECT count(*) FROM (SELECT FROM timers LIMIT $1) counted";

/// A locked timer is being written by a batch or claimed; it returns when its lease expires.
const DROP: &str = "
    DELETE FROM timers WHERE id IN (
        SELECT t.id FROM timers t
        JOIN unnest($1::uuid[], $2::timestamptz[]) AS r (id, due_at)
          ON r.id = t.id AND r.due_at = t.due_at
        ORDER BY t.id FOR UPDATE OF t SKIP LOCKED)";

#[async_trait]
impl TimerQueue for PgEventStore {
    async fn claim_timers(
        &self,
        lane: TimerLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Timer>, EventStoreError> {
        let sql = match lane {
            TimerLane::Calls => CLAIM_CALLS,
            TimerLane::Decisions => CLAIM_DECISIONS,
        };
        let query = sqlx::query(sql)
            .bind(lease.as_secs_f64())
            .bind(i64::from(limit));
        let mut claimed = self.fetch(WORK_TIMEOUT, query, rows::due).await?;
        // RETURNING guarantees no order.
        claimed.sort_by_key(|row| (row.due_at, row.id));
        Ok(claimed)
    }

    async fn drop_timers(&self, rows: &[Timer]) -> Result<(), EventStoreError> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let due_at: Vec<_> = rows.iter().map(|row| row.due_at).collect();
        let query = sqlx::query(DROP).bind(ids).bind(due_at);
        self.execute(WORK_TIMEOUT, query).await
    }

    async fn timer_stats(&self) -> Result<TimerStats, EventStoreError> {
        self.run(WORK_TIMEOUT, |conn: &mut PgConnection| {
            Box::pin(async move {
                let mut stats = TimerStats::default();
                for sql in [CALLS_DUE, DECISIONS_DUE] {
                    let query = sqlx::query(sql).bind(TIMERS_COUNTED_MAX);
                    let (due, oldest): (i64, f64) =
                        fetch_one(&mut *conn, query, |row| Ok((nth(row, 0)?, nth(row, 1)?)))
                            .await?;
                    stats.due += due;
                    stats.oldest_seconds = stats.oldest_seconds.max(oldest);
                }
                let query = sqlx::query(TOTAL).bind(TIMERS_COUNTED_MAX);
                stats.total = fetch_one(conn, query, |row| nth(row, 0)).await?;
                Ok(stats)
            })
        })
        .await
    }
}
