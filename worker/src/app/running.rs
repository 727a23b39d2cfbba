//! The running part of a worker: broker, pipeline and background work.

use std::{future::Future, sync::Arc};

use futures::future::BoxFuture;
use glyph_workflow_engine::{WorkflowOrchestrator, store::Store};
use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    broker::Broker,
    database::Database,
    error::AppError,
    health::{probe_database, watch_broker, watch_intake},
    parts::WorkerParts,
    phases::{DrainTime, STOP, StopPart},
};
use crate::{
    failpoints::Failpoints,
    http::{BrokerSlot, Health},
    jobs::JobRunner,
    metrics::Metrics,
    pipeline::{BatchMax, Pipeline, PipelineHandle, PipelineParts, PipelineSettings},
    projections::{
        AgreementProjector, FlowProjector, GoalProjector, GoldProjector, LabelsProjector, Rounds,
    },
    settings::{Services, Settings},
    timers::{ExternalHandlers, GoalActionRunner, PauseExpirer, TimerRunner},
    traces::Traces,
    webhook::WebhookClient,
};

/// A running worker, for callers that start one in their own process.
pub struct RunningWorker {
    /// Executes commands.
    pub pipeline: PipelineHandle,
    /// The store behind it.
    pub store: Arc<dyn Store>,
    /// The orchestrator behind it.
    pub orchestrator: Arc<WorkflowOrchestrator>,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    broker: Broker,
    background: TaskTracker,
    /// Stops background work: timers, pauses, projections, goals.
    stopping: CancellationToken,
    traces: Traces,
}

impl RunningWorker {
    /// Starts broker, pipeline, timers and goals. The database must be ready.
    pub async fn start(
        database: &Database,
        services: &Services,
        settings: &Settings,
        parts: WorkerParts,
        orchestrator: Arc<WorkflowOrchestrator>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, AppError> {
        let webhooks = WebhookClient::new(settings.check_webhooks()?)?;
        let traces = Traces::start(settings.traces.as_ref())?;
        let failpoints = Failpoints::from_env()?;
        let broker = Broker::start(services, settings, parts, database).await?;
        let store = database.store();
        let pipeline = Pipeline::start(PipelineParts {
            orchestrator: Arc::clone(&orchestrator) as _,
            store: Arc::clone(&store),
            source: broker.source(),
            publisher: Some(broker.publisher()),
            settings: PipelineSettings {
                lanes: settings.lanes,
                batch_max: BatchMax::of_commands(settings.batch_max),
                batch_wait: settings.batch_wait,
                outbox_max: settings.outbox_max,
            },
            metrics: Arc::clone(&metrics),
            failpoints: failpoints.clone(),
            traces: traces.clone(),
        });
        let running = Self {
            pipeline,
            store,
            orchestrator,
            metrics,
            broker,
            background: TaskTracker::new(),
            stopping: CancellationToken::new(),
            traces,
        };
        for (name, work) in running.background_work(settings, &webhooks, &failpoints) {
            running.background.spawn(async move {
                work.await;
                tracing::debug!(name, "background work ended");
            });
        }
        Ok(running)
    }

    /// All background tasks, each with its name in the log. Each ends when `stopping` is cancelled.
    fn background_work(
        &self,
        settings: &Settings,
        webhooks: &WebhookClient,
        failpoints: &Failpoints,
    ) -> [(&'static str, BoxFuture<'static, ()>); 10] {
        let store = || Arc::clone(&self.store);
        let orchestrator = || Arc::clone(&self.orchestrator);
        let messages = || settings.messages();
        let stopping = || self.stopping.clone();
        let handlers = ExternalHandlers::new(webhooks.clone(), Arc::clone(&self.metrics));
        let timers = TimerRunner::new(
            store() as _,
            orchestrator(),
            self.pipeline.clone(),
            Arc::new(handlers),
        );
        let pauses = PauseExpirer::new(store(), orchestrator());
        let goals = GoalProjector::new(store(), messages()).with_failpoints(failpoints.clone());
        let agreement = AgreementProjector::new(store(), messages(), settings.agreement_window)
            .with_failpoints(failpoints.clone());
        let gold = GoldProjector::new(store(), messages()).with_failpoints(failpoints.clone());
        let labels = LabelsProjector::new(store(), orchestrator(), messages())
            .with_failpoints(failpoints.clone());
        let flow = FlowProjector::new(store()).with_failpoints(failpoints.clone());
        let rounds = Rounds::default();
        let goal_actions = GoalActionRunner::new(
            store(),
            orchestrator(),
            webhooks.clone(),
            Arc::clone(&self.metrics),
        )
        .with_failpoints(failpoints.clone());
        // A process that takes no commands from the queue does not try dead ones either.
        let jobs = self.broker.source().map(|_| JobRunner {
            store: store(),
            pipeline: self.pipeline.clone(),
            publisher: self.broker.publisher(),
            channel: settings.lanes,
            letters: self.broker.dead_letters(),
            metrics: Arc::clone(&self.metrics),
        });
        let stop_jobs = stopping();
        let jobs = async move {
            if let Some(jobs) = jobs {
                jobs.run(stop_jobs).await;
            }
        };
        let following = rounds.clone().follow(self.pipeline.committed(), stopping());
        [
            ("rounds of projections", Box::pin(following)),
            ("jobs", Box::pin(jobs)),
            ("timers", Box::pin(timers.run(stopping()))),
            ("ends of pauses", Box::pin(pauses.run(stopping()))),
            ("goals", Box::pin(goals.run(rounds.clone(), stopping()))),
            (
                "agreement",
                Box::pin(agreement.run(rounds.clone(), stopping())),
            ),
            ("gold", Box::pin(gold.run(rounds.clone(), stopping()))),
            ("labels", Box::pin(labels.run(rounds.clone(), stopping()))),
            ("flow", Box::pin(flow.run(rounds.clone(), stopping()))),
            ("goal actions", Box::pin(goal_actions.run(stopping()))),
        ]
    }

    /// Returns, with the reason, if the broker's names turn out to belong to another deployment.
    pub(super) async fn refused_at_start(&self) -> String {
        self.broker.refused_at_start().await
    }

    /// Stops intake, finishes commands under way, publishes their messages and closes: the phases
    /// of [`STOP`].
    pub async fn drain(self, deadline: Instant) -> Result<(), AppError> {
        let mut finished = true;
        let time = DrainTime::until(deadline);
        for phase in STOP {
            if self.stop(phase.part, phase.limit.ends_at(time)).await {
                continue;
            }
            if phase.must_finish {
                finished = false;
            } else {
                tracing::warn!(phase = phase.name, "not closed in time");
            }
        }
        if finished {
            tracing::info!("drained");
            Ok(())
        } else {
            Err(AppError::Drain)
        }
    }

    /// Stops one part. Returns whether it stopped by `deadline`.
    async fn stop(&self, part: StopPart, deadline: Instant) -> bool {
        match part {
            StopPart::Background => {
                self.stopping.cancel();
                // Timers wait for the pipeline's answer, and it may wait for the store.
                self.pipeline.stop_waiting();
                self.background.close();
                timeout_at(deadline, self.background.wait()).await.is_ok()
            }
            StopPart::Pipeline => self.pipeline.drain(deadline).await,
            StopPart::Broker => timeout_at(deadline, self.broker.close()).await.is_ok(),
            StopPart::Traces => {
                // It has its own timeout, and logs the spans that were not exported.
                self.traces
                    .stop(deadline.saturating_duration_since(Instant::now()))
                    .await;
                true
            }
        }
    }

    /// Lets the API look at the broker.
    pub(super) fn show_broker(&self, slot: &BrokerSlot) {
        slot.fill(self.broker.publisher(), self.broker.dead_letters());
    }

    /// Keeps `health` up to date while the process lives.
    pub(super) fn watch_health(&self, database: &Database, health: &Health) {
        self.spawn_until_stopped(probe_database(database.clone(), health.clone()));
        let source = self.broker.source().map(|source| source.state());
        let publisher = self.broker.publisher().state();
        self.spawn_until_stopped(watch_broker(source, publisher, health.clone()));
        self.spawn_until_stopped(watch_intake(self.pipeline.intake_pauses(), health.clone()));
    }

    fn spawn_until_stopped(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.background.spawn(async move {
            stopping.run_until_cancelled(work).await;
        });
    }
}
