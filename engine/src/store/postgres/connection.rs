//! Connections: setup, time limits and disposal.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgPoolOptions, PgRow, Postgres},
    raw_sql,
};
use tokio::time::timeout;

use super::{
    super::{
        EventStoreError, SplitReason, UnsuitableServer,
        migrations::{Applied, MigrationFile, cause, migrator},
    },
    endpoint::{PgEndpoint, is_local, unconnected},
    error::{TimedOut, classify, connection_survives, is_lock_timeout, is_undefined_table},
    query::{self, PgQuery},
    recent_log::RecentLog,
    session::{self, SessionGuard, Survey, survey},
};

/// The server cancels every statement after this time.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Waiting for a lock ends after this time: another transaction holds it for too long.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// The server ends a session that is idle in an open transaction for this long, which frees the
/// locks of a frozen process.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the server checks whether the client of a running statement is still connected.
const CLIENT_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Waiting for a connection from the pool ends after this time.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// The client's own limit for a unit of work. It is longer than the server's limits, whose errors
/// are more specific.
pub(super) const WORK_TIMEOUT: Duration = Duration::from_secs(10);
/// The same limit for work that reads a lot: rebuilding, searching, projections.
pub(super) const LONG_WORK_TIMEOUT: Duration = Duration::from_mins(1);
/// A migration may take long, but never waits long for a lock: everybody who wants the table would
/// queue up behind it.
const MIGRATION_LIMITS: &str =
    "SET statement_timeout = 0; SET lock_timeout = '2s'; SET client_min_messages = warning";
/// How often a migration tries for its locks: for about ten minutes.
const MIGRATION_TRIES: u32 = 150;
/// An idle connection that does not answer a ping within this time is replaced.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Closing or rolling back a connection that may be dead ends after this time.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The migrations, oldest first. Forward only: a released file is never changed.
const MIGRATIONS: [MigrationFile; 1] = [MigrationFile {
    version: 1,
    name: "init",
    sql: include_str!("../../../../migrations/postgres/0001_init.sql"),
}];

/// Connection settings.
#[derive(Clone, Debug)]
pub struct PgSettings {
    /// The schema that contains the tables; [`PgEventStore::migrate`] creates it if it is missing.
    pub schema: String,
    /// Maximum number of connections; further work waits. More than eight make the server slower.
    pub max_connections: u32,
    /// The application name that the server shows for the connections.
    pub application_name: String,
    /// How much of the link is encrypted and verified where the URL does not say it: the value of
    /// `PGSSLMODE`. Without it, everything beyond this machine.
    pub ssl_mode: Option<String>,
}

impl Default for PgSettings {
    fn default() -> Self {
        Self {
            schema: "public".to_owned(),
            max_connections: 8,
            application_name: "glyph".to_owned(),
            ssl_mode: None,
        }
    }
}

/// The store on Postgres. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct PgEventStore {
    pub(super) pool: PgPool,
    /// The schema of the tables; `None` if the caller made the pool, which then sets its own.
    schema: Option<String>,
    sessions: Arc<SessionGuard>,
    /// What projections have read of the log.
    pub(super) recent_log: Arc<RecentLog>,
}

impl PgEventStore {
    /// A store at `url`. Connects on first use, so starting does not fail while the server is away.
    pub fn connect_lazy(url: &str, settings: &PgSettings) -> Result<Self, EventStoreError> {
        let endpoint = PgEndpoint::read(url, settings.ssl_mode.as_deref())
            .map_err(|error| EventStoreError::Other(error.into()))?;
        let options = endpoint
            .options()
            .application_name(&settings.application_name);
        let sessions = Arc::default();
        let pool = pool_options(settings, &sessions).connect_lazy_with(options);
        Ok(Self {
            pool,
            schema: Some(settings.schema.clone()),
            sessions,
            recent_log: Arc::default(),
        })
    }

    /// A store at `url`, after [`check_server`](Self::check_server); the server may be one that
    /// only reads.
    pub async fn connect(url: &str, settings: PgSettings) -> Result<Self, EventStoreError> {
        let store = Self::connect_lazy(url, &settings)?;
        match store.check_server().await {
            Err(EventStoreError::Unsuitable(why)) if !why.is_lasting() => Ok(store),
            checked => checked.map(|()| store),
        }
    }

    /// Checks, on two connections of its own, that the server can be used: its encoding, whether
    /// it keeps what it acknowledges, whether each connection has a session to itself, whether it
    /// takes writes. Fails at once, with the reason, where nothing is listening or the password is
    /// wrong; the pool would retry until its time limit and report only a timeout.
    pub async fn check_server(&self) -> Result<(), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let (mut one, mut other) =
                tokio::try_join!(store.connect_once(), store.connect_once())?;
            let surveyed = store.survey(&mut one, Some(&mut other)).await;
            let _ = timeout(CLOSE_TIMEOUT, async {
                tokio::join!(one.close(), other.close())
            })
            .await;
            store.judge(&surveyed?)
        })
        .await
    }

    /// The same check on connections of the pool, cheap enough for every few seconds. Where all
    /// others are at work, whether sessions are shared is left for the next time.
    ///
    /// While sessions are shared all other calls fail: a pooler's mode may change at any time, and
    /// statements of other programs would be run.
    pub async fn recheck_server(&self) -> Result<(), EventStoreError> {
        let store = self.clone();
        detached(async move {
            let pool = &store.pool;
            let mut one = pool.acquire().await.map_err(unconnected)?;
            let mut other = match pool.try_acquire() {
                None if pool.size() < pool.options().get_max_connections() => {
                    Some(pool.acquire().await.map_err(unconnected)?)
                }
                other => other,
            };
            let surveyed = store.survey(&mut one, other.as_deref_mut()).await;
            if surveyed.is_err() {
                discard(one).await;
                if let Some(other) = other {
                    discard(other).await;
                }
            }
            store.judge(&surveyed?)
        })
        .await
    }

    async fn survey(
        &self,
        one: &mut PgConnection,
        other: Option<&mut PgConnection>,
    ) -> Result<Survey, EventStoreError> {
        let local = is_local(&self.pool.connect_options());
        match timeout(WORK_TIMEOUT, survey(one, other, local)).await {
            Ok(surveyed) => surveyed.map_err(classify),
            Err(_) => Err(timed_out(WORK_TIMEOUT)),
        }
    }

    fn judge(&self, survey: &Survey) -> Result<(), EventStoreError> {
        self.sessions.learn(survey);
        match &survey.unsuitable {
            Some(why) => Err(why.clone().into()),
            None => self.usable(),
        }
    }

    /// Fails while sessions are shared; comes before all work.
    pub(super) fn usable(&self) -> Result<(), EventStoreError> {
        self.sessions.usable()
    }

    /// A connection outside the pool.
    async fn connect_once(&self) -> Result<PgConnection, EventStoreError> {
        let options = self.pool.connect_options();
        timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&options))
            .await
            .map_err(|_| timed_out(ACQUIRE_TIMEOUT))?
            .map_err(unconnected)
    }

    /// A store on the caller's connections, with their time limits and `search_path`.
    pub fn from_pool(pool: PgPool) -> Self {
        Self {
            pool,
            schema: None,
            sessions: Arc::default(),
            recent_log: Arc::default(),
        }
    }

    /// The connections.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Whether the server answers: on an idle connection, or else on one of its own, so that it is
    /// known too while all others are busy.
    pub async fn ping(&self) -> Result<(), EventStoreError> {
        if let Some(mut conn) = self.pool.try_acquire() {
            match timeout(PING_TIMEOUT, conn.ping()).await {
                Ok(Ok(())) => return Ok(()),
                // It may have been idle while the server restarted.
                Ok(Err(_)) | Err(_) => discard(conn).await,
            }
        }
        let conn = self.connect_once().await?;
        let _ = timeout(CLOSE_TIMEOUT, conn.close()).await;
        Ok(())
    }

    /// Brings the schema to what this build needs; does nothing if it is current.
    ///
    /// Uses a connection of its own and a lock: if several processes start together, one migrates
    /// and the others wait. A migration that cannot have the lock of a table is tried again, for
    /// about ten minutes, and holds nobody up meanwhile. Migrations of later builds are ignored, so
    /// an old and a new build can run on one schema.
    pub async fn migrate(&self) -> Result<(), EventStoreError> {
        self.migrate_by(&MIGRATIONS).await
    }

    /// [`migrate`](Self::migrate) by another list, to try out how migrations are applied.
    #[doc(hidden)]
    pub async fn migrate_by(&self, files: &[MigrationFile]) -> Result<(), EventStoreError> {
        let (store, schema) = (self.clone(), self.schema.clone());
        let migrator = migrator(files);
        detached(async move {
            let mut conn = store.connect_once().await?;
            let migrated = apply_migrations(&mut conn, migrator, schema.as_deref()).await;
            let _ = timeout(CLOSE_TIMEOUT, conn.close()).await;
            migrated
        })
        .await
    }

    /// Checks that the schema is the one this build needs, or a later one.
    pub async fn check_migrated(&self) -> Result<(), EventStoreError> {
        const APPLIED: &str = "
            SELECT coalesce(max(version), 0),
                   (SELECT checksum FROM _sqlx_migrations WHERE version = 1)
            FROM _sqlx_migrations WHERE success";
        let applied = self
            .run(WORK_TIMEOUT, |conn| {
                Box::pin(async move {
                    match sqlx::query(APPLIED).fetch_one(conn).await {
                        Ok(row) => Ok(Applied {
                            newest: query::nth(&row, 0)?,
                            first: query::nth(&row, 1)?,
                        }),
                        Err(error) if is_undefined_table(&error) => Ok(Applied::default()),
                        Err(error) => Err(classify(error)),
                    }
                })
            })
            .await?;
        applied.check(&MIGRATIONS)
    }

    /// Runs one statement.
    pub(super) async fn execute(
        &self,
        limit: Duration,
        query: PgQuery,
    ) -> Result<(), EventStoreError> {
        self.run(limit, |conn| {
            Box::pin(async move { query::execute(conn, query).await.map(drop) })
        })
        .await
    }

    /// Reads all rows of one statement.
    pub(super) async fn fetch<T>(
        &self,
        limit: Duration,
        query: PgQuery,
        decode: impl Fn(&PgRow) -> Result<T, EventStoreError>,
    ) -> Result<Vec<T>, EventStoreError> {
        let rows = self
            .run(limit, |conn| {
                Box::pin(async move { query.fetch_all(conn).await.map_err(classify) })
            })
            .await?;
        rows.iter().map(decode).collect()
    }

    /// Reads the row of one statement, if there is one.
    pub(super) async fn fetch_optional<T>(
        &self,
        limit: Duration,
        query: PgQuery,
        decode: impl Fn(&PgRow) -> Result<T, EventStoreError>,
    ) -> Result<Option<T>, EventStoreError> {
        let row = self
            .run(limit, |conn| {
                Box::pin(async move { query.fetch_optional(conn).await.map_err(classify) })
            })
            .await?;
        row.as_ref().map(decode).transpose()
    }

    /// Runs `work` on a connection, to its end even if the caller is cancelled.
    pub(super) async fn run<T, W>(&self, limit: Duration, work: W) -> Result<T, EventStoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, T> + Send + 'static,
    {
        self.usable()?;
        let pool = self.pool.clone();
        detached(async move {
            let mut conn = pool.acquire().await.map_err(unconnected)?;
            let done = match timeout(limit, work(&mut conn)).await {
                Ok(done) => done,
                Err(_) => Err(timed_out(limit)),
            };
            if done
                .as_ref()
                .is_err_and(|error| !connection_survives(error))
            {
                discard(conn).await;
            }
            done
        })
        .await
    }
}

/// A unit of work on a connection.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, EventStoreError>> + Send + 'c>>;

/// Runs `work` in a task of its own, which is not cancelled with the caller.
pub(super) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, EventStoreError>> + Send + 'static,
) -> Result<T, EventStoreError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) if error.is_cancelled() => Err(EventStoreError::Unavailable(error.into())),
        Err(error) => Err(EventStoreError::Other(error.into())),
    }
}

/// The client's own limit expired.
pub(super) fn timed_out(limit: Duration) -> EventStoreError {
    EventStoreError::hindered(SplitReason::TooSlow, TimedOut(limit))
}

/// Removes a connection from the pool and closes it without contacting the server, which may be
/// away. The pool can open another one at once.
pub(super) async fn discard(conn: PoolConnection<Postgres>) {
    let conn = conn.detach();
    let _ = timeout(CLOSE_TIMEOUT, conn.close_hard()).await;
}

/// Ends the transaction of a connection if there is one, which there seldom is: a rollback alone would
/// then be a warning in the server's log, each time a connection is returned.
const END_ANY: &str = "BEGIN; ROLLBACK";

/// Rolls back the transaction of a connection and returns it to the pool. A
/// connection that does not respond is discarded.
pub(super) async fn roll_back(mut conn: PoolConnection<Postgres>) {
    let done = timeout(CLOSE_TIMEOUT, raw_sql("ROLLBACK").execute(&mut *conn)).await;
    if !matches!(done, Ok(Ok(_))) {
        discard(conn).await;
    }
}

fn pool_options(settings: &PgSettings, sessions: &Arc<SessionGuard>) -> PgPoolOptions {
    let millis = |limit: Duration| format!("{}ms", limit.as_millis());
    let search_path = format!("\"{}\"", settings.schema.replace('"', "\"\""));
    let session: Arc<[(&str, String)]> = Arc::new([
        ("search_path", search_path),
        ("statement_timeout", millis(STATEMENT_TIMEOUT)),
        ("lock_timeout", millis(LOCK_TIMEOUT)),
        (
            "idle_in_transaction_session_timeout",
            millis(IDLE_IN_TRANSACTION_TIMEOUT),
        ),
        (
            "client_connection_check_interval",
            millis(CLIENT_CHECK_INTERVAL),
        ),
        // Arrays of a thousand elements and of one need different plans, and a plan made while the
        // tables were empty would scan them for ever.
        ("plan_cache_mode", "force_custom_plan".to_owned()),
        // Statements are short. Where the planner knows nothing of large tables yet, it expects them
        // to be long, and compiling would take more time than running.
        ("jit", "off".to_owned()),
        // What the server tells beside errors is for its own log.
        ("client_min_messages", "error".to_owned()),
        // Bytes inside JSON are read back as hexadecimal.
        ("bytea_output", "hex".to_owned()),
        // Numbers inside JSON are read back as they were.
        ("extra_float_digits", "3".to_owned()),
        ("timezone", "UTC".to_owned()),
    ]);
    let sessions = Arc::clone(sessions);
    PgPoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |conn, _| {
            let session = Arc::clone(&session);
            Box::pin(async move {
                timeout(ACQUIRE_TIMEOUT, session::set(conn, &session))
                    .await
                    .map_err(|_| sqlx::Error::PoolTimedOut)?
            })
        })
        .before_acquire(move |_, connection| {
            let admitted = sessions.admits(connection.age);
            Box::pin(async move { Ok(admitted) })
        })
        // A cancelled `begin` in sqlx 0.9.0 returns a connection inside a transaction to the pool.
        .after_release(|conn, _| {
            Box::pin(async move {
                timeout(CLOSE_TIMEOUT, raw_sql(END_ANY).execute(conn))
                    .await
                    .map_err(|_| sqlx::Error::PoolTimedOut)??;
                Ok(true)
            })
        })
}

async fn apply_migrations(
    conn: &mut PgConnection,
    mut migrator: Migrator,
    schema: Option<&str>,
) -> Result<(), EventStoreError> {
    raw_sql(MIGRATION_LIMITS)
        .execute(&mut *conn)
        .await
        .map_err(classify)?;
    if let Some(schema) = schema {
        let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
        let found = sqlx::query(
            "SELECT set_config('search_path', $1, false), to_regnamespace($1) IS NOT NULL",
        )
        .bind(&quoted)
        .fetch_one(&mut *conn)
        .await
        .map_err(classify)?;
        // Check first: the statement needs a right on the database even if the schema exists.
        if !query::nth::<bool>(&found, 1)? {
            migrator.create_schema(quoted);
        }
    }
    let mut tries = MIGRATION_TRIES;
    loop {
        tries -= 1;
        match migrator.run_direct(None, conn, false).await.map_err(cause) {
            Ok(()) => return Ok(()),
            Err(Some(error)) if tries > 0 && is_lock_timeout(&error) => {
                tracing::warn!("a migration waits for a lock that another session holds");
                // Its session also waits for those who queued up behind it in vain.
                tokio::time::sleep(LOCK_TIMEOUT).await;
            }
            Err(Some(error)) => return Err(classify(error)),
            Err(None) => return Err(UnsuitableServer::OtherBaseline.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::migrations::assert_complete, *};

    #[test]
    fn the_list_of_migrations_is_its_folder() {
        assert_complete(&MIGRATIONS, "postgres");
    }
}
