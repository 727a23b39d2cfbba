//! A run: a world, its workers and faults, the time in which all must come to rest, and the laws
//! that are looked at then.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use chrono::TimeDelta;
use glyph_worker::{
    backoff,
    metrics::Metrics,
    projections::{GOALS, GoalProjector, PageOutcome, read_goals},
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    StateRebuilder, derive_timers,
    goals::Goals,
    ids::{StepId, TaskId},
    state::{Slots, WorkflowSnapshot},
    store::{
        Deployment, EventStore, EventStoreError, JobItemState, JobState, JobStore, OpenRequest,
        Outbox, ProjectionStore, Rebuild, TaskIndex, TaskRow, TimerQueue, WorkflowConfigStore,
    },
};
use tokio::{task::JoinSet, time::Instant};

use super::{
    broker::{cut, send},
    people::{Fleet, Person, Read, tasks},
    plan::Plan,
    planted::Bug,
    process::Worker,
    random::Random,
    workflows::{CONFIGS, SHAPES},
    world::{Broken, World},
};

/// How long everything may take to come to rest once no more faults happen: longer than the lease of
/// a call that died with its process, and a message that has failed often.
const REST_MAX: Duration = Duration::from_mins(5);

/// What became of a seed.
pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) hash: u64,
    pub(crate) steps: u64,
    pub(crate) took: Duration,
    pub(crate) events: usize,
    pub(crate) struck: BTreeMap<&'static str, u64>,
    pub(crate) broken: Option<Broken>,
}

thread_local! {
    /// Panics of this thread, wherever they were caught.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs a seed, on a thread of its own: nothing of one run is left to the next.
pub(crate) fn run(seed: u64, bug: Option<Bug>) -> Report {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some(THREAD) {
                PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            } else {
                print(panic);
            }
        }));
    });
    let runs = std::thread::Builder::new()
        .name(THREAD.to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            backoff::reproducible(seed);
            runtime.block_on(simulate(Plan::new(seed, bug)))
        });
    runs.unwrap().join().unwrap()
}

const THREAD: &str = "simulation";
/// The fault of a clock that goes back.
const CLOCK_BACK: &str = "clock put back";

async fn simulate(plan: Plan) -> Report {
    let world = World::new(plan);
    world.state().trace.prints = std::env::var_os("GLYPH_SIM_TRACE").is_some();
    for (shape, config) in SHAPES.iter().zip(CONFIGS.iter()) {
        let is_used = world.plan.shapes.iter().any(|used| {
            let used = SHAPES[*used].id;
            used == shape.id || (used == "outer" && shape.id == "single")
        });
        if is_used {
            world.store.save(config).await.unwrap();
        }
    }
    let course = course(Arc::clone(&world));
    tokio::select! {
        biased;
        () = world.over.notified() => {}
        () = course => {}
    }
    let panics = PANICS.with_borrow_mut(std::mem::take);
    if let Some(panic) = panics.first() {
        world.state().judge(Err(format!("a panic: {panic}")));
    }
    let state = world.state();
    Report {
        plan: world.plan.clone(),
        hash: state.trace.hash(),
        steps: state.trace.steps(),
        took: world.at(),
        events: state.ledger.log().len(),
        struck: state.struck.clone(),
        broken: state.broken(),
    }
}

/// Everything that happens.
async fn course(world: Arc<World>) {
    let fleet = Arc::new(Fleet::default());
    let metrics = Arc::new(Metrics::new().unwrap());
    for place in 0..world.plan.workers {
        let first = Arc::new(Worker::start(&world, place + 1, &metrics));
        fleet.put(place, Arc::clone(&first));
        let (world, fleet) = (Arc::clone(&world), Arc::clone(&fleet));
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move { supervise(&world, &fleet, place, first, &metrics).await });
    }
    let all = tasks(&world);
    let mut at_work = JoinSet::new();
    for (number, task) in (1_000..).zip(&all) {
        Person::new(&world, &fleet, number).produce(*task);
    }
    for number in 0..u64::try_from(world.plan.people).unwrap() {
        at_work.spawn(Person::new(&world, &fleet, number).work());
    }
    at_work.spawn(Person::new(&world, &fleet, 500).operate(all));
    let read = Arc::new(Mutex::new(Read::default()));
    tokio::spawn(Person::new(&world, &fleet, 501).follow(Arc::clone(&read)));
    spawn_faults(&world, &fleet, &mut at_work);
    tokio::time::sleep(world.plan.load).await;
    while at_work.join_next().await.is_some() {}
    world.state().calm = true;
    world.note("calm");
    let verdict = rest(&world, &fleet, &read).await;
    world.state().judge(verdict);
    let verdict = check(&world, &read).await;
    world.state().judge(verdict);
    for worker in fleet.all() {
        if !worker.drain().await {
            let number = worker.process.number;
            world
                .state()
                .judge(Err(format!("#{number} did not drain in time")));
        }
    }
}

/// Starts a worker again whenever it has ended.
async fn supervise(
    world: &Arc<World>,
    fleet: &Fleet,
    place: usize,
    mut worker: Arc<Worker>,
    metrics: &Arc<Metrics>,
) {
    loop {
        worker.process.died.notified().await;
        let away = world.state().random.millis(100, 4_000);
        tokio::time::sleep(away).await;
        let number = worker.process.number + world.plan.workers;
        worker = Arc::new(Worker::start(world, number, metrics));
        fleet.put(place, Arc::clone(&worker));
    }
}

/// Plans the faults that have a time.
fn spawn_faults(world: &Arc<World>, fleet: &Arc<Fleet>, at_work: &mut JoinSet<()>) {
    let faults = world.plan.faults;
    let mut random = Random::new(world.plan.seed ^ 0x6661_756c_7473);
    let load = u64::try_from(world.plan.load.as_millis()).unwrap();
    let mut plan = |many: u64, kind: Fault| {
        for _ in 0..many {
            let mut random = Random::new(random.next());
            let (world, fleet) = (Arc::clone(world), Arc::clone(fleet));
            at_work.spawn(async move {
                tokio::time::sleep(random.millis(0, load)).await;
                kind.strike(&world, &fleet, &mut random).await;
            });
        }
    };
    plan(faults.outages, Fault::Outage);
    plan(faults.locked, Fault::Locks);
    plan(faults.cuts, Fault::Cut);
    plan(faults.queue_missing, Fault::QueueMissing);
    plan(faults.blocked, Fault::Blocked);
    plan(faults.freezes, Fault::Freeze);
    plan(faults.drains, Fault::Drain);
    plan(faults.clock_jumps, Fault::ClockJump);
    plan(faults.restores, Fault::Restore);
}

/// A fault that has a time.
#[derive(Clone, Copy)]
enum Fault {
    Outage,
    Locks,
    Cut,
    QueueMissing,
    Blocked,
    Freeze,
    Drain,
    ClockJump,
    Restore,
}

impl Fault {
    async fn strike(self, world: &Arc<World>, fleet: &Fleet, random: &mut Random) {
        match self {
            Self::Outage => {
                world.state().count("outage");
                world.note("an outage of the store begins");
                world.state().outages += 1;
                let long = random.strikes(300);
                let ends = Instant::now() + random.millis(200, if long { 60_000 } else { 8_000 });
                // Links break meanwhile, as when the whole network is bad.
                let breaks = long && random.strikes(700);
                while breaks && Instant::now() < ends {
                    tokio::time::sleep(random.millis(500, 1_800)).await;
                    if let Some(worker) = fleet.any(random) {
                        cut(&worker.process);
                    }
                }
                tokio::time::sleep_until(ends).await;
                world.state().outages -= 1;
                world.note("an outage of the store ends");
            }
            Self::Locks => {
                let started = world.state().ledger.tasks();
                let tasks: Vec<TaskId> = started.into_iter().take(2).collect();
                world.state().count("locked heads");
                world.note(format!("somebody locks {tasks:?}"));
                let request = OpenRequest {
                    tasks: tasks.into_iter().map(|task| (task, 0)).collect(),
                    ..OpenRequest::default()
                };
                let held = world.store.open(request).await;
                tokio::time::sleep(random.millis(100, 9_000)).await;
                drop(held);
                world.note("nobody else holds locks");
            }
            Self::Cut => {
                if let Some(worker) = fleet.any(random) {
                    world.state().count("cut");
                    cut(&worker.process);
                }
            }
            Self::QueueMissing => {
                world.state().count("missing queue");
                world.state().broker.queue_missing = true;
                tokio::time::sleep(random.millis(200, 5_000)).await;
                world.state().broker.queue_missing = false;
            }
            Self::Blocked => {
                if let Some(worker) = fleet.any(random) {
                    world.state().count("blocked publisher");
                    worker.publisher.block(random.millis(100, 5_000));
                }
            }
            Self::Freeze => {
                if let Some(worker) = fleet.any(random) {
                    world.state().count("freeze");
                    let time = random.millis(1_000, 60_000);
                    cut(&worker.process);
                    worker.process.freeze(time);
                    tokio::time::sleep(time).await;
                }
            }
            Self::ClockJump => {
                let forward = random.strikes(500);
                let kind = if forward {
                    "clock put forward"
                } else {
                    CLOCK_BACK
                };
                world.state().count(kind);
                let by = random.millis(1, if forward { 600_000 } else { 60_000 });
                // Times of the run are whole milliseconds.
                let by = TimeDelta::from_std(by).unwrap() + TimeDelta::microseconds(500);
                world.jump(if forward { by } else { -by });
            }
            Self::Restore => restore(world, fleet, random).await,
            Self::Drain => {
                if let Some(worker) = fleet.any(random) {
                    world.state().count("drain");
                    world.note(format!("#{} is told to end", worker.process.number));
                    tokio::select! {
                        biased;
                        _ = worker.drain() => {}
                        () = tokio::time::sleep(Duration::from_secs(30)) => {}
                    }
                    worker.process.die("ends");
                }
            }
        }
    }
}

/// Restores the store to an earlier time, as docs/backup.md tells operators to: workers are stopped,
/// and producers send again what is undecided.
async fn restore(world: &Arc<World>, fleet: &Fleet, random: &mut Random) {
    world.note("the store is dumped");
    let (dump, ledger) = (world.store.dump(), world.state().ledger.clone());
    tokio::time::sleep(random.millis(0, 4_000)).await;
    for worker in fleet.all() {
        worker.process.die("is stopped for a restore");
    }
    world.state().count("restore");
    world.note("the store is restored");
    world.store.restore(&dump);
    if world.plan.bug != Some(Bug::RestoreUnderOldLog) {
        world.store.restored().await.unwrap();
    }
    world.state().ledger.restore(ledger);
    // What is dead is in the dead queue, or a job had taken it before the dump. What a job took later is
    // lost, but for who sent it.
    let held = held_by_jobs(world).await;
    let undecided = {
        let state = world.state();
        let dead = state.broker.dead();
        let mut undecided = state.ledger.undecided();
        undecided.retain(|(body, _)| {
            let in_queue = dead
                .get(body.as_slice())
                .is_some_and(|(_, found)| *found > 0);
            !in_queue && !held.contains(body)
        });
        undecided
    };
    for (body, properties) in undecided {
        send(world, body, properties, random.millis(0, 2_000));
    }
}

/// Bodies of letters that jobs have taken and not done anything with.
async fn held_by_jobs(world: &World) -> BTreeSet<Vec<u8>> {
    let mut held = BTreeSet::new();
    for job in world.store.jobs(100).await.unwrap() {
        if job.state != JobState::Running {
            continue;
        }
        for state in JobItemState::ALL {
            let items = world.store.job_items(job.id, state, 0, 1_000);
            let items = items.await.unwrap().into_iter();
            held.extend(items.map(|item| item.body));
        }
    }
    held
}

/// Waits until nothing is on its way any more.
async fn rest(world: &World, fleet: &Fleet, read: &Mutex<Read>) -> Result<(), String> {
    let until = Instant::now() + REST_MAX;
    loop {
        let store = &world.store;
        let pending = store.outbox_stats().await.unwrap().pending;
        let due = store.timer_stats().await.unwrap().due;
        let lags = store.projection_lags().await.unwrap();
        let behind: Vec<_> = lags.iter().filter(|(_, lag)| **lag > 0.0).collect();
        let (is_empty, waiting, log) = {
            let state = world.state();
            let (broker, log) = (&state.broker, state.ledger.log().len());
            (broker.is_empty(), broker.waiting(), log)
        };
        let same_log = store.log_id().await.unwrap().0 == read.lock().unwrap().log;
        let fed = read.lock().unwrap().events.len();
        // Without goals there is nothing to count.
        let counts = world
            .plan
            .shapes
            .iter()
            .any(|shape| SHAPES[*shape].has_goals());
        let is_begun = log == 0 || !counts || lags.contains_key(GOALS);
        let all_run = fleet.all().iter().all(|worker| worker.process.is_alive());
        let jobs = store.jobs(10).await.unwrap();
        let jobs = jobs
            .iter()
            .filter(|job| job.state == JobState::Running)
            .count();
        if is_empty
            && jobs == 0
            && all_run
            && is_begun
            && pending == 0
            && due == 0
            && behind.is_empty()
            && same_log
            && fed >= log
        {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!(
                "no rest after {REST_MAX:?}: commands: {waiting}; outbox: {pending}; due timers: \
                 {due}; jobs: {jobs}; projections behind: {behind:?}; fed {fed} of {log} events"
            ));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The laws of a world at rest.
async fn check(world: &World, read: &Mutex<Read>) -> Result<(), String> {
    {
        let state = world.state();
        state.ledger.is_complete(&state.broker.dead())?;
        let read = &read.lock().unwrap().events;
        let log = state.ledger.log();
        if read != log {
            let differs = read
                .iter()
                .zip(log)
                .position(|(read, logged)| read != logged);
            let (read, log) = (read.len(), log.len());
            return Err(format!(
                "INV-27: of {log} events {read} were read; the first other one: {differs:?}"
            ));
        }
    }
    while world
        .store
        .open_projection(GOALS, 1)
        .await
        .unwrap()
        .is_none()
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Without waiting for anything, and so without a worker that comes between.
    tokio::task::unconstrained(check_goals(world)).await?;
    let tasks = world.state().ledger.tasks();
    for task in tasks {
        check_task(world, task).await?;
    }
    Ok(())
}

/// How many submissions a step takes that completes by confidence; none for others.
fn most_submissions(state: &WorkflowSnapshot, step: &StepId) -> Option<u32> {
    let mut configs = CONFIGS.iter();
    let config = configs.find(|config| config.id == state.workflow.workflow)?;
    config.step(step)?.most_submissions()
}

/// Replay, stored state, and everything derived are the same.
async fn check_task(world: &World, task: TaskId) -> Result<(), String> {
    let store = &world.store;
    let events = store.events(task, 0, 1_000).await.unwrap().events;
    let replayed = StateRebuilder::rebuild(&events);
    let replayed =
        replayed.map_err(|error| format!("INV-04: {task} cannot be replayed: {error}"))?;
    let replayed = replayed.ok_or_else(|| format!("{task} has no state"))?;
    let loaded = EventStore::load(store, &[task])
        .await
        .unwrap()
        .remove(&task);
    if loaded.as_ref() != Some(&replayed) {
        return Err(format!(
            "INV-04: the stored state of {task} is not its replay"
        ));
    }
    let row = TaskRow::from(&replayed);
    if TaskIndex::task(store, task).await.unwrap().as_ref() != Some(&row) {
        return Err(format!("the row of {task} is not its state"));
    }
    for (step, state) in &replayed.steps {
        for visit in &state.visits {
            let taken = visit.annotations.len() + visit.assignments.len();
            // Where answers must be sure, work that nobody asked for is taken beyond the claims.
            let most = most_submissions(&replayed, step).unwrap_or_default();
            let slots = visit.slots.map(|slots| slots.max(most));
            if slots.is_some_and(|slots| taken > slots as usize) {
                return Err(format!(
                    "INV-20: {taken} people have {slots:?} slots of {task} {step}"
                ));
            }
        }
    }
    let timers = derive_timers(&replayed);
    let slots = Slots::from(&replayed);
    let changes = store.replace_derived(row, slots, Vec::new(), timers).await;
    let changes = match changes {
        Ok(changes) => changes,
        // A timer that has become due since.
        Err(EventStoreError::VersionConflict { .. }) => {
            return Box::pin(check_task(world, task)).await;
        }
        Err(error) => return Err(format!("{task} cannot be rebuilt: {error}")),
    };
    if changes.task || changes.timers {
        return Err(format!(
            "INV-17: what is derived of {task} differs: {changes:?}"
        ));
    }
    Ok(())
}

/// Goals are the same counted anew, if the clock has not gone back.
async fn check_goals(world: &World) -> Result<(), String> {
    // What occurs before an instant that was settled counts at that instant, and the log does not say
    // which it was.
    if world.state().struck.contains_key(CLOCK_BACK) {
        return Ok(());
    }
    let store = Arc::new(world.store.clone());
    let live = read_goals(&*store).await.unwrap();
    let pending = store.outbox_stats().await.unwrap().pending;
    store.reset_projection(GOALS).await.unwrap();
    let projector = GoalProjector::new(Arc::clone(&store) as _, CloudEventMessages::default());
    let projector = projector.without_progress();
    while let PageOutcome::Read { .. } = projector.step().await.unwrap() {}
    let anew = read_goals(&*store).await.unwrap();
    let told = store.outbox_stats().await.unwrap().pending - pending;
    if told > 0 {
        return Err(format!("INV-21: {told} messages more, counted anew"));
    }
    let counts = |goals: &Goals| -> Vec<_> {
        // Where nothing has happened, nobody may have looked at the goal yet.
        let goals = goals.iter().filter(|(_, goal)| goal.count > 0);
        goals
            .map(|(id, goal)| (id.clone(), goal.epoch, goal.count, goal.completed_at))
            .collect()
    };
    if counts(&live) == counts(&anew) {
        Ok(())
    } else {
        Err(format!(
            "INV-21: goals were {live:?} and are {anew:?} counted anew"
        ))
    }
}
