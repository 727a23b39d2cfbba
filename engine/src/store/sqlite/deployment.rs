//! Which deployment a database belongs to.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::{Builder, Uuid, fmt::Hyphenated};

use super::{
    super::{
        Deployment, EventStoreError, RestoreReport, TableSize, UnsuitableServer, rows::log_ids,
    },
    SqliteEventStore,
    connection::{commit, detached},
    query::{execute, fetch, nth, scalar},
};
use crate::ids::{LogId, LogIds};

const DEPLOYMENT: &str = "SELECT id FROM deployment";
const LOG: &str = "SELECT log_id FROM deployment";
const LOGS: &str = "SELECT log_id, former_logs FROM deployment";

const FAULT: &str = "
    SELECT 'the projection `' || name || '` has read to event ' || position
           || ', and the log ends at ' || ends
    FROM projections, (SELECT COALESCE(MAX(position), 0) AS ends FROM stored_events)
    WHERE position > ends
    UNION ALL
    SELECT 'an annotator model of `' || workflow || '` has read to event ' || position
           || ', and the log ends at ' || ends
    FROM annotator_models, (SELECT COALESCE(MAX(position), 0) AS ends FROM stored_events)
    WHERE position > ends
    LIMIT 1";

const TABLES: &str = "
    SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";

const RENEW: &str = "
    UPDATE deployment
    SET former_logs = json_insert(former_logs, '$[#]', json_object('log_id', log_id, 'until', ?2)),
        log_id = ?1";

const RESET: &str = "
    DELETE FROM projections
    WHERE position > (SELECT COALESCE(MAX(position), 0) FROM stored_events)";

/// A projection without a checkpoint begins anew.
const RESET_ROWS: &str = "
    DELETE FROM projection_rows WHERE projection NOT IN (SELECT name FROM projections)";

const FORGET: &str = "
    DELETE FROM annotator_models
    WHERE position > (SELECT COALESCE(MAX(position), 0) FROM stored_events)";

const FREE_MESSAGES: &str =
    "UPDATE outbox SET owner = NULL, leased_until = NULL WHERE owner IS NOT NULL";

const FREE_TIMERS: &str = "UPDATE timers SET leased_until = NULL WHERE leased_until IS NOT NULL";

/// They are not ended here: a worker has to put back what they hold.
const STOP_JOBS: &str = "
    UPDATE jobs SET stop_by = coalesce(stop_by, 'glyph restore'), runner = NULL, leased_until = NULL
    WHERE state = 'running'";

#[async_trait]
impl Deployment for SqliteEventStore {
    async fn deployment(&self) -> Result<Uuid, EventStoreError> {
        let found = self.fetch(sqlx::query(DEPLOYMENT), |row| nth::<Hyphenated>(row, 0));
        only(found.await?)
    }

    async fn log_id(&self) -> Result<LogId, EventStoreError> {
        let found = self.fetch(sqlx::query(LOG), |row| nth::<Hyphenated>(row, 0));
        only(found.await?).map(LogId)
    }

    async fn check_whole(&self) -> Result<(), EventStoreError> {
        let found = self.fetch_optional(sqlx::query(FAULT), |row| nth(row, 0));
        match found.await? {
            Some(fault) => Err(UnsuitableServer::NotWhole(fault).into()),
            None => Ok(()),
        }
    }

    /// Counts the rows; a file does not tell what of it belongs to which table.
    async fn table_sizes(&self) -> Result<Vec<TableSize>, EventStoreError> {
        let tables = self.fetch(sqlx::query(TABLES), |row| nth::<String>(row, 0));
        let mut sizes = Vec::new();
        for table in tables.await? {
            let count = format!("SELECT COUNT(*) FROM \"{table}\"");
            let count: i64 = self.scalar(sqlx::query(AssertSqlSafe(count))).await?;
            sizes.push(TableSize {
                table,
                rows: u64::try_from(count).unwrap_or_default(),
                bytes: None,
                index_bytes: None,
            });
        }
        sizes.sort_by(|a, b| b.rows.cmp(&a.rows).then(a.table.cmp(&b.table)));
        Ok(sizes)
    }

    async fn restored(&self) -> Result<RestoreReport, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let drawn: Vec<u8> = scalar(&mut *tx, sqlx::query("SELECT randomblob(16)")).await?;
            let drawn = drawn.try_into().unwrap_or_default();
            let log_id = Builder::from_random_bytes(drawn).into_uuid();
            let query = sqlx::query(RENEW).bind(log_id.hyphenated());
            let query = query.bind(store.now().to_rfc3339());
            execute(&mut tx, query).await?;
            let mut report = RestoreReport {
                log_id,
                ..RestoreReport::default()
            };
            report.projections_reset = changed(&mut tx, RESET).await?;
            changed(&mut tx, RESET_ROWS).await?;
            report.models_forgotten = changed(&mut tx, FORGET).await?;
            report.leases_ended = changed(&mut tx, FREE_MESSAGES).await?;
            report.leases_ended += changed(&mut tx, FREE_TIMERS).await?;
            report.jobs_stopped = changed(&mut tx, STOP_JOBS).await?;
            commit(tx).await?;
            Ok(report)
        })
        .await
    }
}

/// Runs a statement; returns how many rows it changed.
async fn changed(
    connection: &mut SqliteConnection,
    sql: &'static str,
) -> Result<u64, EventStoreError> {
    execute(&mut *connection, sqlx::query(sql)).await?;
    let count: i64 = scalar(connection, sqlx::query("SELECT changes()")).await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// The ids of the log, within a transaction.
pub(super) async fn logs(connection: &mut SqliteConnection) -> Result<LogIds, EventStoreError> {
    let mut found = fetch(connection, sqlx::query(LOGS), |row| {
        let (present, former) = (nth::<Hyphenated>(row, 0)?, nth::<String>(row, 1)?);
        log_ids(present.into_uuid(), &former)
    })
    .await?;
    found.pop().ok_or_else(no_row)
}

/// The id of the log, within a transaction.
pub(super) async fn log(connection: &mut SqliteConnection) -> Result<LogId, EventStoreError> {
    let found = fetch(connection, sqlx::query(LOG), |row| {
        nth::<Hyphenated>(row, 0)
    });
    only(found.await?).map(LogId)
}

/// An id of the one row.
fn only(mut found: Vec<Hyphenated>) -> Result<Uuid, EventStoreError> {
    Ok(found.pop().ok_or_else(no_row)?.into_uuid())
}

fn no_row() -> EventStoreError {
    EventStoreError::Other("the table deployment is empty: insert a row".into())
}
