//! Opens, awaits and migrates the database of a worker.

use std::{str::FromStr, sync::Arc, time::Duration};

use chrono::Utc;
use glyph_workflow_engine::store::{
    EventStoreError, PgEventStore, PgSettings, SqliteEventStore, Store,
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

    /// Checks that the schema is the one that this build needs; fails too if the database is away.
    pub async fn check_migrated(&self) -> Result<(), EventStoreError> {
        match self {
            Self::Postgres(store) => store.check_migrated().await,
            Self::Sqlite(store) => store.check_migrated().await,
        }
    }
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
            if parts.migrate {
                database.migrate().await?;
            }
            database.check_migrated().await
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
            Err(error) => {
                let reason = telemetry::chain(&error);
                tracing::warn!(reason, "the database cannot be used yet; waiting");
                health.update(|readiness| readiness.database = PartState::not_ready(reason));
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}
