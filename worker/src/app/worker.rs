//! A whole worker, from its settings to its shutdown.

use std::sync::Arc;

use chrono::Utc;
use glyph_workflow_engine::{WorkflowOrchestrator, store::EventStore};
use tokio::time::Instant;

use super::{
    database::{Database, wait_for_database},
    error::AppError,
    parts::WorkerParts,
    phases::{START, StartPart},
    running::RunningWorker,
    servers::{PipelineSlot, Servers},
    token_watch::watch,
};
use crate::{
    failpoints::{Failpoints, around_commits},
    http::{Api, BrokerSlot, Health},
    metrics::Metrics,
    settings::{Services, Settings, Tokens},
    shutdown::Shutdown,
    telemetry,
};

/// Runs a worker until `shutdown`, then drains it.
pub async fn run(
    settings: Settings,
    parts: WorkerParts,
    shutdown: Shutdown,
) -> Result<(), AppError> {
    let mut worker = Worker::new(settings, parts).await?;
    let tokens = worker.api.tokens.clone();
    let metrics = Arc::clone(&worker.metrics);
    let watching = shutdown.clone();
    let watching = tokio::spawn(async move { watch(tokens, &metrics, watching).await });
    let result = tokio::select! {
        result = worker.work(&shutdown) => result,
        // The second signal. Nothing is lost: the broker redelivers commands that were under way.
        () = shutdown.aborted() => Err(AppError::Drain),
    };
    worker.servers.stop().await;
    watching.abort();
    result
}

/// A worker, as far as it has started.
struct Worker {
    settings: Settings,
    parts: WorkerParts,
    services: Services,
    database: Database,
    orchestrator: Arc<WorkflowOrchestrator>,
    metrics: Arc<Metrics>,
    health: Health,
    api: Api,
    /// Where the API submits commands.
    slot: PipelineSlot,
    servers: Servers,
    /// None until the last phase of the start.
    running: Option<RunningWorker>,
}

impl Worker {
    /// Checks the settings and assembles the parts. Nothing is contacted yet.
    async fn new(settings: Settings, parts: WorkerParts) -> Result<Self, AppError> {
        let services = settings.services()?;
        settings.check_webhooks()?;
        let tokens = check_http(&settings, parts)?;
        let metrics = Arc::new(Metrics::new().map_err(AppError::Metrics)?);
        if parts.consume {
            metrics.consumer_connected(false);
        }
        let health = Health::default();
        let database = Database::open(&services, &settings).await?;
        let orchestrator = orchestrator(&database, &settings)?;
        let slot = PipelineSlot::default();
        let api = Api {
            store: database.store(),
            orchestrator: Arc::clone(&orchestrator),
            commands: Arc::new(slot.clone()),
            messages: settings.messages(),
            tokens,
            links: settings.links.clone(),
            cors_origins: settings.cors_origins.clone().into(),
            health: health.clone(),
            broker: BrokerSlot::default(),
            metrics: {
                let (metrics, orchestrator) = (Arc::clone(&metrics), Arc::clone(&orchestrator));
                Arc::new(move || {
                    let behind = orchestrator.models_behind_since();
                    let behind = behind.and_then(|since| (Utc::now() - since).to_std().ok());
                    metrics.model_lag(behind.unwrap_or_default());
                    metrics.log_lines_dropped(telemetry::dropped_lines());
                    metrics.encode()
                })
            },
        };
        Ok(Self {
            settings,
            parts,
            services,
            database,
            orchestrator,
            metrics,
            health,
            api,
            slot,
            servers: Servers::default(),
            running: None,
        })
    }

    /// Starts by the phases of [`START`], works until a drain is requested, and drains.
    async fn work(&mut self, shutdown: &Shutdown) -> Result<(), AppError> {
        for phase in START {
            tracing::debug!(phase = phase.name, "starting");
            tokio::select! {
                started = self.start(phase.part) => started?,
                () = shutdown.wait(), if phase.ends_with_drain => return Ok(()),
            }
        }
        tracing::info!("the worker runs");
        let refused = async {
            match &self.running {
                Some(running) => running.refused_at_start().await,
                None => std::future::pending().await,
            }
        };
        let refused = tokio::select! {
            () = shutdown.wait() => Ok(()),
            reason = refused => Err(AppError::OtherDeployment(reason)),
        };
        let drain = self.settings.drain;
        tracing::info!(seconds = drain.as_secs(), "draining");
        self.health.drain();
        match self.running.take() {
            Some(running) => refused.and(running.drain(Instant::now() + drain).await),
            None => refused,
        }
    }

    async fn start(&mut self, part: StartPart) -> Result<(), AppError> {
        match part {
            StartPart::Servers => {
                let servers = &self.servers;
                servers.start(&self.settings, self.parts, &self.api).await
            }
            StartPart::Database => {
                wait_for_database(&self.database, self.parts, &self.health).await
            }
            StartPart::Work => {
                let running = RunningWorker::start(
                    &self.database,
                    &self.services,
                    &self.settings,
                    self.parts,
                    Arc::clone(&self.orchestrator),
                    Arc::clone(&self.metrics),
                )
                .await?;
                self.slot.fill(&running.pipeline);
                running.show_broker(&self.api.broker);
                running.watch_health(&self.database, &self.health);
                self.running = Some(running);
                Ok(())
            }
        }
    }
}

/// The tokens of the API, if it may listen on the configured address.
fn check_http(settings: &Settings, parts: WorkerParts) -> Result<Tokens, AppError> {
    if !parts.http {
        return Ok(Tokens::default());
    }
    settings.check_http()?;
    match &settings.api_tokens_file {
        Some(path) => Ok(Tokens::from_file(path)?),
        None => Ok(Tokens::default()),
    }
}

/// An orchestrator that writes messages and honours the crash points of the tests.
fn orchestrator(
    database: &Database,
    settings: &Settings,
) -> Result<Arc<WorkflowOrchestrator>, AppError> {
    let failpoints = Failpoints::from_env()?;
    let store = database.store();
    let events: Arc<dyn EventStore> = around_commits(Arc::clone(&store) as _, failpoints);
    let orchestrator = WorkflowOrchestrator::new(store as _, events);
    Ok(Arc::new(
        orchestrator.with_messages(Arc::new(settings.messages())),
    ))
}
