//! `glyph worker`: the service itself.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::CliError;
use crate::{
    app::{self, AppError, WorkerParts},
    settings::{Settings, misspelt_variables},
    shutdown::Shutdown,
    telemetry,
};

/// Parts of a worker that can be switched off.
#[derive(Clone, Copy, Debug, Args)]
pub struct WorkerArgs {
    /// Do not serve the HTTP API
    #[arg(long)]
    no_http: bool,
    /// Do not take commands from the broker; only publish, run timers and serve HTTP
    #[arg(long)]
    no_consume: bool,
    /// Do not migrate the database; fail if its schema is not current
    #[arg(long)]
    no_migrate: bool,
}

pub(super) async fn run(args: WorkerArgs, settings: Settings) -> Result<(), CliError> {
    let parts = WorkerParts {
        http: !args.no_http,
        consume: !args.no_consume,
        migrate: !args.no_migrate,
    };
    serve(settings, parts).await
}

/// Runs a worker until a signal.
pub(super) async fn serve(settings: Settings, parts: WorkerParts) -> Result<(), CliError> {
    telemetry::init(&settings);
    telemetry::log_panics();
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for warning in misspelt_variables(variables) {
        tracing::warn!("{warning}");
    }
    for warning in settings.link_warnings() {
        tracing::warn!("{warning}");
    }
    let failed = |error| CliError::failed("signals", format!("signals: {error}"));
    let shutdown = Shutdown::on_signals().map_err(failed)?;
    reload_log_on_hangup(settings.clone()).map_err(failed)?;
    app::run(settings, parts, shutdown)
        .await
        .map_err(CliError::from)
}

/// Sets the log filter to what the settings file says, each time the process gets a SIGHUP.
fn reload_log_on_hangup(settings: Settings) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload_log(&settings);
        }
    });
    Ok(())
}

fn reload_log(settings: &Settings) {
    let again = match settings.again() {
        Ok(again) => again,
        Err(error) => {
            let faults = error.to_string();
            tracing::error!(faults, "the settings are not valid; the log filter stays");
            return;
        }
    };
    let filter = again.log.as_str();
    if let Some(by) = again.log_is_set_by() {
        tracing::warn!(
            filter,
            by,
            "reading the settings again does not change the log filter, which is set by something \
             stronger than the file; PUT /api/v1/log changes it"
        );
        return;
    }
    match telemetry::set_filter(filter) {
        Ok(before) => tracing::info!(filter, before, "the log filter was read again"),
        Err(error) => tracing::error!(%error, "the log filter stays"),
    }
}

impl From<AppError> for CliError {
    fn from(error: AppError) -> Self {
        let text = telemetry::chain(&error);
        match error {
            AppError::Settings(_) | AppError::Tokens(_) | AppError::AmqpUrl(_) => Self::Usage(text),
            AppError::Listen { .. } => Self::failed("listen", text),
            AppError::NotMigrated(_) => Self::failed("not_migrated", text),
            AppError::Unsuitable(_) => Self::failed("unsuitable_server", text),
            AppError::Database(_) | AppError::DatabaseLost(_) => Self::failed("database", text),
            AppError::OtherDeployment(_) => Self::failed("other_deployment", text),
            AppError::Embedded(_) => Self::failed("embedded", text),
            AppError::Traces(_) => Self::failed("traces", text),
            AppError::Webhooks(_) => Self::failed("webhooks", text),
            AppError::Metrics(_) | AppError::Failpoints(_) => Self::failed("bug", text),
            AppError::Drain => Self::failed("drain", text),
        }
    }
}
