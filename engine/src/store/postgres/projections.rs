//! Projections of the log: lock, checkpoint, rows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Postgres, Transaction};
use tokio::time::timeout;

use super::{
    super::{
        EventStoreError, LogPosition, OpenProjection, ProjectionRows, ProjectionStore,
        ProjectionTx, ProjectionWrite, operator_commands::operator_command_in, rows,
    },
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT, detached, timed_out},
    error::classify,
    goals,
    log::{Page, read_recent_log},
    operator_commands::{Tables, operator_lock},
    outbox,
    query::{BEGIN_PLANNED_ONCE, begin, commit_repeatable, execute, fetch, fetch_one, nth, scalar},
    recent_log::RecentLog,
    rows::to_json,
};
use crate::ids::LogIds;

const TRY_LOCK: &str = "
    SELECT pg_try_advisory_xact_lock(
        hashtextextended('glyph projection ' || $1 || ' ' || current_schema(), 0))";

const LOCK: &str = "
    SELECT pg_advisory_xact_lock(
        hashtextextended('glyph projection ' || $1 || ' ' || current_schema(), 0))";

/// The clock, the log and the checkpoint.
const BEGINNING: &str = "
    SELECT clock_timestamp() AS now, d.log_id, d.former_logs::text, p.entry, p.position
    FROM deployment d
    LEFT JOIN LATERAL (SELECT entry, position FROM projections WHERE name = $1) p ON true";

/// Whether nobody is in the middle of a decision: until its transaction ends, whoever decides holds
/// a table in a mode for writing, or the lock of operator commands. A dump, or another transaction
/// that only reads, does neither.
const QUIET: &str = concat!(
    "
    SELECT NOT EXISTS (
        SELECT FROM pg_locks
        WHERE granted AND pid <> pg_backend_pid()
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (locktype = 'relation'
               AND relation IN ('tasks'::regclass, 'commands'::regclass, 'workflows'::regclass)
               AND mode IN ('RowShareLock', 'RowExclusiveLock')
            OR locktype = 'advisory' AND objsubid = 1
               AND (classid::bigint << 32 | objid::bigint) = ",
    operator_lock!(),
    "))"
);

const ROWS: &str = "SELECT key, value::text FROM projection_rows WHERE projection = $1";

/// When the rest of the batch at the checkpoint was written, or else the next batch with events. Each
/// part finds one row by an index: joined, without statistics of the tables, they would be read whole.
const LAGS: &str = "
    SELECT p.name, coalesce(extract(epoch FROM clock_timestamp() - b.written_at), 0)::float8
    FROM projections p
    LEFT JOIN LATERAL (
        SELECT batch FROM log_entries WHERE entry = p.entry ORDER BY entry LIMIT 1) at ON true
    LEFT JOIN LATERAL (
        SELECT batch FROM stored_events
        WHERE batch = at.batch AND position > p.position ORDER BY position LIMIT 1) rest ON true
    LEFT JOIN LATERAL (
        SELECT batch FROM log_entries
        WHERE has_events AND entry > p.entry ORDER BY entry LIMIT 1) next ON true
    LEFT JOIN LATERAL (
        SELECT written_at FROM log_batches
        WHERE batch = coalesce(rest.batch, next.batch) ORDER BY batch LIMIT 1) b ON true";

const MOVE: &str = "
    INSERT INTO projections (name, entry, position) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, position = excluded.position";

const SET: &str = "
    INSERT INTO projection_rows (projection, key, value)
    SELECT $1, r.key, r.value::jsonb FROM unnest($2::text[], $3::text[]) AS r (key, value)
    ON CONFLICT (projection, key) DO UPDATE SET value = excluded.value";

const UNSET: &str = "DELETE FROM projection_rows WHERE projection = $1 AND key = ANY ($2)";

const FORGET: &str = "
    WITH gone AS (DELETE FROM projection_rows WHERE projection = $1)
    DELETE FROM projections WHERE name = $1";

/// No transaction lives longer, because the limits of its connection end it. A decision made longer
/// ago is committed and visible, or never will be.
const TRANSACTION_MAX: Duration = Duration::from_mins(1);

#[async_trait]
impl ProjectionStore for PgEventStore {
    async fn open_projection(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Option<OpenProjection>, EventStoreError> {
        self.usable()?;
        let (pool, name) = (self.pool.clone(), name.to_owned());
        let recent = Arc::clone(&self.recent_log);
        // The caller works between two halves that cannot be cancelled. If the step is dropped in
        // between, the transaction rolls back and the step is repeated.
        detached(async move {
            let tx = pool
                .begin_with(BEGIN_PLANNED_ONCE)
                .await
                .map_err(classify)?;
            match timeout(LONG_WORK_TIMEOUT, open(tx, name, &recent, limit)).await {
                Ok(opened) => opened,
                Err(_) => Err(timed_out(LONG_WORK_TIMEOUT)),
            }
        })
        .await
    }

    async fn projection_rows(&self, name: &str) -> Result<ProjectionRows, EventStoreError> {
        let query = sqlx::query(ROWS).bind(name);
        let found = self.fetch(LONG_WORK_TIMEOUT, query, rows::projection_row);
        Ok(found.await?.into_iter().collect())
    }

    async fn projection_lags(&self) -> Result<BTreeMap<String, f64>, EventStoreError> {
        let lags = self.fetch(WORK_TIMEOUT, sqlx::query(LAGS), |row| {
            Ok((nth(row, 0)?, nth(row, 1)?))
        });
        Ok(lags.await?.into_iter().collect())
    }

    async fn reset_projection(&self, name: &str) -> Result<(), EventStoreError> {
        self.usable()?;
        let (pool, name) = (self.pool.clone(), name.to_owned());
        detached(async move {
            let mut tx = begin(&pool).await?;
            for sql in [LOCK, FORGET] {
                execute(&mut tx, sqlx::query(sql).bind(&name)).await?;
            }
            commit_repeatable(tx).await
        })
        .await
    }
}

/// The transaction of an open step; it holds the projection's lock.
struct PgProjection {
    tx: Transaction<'static, Postgres>,
    name: String,
}

/// The result of [`BEGINNING`].
struct Beginning {
    now: DateTime<Utc>,
    log: LogIds,
    checkpoint: Option<LogPosition>,
}

/// Opens a step; `None` if another process is running the projection.
async fn open(
    mut tx: Transaction<'static, Postgres>,
    name: String,
    recent: &RecentLog,
    limit: u32,
) -> Result<Option<OpenProjection>, EventStoreError> {
    if !scalar::<bool>(&mut tx, sqlx::query(TRY_LOCK).bind(&name)).await? {
        return Ok(None);
    }
    // This order makes `settled` correct. Who reads the clock for a decision has one of these locks
    // by then. If nobody has one after this reading of the clock, everything decided before it has
    // ended, and the statements below see it.
    let beginning: Beginning = fetch_one(&mut tx, sqlx::query(BEGINNING).bind(&name), |row| {
        let checkpoint: (Option<i64>, Option<i64>) = (nth(row, 3)?, nth(row, 4)?);
        Ok(Beginning {
            now: nth(row, 0)?,
            log: rows::log_ids(nth(row, 1)?, nth(row, 2)?)?,
            checkpoint: match checkpoint {
                (Some(entry), Some(position)) => Some(LogPosition { entry, position }),
                _ => None,
            },
        })
    })
    .await?;
    let Beginning {
        now,
        log,
        checkpoint,
    } = beginning;
    let after = checkpoint.unwrap_or_default();
    let is_quiet: bool = scalar(&mut tx, sqlx::query(QUIET)).await?;
    let Page { entries, has_more } = read_recent_log(&mut tx, recent, after, limit).await?;
    let settled = match (has_more, is_quiet) {
        (false, true) => now,
        // Everything older than the longest possible transaction is committed, and so is read.
        (false, false) => now - TimeDelta::from_std(TRANSACTION_MAX).unwrap_or_default(),
        (true, _) => DateTime::UNIX_EPOCH,
    };
    let query = sqlx::query(ROWS).bind(&name);
    let rows = fetch(&mut tx, query, rows::projection_row).await?;
    Ok(Some(OpenProjection {
        now,
        log,
        settled,
        entries,
        is_full: has_more,
        at_beginning: checkpoint.is_none(),
        rows: rows.into_iter().collect(),
        tx: Box::new(PgProjection { tx, name }),
    }))
}

impl PgProjection {
    async fn write(
        self,
        write: ProjectionWrite,
        last: Option<LogPosition>,
    ) -> Result<(), EventStoreError> {
        let Self { mut tx, name } = self;
        let (set, unset): (Vec<_>, Vec<_>) =
            write.rows.into_iter().partition(|(_, row)| row.is_some());
        if !set.is_empty() {
            let (keys, values): (Vec<_>, Vec<_>) = set.into_iter().unzip();
            let values = values.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
            let query = sqlx::query(SET).bind(&name).bind(keys).bind(values);
            execute(&mut tx, query).await?;
        }
        if !unset.is_empty() {
            let keys: Vec<_> = unset.into_iter().map(|(key, _)| key).collect();
            execute(&mut tx, sqlx::query(UNSET).bind(&name).bind(keys)).await?;
        }
        outbox::enqueue(&mut tx, &write.messages).await?;
        goals::add(&mut tx, &write.actions).await?;
        for operator_command in write.operator_commands {
            operator_command_in(&mut Tables(&mut tx), operator_command).await?;
        }
        if let Some(last) = last {
            let query = sqlx::query(MOVE)
                .bind(&name)
                .bind(last.entry)
                .bind(last.position);
            execute(&mut tx, query).await?;
        }
        // The checkpoint and the rows show the next step whether this commit happened.
        commit_repeatable(tx).await
    }
}

#[async_trait]
impl ProjectionTx for PgProjection {
    async fn commit(
        self: Box<Self>,
        write: ProjectionWrite,
        last: Option<LogPosition>,
    ) -> Result<(), EventStoreError> {
        detached(async move {
            match timeout(WORK_TIMEOUT, self.write(write, last)).await {
                Ok(written) => written,
                Err(_) => Err(timed_out(WORK_TIMEOUT)),
            }
        })
        .await
    }
}
