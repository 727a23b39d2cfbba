//! One run of a worker: the production parts, wired as the binary wires them, and its life.
//!
//! A worker that dies is never heard of again: each of its calls to the world waits for ever, its
//! transactions are rolled back, and its deliveries go back. So it ends at any of its steps, before
//! or after what the step does.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use glyph_worker::{
    failpoints::Failpoints,
    jobs::JobRunner,
    metrics::Metrics,
    pipeline::{BatchMax, Pipeline, PipelineHandle, PipelineParts, PipelineSettings},
    projections::{AgreementProjector, GoalProjector, GoldProjector, LabelsProjector, Rounds},
    timers::{PauseExpirer, TimerRunner},
    traces::Traces,
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    FactSource, WorkflowOrchestrator,
    store::{BatchTx, ProjectionTx, Store},
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    broker::{self, SimulatedPublisher, SimulatedSource},
    http::SimulatedHandlers,
    letters::SimulatedLetters,
    planted::{Bug, Processor},
    store::SimulatedStore,
    world::World,
};

/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(25);
/// How long a transaction may stand still before the store ends it.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// An open transaction of a process.
pub(crate) enum Tx {
    Batch(Box<dyn BatchTx>),
    Projection(Box<dyn ProjectionTx>),
}

/// The life of one run of a worker.
pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    /// Counted from 1; each run of a worker has a number of its own.
    pub(crate) number: usize,
    alive: AtomicBool,
    frozen_until: Mutex<Option<Instant>>,
    transactions: Arc<Mutex<BTreeMap<u64, Tx>>>,
    opened: AtomicU64,
    /// Notified when it dies.
    pub(crate) died: Notify,
}

impl Process {
    pub(crate) fn new(world: &Arc<World>, number: usize) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            number,
            alive: AtomicBool::new(true),
            frozen_until: Mutex::default(),
            transactions: Arc::default(),
            opened: AtomicU64::new(0),
            died: Notify::new(),
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// Goes on if the process lives, once it moves.
    pub(crate) async fn pass(&self) {
        loop {
            if !self.is_alive() {
                return std::future::pending().await;
            }
            let until = *self.frozen_until.lock().unwrap();
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Makes a step of which the process may die, after the time that it takes.
    pub(crate) async fn step(&self, what: impl fmt::Display) {
        self.wait().await;
        let at = self.world.at();
        self.world.state().trace.note(at, self.number, &what);
        self.may_die().await;
    }

    /// Makes a step that is worth no line in the trace.
    pub(crate) async fn look(&self, what: &str) {
        self.wait().await;
        let at = self.world.at();
        self.world.state().trace.count(at, self.number, what);
        self.may_die().await;
    }

    /// Takes time, or leaves some turns to whatever else is ready: so the seed decides the order in
    /// which what waits in a process is woken.
    async fn wait(&self) {
        self.pass().await;
        let plan = &self.world.plan;
        let wait = self.world.state().wait(plan.faults.store_slow);
        if wait.is_zero() {
            let turns = self.world.state().turns(plan.turns);
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        } else {
            tokio::time::sleep(wait).await;
        }
        self.pass().await;
    }

    async fn may_die(&self) {
        let dies = self.world.state().crashes();
        if dies {
            self.die("crash");
            std::future::pending::<()>().await;
        }
    }

    /// Ends it, as a power cut does.
    pub(crate) fn die(&self, how: &str) {
        if !self.alive.swap(false, Ordering::SeqCst) {
            return;
        }
        let at = self.world.at();
        {
            let mut state = self.world.state();
            state.trace.note(at, self.number, &how);
            let state = &mut *state;
            let verdict = state.broker.leave(self.number, &state.ledger);
            state.judge(verdict);
        }
        broker::deliver(&self.world);
        let transactions = Arc::clone(&self.transactions);
        let linger = self.world.plan.linger;
        tokio::spawn(async move {
            tokio::time::sleep(linger).await;
            drop(std::mem::take(&mut *transactions.lock().unwrap()));
        });
        self.died.notify_one();
    }

    /// Stands still, as when its machine is suspended.
    pub(crate) fn freeze(&self, time: Duration) {
        self.world
            .note(format!("#{} freezes for {time:?}", self.number));
        *self.frozen_until.lock().unwrap() = Some(Instant::now() + time);
        let transactions = Arc::clone(&self.transactions);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE_MAX.min(time)).await;
            if time > IDLE_MAX {
                drop(std::mem::take(&mut *transactions.lock().unwrap()));
            }
        });
    }

    /// Keeps a transaction for the process, which loses it when it dies. One that had to wait for a
    /// lock may be granted it after that.
    pub(crate) fn hold(&self, tx: Tx) -> u64 {
        let number = self.opened.fetch_add(1, Ordering::SeqCst);
        if self.is_alive() {
            self.transactions.lock().unwrap().insert(number, tx);
        }
        number
    }

    /// Takes a transaction back; none if the store has ended it.
    pub(crate) fn take(&self, number: u64) -> Option<Tx> {
        self.transactions.lock().unwrap().remove(&number)
    }
}

/// Time as the run has it, and ids that follow from the process.
#[derive(Debug)]
struct SimulatedFacts {
    process: usize,
    drawn: AtomicU64,
}

impl FactSource for SimulatedFacts {
    fn new_id(&self) -> Uuid {
        let n = self.drawn.fetch_add(1, Ordering::SeqCst);
        Uuid::from_u64_pair((0xfac7 << 32) | self.process as u64, n)
    }

    fn stopwatch(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

/// A worker that runs.
pub(crate) struct Worker {
    pub(crate) process: Arc<Process>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) orchestrator: Arc<WorkflowOrchestrator>,
    pub(crate) publisher: Arc<SimulatedPublisher>,
    pipeline: PipelineHandle,
    background: TaskTracker,
    stopping: CancellationToken,
}

impl Worker {
    /// Starts the parts that [`RunningWorker`](glyph_worker::app::RunningWorker) starts, except for
    /// webhooks of goals.
    pub(crate) fn start(world: &Arc<World>, number: usize, metrics: &Arc<Metrics>) -> Self {
        let process = Process::new(world, number);
        world.note(format!("#{number} starts"));
        let plan = &world.plan;
        let store: Arc<dyn Store> = Arc::new(SimulatedStore::new(&process));
        let messages = CloudEventMessages::default;
        let facts = SimulatedFacts {
            process: number,
            drawn: AtomicU64::new(0),
        };
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _)
                .with_messages(Arc::new(messages()))
                .with_facts(Arc::new(facts));
        let orchestrator = Arc::new(orchestrator);
        let processor = Processor {
            orchestrator: Arc::clone(&orchestrator),
            world: Arc::clone(world),
        };
        let bytes = match plan.bug {
            Some(Bug::BatchWithoutBytes) => usize::MAX,
            _ => plan.batch_bytes,
        };
        let publisher = SimulatedPublisher::start(&process);
        let pipeline = Pipeline::start(PipelineParts {
            orchestrator: Arc::new(processor),
            store: Arc::clone(&store),
            source: Some(SimulatedSource::start(&process)),
            publisher: Some(Arc::clone(&publisher) as _),
            settings: PipelineSettings {
                lanes: plan.lanes,
                batch_max: BatchMax {
                    commands: plan.batch_max,
                    bytes,
                },
                batch_wait: plan.batch_wait,
                outbox_max: plan.outbox_max,
            },
            metrics: Arc::clone(metrics),
            failpoints: Failpoints::default(),
            traces: Traces::default(),
        });
        let worker = Self {
            process,
            store,
            orchestrator,
            publisher,
            pipeline,
            background: TaskTracker::new(),
            stopping: CancellationToken::new(),
        };
        worker.start_background(metrics);
        worker
    }

    fn start_background(&self, metrics: &Arc<Metrics>) {
        let store = || Arc::clone(&self.store);
        let stopping = || self.stopping.clone();
        let messages = CloudEventMessages::default;
        let handlers = SimulatedHandlers(Arc::clone(&self.process));
        let rounds = Rounds::default();
        let timers = TimerRunner::new(
            store() as _,
            Arc::clone(&self.orchestrator),
            self.pipeline.clone(),
            Arc::new(handlers),
        );
        let pauses = PauseExpirer::new(store(), Arc::clone(&self.orchestrator));
        let goals = GoalProjector::new(store(), messages());
        let agreement = AgreementProjector::new(store(), messages(), 10);
        let gold = GoldProjector::new(store(), messages());
        let labels = LabelsProjector::new(store(), Arc::clone(&self.orchestrator), messages());
        let jobs = JobRunner {
            store: store(),
            pipeline: self.pipeline.clone(),
            publisher: Arc::clone(&self.publisher) as _,
            channel: self.process.world.plan.lanes,
            letters: Arc::new(SimulatedLetters(Arc::clone(&self.process))),
            metrics: Arc::clone(metrics),
        };
        let spawn = &self.background;
        spawn.spawn(jobs.run(stopping()));
        spawn.spawn(timers.run(stopping()));
        spawn.spawn(pauses.run(stopping()));
        let plan = &self.process.world.plan;
        if (self.process.number - 1) % plan.workers >= plan.projecting {
            return;
        }
        spawn.spawn(goals.run(rounds.clone(), stopping()));
        spawn.spawn(agreement.run(rounds.clone(), stopping()));
        spawn.spawn(gold.run(rounds.clone(), stopping()));
        spawn.spawn(labels.run(rounds, stopping()));
    }

    /// Ends it as the binary does on SIGTERM. Returns whether all was done in time.
    pub(crate) async fn drain(&self) -> bool {
        let deadline = Instant::now() + DRAIN;
        self.stopping.cancel();
        self.pipeline.stop_waiting();
        self.background.close();
        let ended = tokio::time::timeout_at(deadline, self.background.wait()).await;
        let drained = self.pipeline.drain(deadline).await;
        ended.is_ok() && drained
    }
}
