//! Which deployment and which log a database is.

use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use super::EventStoreError;
use crate::ids::LogId;

/// What was put right after a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The new id of the log.
    pub log_id: Uuid,
    /// Projections that had read further than the log goes, and begin anew.
    pub projections_reset: u64,
    /// Annotator models that had, and are learned anew.
    pub models_forgotten: u64,
    /// Messages and timers that processes of before the restore had leased, and are free.
    pub leases_ended: u64,
    /// Jobs that were at work, and are told to stop: a worker puts back what they hold.
    pub jobs_stopped: u64,
}

/// How large a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableSize {
    /// Its name.
    pub table: String,
    /// Rows; an estimate of the server where it keeps one.
    pub rows: u64,
    /// Bytes of everything that belongs to it; none where the database cannot tell.
    pub bytes: Option<u64>,
    /// Bytes of its indexes among them.
    pub index_bytes: Option<u64>,
}

/// The identity of a database and of its log.
#[async_trait]
pub trait Deployment: Send + Sync {
    /// The id by which its workers claim their names on a broker, drawn when the database was
    /// migrated first. A copy of the database has it too.
    async fn deployment(&self) -> Result<Uuid, EventStoreError>;

    /// The id of the log. A copy of the database has it too, until [`restored`](Self::restored)
    /// draws another.
    async fn log_id(&self) -> Result<LogId, EventStoreError>;

    /// Fails with [`UnsuitableServer::NotWhole`](super::UnsuitableServer::NotWhole) where
    /// checkpoints are beyond the log or sequences behind their tables.
    async fn check_whole(&self) -> Result<(), EventStoreError>;

    /// Makes a database that was restored to an earlier time fit to go on: a new id for the log, so
    /// that what happens anew has new ids; sequences at least at the ends of their tables; without
    /// checkpoints beyond the log and leases; with jobs at work told to stop. Nobody else may be at work
    /// on it.
    async fn restored(&self) -> Result<RestoreReport, EventStoreError>;

    /// The sizes of all tables, largest first.
    async fn table_sizes(&self) -> Result<Vec<TableSize>, EventStoreError>;
}
