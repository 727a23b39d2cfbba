//! Which deployment a database belongs to.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{Deployment, EventStoreError, RestoreReport, TableSize, UnsuitableServer},
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    query::{begin, commit_repeatable, execute, nth, scalar},
};
use crate::ids::LogId;

const DEPLOYMENT: &str = "SELECT id FROM deployment";
const LOG: &str = "SELECT log_id FROM deployment";

/// A sequence that the account may not read is taken to be right.
const FAULT: &str = "
    WITH log (ends) AS (SELECT coalesce(max(entry), 0) FROM log_entries),
    counted (name, used, sequence) AS (VALUES
        ('log_batches', (SELECT max(batch) FROM log_batches),
         pg_get_serial_sequence('log_batches', 'batch')::regclass),
        ('outbox', (SELECT max(position) FROM outbox),
         pg_get_serial_sequence('outbox', 'position')::regclass),
        ('task_counts', (SELECT max(id) FROM task_counts),
         pg_get_serial_sequence('task_counts', 'id')::regclass))
    SELECT format('the projection `%s` has read to entry %s, and the log ends at %s', name, entry, ends)
    FROM projections, log WHERE entry > ends
    UNION ALL
    SELECT format('an annotator model of `%s` has read to entry %s, and the log ends at %s',
                  workflow, entry, ends)
    FROM annotator_models, log WHERE entry > ends
    UNION ALL
    SELECT format('the log holds batch %s, and its order ends at %s', newest, ordered)
    FROM (SELECT (SELECT max(batch) FROM stored_events) AS newest,
                 (SELECT max(batch) FROM log_batches) AS ordered) AS batches
    WHERE newest > coalesce(ordered, 0)
    UNION ALL
    SELECT format('the sequence of `%s` is behind the table', name) FROM counted
    WHERE CASE WHEN has_sequence_privilege(sequence, 'SELECT')
               THEN coalesce(pg_sequence_last_value(sequence), 0) < used END
    LIMIT 1";

/// Sessions of this program from before this process connected: a reminder, no lock.
const AT_WORK: &str = "
    SELECT string_agg(DISTINCT format('%s since %s', usename, date_trunc('second', backend_start)), ', ')
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = current_setting('application_name')
      AND backend_start < (
          SELECT backend_start - interval '5 seconds' FROM pg_stat_activity
          WHERE pid = pg_backend_pid())";

/// The number of rows is of the last time that the server looked.
const SIZES: &str = "
    SELECT c.relname::text, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid),
           pg_indexes_size(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind = 'r'
    ORDER BY pg_total_relation_size(c.oid) DESC, c.relname";

const RENEW: &str = "
    UPDATE deployment
    SET former_logs = former_logs || jsonb_build_object('log_id', log_id, 'until', clock_timestamp()),
        log_id = gen_random_uuid()
    RETURNING log_id";

const SEQUENCES: [&str; 4] = [
    "SELECT setval(pg_get_serial_sequence('log_batches', 'batch'), greatest(
         (SELECT max(batch) FROM log_batches), (SELECT max(batch) FROM stored_events), 1))",
    "SELECT setval('log_positions', greatest(
         (SELECT max(position) FROM stored_events), (SELECT max(position) FROM log_messages), 1))",
    "SELECT setval(pg_get_serial_sequence('outbox', 'position'), greatest(
         (SELECT max(position) FROM outbox), nextval(pg_get_serial_sequence('outbox', 'position'))))",
    "SELECT setval(pg_get_serial_sequence('task_counts', 'id'), greatest(
         (SELECT max(id) FROM task_counts), nextval(pg_get_serial_sequence('task_counts', 'id'))))",
];

const RESET: &str = "
    DELETE FROM projections WHERE entry > (SELECT coalesce(max(entry), 0) FROM log_entries)";

/// A projection without a checkpoint begins anew.
const RESET_ROWS: &str = "
    DELETE FROM projection_rows WHERE projection NOT IN (SELECT name FROM projections)";

const FORGET: &str = "
    DELETE FROM annotator_models WHERE entry > (SELECT coalesce(max(entry), 0) FROM log_entries)";

const FREE_MESSAGES: &str = "
    UPDATE outbox SET owner = NULL, leased_until = NULL WHERE owner IS NOT NULL";

const FREE_TIMERS: &str = "UPDATE timers SET leased_until = NULL WHERE leased_until IS NOT NULL";

/// They are not ended here: a worker has to put back what they hold.
const STOP_JOBS: &str = "
    UPDATE jobs SET stop_by = coalesce(stop_by, 'glyph restore'), runner = NULL, leased_until = NULL
    WHERE state = 'running'";

/// A restored table has no statistics.
const ANALYZE: &str = "
    ANALYZE stored_events, log_entries, log_batches, log_messages, tasks, commands, outbox, timers,
        workflow_snapshots, projection_rows";

#[async_trait]
impl Deployment for PgEventStore {
    async fn deployment(&self) -> Result<Uuid, EventStoreError> {
        self.only(DEPLOYMENT).await
    }

    async fn log_id(&self) -> Result<LogId, EventStoreError> {
        self.only(LOG).await.map(LogId)
    }

    async fn check_whole(&self) -> Result<(), EventStoreError> {
        let found = self.fetch_optional(WORK_TIMEOUT, sqlx::query(FAULT), |row| nth(row, 0));
        match found.await? {
            Some(fault) => Err(UnsuitableServer::NotWhole(fault).into()),
            None => Ok(()),
        }
    }

    async fn table_sizes(&self) -> Result<Vec<TableSize>, EventStoreError> {
        let bytes = |bytes: i64| u64::try_from(bytes).ok();
        self.fetch(WORK_TIMEOUT, sqlx::query(SIZES), move |row| {
            Ok(TableSize {
                table: nth(row, 0)?,
                rows: bytes(nth(row, 1)?).unwrap_or_default(),
                bytes: bytes(nth(row, 2)?),
                index_bytes: bytes(nth(row, 3)?),
            })
        })
        .await
    }

    async fn restored(&self) -> Result<RestoreReport, EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                let at_work: Option<String> = scalar(&mut tx, sqlx::query(AT_WORK)).await?;
                if let Some(at_work) = at_work {
                    return Err(UnsuitableServer::AtWork(at_work).into());
                }
                let log_id = scalar(&mut tx, sqlx::query(RENEW)).await?;
                for sql in SEQUENCES {
                    execute(&mut tx, sqlx::query(sql)).await?;
                }
                let projections_reset = execute(&mut tx, sqlx::query(RESET)).await?;
                execute(&mut tx, sqlx::query(RESET_ROWS)).await?;
                let models_forgotten = execute(&mut tx, sqlx::query(FORGET)).await?;
                let messages = execute(&mut tx, sqlx::query(FREE_MESSAGES)).await?;
                let timers = execute(&mut tx, sqlx::query(FREE_TIMERS)).await?;
                let jobs_stopped = execute(&mut tx, sqlx::query(STOP_JOBS)).await?;
                execute(&mut tx, sqlx::query(ANALYZE)).await?;
                // Once more changes nothing but the id.
                commit_repeatable(tx).await?;
                Ok(RestoreReport {
                    log_id,
                    projections_reset,
                    models_forgotten,
                    leases_ended: messages + timers,
                    jobs_stopped,
                })
            })
        })
        .await
    }
}

impl PgEventStore {
    /// An id of the one row.
    async fn only(&self, sql: &'static str) -> Result<Uuid, EventStoreError> {
        let found = self.fetch_optional(WORK_TIMEOUT, sqlx::query(sql), |row| nth(row, 0));
        found.await?.ok_or_else(|| {
            EventStoreError::Other("the table deployment is empty: insert a row".into())
        })
    }
}
