//! Durable jobs.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    super::{
        ENDED_JOBS_MAX, EventStoreError, JobCounts, JobItem, JobItemOutcome, JobItemState, JobRow,
        JobStore, JobWrite, NewJob, NewJobItem, rows,
    },
    connection::{SqliteEventStore, commit, detached},
    query::{execute, fetch_one, fetch_optional, nth, scalar},
    rows::{json, later, micros, plain},
};

/// The columns of a job.
macro_rules! job_columns {
    () => {
        "id, kind, actor, settings, state, phase, reason, stop_by, created_at, changed_at, counts"
    };
}

const CREATE: &str = "
    INSERT INTO jobs (id, kind, actor, settings, created_at, changed_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?5)
    ON CONFLICT (id) DO NOTHING";

/// Foreign keys are not enforced here: the items are deleted first.
const PRUNE_ITEMS: &str = "
    DELETE FROM job_items WHERE job_id IN (
        SELECT id FROM jobs WHERE state <> 'running'
        ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?1)";

const PRUNE: &str = "
    DELETE FROM jobs WHERE id IN (
        SELECT id FROM jobs WHERE state <> 'running'
        ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?1)";

const JOB: &str = concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = ?1");

const JOBS: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM jobs ORDER BY created_at DESC, id DESC LIMIT ?1"
);

const STOP: &str = "
    UPDATE jobs SET stop_by = COALESCE(stop_by, ?2) WHERE id = ?1 AND state = 'running'
    RETURNING id";

/// Queried on a reading connection, so an idle runner does not block writers.
const CLAIMABLE: &str = "SELECT EXISTS (
    SELECT 1 FROM jobs
    WHERE state = 'running' AND (leased_until IS NULL OR leased_until <= ?1))";

const CLAIM: &str = "
    UPDATE jobs SET runner = ?1, leased_until = ?3
    WHERE id = (
        SELECT id FROM jobs
        WHERE state = 'running' AND (leased_until IS NULL OR leased_until <= ?2)
        ORDER BY created_at, id LIMIT 1
    )
    RETURNING id";

const KEEP: &str = "
    UPDATE jobs
    SET leased_until = ?3, phase = COALESCE(?4, phase),
        reason = CASE WHEN ?5 IS NULL THEN reason ELSE NULLIF(?5, '') END, changed_at = ?6
    WHERE id = ?1 AND runner = ?2 AND state = 'running'
    RETURNING counts";

const ARRIVED: &str =
    "UPDATE job_items SET state = 'pending' WHERE job_id = ?1 AND state = 'arriving'";

const LAST_ORDINAL: &str = "SELECT COALESCE(MAX(ordinal), 0) FROM job_items WHERE job_id = ?1";

const ADD: &str = "
    INSERT INTO job_items (job_id, ordinal, state, identity, order_key, properties, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const OUTCOME: &str = "
    UPDATE job_items
    SET state = ?3, detail = COALESCE(?4, detail),
        properties = CASE WHEN ?3 = 'failed' THEN '' ELSE properties END,
        body = CASE WHEN ?3 = 'failed' THEN X'' ELSE body END
    WHERE job_id = ?1 AND ordinal = ?2";

const ITEM: &str = "SELECT * FROM job_items WHERE job_id = ?1 AND ordinal = ?2";

const GONE: &str = "DELETE FROM job_items WHERE job_id = ?1 AND ordinal = ?2";

const COUNT: &str = "UPDATE jobs SET counts = ?2 WHERE id = ?1";

const END: &str = "
    UPDATE jobs SET state = ?2, reason = ?3, runner = NULL, leased_until = NULL WHERE id = ?1";

const ITEMS: &str = "
    SELECT * FROM job_items
    WHERE job_id = ?1 AND state = ?2 AND ordinal > ?3 ORDER BY ordinal LIMIT ?4";

const LAST: &str = "SELECT * FROM job_items WHERE job_id = ?1 ORDER BY ordinal DESC LIMIT 1";

#[async_trait]
impl JobStore for SqliteEventStore {
    async fn create_job(&self, job: NewJob) -> Result<(), EventStoreError> {
        let store = self.clone();
        let settings = json(&job.settings)?;
        detached(async move {
            let mut tx = store.begin().await?;
            for sql in [PRUNE_ITEMS, PRUNE] {
                execute(&mut tx, sqlx::query(sql).bind(ENDED_JOBS_MAX)).await?;
            }
            let query = sqlx::query(CREATE)
                .bind(job.id.hyphenated())
                .bind(job.kind)
                .bind(job.actor)
                .bind(settings)
                .bind(micros(store.now()));
            execute(&mut tx, query).await?;
            commit(tx).await
        })
        .await
    }

    async fn job(&self, id: Uuid) -> Result<Option<JobRow>, EventStoreError> {
        let query = sqlx::query(JOB).bind(id.hyphenated());
        self.fetch_optional(query, rows::job).await
    }

    async fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, EventStoreError> {
        self.fetch(sqlx::query(JOBS).bind(limit), rows::job).await
    }

    async fn stop_job(&self, id: Uuid, actor: &str) -> Result<bool, EventStoreError> {
        let (store, actor) = (self.clone(), plain(actor)?.to_owned());
        detached(async move {
            let mut tx = store.begin().await?;
            let query = sqlx::query(STOP).bind(id.hyphenated()).bind(actor);
            let stopped = fetch_optional(&mut *tx, query, |_| Ok(())).await?;
            commit(tx).await?;
            Ok(stopped.is_some())
        })
        .await
    }

    async fn claim_job(
        &self,
        runner: Uuid,
        lease: Duration,
    ) -> Result<Option<JobRow>, EventStoreError> {
        let query = sqlx::query(CLAIMABLE).bind(micros(self.now()));
        if !self.scalar::<bool>(query).await? {
            return Ok(None);
        }
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let now = store.now();
            let query = sqlx::query(CLAIM)
                .bind(runner.hyphenated())
                .bind(micros(now))
                .bind(later(now, lease));
            let claimed = fetch_optional(&mut *tx, query, |row| nth::<String>(row, 0)).await?;
            let job = match claimed {
                Some(id) => {
                    let query = sqlx::query(JOB).bind(id);
                    Some(fetch_one(&mut *tx, query, rows::job).await?)
                }
                None => None,
            };
            commit(tx).await?;
            Ok(job)
        })
        .await
    }

    async fn write_job(
        &self,
        id: Uuid,
        runner: Uuid,
        write: JobWrite,
    ) -> Result<bool, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let written = write_in(&store, &mut tx, id, runner, write).await?;
            commit(tx).await?;
            Ok(written)
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
            .bind(id.hyphenated())
            .bind(state.as_str())
            .bind(after)
            .bind(limit);
        self.fetch(query, rows::job_item).await
    }

    async fn last_job_item(&self, id: Uuid) -> Result<Option<JobItem>, EventStoreError> {
        let query = sqlx::query(LAST).bind(id.hyphenated());
        self.fetch_optional(query, rows::job_item).await
    }
}

async fn write_in(
    store: &SqliteEventStore,
    connection: &mut SqliteConnection,
    id: Uuid,
    runner: Uuid,
    write: JobWrite,
) -> Result<bool, EventStoreError> {
    let now = store.now();
    let keep = sqlx::query(KEEP)
        .bind(id.hyphenated())
        .bind(runner.hyphenated())
        .bind(later(now, write.lease))
        .bind(write.phase)
        .bind(write.note)
        .bind(micros(now));
    let kept = fetch_optional(&mut *connection, keep, rows::job_counts).await?;
    let Some(before) = kept else {
        return Ok(false);
    };
    let mut counts = before.clone();
    if write.arrived {
        execute(connection, sqlx::query(ARRIVED).bind(id.hyphenated())).await?;
        let arrived = counts.of(JobItemState::Arriving);
        counts.change(JobItemState::Arriving, JobItemState::Pending, arrived);
    }
    if let Some((state, items)) = write.add {
        counts.add(state, items.len() as u64);
        add(connection, id, state, items).await?;
    }
    for outcome in write.outcomes {
        settle(connection, id, outcome, &mut counts).await?;
    }
    if counts != before {
        let count = sqlx::query(COUNT)
            .bind(id.hyphenated())
            .bind(json(&counts)?);
        execute(connection, count).await?;
    }
    if let Some((state, reason)) = write.end {
        let end = sqlx::query(END)
            .bind(id.hyphenated())
            .bind(state.as_str())
            .bind(reason);
        execute(connection, end).await?;
    }
    Ok(true)
}

async fn add(
    connection: &mut SqliteConnection,
    id: Uuid,
    state: JobItemState,
    items: Vec<NewJobItem>,
) -> Result<(), EventStoreError> {
    let last = sqlx::query(LAST_ORDINAL).bind(id.hyphenated());
    let mut ordinal: i64 = scalar(&mut *connection, last).await?;
    for item in items {
        ordinal += 1;
        let query = sqlx::query(ADD)
            .bind(id.hyphenated())
            .bind(ordinal)
            .bind(state.as_str())
            .bind(item.identity)
            .bind(item.order_key)
            .bind(item.properties)
            .bind(item.body);
        execute(connection, query).await?;
    }
    Ok(())
}

async fn settle(
    connection: &mut SqliteConnection,
    id: Uuid,
    outcome: JobItemOutcome,
    counts: &mut JobCounts,
) -> Result<(), EventStoreError> {
    let ordinal = outcome.ordinal;
    let of_item = |sql| sqlx::query(sql).bind(id.hyphenated()).bind(ordinal);
    let item = fetch_optional(&mut *connection, of_item(ITEM), rows::job_item).await?;
    let Some(item) = item.filter(|item| item.state != JobItemState::Failed) else {
        return Ok(());
    };
    let change = if outcome.state.is_gone() {
        of_item(GONE)
    } else {
        of_item(OUTCOME)
            .bind(outcome.state.as_str())
            .bind(outcome.detail)
    };
    execute(connection, change).await?;
    counts.change(item.state, outcome.state, 1);
    Ok(())
}
