//! Why a worker cannot start, or could not shut down in order.

use glyph_workflow_engine::store::{EventStoreError, UnsuitableServer};

use crate::{
    amqp::AmqpUrlError,
    embedded::EmbeddedError,
    failpoints::InvalidCrash,
    settings::{SettingsError, TokenError},
    traces::TraceError,
    webhook::WebhookSetupError,
};

/// A worker cannot start, or could not shut down in order.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The settings are contradictory or incomplete.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The tokens file cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The broker's URL cannot be used.
    #[error("AMQP_URL cannot be used")]
    AmqpUrl(#[from] AmqpUrlError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; choose another address with {setting}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The schema is out of date, and `--no-migrate` forbids migrating it.
    #[error("the database is not migrated, and --no-migrate forbids it here")]
    NotMigrated(#[source] EventStoreError),
    /// The database answers, and cannot be used.
    #[error("DATABASE_URL: the worker does not use this server")]
    Unsuitable(#[source] UnsuitableServer),
    /// The database's URL cannot be used.
    #[error("DATABASE_URL cannot be used")]
    Database(#[source] EventStoreError),
    /// The database was there, and then not.
    #[error("the database was lost while the worker started")]
    DatabaseLost(#[source] EventStoreError),
    /// The queue in the SQLite file cannot be consumed.
    #[error("the embedded queue cannot be consumed")]
    Embedded(#[from] EmbeddedError),
    /// The metrics contradict each other: a bug.
    #[error("the metrics cannot be declared")]
    Metrics(#[source] prometheus::Error),
    /// `GLYPH_CRASH_AT` cannot be read.
    #[error("GLYPH_CRASH_AT cannot be read")]
    Failpoints(#[from] InvalidCrash),
    /// Webhooks cannot be set up.
    #[error(transparent)]
    Webhooks(#[from] WebhookSetupError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// Another deployment has the prefix.
    #[error("the worker does not start: {0}")]
    OtherDeployment(String),
    /// The drain took longer than allowed, or was cut short.
    #[error(
        "the drain was not finished in time; what is left is safe: commands are delivered again, \
         and messages are published by the next worker"
    )]
    Drain,
}
