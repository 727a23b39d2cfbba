//! Connects verbs to services. A verb does not wait long: it ends with exit code 4.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use chrono::Utc;
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    store::{PgEventStore, PgSettings, SqliteEventStore, Store},
};
use sqlx::sqlite::SqliteConnectOptions;

use super::CliError;
use crate::{
    amqp::{AmqpDeadLetters, AmqpPublisher, AmqpSettings, queue_depths},
    broker::{MessagePublisher, QueueDepth},
    dead_letters::DeadLetters,
    embedded::{EmbeddedDeadLetters, EmbeddedPublisher, EmbeddedQueue},
    settings::{DatabaseUrl, SecretUrl, Services, Settings},
};

/// Connections of a verb, which does one thing at a time.
const CONNECTIONS: u32 = 4;
/// How long a verb waits for the broker before it says that it cannot be reached.
const BROKER_TIMEOUT: Duration = Duration::from_secs(15);

/// A database that is reachable.
#[derive(Clone, Debug)]
pub(super) enum Database {
    Postgres(PgEventStore),
    Sqlite(SqliteEventStore),
}

impl Database {
    /// Connects; the schema may be out of date.
    pub(super) async fn open(settings: &Settings) -> Result<Self, CliError> {
        match settings.database()? {
            DatabaseUrl::Postgres(url) => {
                let pg = PgSettings {
                    schema: settings.schema.clone(),
                    max_connections: CONNECTIONS,
                    ssl_mode: settings.pg_ssl_mode.clone(),
                    ..PgSettings::default()
                };
                Ok(Self::Postgres(
                    PgEventStore::connect(url.expose(), pg).await?,
                ))
            }
            DatabaseUrl::Sqlite(url) => Ok(Self::Sqlite(open_sqlite(url).await?)),
        }
    }

    /// Migrates the schema to the version that this build needs.
    pub(super) async fn migrate(&self) -> Result<(), CliError> {
        match self {
            Self::Postgres(store) => store.migrate().await?,
            Self::Sqlite(store) => store.migrate().await?,
        }
        Ok(())
    }

    /// Fails unless the schema is the one that this build needs.
    pub(super) async fn check_migrated(&self) -> Result<(), CliError> {
        match self {
            Self::Postgres(store) => store.check_migrated().await?,
            Self::Sqlite(store) => store.check_migrated().await?,
        }
        Ok(())
    }

    pub(super) fn store(self) -> Arc<dyn Store> {
        match self {
            Self::Postgres(store) => Arc::new(store),
            Self::Sqlite(store) => Arc::new(store),
        }
    }
}

/// The file of a `sqlite://` URL.
pub(super) fn sqlite_file(url: &SecretUrl) -> Result<PathBuf, CliError> {
    let options = SqliteConnectOptions::from_str(url.expose())
        .map_err(|error| CliError::Usage(format!("DATABASE_URL: {error}")))?;
    Ok(options.get_filename().to_owned())
}

/// Opens the file of a `sqlite://` URL.
pub(super) async fn open_sqlite(url: &SecretUrl) -> Result<SqliteEventStore, CliError> {
    Ok(SqliteEventStore::open(sqlite_file(url)?, Arc::new(Utc::now)).await?)
}

/// A store that is reachable and has the right schema.
pub(super) async fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, CliError> {
    if let DatabaseUrl::Sqlite(url) = settings.database()? {
        let path = sqlite_file(url)?;
        if !path.exists() {
            return Err(CliError::Unreachable(format!(
                "DATABASE_URL: there is no file {}; `glyph migrate` makes one",
                path.display()
            )));
        }
    }
    let database = Database::open(settings).await?;
    database.check_migrated().await?;
    Ok(database.store())
}

/// An orchestrator on a store; a worker publishes its messages.
pub(super) fn orchestrator(store: &Arc<dyn Store>, settings: &Settings) -> WorkflowOrchestrator {
    WorkflowOrchestrator::new(Arc::clone(store) as _, Arc::clone(store) as _)
        .with_messages(Arc::new(settings.messages()))
}

/// A connected publisher.
pub(super) enum Publisher {
    Amqp(Arc<AmqpPublisher>),
    Embedded(Arc<EmbeddedPublisher>),
}

impl Publisher {
    pub(super) async fn connect(settings: &Settings) -> Result<Self, CliError> {
        match settings.services()? {
            Services::Postgres { broker, .. } => {
                let publisher = AmqpPublisher::start(amqp(&broker, settings)?);
                wait_until_publishing(&*publisher).await?;
                Ok(Self::Amqp(publisher))
            }
            Services::Embedded { database } => {
                let queue = queue_of(&database, settings).await?;
                Ok(Self::Embedded(EmbeddedPublisher::new(queue)))
            }
        }
    }

    pub(super) fn get(&self) -> &dyn MessagePublisher {
        match self {
            Self::Amqp(publisher) => &**publisher,
            Self::Embedded(publisher) => &**publisher,
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Amqp(publisher) => publisher.close().await,
            Self::Embedded(_) => {}
        }
    }
}

/// Waits until commands can be published, or says why they cannot.
pub(super) async fn wait_until_publishing(
    publisher: &dyn MessagePublisher,
) -> Result<(), CliError> {
    let mut state = publisher.state();
    let ready = state.wait_for(|state| state.publishing && !state.blocked);
    let in_time = matches!(tokio::time::timeout(BROKER_TIMEOUT, ready).await, Ok(Ok(_)));
    if in_time {
        return Ok(());
    }
    let state = publisher.state().borrow().clone();
    let reason = state
        .reason
        .unwrap_or_else(|| "the broker does not take messages".to_owned());
    Err(CliError::Unreachable(format!(
        "AMQP_URL: {reason} (waited {} s)",
        BROKER_TIMEOUT.as_secs()
    )))
}

pub(super) fn amqp(url: &SecretUrl, settings: &Settings) -> Result<AmqpSettings, CliError> {
    let mut amqp = AmqpSettings::new(url.expose(), &settings.prefix)
        .map_err(|error| CliError::Usage(format!("AMQP_URL: {error}")))?
        .with_event_queues(settings.queues.are_declared());
    amqp.consume = false;
    amqp.publish_channels = 1;
    Ok(amqp)
}

/// The embedded queue in a SQLite file, beside the tables of the store.
async fn queue_of(url: &SecretUrl, settings: &Settings) -> Result<EmbeddedQueue, CliError> {
    let store = open_sqlite(url).await?;
    store.migrate().await?;
    let queue = EmbeddedQueue::open(store).await?;
    Ok(queue.with_event_queues(settings.queues.are_declared()))
}

/// How full the queues of the deployment are. On RabbitMQ nothing is declared.
pub(super) async fn queues(settings: &Settings) -> Result<Vec<QueueDepth>, CliError> {
    match settings.services()? {
        Services::Postgres { broker, .. } => Ok(queue_depths(&amqp(&broker, settings)?).await?),
        Services::Embedded { database } => {
            let queue = queue_of(&database, settings).await?;
            let depths = EmbeddedPublisher::new(queue).queues().await;
            let unread = || CliError::failed("store", "the embedded queue cannot be read");
            depths.ok_or_else(unread)
        }
    }
}

/// The dead queue.
pub(super) async fn dead_letters(settings: &Settings) -> Result<Box<dyn DeadLetters>, CliError> {
    match settings.services()? {
        Services::Postgres { broker, .. } => {
            Ok(Box::new(AmqpDeadLetters::new(amqp(&broker, settings)?)))
        }
        Services::Embedded { database } => {
            let queue = queue_of(&database, settings).await?;
            Ok(Box::new(EmbeddedDeadLetters::new(queue)))
        }
    }
}
