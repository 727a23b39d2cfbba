//! Builds a pipeline from its parts, and the handle that submits to it and drains it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock, atomic::AtomicBool},
    time::Duration,
};

use glyph_workflow_engine::{
    command::{CommandEnvelope, Outcome},
    store::{Outbox, PublisherId, Store},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    CommandProcessor, IntakePauseReason,
    aside::SetAside,
    blocked::{Blocked, Rest},
    collecting::Collector,
    gate::Gate,
    gauge_sampler::{GaugeSampler, Look},
    intake,
    job::{Incoming, Job, Origin},
    lane::Lane,
    lease_renewer::LeaseRenewer,
    publishing::LanePublisher,
    running::BatchRunner,
    shared::{BatchNumbers, LaneContext},
    sizing::BatchMax,
    suspects::Suspects,
};
use crate::{
    broker::{CommandSource, MessagePublisher},
    failpoints::Failpoints,
    metrics::Metrics,
    outbox::{Deletions, Relay, relay_id, start_deletions},
    settings::{BATCH_MAX_DEFAULT, BATCH_WAIT_DEFAULT, LANES_DEFAULT, OUTBOX_MAX_DEFAULT},
    traces::{CommandSpan, Traces},
};

/// Windows of one lane that may wait to be published; at this bound the lane waits for the broker.
const WINDOWS_MAX: usize = 8;
/// Commands that may wait for a lane: more than any prefetch, so that lanes do not wait for each
/// other. Callers in this process wait at this bound.
const WAITING_MAX: usize = 8_192;

/// Sizes of a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct PipelineSettings {
    /// Batches under way at a time.
    pub lanes: usize,
    /// The most that a batch holds.
    pub batch_max: BatchMax,
    /// How long a batch that is not full waits for more commands.
    pub batch_wait: Duration,
    /// Rows of the outbox that may wait for the broker before intake pauses.
    pub outbox_max: u64,
}

impl Default for PipelineSettings {
    /// The defaults of a worker.
    fn default() -> Self {
        Self {
            lanes: LANES_DEFAULT,
            batch_max: BatchMax::of_commands(BATCH_MAX_DEFAULT),
            batch_wait: BATCH_WAIT_DEFAULT,
            outbox_max: OUTBOX_MAX_DEFAULT,
        }
    }
}

/// What a pipeline is made of.
pub struct PipelineParts {
    /// Decides and commits.
    pub orchestrator: Arc<dyn CommandProcessor>,
    /// The store of the orchestrator: its outbox, and what the gauges show.
    pub store: Arc<dyn Store>,
    /// Where commands come from; none if only this process submits.
    pub source: Option<Arc<dyn CommandSource>>,
    /// Where messages go; none leaves them to the relay of another process. It needs one channel
    /// for each lane and one for the relay: `settings.lanes + 1`.
    pub publisher: Option<Arc<dyn MessagePublisher>>,
    /// Sizes.
    pub settings: PipelineSettings,
    /// Where the pipeline counts.
    pub metrics: Arc<Metrics>,
    /// Where a test ends the process.
    pub failpoints: Failpoints,
    /// Where the pipeline's spans go.
    pub traces: Traces,
}

/// The pipeline takes no more commands: the process is going down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker is shutting down; send the command again with the same id")]
pub struct PipelineStopped;

/// Starts pipelines.
#[derive(Debug)]
pub struct Pipeline;

impl Pipeline {
    /// Starts every part as a task of the current runtime.
    pub fn start(parts: PipelineParts) -> PipelineHandle {
        let PipelineParts {
            orchestrator,
            store,
            source,
            publisher,
            settings,
            metrics,
            failpoints,
            traces,
        } = parts;
        let stopping = CancellationToken::new();
        let outbox: Arc<dyn Outbox> = Arc::clone(&store) as _;
        let publisher_id = PublisherId(Uuid::now_v7());
        let builder = orchestrator.messages();
        let backlog = Arc::new(AtomicBool::new(true));
        let gate = Gate::new(source.clone());
        let aside = Arc::new(SetAside::default());
        let shared = Arc::new(LaneContext {
            processor: orchestrator,
            source: source.clone(),
            publisher: publisher.is_some().then_some(publisher_id),
            gate: Arc::clone(&gate),
            aside: Arc::clone(&aside),
            suspects: Arc::new(Suspects::new(Arc::clone(&store))),
            metrics: Arc::clone(&metrics),
            failpoints: failpoints.clone(),
            traces,
            batch_max: settings.batch_max,
            batch_wait: settings.batch_wait,
            stopping: stopping.clone(),
            committed: watch::Sender::new(0),
        });
        let parts = RunningPipeline {
            workers: TaskTracker::new(),
            renewers: TaskTracker::new(),
            stopping: stopping.clone(),
            done: CancellationToken::new(),
            source: source.clone(),
            gate: Arc::clone(&gate),
            lanes: RwLock::default(),
            committed: shared.committed.subscribe(),
        };
        let deletions = start_deletions(Arc::clone(&outbox), stopping.clone(), &parts.workers);
        let lanes: Vec<_> = (0..settings.lanes.max(1))
            .map(|lane| {
                start_lane(
                    lane,
                    &shared,
                    publisher.clone(),
                    &outbox,
                    &deletions,
                    &parts,
                )
            })
            .collect();
        if let Some(source) = &source {
            let intake = intake::run(Arc::clone(source), lanes.clone(), Arc::clone(&metrics));
            parts.workers.spawn(intake);
        }
        let relay = relay_id(publisher_id);
        parts.renewers.spawn(
            LeaseRenewer {
                outbox: Arc::clone(&outbox),
                publishers: if publisher.is_some() {
                    vec![publisher_id, relay]
                } else {
                    vec![]
                },
                outbox_max: settings.outbox_max,
                backlog: Arc::clone(&backlog),
                gate: Arc::clone(&gate),
                metrics: Arc::clone(&metrics),
                done: parts.done.clone(),
            }
            .run(),
        );
        parts.renewers.spawn(
            GaugeSampler {
                store,
                source,
                gate: Arc::clone(&gate),
                aside,
                metrics: Arc::clone(&metrics),
                step_types: HashMap::new(),
                look: Look::default(),
                stopping: parts.done.clone(),
            }
            .run(),
        );
        if let Some(publisher) = publisher {
            let channel = lanes.len();
            let relay = Relay {
                outbox,
                builder,
                backlog,
                publisher,
                id: relay,
                channel,
                metrics,
                failpoints,
                stopping,
            };
            parts.workers.spawn(relay.run());
        }
        *parts.lanes.write().unwrap_or_else(PoisonError::into_inner) = Some(lanes);
        PipelineHandle {
            running: Arc::new(parts),
        }
    }
}

fn start_lane(
    lane: usize,
    shared: &Arc<LaneContext>,
    publisher: Option<Arc<dyn MessagePublisher>>,
    outbox: &Arc<dyn Outbox>,
    deletions: &Deletions,
    parts: &RunningPipeline,
) -> mpsc::Sender<Incoming> {
    let (submit, incoming) = mpsc::channel(WAITING_MAX);
    let (send, windows) = mpsc::channel(WINDOWS_MAX);
    let numbers = Arc::new(BatchNumbers::default());
    parts.workers.spawn(
        LanePublisher {
            shared: Arc::clone(shared),
            lane,
            windows,
            numbers: Arc::clone(&numbers),
            outbox: Arc::clone(outbox),
            publisher,
            deletions: deletions.clone(),
            held: HashMap::new(),
            unconfirmed: Vec::new(),
        }
        .run(),
    );
    let lane = Lane {
        shared: Arc::clone(shared),
        collector: Collector::new(
            incoming,
            shared.batch_max,
            shared.batch_wait,
            Arc::clone(&shared.suspects),
        ),
        runner: BatchRunner::new(Arc::clone(shared), numbers, Arc::clone(outbox)),
        blocked: Blocked::default(),
        rest: Rest::default(),
        tried_again: false,
        windows: send,
    };
    parts.workers.spawn(lane.run());
    submit
}

/// The tasks of a pipeline and what stops them.
struct RunningPipeline {
    /// Intake, lanes, publishers, deleter and relay: a drain waits for these.
    workers: TaskTracker,
    /// Tasks that must run until the workers are done.
    renewers: TaskTracker,
    /// Cancelled to stop intake and to end endless retries.
    stopping: CancellationToken,
    /// Cancelled once the workers are done.
    done: CancellationToken,
    source: Option<Arc<dyn CommandSource>>,
    gate: Arc<Gate>,
    /// None once drained; lanes end when the last sender is gone.
    lanes: RwLock<Option<Vec<mpsc::Sender<Incoming>>>>,
    committed: watch::Receiver<u64>,
}

/// A running pipeline; clones share it.
#[derive(Clone)]
pub struct PipelineHandle {
    running: Arc<RunningPipeline>,
}

impl PipelineHandle {
    /// Runs one command through the same pipeline as those of the queue and returns its outcome. A
    /// command that cannot be decided returns at once and is not retried. While the store is away
    /// this waits; a caller who gives up asks again with the same id.
    pub async fn submit(&self, envelope: CommandEnvelope) -> Result<Outcome, PipelineStopped> {
        let (answer, outcome) = oneshot::channel();
        let origin = Origin::Direct(answer);
        let incoming = Incoming::Job(Job {
            envelope: Arc::new(envelope),
            origin,
            ignored: Vec::new(),
            received_at: Instant::now(),
            span: CommandSpan::default(),
        });
        let lane = self.lane_of(&incoming).ok_or(PipelineStopped)?;
        lane.send(incoming).await.map_err(|_| PipelineStopped)?;
        // The sender is dropped without an answer if a drain could not wait for the store.
        outcome.await.map_err(|_| PipelineStopped)
    }

    fn lane_of(&self, incoming: &Incoming) -> Option<mpsc::Sender<Incoming>> {
        let lanes = self
            .running
            .lanes
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let lanes = lanes.as_ref()?;
        lanes.get(incoming.lane(lanes.len())).cloned()
    }

    /// Why intake is paused, and every change of that: a process with paused intake is not ready.
    pub fn intake_pauses(&self) -> watch::Receiver<BTreeSet<IntakePauseReason>> {
        self.running.gate.reasons()
    }

    /// Events that the lanes have committed since the start, and every change of that.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.running.committed.clone()
    }

    /// Takes no more commands from the broker, and ends waiting for the store: what cannot be decided
    /// now is given back, and its callers in this process are told. Comes before those callers are
    /// drained; what is at work is still finished.
    pub fn stop_waiting(&self) {
        self.running.gate.close();
        self.running.stopping.cancel();
    }

    /// Takes no more commands, finishes those that have begun and publishes what they decided.
    /// Returns whether that was done by `deadline`. Unfinished work is safe: the broker redelivers
    /// the commands, and a relay publishes the messages.
    pub async fn drain(&self, deadline: Instant) -> bool {
        let running = &self.running;
        self.stop_waiting();
        let drained = async {
            if let Some(source) = &running.source {
                source.stop().await;
            }
            running
                .lanes
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            running.workers.close();
            running.workers.wait().await;
        };
        let in_time = timeout_at(deadline, drained).await.is_ok();
        running.done.cancel();
        running.renewers.close();
        in_time && timeout_at(deadline, running.renewers.wait()).await.is_ok()
    }
}
