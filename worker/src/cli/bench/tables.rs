//! What a run left in the tables. Both subjects have `commands` and `outbox`.

use glyph_workflow_engine::store::PgEventStore;
use sqlx::{PgPool, SqlitePool};

use super::{super::CliError, subject::Work};
use crate::{app::Database, telemetry};

/// How many commands there are, how many of them were decided after the first batch, and how long
/// after it the last one, in seconds.
const DECIDED: &str = "
    SELECT count(*), count(*) FILTER (WHERE decided_at > first),
           coalesce(extract(epoch FROM max(decided_at) - min(first)), 0)::float8
    FROM commands, (SELECT min(decided_at) AS first FROM commands) AS f";
const DECIDED_SQLITE: &str = "
    SELECT count(*), count(*) FILTER (WHERE decided_at > first),
           coalesce((max(decided_at) - min(first)) / 1e6, 0.0)
    FROM commands, (SELECT min(decided_at) AS first FROM commands) AS f";
const COUNT: &str = "SELECT count(*) FROM commands";
const OUTBOX: &str = "SELECT count(*) FROM outbox";
/// Bytes of the log of the server, and images of whole pages in it, since it was made.
const WAL: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8";
const PAGE_IMAGES: &str = "SELECT wal_fpi::float8 FROM pg_stat_wal";
/// The contents of events, and what is kept of their causes: two ids of sixteen bytes, and texts.
const EVENTS: &str = "
    SELECT count(*)::float8,
           coalesce(avg(octet_length(event_data) + 32 + coalesce(octet_length(actor), 0)
                        + coalesce(octet_length(correlation_id), 0)
                        + coalesce(octet_length(traceparent), 0)), 0)::float8
    FROM stored_events";

/// When the commands of a run were decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    /// How many.
    pub(super) commands: u64,
    /// From the first batch to the last.
    pub(super) seconds: f64,
    /// How many a second; without the first batch, whose beginning is not known.
    pub(super) per_second: f64,
}

/// The tables of a run.
pub(super) enum Tables {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Tables {
    /// The tables behind a database.
    pub(super) fn of(database: &Database) -> Self {
        match database {
            Database::Postgres(store) => Self::Postgres(PgEventStore::pool(store).clone()),
            Database::Sqlite(store) => Self::Sqlite(store.readers().clone()),
        }
    }

    /// Commands that are decided.
    pub(super) async fn count(&self) -> Result<u64, CliError> {
        self.whole(COUNT).await
    }

    /// Messages that wait to be published.
    pub(super) async fn outbox(&self) -> Result<u64, CliError> {
        self.whole(OUTBOX).await
    }

    /// When the commands were decided.
    pub(super) async fn decided(&self) -> Result<Decided, CliError> {
        let (count, later, seconds): (i64, i64, f64) = match self {
            Self::Postgres(pool) => sqlx::query_as(DECIDED).fetch_one(pool).await,
            Self::Sqlite(pool) => sqlx::query_as(DECIDED_SQLITE).fetch_one(pool).await,
        }
        .map_err(unread)?;
        Ok(Decided {
            commands: u64::try_from(count).unwrap_or_default(),
            per_second: later as f64 / seconds.max(f64::EPSILON),
            seconds,
        })
    }

    /// Bytes that the server has written to its log, and the images of whole pages among them; none
    /// on SQLite.
    pub(super) async fn wal(&self) -> Option<(f64, f64)> {
        let Self::Postgres(pool) = self else {
            return None;
        };
        let bytes = sqlx::query_scalar(WAL).fetch_one(pool).await.ok()?;
        let images = sqlx::query_scalar(PAGE_IMAGES).fetch_one(pool).await.ok()?;
        Some((bytes, images))
    }

    /// Events of a worker's run; what is known of messages is added by the caller.
    pub(super) async fn events(&self, commands: u64) -> Result<Work, CliError> {
        let Self::Postgres(pool) = self else {
            return Ok(Work::default());
        };
        let (count, bytes): (f64, f64) = sqlx::query_as(EVENTS)
            .fetch_one(pool)
            .await
            .map_err(unread)?;
        Ok(Work {
            events: count / commands.max(1) as f64,
            event_bytes: bytes,
            ..Work::default()
        })
    }

    async fn whole(&self, query: &'static str) -> Result<u64, CliError> {
        let found: i64 = match self {
            Self::Postgres(pool) => sqlx::query_scalar(query).fetch_one(pool).await,
            Self::Sqlite(pool) => sqlx::query_scalar(query).fetch_one(pool).await,
        }
        .map_err(unread)?;
        Ok(u64::try_from(found).unwrap_or_default())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` takes it")]
fn unread(error: sqlx::Error) -> CliError {
    CliError::failed("database", telemetry::chain(&error))
}
