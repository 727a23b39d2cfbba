//! The file, its connections, its clock and its schema.

use std::{
    fmt,
    panic::resume_unwind,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, SubsecRound, Utc};
use sqlx::{
    ConnectOptions, Connection, Decode, Sqlite, SqlitePool, Transaction, Type,
    migrate::Migrator,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use super::{
    super::{
        Clock, EventStoreError, UnsuitableServer,
        migrations::{Applied, MigrationFile, cause, migrator},
    },
    error::{classify, classify_commit},
    query::{self, SqliteQuery},
};

/// How long a statement waits for a writing process before it fails as `Unavailable`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for the writing connection before it fails as `Unavailable`.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Reading connections; further callers wait.
const READERS: u32 = 4;
/// The size in bytes to which the write-ahead log is truncated after a checkpoint.
const WAL_BYTES_KEPT: &str = "67108864";

/// The migrations, oldest first. Forward only: a released file is never changed.
const MIGRATIONS: [MigrationFile; 1] = [MigrationFile {
    version: 1,
    name: "store",
    sql: include_str!("../../../../migrations/sqlite/0001_store.sql"),
}];

const MIGRATION_TABLE: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations')";
const MIGRATIONS_APPLIED: &str = "
    SELECT COALESCE(MAX(version), 0), (SELECT checksum FROM _sqlx_migrations WHERE version = 1)
    FROM _sqlx_migrations WHERE success";

/// A store in one SQLite file. Clones share it.
#[derive(Clone)]
pub struct SqliteEventStore {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    clock: Clock,
}

impl fmt::Debug for SqliteEventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEventStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Creates the file for its owner alone, unless it is there. SQLite gives the files beside it (`-wal`,
/// `-shm`) the same permissions.
#[expect(
    clippy::disallowed_methods,
    reason = "the driver cannot say which permissions its file gets"
)]
fn create_private(path: &Path) -> Result<(), EventStoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(classify(sqlx::Error::Io(error))),
    }
}

impl SqliteEventStore {
    /// Opens the file, or creates an empty one that only its owner can read;
    /// [`migrate`](Self::migrate) creates the tables.
    ///
    /// The clock gives the time of every decision and lease. Processes that share a file should run
    /// on one machine, as SQLite requires anyway, and so share a clock.
    pub async fn open(path: impl AsRef<Path>, clock: Clock) -> Result<Self, EventStoreError> {
        let path = path.as_ref().to_owned();
        create_private(&path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(false)
            .disable_statement_logging();
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .after_release(|connection, _| {
                Box::pin(async move {
                    // Waits for a rollback started by a drop. If SQLite itself has rolled back (a
                    // full disk), the driver still counts a transaction: a connection in that state
                    // is closed, not reused.
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(
                options
                    .clone()
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .pragma("journal_size_limit", WAL_BYTES_KEPT),
            )
            .await
            .map_err(classify)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self {
            path,
            writer,
            readers,
            clock,
        })
    }

    /// Migrates the schema. Concurrent processes wait for each other.
    pub async fn migrate(&self) -> Result<(), EventStoreError> {
        self.apply(migrator(&MIGRATIONS)).await
    }

    /// Migrates tables that a program keeps beside the store's, by a list of its own. A table with
    /// the given name records the applied migrations.
    pub async fn migrate_beside(
        &self,
        table: &'static str,
        files: &[MigrationFile],
    ) -> Result<(), EventStoreError> {
        let mut migrator = migrator(files);
        migrator.dangerous_set_table_name(table);
        self.apply(migrator).await
    }

    async fn apply(&self, migrator: Migrator) -> Result<(), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            migrator
                .run_direct(None, &mut *tx, false)
                .await
                .map_err(|error| match cause(error) {
                    Some(error) => classify(error),
                    None => UnsuitableServer::OtherBaseline.into(),
                })?;
            commit(tx).await
        })
        .await
    }

    /// Checks that the schema is at least the one this build needs. A newer one is fine: migrations
    /// only add, so an old and a new build can share a file.
    pub async fn check_migrated(&self) -> Result<(), EventStoreError> {
        let exists: bool = self.scalar(sqlx::query(MIGRATION_TABLE)).await?;
        let applied = if exists {
            let found = self.fetch(sqlx::query(MIGRATIONS_APPLIED), |row| {
                Ok(Applied {
                    newest: query::nth(row, 0)?,
                    first: query::nth(row, 1)?,
                })
            });
            found.await?.pop().unwrap_or_default()
        } else {
            Applied::default()
        };
        applied.check(&MIGRATIONS)
    }

    /// Reads all rows of a statement.
    pub(super) async fn fetch<T>(
        &self,
        query: SqliteQuery,
        decode: impl Fn(&SqliteRow) -> Result<T, EventStoreError>,
    ) -> Result<Vec<T>, EventStoreError> {
        query::fetch(&self.readers, query, decode).await
    }

    /// Reads the row of a statement, if there is one.
    pub(super) async fn fetch_optional<T>(
        &self,
        query: SqliteQuery,
        decode: impl Fn(&SqliteRow) -> Result<T, EventStoreError>,
    ) -> Result<Option<T>, EventStoreError> {
        query::fetch_optional(&self.readers, query, decode).await
    }

    /// Reads the one value of a statement.
    pub(super) async fn scalar<T>(&self, query: SqliteQuery) -> Result<T, EventStoreError>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite>,
    {
        query::scalar(&self.readers, query).await
    }

    /// Runs one statement that writes, in a transaction of its own.
    pub(super) async fn execute(&self, query: SqliteQuery) -> Result<(), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            query::execute(&mut tx, query).await?;
            commit(tx).await
        })
        .await
    }

    /// Begins a write transaction, exclusive in the file until it ends. For tables that a program
    /// keeps beside the store's; await it where it cannot be cancelled.
    pub async fn begin(&self) -> Result<Transaction<'static, Sqlite>, EventStoreError> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(classify)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The reading connections; they reject writes.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The store's clock, in whole microseconds.
    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)().trunc_subsecs(6)
    }

    /// Closes all connections; later calls fail as `Unavailable`.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Commits a transaction of [`SqliteEventStore::begin`].
pub(super) async fn commit(tx: Transaction<'static, Sqlite>) -> Result<(), EventStoreError> {
    tx.commit().await.map_err(classify_commit)
}

/// Runs database work to its end, even if the caller is cancelled. A driver call dropped half-way
/// leaves a connection in an unknown state, and an abandoned COMMIT has usually happened.
pub(super) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, EventStoreError>> + Send + 'static,
) -> Result<T, EventStoreError> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down.
            Err(error) => Err(EventStoreError::CommitUnknown(Box::new(error))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::migrations::assert_complete, *};

    #[test]
    fn the_list_of_migrations_is_its_folder() {
        assert_complete(&MIGRATIONS, "sqlite");
    }
}
