//! Opens, awaits and migrates the database of a worker.

use std::{str::FromStr, sync::Arc, time::Duration};

use chrono::Utc;
use glyph_workflow_engine::store::{
    Deployment, EventStoreError, PgEventStore, PgSettings, SqliteEventStore, Store,
};
use sqlx::sqlite::SqliteConnectOptions;

use super::{error::AppError, parts::WorkerParts};
use crate::{
    backoff::Backoff,
    http::{Health, PartState},
    settings::{SecretUrl, Services, Settings},
    telemetry,
};

/// Connections to Postgres besides one for each lane: relay, timers, projection, HTTP.
const CONNECTIONS_BESIDE_LANES: u32 = 4;

/// The store of a worker, with the operations that only the concrete store has.
#[derive(Clone)]
pub enum Database {
    /// On Postgres.
    Postgres(PgEventStore),
    /// In a SQLite file.
    Sqlite(SqliteEventStore),
}

impl Database {
    /// Prepares the connection; Postgres is not contacted yet.
    pub async fn open(services: &Services, settings: &Settings) -> Result<Self, AppError> {
        match services {
            Services::Postgres { database, .. } => {
                let lanes = u32::try_from(settings.lanes).unwrap_or(u32::MAX);
                let settings = PgSettings {
                    schema: settings.schema.clone(),
                    max_connections: lanes.saturating_add(CONNECTIONS_BESIDE_LANES),
                    ssl_mode: settings.pg_ssl_mode.clone(),
                    ..PgSettings::default()
                };
                let store = PgEventStore::connect_lazy(database.expose(), &settings);
                Ok(Self::Postgres(store.map_err(AppError::Database)?))
            }
            Services::Embedded { database } => Self::open_file(database).await,
        }
    }

    async fn open_file(url: &SecretUrl) -> Result<Self, AppError> {
        let invalid = |error: sqlx::Error| AppError::Database(EventStoreError::Other(error.into()));
        let options = SqliteConnectOptions::from_str(url.expose()).map_err(invalid)?;
        let store = SqliteEventStore::open(options.get_filename(), Arc::new(Utc::now)).await;
        Ok(Self::Sqlite(store.map_err(AppError::Database)?))
    }

    /// The store.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Postgres(store) => Arc::new(store.clone()),
            Self::Sqlite(store) => Arc::new(store.clone()),
        }
    }

    /// Migrates the schema to the version that this build needs.
    pub async fn migrate(&self) -> Result<(), EventStoreError> {
        match self {
            Self::Postgres(store) => store.migrate().await,
            Self::Sqlite(store) => store.migrate().await,
        }
    }

    /// Checks that the server can be used, before anything is sent to it.
    pub async fn check_server(&self) -> Result<(), EventStoreError> {
        match self {
            Self::Postgres(store) => store.check_server().await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Checks that the server can still be used, and its schema; cheap enough for every few
    /// seconds.
    pub async fn recheck(&self) -> Result<(), EventStoreError> {
        if let Self::Postgres(store) = self {
            store.recheck_server().await?;
        }
        self.check_migrated().await
    }

    /// Checks that the tables fit each other: a database may have been restored in part.
    pub async fn check_whole(&self) -> Result<(), EventStoreError> {
        match self {
            Self::Postgres(store) => store.check_whole().await,
            Self::Sqlite(store) => store.check_whole().await,
        }
    }

    /// Checks that the schema is the one that this build needs; fails too if the database is away.
    pub async fn check_migrated(&self) -> Result<(), EventStoreError> {
        match self {
            Self::Postgres(store) => store.check_migrated().await,
            Self::Sqlite(store) => store.check_migrated().await,
        }
    }
}

/// Added where the account may not migrate.
const OWNER_MIGRATES: &str = "; an account that is not the owner of the tables starts the worker \
                              with --no-migrate, and the owner runs `glyph migrate`";

/// Whether the account lacks a right.
fn lacks_right(error: &(dyn std::error::Error + 'static)) -> bool {
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let error = error
            .downcast_ref()
            .and_then(sqlx::Error::as_database_error);
        error.and_then(sqlx::error::DatabaseError::code).as_deref() == Some(INSUFFICIENT_PRIVILEGE)
    })
}

/// Waits until the database is reachable and its schema is right. It waits for ever: a worker that
/// gave up would only be restarted.
pub(super) async fn wait_for_database(
    database: &Database,
    parts: WorkerParts,
    health: &Health,
) -> Result<(), AppError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let prepared = async {
            database.check_server().await?;
            if parts.migrate {
                database.migrate().await?;
            }
            database.check_migrated().await?;
            database.check_whole().await
        };
        match prepared.await {
            Ok(()) => {
                health.update(|readiness| {
                    readiness.database = PartState::ready();
                    readiness.migrations = PartState::ready();
                });
                return Ok(());
            }
            Err(error @ EventStoreError::NotMigrated { .. }) if !parts.migrate => {
                return Err(AppError::NotMigrated(error));
            }
            Err(EventStoreError::Unsuitable(why)) if why.is_lasting() => {
                return Err(AppError::Unsuitable(why));
            }
            Err(error) => {
                let mut reason = telemetry::chain(&error);
                if parts.migrate && lacks_right(&error) {
                    reason.push_str(OWNER_MIGRATES);
                }
                tracing::warn!(reason, "the database cannot be used yet; waiting");
                health.update(|readiness| readiness.database = PartState::not_ready(reason));
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}
