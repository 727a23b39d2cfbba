//! Durable jobs.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{
        ENDED_JOBS_MAX, EventStoreError, JobCounts, JobItem, JobItemOutcome, JobItemState, JobRow,
        JobStore, JobWrite, NewJob, NewJobItem, rows,
    },
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    query::{begin, commit_repeatable, execute, fetch, fetch_optional},
    rows::{column, to_json},
};

/// The columns of job `j`.
macro_rules! job_columns {
    () => {
        "j.id, j.kind, j.actor, j.settings::text AS settings, j.state, j.phase, j.reason, \
         j.stop_by, j.created_at, j.changed_at, j.counts::text AS counts"
    };
}

const CREATE: &str = "
    INSERT INTO jobs (id, kind, actor, settings) VALUES ($1, $2, $3, $4::jsonb)
    ON CONFLICT (id) DO NOTHING";

const PRUNE: &str = "
    DELETE FROM jobs WHERE id IN (
        SELECT id FROM jobs WHERE state <> 'running' ORDER BY created_at DESC, id DESC OFFSET $1)";

const JOB: &str = concat!("SELECT ", job_columns!(), " FROM jobs j WHERE j.id = $1");

const JOBS: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM jobs j ORDER BY j.created_at DESC, j.id DESC LIMIT $1"
);

const STOP: &str = "
    UPDATE jobs SET stop_by = coalesce(stop_by, $2) WHERE id = $1 AND state = 'running' RETURNING id";

const CLAIM: &str = concat!(
    "
    WITH free AS (
        SELECT id FROM jobs
        WHERE state = 'running' AND (leased_until IS NULL OR leased_until <= clock_timestamp())
        ORDER BY created_at, id LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs j SET runner = $1, leased_until = clock_timestamp() + make_interval(secs => $2)
    FROM free WHERE j.id = free.id
    RETURNING ",
    job_columns!()
);

/// Locks the job too, so that its items are numbered and counted by one runner at a time.
const KEEP: &str = "
    UPDATE jobs
    SET leased_until = clock_timestamp() + make_interval(secs => $3), phase = coalesce($4, phase),
        reason = CASE WHEN $5::text IS NULL THEN reason ELSE nullif($5, '') END,
        changed_at = clock_timestamp()
    WHERE id = $1 AND runner = $2 AND state = 'running'
    RETURNING counts::text AS counts";

const ARRIVED: &str =
    "UPDATE job_items SET state = 'pending' WHERE job_id = $1 AND state = 'arriving'";

const ADD: &str = "
    INSERT INTO job_items (job_id, ordinal, state, identity, order_key, properties, body)
    SELECT $1, coalesce((SELECT max(ordinal) FROM job_items WHERE job_id = $1), 0) + n.number, $2,
           n.identity, n.order_key, n.properties, n.body
    FROM unnest($3::text[], $4::text[], $5::text[], $6::bytea[])
         WITH ORDINALITY AS n (identity, order_key, properties, body, number)";

const OUTCOMES: &str = "
    UPDATE job_items i
    SET state = n.state, detail = coalesce(n.detail, i.detail),
        properties = CASE WHEN n.state = 'failed' THEN '' ELSE i.properties END,
        body = CASE WHEN n.state = 'failed' THEN ''::bytea ELSE i.body END
    FROM unnest($2::bigint[], $3::text[], $4::text[]) AS n (ordinal, state, detail)
    JOIN job_items was ON was.job_id = $1 AND was.ordinal = n.ordinal
    WHERE i.job_id = $1 AND i.ordinal = n.ordinal AND i.state <> 'failed'
    RETURNING was.state AS was, i.state AS state";

const GONE: &str = "
    DELETE FROM job_items i USING unnest($2::bigint[], $3::text[]) AS n (ordinal, state)
    WHERE i.job_id = $1 AND i.ordinal = n.ordinal AND i.state <> 'failed'
    RETURNING i.state AS was, n.state AS state";

const COUNT: &str = "UPDATE jobs SET counts = $2::jsonb WHERE id = $1";

const END: &str = "
    UPDATE jobs SET state = $2, reason = $3, runner = NULL, leased_until = NULL WHERE id = $1";

const ITEMS: &str = "
    SELECT ordinal, state, identity, order_key, properties, body, detail FROM job_items
    WHERE job_id = $1 AND state = $2 AND ordinal > $3 ORDER BY ordinal LIMIT $4";

const LAST: &str = "
    SELECT ordinal, state, identity, order_key, properties, body, detail FROM job_items
    WHERE job_id = $1 ORDER BY ordinal DESC LIMIT 1";

#[async_trait]
impl JobStore for PgEventStore {
    async fn create_job(&self, job: NewJob) -> Result<(), EventStoreError> {
        let settings = to_json(&job.settings)?;
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let prune = sqlx::query(PRUNE).bind(i64::from(ENDED_JOBS_MAX));
                execute(conn, prune).await?;
                let create = sqlx::query(CREATE)
                    .bind(job.id)
                    .bind(job.kind)
                    .bind(job.actor)
                    .bind(settings);
                execute(conn, create).await.map(drop)
            })
        })
        .await
    }

    async fn job(&self, id: Uuid) -> Result<Option<JobRow>, EventStoreError> {
        let query = sqlx::query(JOB).bind(id);
        self.fetch_optional(WORK_TIMEOUT, query, rows::job).await
    }

    async fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, EventStoreError> {
        let query = sqlx::query(JOBS).bind(i64::from(limit));
        self.fetch(LONG_WORK_TIMEOUT, query, rows::job).await
    }

    async fn stop_job(&self, id: Uuid, actor: &str) -> Result<bool, EventStoreError> {
        let query = sqlx::query(STOP).bind(id).bind(actor.to_owned());
        let stopped = self.fetch(WORK_TIMEOUT, query, |_| Ok(())).await?;
        Ok(!stopped.is_empty())
    }

    async fn claim_job(
        &self,
        runner: Uuid,
        lease: Duration,
    ) -> Result<Option<JobRow>, EventStoreError> {
        let query = sqlx::query(CLAIM).bind(runner).bind(lease.as_secs_f64());
        self.fetch_optional(WORK_TIMEOUT, query, rows::job).await
    }

    async fn write_job(
        &self,
        id: Uuid,
        runner: Uuid,
        write: JobWrite,
    ) -> Result<bool, EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                let written = write_in(&mut tx, id, runner, write).await?;
                commit_repeatable(tx).await?;
                Ok(written)
            })
        })
        .await
    }

    async fn job_items(
        &self,
        id: Uuid,
        state: JobItemState,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobItem>, EventStoreError> {
        let query = sqlx::query(ITEMS)
            .bind(id)
            .bind(state.as_str())
            .bind(after)
            .bind(i64::from(limit));
        self.fetch(WORK_TIMEOUT, query, rows::job_item).await
    }

    async fn last_job_item(&self, id: Uuid) -> Result<Option<JobItem>, EventStoreError> {
        let query = sqlx::query(LAST).bind(id);
        self.fetch_optional(WORK_TIMEOUT, query, rows::job_item)
            .await
    }
}

async fn write_in(
    conn: &mut PgConnection,
    id: Uuid,
    runner: Uuid,
    write: JobWrite,
) -> Result<bool, EventStoreError> {
    let keep = sqlx::query(KEEP)
        .bind(id)
        .bind(runner)
        .bind(write.lease.as_secs_f64())
        .bind(write.phase)
        .bind(write.note);
    let kept = fetch_optional(conn, keep, rows::job_counts).await?;
    let Some(before) = kept else {
        return Ok(false);
    };
    let mut counts = before.clone();
    if write.arrived {
        let arrived = execute(conn, sqlx::query(ARRIVED).bind(id)).await?;
        counts.change(JobItemState::Arriving, JobItemState::Pending, arrived);
    }
    if let Some((state, items)) = write.add {
        counts.add(state, items.len() as u64);
        add(conn, id, state, items).await?;
    }
    if !write.outcomes.is_empty() {
        settle(conn, id, write.outcomes, &mut counts).await?;
    }
    if counts != before {
        let count = sqlx::query(COUNT).bind(id).bind(to_json(&counts)?);
        execute(conn, count).await?;
    }
    if let Some((state, reason)) = write.end {
        let end = sqlx::query(END).bind(id).bind(state.as_str()).bind(reason);
        execute(conn, end).await?;
    }
    Ok(true)
}

async fn add(
    conn: &mut PgConnection,
    id: Uuid,
    state: JobItemState,
    items: Vec<NewJobItem>,
) -> Result<(), EventStoreError> {
    let mut identities = Vec::with_capacity(items.len());
    let mut keys = Vec::with_capacity(items.len());
    let mut properties = Vec::with_capacity(items.len());
    let mut bodies = Vec::with_capacity(items.len());
    for item in items {
        identities.push(item.identity);
        keys.push(item.order_key);
        properties.push(item.properties);
        bodies.push(item.body);
    }
    let query = sqlx::query(ADD)
        .bind(id)
        .bind(state.as_str())
        .bind(identities)
        .bind(keys)
        .bind(properties)
        .bind(bodies);
    execute(conn, query).await.map(drop)
}

async fn settle(
    conn: &mut PgConnection,
    id: Uuid,
    outcomes: Vec<JobItemOutcome>,
    counts: &mut JobCounts,
) -> Result<(), EventStoreError> {
    let (gone, kept): (Vec<_>, Vec<_>) = outcomes
        .into_iter()
        .partition(|outcome| outcome.state.is_gone());
    let ordinals = |outcomes: &[JobItemOutcome]| column(outcomes, |outcome| outcome.ordinal);
    let states = |outcomes: &[JobItemOutcome]| column(outcomes, |outcome| outcome.state.as_str());
    let mut changed = Vec::new();
    if !gone.is_empty() {
        let delete = sqlx::query(GONE)
            .bind(id)
            .bind(ordinals(&gone))
            .bind(states(&gone));
        changed = fetch(conn, delete, rows::job_item_change).await?;
    }
    if !kept.is_empty() {
        let update = sqlx::query(OUTCOMES)
            .bind(id)
            .bind(ordinals(&kept))
            .bind(states(&kept))
            .bind(column(&kept, |outcome| outcome.detail.clone()));
        changed.extend(fetch(conn, update, rows::job_item_change).await?);
    }
    for (was, is) in changed {
        counts.change(was, is, 1);
    }
    Ok(())
}
