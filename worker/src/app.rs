//! Builds a worker out of its parts and supervises them: what `glyph worker` runs, and what the
//! tests, the demo and the load generator start in their own process.
//!
//! HTTP answers from the first moment, alive and not ready; then the database is waited for and
//! migrated, then the broker is connected and the road opened. A drain goes the other way: no new
//! work, finish what is begun, publish, close.

use std::{
    future::Future,
    str::FromStr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use axum::Router;
use chrono::Utc;
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{CommandEnvelope, Outcome},
    store::{EventStore, EventStoreError, PgEventStore, PgSettings, SqliteEventStore, Store},
};
use sqlx::sqlite::SqliteConnectOptions;
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    amqp::{AmqpPublisher, AmqpSettings, AmqpSource, AmqpUrlError},
    backoff::Backoff,
    broker::{BrokerState, CommandSource, MessagePublisher},
    embedded::{EmbeddedError, EmbeddedPublisher, EmbeddedQueue, EmbeddedSource},
    faults::{Faults, InvalidCrash, around_commits},
    http::{Api, CommandSink, Health, NotTaken, PartState, operations_router, router},
    metrics::Metrics,
    pipeline::{Pipeline, PipelineHandle, PipelineParts, PipelineSettings},
    projections::{AgreementProjector, GoalProjector, GoldProjector},
    settings::{SecretUrl, Services, Settings, SettingsError, TokenError, Tokens},
    shutdown::Shutdown,
    telemetry,
    timers::{DueRunner, GoalActionRunner, OutsideHandlers, PauseKeeper},
    traces::{TraceError, Traces},
    webhook::{WebhookClient, WebhookSetupError},
};

/// How often the database is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A database that does not answer within this is not there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to Postgres besides one for each lane: relay, due work, projection, HTTP.
const CONNECTIONS_BESIDE_LANES: u32 = 4;
/// Part of a drain that is kept for closing connections and HTTP.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Which parts of a worker run.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// The HTTP API.
    pub http: bool,
    /// Commands from the broker.
    pub consume: bool,
    /// Migrations at the start; else an old schema is refused.
    pub migrate: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            http: true,
            consume: true,
            migrate: true,
        }
    }
}

/// A worker cannot start, or could not end in order.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The settings contradict each other or say too little.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The tokens file cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The broker's URL cannot be used.
    #[error("AMQP_URL cannot be used")]
    AmqpUrl(#[from] AmqpUrlError),
    /// Nothing can listen there.
    #[error("cannot listen on {address}; choose another address with {setting}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Which setting says so.
        setting: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The schema is an old one, and this process was told not to migrate.
    #[error("the database is not migrated, and --no-migrate forbids it here")]
    NotMigrated(#[source] EventStoreError),
    /// The database's URL cannot be used.
    #[error("DATABASE_URL cannot be used")]
    Database(#[source] EventStoreError),
    /// The queue in the SQLite file cannot be consumed.
    #[error("the embedded queue cannot be consumed")]
    Embedded(#[from] EmbeddedError),
    /// The metrics contradict each other: a bug.
    #[error("the metrics cannot be declared")]
    Metrics(#[source] prometheus::Error),
    /// `GLYPH_CRASH_AT` cannot be read.
    #[error("GLYPH_CRASH_AT cannot be read")]
    Faults(#[from] InvalidCrash),
    /// Webhooks cannot be set up.
    #[error(transparent)]
    Webhooks(#[from] WebhookSetupError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// The drain took longer than allowed, or was cut short.
    #[error(
        "the drain was not finished in time; what is left is safe: commands are delivered again, \
         and messages are published by the next worker"
    )]
    Drain,
}

/// A running worker, for those who start one in their own process.
pub struct Running {
    /// Carries commands out.
    pub pipeline: PipelineHandle,
    /// The store behind it.
    pub store: Arc<dyn Store>,
    /// The orchestrator behind it.
    pub orchestrator: Arc<WorkflowOrchestrator>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    broker: Broker,
    background: TaskTracker,
    /// Ends what does work of its own accord: due work, goals.
    stopping: CancellationToken,
    traces: Traces,
}

/// Runs a worker until `shutdown`, and drains it.
pub async fn run(settings: Settings, parts: Parts, shutdown: Shutdown) -> Result<(), AppError> {
    let services = settings.services()?;
    settings.check_webhooks()?;
    let tokens = check_http(&settings, parts)?;
    let metrics = Arc::new(Metrics::new().map_err(AppError::Metrics)?);
    let health = Health::default();
    let database = Database::open(&services, &settings).await?;
    let orchestrator = orchestrator(&database, &settings)?;
    let slot = PipelineSlot::default();
    let api = Api {
        store: database.store(),
        orchestrator: Arc::clone(&orchestrator),
        commands: Arc::new(slot.clone()),
        tokens,
        health: health.clone(),
        metrics: {
            let metrics = Arc::clone(&metrics);
            Arc::new(move || metrics.encode())
        },
    };
    let servers = Servers::start(&settings, parts, &api).await?;
    let worked = async {
        let waited = wait_for_database(&database, parts, &health);
        tokio::select! {
            ready = waited => ready?,
            () = shutdown.wait() => return Ok(()),
        }
        let running = Running::start(
            &database,
            &services,
            &settings,
            parts,
            orchestrator,
            metrics,
        )
        .await?;
        slot.fill(&running.pipeline);
        running.watch_health(&database, &health);
        tracing::info!("the worker runs");
        shutdown.wait().await;
        tracing::info!(seconds = settings.drain.as_secs(), "draining");
        health.update(|r| r.intake = PartState::not_ready("the worker is shutting down"));
        running.drain(Instant::now() + settings.drain).await
    };
    let result = tokio::select! {
        result = worked => result,
        // The second signal: whatever is lost is delivered again.
        () = shutdown.aborted() => Err(AppError::Drain),
    };
    servers.stop().await;
    result
}

/// Tokens, if the API may listen where it is told to.
fn check_http(settings: &Settings, parts: Parts) -> Result<Tokens, AppError> {
    if !parts.http {
        return Ok(Tokens::default());
    }
    settings.check_http()?;
    match &settings.api_tokens_file {
        Some(path) => Ok(Tokens::from_file(path)?),
        None => Ok(Tokens::default()),
    }
}

/// An orchestrator that writes messages and passes the crash points of the tests.
fn orchestrator(
    database: &Database,
    settings: &Settings,
) -> Result<Arc<WorkflowOrchestrator>, AppError> {
    let faults = Faults::from_env()?;
    let store = database.store();
    let events: Arc<dyn EventStore> = around_commits(Arc::clone(&store) as _, faults);
    let orchestrator = WorkflowOrchestrator::new(store as _, events);
    Ok(Arc::new(
        orchestrator.with_messages(Arc::new(settings.publish.messages())),
    ))
}

/// The store of a worker, with what only the concrete one can do.
#[derive(Clone)]
pub enum Database {
    /// On Postgres.
    Postgres(PgEventStore),
    /// In a SQLite file.
    Sqlite(SqliteEventStore),
}

impl Database {
    /// Prepares the connection; Postgres is not asked yet.
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

    /// Brings the schema to what this build needs.
    pub async fn migrate(&self) -> Result<(), EventStoreError> {
        match self {
            Self::Postgres(store) => store.migrate().await,
            Self::Sqlite(store) => store.migrate().await,
        }
    }

    /// Whether the schema is what this build needs; also tells whether the database is there.
    pub async fn check_migrated(&self) -> Result<(), EventStoreError> {
        match self {
            Self::Postgres(store) => store.check_migrated().await,
            Self::Sqlite(store) => store.check_migrated().await,
        }
    }
}

/// Waits until the database is there and its schema is right: for ever, as a worker that gave up
/// would only be started again.
async fn wait_for_database(
    database: &Database,
    parts: Parts,
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

/// Both sides of the broker.
#[derive(Clone)]
enum Broker {
    Amqp {
        source: Option<Arc<AmqpSource>>,
        publisher: Arc<AmqpPublisher>,
    },
    Embedded {
        source: Option<Arc<EmbeddedSource>>,
        publisher: Arc<EmbeddedPublisher>,
    },
}

impl Broker {
    async fn start(
        services: &Services,
        settings: &Settings,
        parts: Parts,
        database: &Database,
    ) -> Result<Self, AppError> {
        match (services, database) {
            (Services::Postgres { broker, .. }, _) => {
                let mut amqp = AmqpSettings::new(broker.expose(), &settings.prefix)?;
                amqp.prefetch = settings.prefetch;
                amqp.consume = parts.consume;
                // One for each lane, one for the relay.
                amqp.publish_channels = settings.lanes + 1;
                Ok(Self::Amqp {
                    source: parts.consume.then(|| AmqpSource::start(amqp.clone())),
                    publisher: AmqpPublisher::start(amqp),
                })
            }
            (Services::Embedded { .. }, Database::Sqlite(store)) => {
                let queue = EmbeddedQueue::new(store.clone());
                let source = if parts.consume {
                    Some(EmbeddedSource::start(&queue, settings.prefetch).await?)
                } else {
                    None
                };
                Ok(Self::Embedded {
                    source,
                    publisher: EmbeddedPublisher::new(queue),
                })
            }
            (Services::Embedded { .. }, Database::Postgres(_)) => {
                unreachable!("`Settings::services` pairs `embedded:` with SQLite alone")
            }
        }
    }

    fn source(&self) -> Option<Arc<dyn CommandSource>> {
        match self {
            Self::Amqp { source, .. } => source.clone().map(|source| source as _),
            Self::Embedded { source, .. } => source.clone().map(|source| source as _),
        }
    }

    fn publisher(&self) -> Arc<dyn MessagePublisher> {
        match self {
            Self::Amqp { publisher, .. } => Arc::clone(publisher) as _,
            Self::Embedded { publisher, .. } => Arc::clone(publisher) as _,
        }
    }

    async fn close(&self) {
        match self {
            Self::Amqp { source, publisher } => {
                if let Some(source) = source {
                    source.close().await;
                }
                publisher.close().await;
            }
            Self::Embedded { source, .. } => {
                if let Some(source) = source {
                    source.close().await;
                }
            }
        }
    }
}

impl Running {
    /// Opens the road: broker, pipeline, due work, goals. The database must be ready.
    pub async fn start(
        database: &Database,
        services: &Services,
        settings: &Settings,
        parts: Parts,
        orchestrator: Arc<WorkflowOrchestrator>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, AppError> {
        let webhooks = WebhookClient::new(settings.check_webhooks()?)?;
        let traces = Traces::start(settings.traces.as_ref())?;
        let faults = Faults::from_env()?;
        let broker = Broker::start(services, settings, parts, database).await?;
        let store = database.store();
        let pipeline = Pipeline::start(PipelineParts {
            orchestrator: Arc::clone(&orchestrator) as _,
            store: Arc::clone(&store),
            source: broker.source(),
            publisher: Some(broker.publisher()),
            settings: PipelineSettings {
                lanes: settings.lanes,
                batch_max: settings.batch_max,
                batch_wait: settings.batch_wait,
                outbox_max: settings.outbox_max,
            },
            metrics: Arc::clone(&metrics),
            faults: faults.clone(),
            traces: traces.clone(),
        });
        let (background, stopping) = (TaskTracker::new(), CancellationToken::new());
        let due = DueRunner::new(
            Arc::clone(&store) as _,
            Arc::clone(&orchestrator),
            pipeline.clone(),
            Arc::new(OutsideHandlers::new(webhooks.clone(), Arc::clone(&metrics))),
        );
        background.spawn(due.run(stopping.clone()));
        let pauses = PauseKeeper::new(Arc::clone(&store), Arc::clone(&orchestrator));
        background.spawn(pauses.run(stopping.clone()));
        let goals = GoalProjector::new(Arc::clone(&store), settings.publish.messages());
        background.spawn(goals.with_faults(faults.clone()).run(stopping.clone()));
        let agreement = AgreementProjector::new(
            Arc::clone(&store),
            settings.publish.messages(),
            settings.agreement_window,
        );
        background.spawn(agreement.with_faults(faults.clone()).run(stopping.clone()));
        let gold = GoldProjector::new(Arc::clone(&store), settings.publish.messages());
        background.spawn(gold.with_faults(faults.clone()).run(stopping.clone()));
        let goal_actions = GoalActionRunner::new(
            Arc::clone(&store),
            Arc::clone(&orchestrator),
            webhooks,
            Arc::clone(&metrics),
        );
        background.spawn(goal_actions.with_faults(faults).run(stopping.clone()));
        Ok(Self {
            pipeline,
            store,
            orchestrator,
            metrics,
            broker,
            background,
            stopping,
            traces,
        })
    }

    /// Takes no more work, finishes what is begun, publishes what that decided, and closes.
    pub async fn drain(self, deadline: Instant) -> Result<(), AppError> {
        // Due work first: it goes through the pipeline.
        self.stopping.cancel();
        self.background.close();
        let ended = tokio::time::timeout_at(deadline, self.background.wait()).await;
        let drained = self.pipeline.drain(deadline).await;
        if tokio::time::timeout(CLOSE_TIMEOUT, self.broker.close())
            .await
            .is_err()
        {
            // All work is done by now, and a broker notices a closed socket: not worth a failure.
            tracing::warn!("the connection to the broker did not close in time");
        }
        self.traces.stop(CLOSE_TIMEOUT).await;
        if ended.is_ok() && drained {
            tracing::info!("drained");
            Ok(())
        } else {
            Err(AppError::Drain)
        }
    }

    /// Keeps `health` up to date for as long as the process lives.
    fn watch_health(&self, database: &Database, health: &Health) {
        let probe = probe_database(database.clone(), health.clone());
        self.spawn_until_stopped(probe);
        let source = self.broker.source().map(|source| source.state());
        let publisher = self.broker.publisher().state();
        self.spawn_until_stopped(watch_broker(source, publisher, health.clone()));
        let (mut holds, health) = (self.pipeline.holds(), health.clone());
        self.spawn_until_stopped(async move {
            loop {
                let reasons: Vec<String> = holds
                    .borrow_and_update()
                    .iter()
                    .map(|why| why.as_str().to_owned())
                    .collect();
                health.update(|readiness| {
                    readiness.intake = match reasons.as_slice() {
                        [] => PartState::ready(),
                        reasons => PartState::not_ready(reasons.join(", ")),
                    };
                });
                if holds.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn spawn_until_stopped(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.background.spawn(async move {
            stopping.run_until_cancelled(work).await;
        });
    }
}

/// Asks the database again and again whether it is there.
async fn probe_database(database: Database, health: Health) {
    loop {
        let probed = tokio::time::timeout(PROBE_TIMEOUT, database.check_migrated()).await;
        health.update(|readiness| match probed {
            Ok(Ok(())) => {
                readiness.database = PartState::ready();
                readiness.migrations = PartState::ready();
            }
            Ok(Err(error @ EventStoreError::NotMigrated { .. })) => {
                readiness.database = PartState::ready();
                readiness.migrations = PartState::not_ready(error.to_string());
            }
            Ok(Err(error)) => {
                readiness.database = PartState::not_ready(telemetry::chain(&error));
            }
            Err(_) => {
                let seconds = PROBE_TIMEOUT.as_secs();
                readiness.database = PartState::not_ready(format!("no answer within {seconds} s"));
            }
        });
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Follows both sides of the broker.
async fn watch_broker(
    mut source: Option<watch::Receiver<BrokerState>>,
    mut publisher: watch::Receiver<BrokerState>,
    health: Health,
) {
    loop {
        let consuming = source
            .as_mut()
            .map(|source| source.borrow_and_update().clone());
        let publishing = publisher.borrow_and_update().clone();
        health.update(|readiness| readiness.broker = broker_part(consuming, publishing));
        let source_changed = async {
            match &mut source {
                Some(source) => source.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = source_changed => if changed.is_err() { return },
            changed = publisher.changed() => if changed.is_err() { return },
        }
    }
}

fn broker_part(consuming: Option<BrokerState>, publishing: BrokerState) -> PartState {
    let fault = |what: &str, state: BrokerState| {
        PartState::not_ready(match state.reason {
            Some(reason) => format!("{what}: {reason}"),
            None => what.to_owned(),
        })
    };
    match consuming {
        Some(state) if !state.consuming => fault("not consuming", state),
        _ if !publishing.publishing => fault("not publishing", publishing),
        _ if publishing.blocked => fault("the broker holds publishers back", publishing),
        _ => PartState::ready(),
    }
}

/// Where HTTP hands commands over: nothing, until the road is open.
#[derive(Clone, Default)]
struct PipelineSlot(Arc<OnceLock<PipelineHandle>>);

impl PipelineSlot {
    fn fill(&self, pipeline: &PipelineHandle) {
        let _ = self.0.set(pipeline.clone());
    }
}

#[async_trait]
impl CommandSink for PipelineSlot {
    async fn submit(&self, command: CommandEnvelope) -> Result<Outcome, NotTaken> {
        let Some(pipeline) = self.0.get() else {
            let reason = "the worker is starting; send the command again with the same id";
            return Err(NotTaken {
                reason: reason.to_owned(),
            });
        };
        pipeline.submit(command).await.map_err(|stopped| NotTaken {
            reason: stopped.to_string(),
        })
    }
}

/// The listeners of the process.
struct Servers {
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Servers {
    async fn start(settings: &Settings, parts: Parts, api: &Api) -> Result<Self, AppError> {
        let servers = Self {
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        };
        if parts.http {
            let setting = "GLYPH_HTTP_ADDR";
            servers
                .serve(settings.http_addr, setting, router(api.clone()))
                .await?;
        }
        if let Some(address) = settings.metrics_addr {
            let router = operations_router(api.clone());
            servers.serve(address, "GLYPH_METRICS_ADDR", router).await?;
        }
        Ok(servers)
    }

    async fn serve(
        &self,
        address: std::net::SocketAddr,
        setting: &'static str,
        router: Router,
    ) -> Result<(), AppError> {
        let refused = |source| AppError::Listen {
            address,
            setting,
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        tracing::info!(%address, setting, "listening");
        let stopped = self.stopping.clone().cancelled_owned();
        self.tasks.spawn(async move {
            let server = axum::serve(listener, router).with_graceful_shutdown(stopped);
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
        Ok(())
    }

    /// Finishes requests under way, for a moment.
    async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait()).await;
    }
}
