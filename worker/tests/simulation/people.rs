//! Who uses the workers: producers that send commands, people who ask for work, operators, and a
//! reader of the feed.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::TimeDelta;
use glyph_worker::{
    broker::Properties,
    jobs::{JobKind, JobSettings, JobSpec, Selection},
    operations::feed::{FeedError, FeedFilter, FeedPage, feed},
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    command::{ClaimRequest, OperatorCommand, OperatorEnvelope, Sender},
    events::LogPosition,
    ids::{CommandId, TaskId, UserId, WorkflowId},
    store::NewJob,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    broker::send,
    ledger::Sent,
    process::Worker,
    random::Random,
    workflows::{SHAPES, Shape},
    world::World,
};

/// How long somebody waits for an answer before asking again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often somebody asks again.
const TRIES: usize = 4;
/// Items of a page of the feed.
const FEED_PAGE: u32 = 7;

/// What somebody has read of the log.
#[derive(Default)]
pub(crate) struct Read {
    /// The log's id.
    pub(crate) log: Uuid,
    /// Ids of its events, from the beginning.
    pub(crate) events: Vec<Uuid>,
}

/// The workers that run, by their place.
#[derive(Default)]
pub(crate) struct Fleet(Mutex<BTreeMap<usize, Arc<Worker>>>);

impl Fleet {
    pub(crate) fn put(&self, place: usize, worker: Arc<Worker>) {
        self.0.lock().unwrap().insert(place, worker);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Worker>> {
        self.0.lock().unwrap().values().cloned().collect()
    }

    pub(crate) fn any(&self, random: &mut Random) -> Option<Arc<Worker>> {
        let alive = self.all().into_iter();
        let alive: Vec<_> = alive.filter(|one| one.process.is_alive()).collect();
        let index = random.index(alive.len());
        alive.get(index).cloned()
    }
}

/// Someone who draws by themselves, so that what they do depends on nobody else's draws.
pub(crate) struct Person {
    world: Arc<World>,
    fleet: Arc<Fleet>,
    random: Random,
    number: u64,
    commands: u64,
}

/// A task of the run, with the shape of its workflow.
#[derive(Clone, Copy)]
pub(crate) struct PlannedTask {
    id: Uuid,
    shape: &'static Shape,
}

/// The tasks of a run.
pub(crate) fn tasks(world: &World) -> Vec<PlannedTask> {
    let mut random = Random::new(world.plan.seed ^ 0x7461_736b);
    let shapes = &world.plan.shapes;
    let task = |_| PlannedTask {
        id: Uuid::from_u64_pair(random.next(), random.next()),
        shape: &SHAPES[random.pick(shapes)],
    };
    (0..world.plan.tasks).map(task).collect()
}

impl Person {
    pub(crate) fn new(world: &Arc<World>, fleet: &Arc<Fleet>, number: u64) -> Self {
        Self {
            world: Arc::clone(world),
            fleet: Arc::clone(fleet),
            random: Random::new(world.plan.seed.rotate_left(17) ^ number),
            number,
            commands: 0,
        }
    }

    fn new_id(&mut self) -> Uuid {
        self.commands += 1;
        Uuid::from_u64_pair((0xc0de << 32) | self.number, self.commands)
    }

    /// A moment in the time in which commands are sent.
    fn moment(&mut self) -> Duration {
        let load = u64::try_from(self.world.plan.load.as_millis()).unwrap();
        self.random.millis(0, load)
    }

    /// Sends a command after a while, perhaps twice.
    fn send(&mut self, mut body: Value, dies: Option<&'static str>, after: Duration) {
        if body.get("command_id").is_none() {
            body["command_id"] = json!(self.new_id());
        }
        let uuid = |key: &str| body[key].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let (id, task) = (uuid("command_id"), uuid("task_id"));
        let starts = body.get("workflow").is_some();
        let kind = body["type"].as_str().unwrap_or_default().to_owned();
        self.send_as(body.to_string().into_bytes(), &kind, after, |properties| {
            Sent {
                id: id.map(CommandId),
                task: task.map(TaskId),
                dies,
                starts,
                properties,
                delivered: Duration::ZERO,
            }
        });
    }

    fn send_as(
        &mut self,
        body: Vec<u8>,
        kind: &str,
        after: Duration,
        sent: impl FnOnce(Properties) -> Sent,
    ) {
        let properties = Properties {
            message_type: Some(kind.to_owned()),
            correlation_id: Some(format!("order {}", self.commands)),
            reply_to: self.random.strikes(300).then(|| "answers".to_owned()),
            routing_key: kind.to_owned(),
            headers: BTreeMap::from([("x-origin".to_owned(), format!("person {}", self.number))]),
            ..Properties::default()
        };
        self.world
            .state()
            .ledger
            .send(body.clone(), sent(properties.clone()));
        if self.random.strikes(self.world.plan.duplicates) {
            let later = after + self.random.millis(0, 3_000);
            send(&self.world, body.clone(), properties.clone(), later);
        }
        send(&self.world, body, properties, after);
    }

    /// Sends what producers send of their own accord about a task.
    pub(crate) fn produce(&mut self, task: PlannedTask) {
        let PlannedTask { id, shape } = task;
        if self.random.strikes(950) {
            let start = json!({"type": "start", "task_id": id, "workflow": shape.id,
                "input": {"text": "a"}, "labels": {"set": "one"}});
            let after = self.random.millis(0, 1_000);
            self.send(start, None, after);
        }
        for _ in 0..self.world.plan.commands {
            let after = self.moment();
            if self.random.strikes(self.world.plan.poison) {
                self.poison(task, after);
                continue;
            }
            let step = self.random.pick(shape.steps);
            let user = Uuid::from_u128(u128::from(100 + self.random.below(4)));
            let workflow = self.random.strikes(900).then_some(shape.id);
            let body = match self.random.below(10) {
                0 => json!({"type": "advance", "task_id": id}),
                1 => json!({"type": "assign", "task_id": id, "step_id": step, "user_id": user}),
                2 => json!({"type": "activity", "task_id": id, "step_id": step, "user_id": user}),
                _ => self.submission(id, step, user, workflow),
            };
            self.send(body, None, after);
        }
    }

    fn submission(&mut self, task: Uuid, step: &str, user: Uuid, workflow: Option<&str>) -> Value {
        let label = self.random.pick(&["yes", "no"]);
        let mut annotation = json!({"user_id": user, "data": {"label": label}});
        if step == "review" {
            annotation["decision"] = json!(self.random.pick(&["approve", "reject", "approve"]));
        }
        let mut body = json!({"type": "submission", "task_id": task, "step_id": step,
            "annotation": annotation});
        if let Some(workflow) = workflow {
            body["workflow"] = json!(workflow);
        }
        body
    }

    /// Sends a command that must not be decided.
    fn poison(&mut self, task: PlannedTask, after: Duration) {
        let step = task.shape.steps[0];
        let (one, other) = (Uuid::from_u128(200), Uuid::from_u128(201));
        match self.random.below(4) {
            0 => {
                let body = format!("{{ no JSON {}", self.new_id()).into_bytes();
                self.send_as(body, "submission", after, |properties| Sent {
                    id: None,
                    task: None,
                    dies: Some("malformed"),
                    starts: false,
                    properties,
                    delivered: Duration::ZERO,
                });
            }
            1 => {
                let fresh = Uuid::from_u64_pair(self.random.next(), self.random.next());
                let body = self.submission(fresh, step, one, Some("nowhere"));
                self.send(body, Some("workflow_not_found"), after);
            }
            2 => {
                let id = self.new_id();
                for user in [one, other] {
                    let mut body = self.submission(task.id, step, user, Some(task.shape.id));
                    body["command_id"] = json!(id);
                    self.send(body, Some("command_id_reused"), after);
                }
            }
            _ => {
                let mut body = self.submission(task.id, step, one, Some(task.shape.id));
                body["annotation"]["data"]["label"] = json!(super::store::CURSED);
                self.send(body, Some("malformed"), after);
            }
        }
    }

    /// Asks a worker, and another one where that does not answer.
    async fn ask<T, F>(&mut self, question: impl Fn(Arc<Worker>) -> F) -> Option<T>
    where
        F: Future<Output = Option<T>>,
    {
        for _ in 0..TRIES {
            if let Some(worker) = self.fleet.any(&mut self.random)
                && let Ok(Some(answer)) = timeout(PATIENCE, question(worker)).await
            {
                return Some(answer);
            }
            tokio::time::sleep(self.random.millis(100, 1_000)).await;
        }
        None
    }

    /// Asks for work and does it, mostly.
    pub(crate) async fn work(mut self) {
        let user = UserId(Uuid::from_u128(u128::from(100 + self.number)));
        for _ in 0..self.world.plan.asks {
            let pause = self.world.plan.load / u32::try_from(self.world.plan.asks).unwrap();
            let pause = u64::try_from(pause.as_millis()).unwrap();
            tokio::time::sleep(self.random.millis(0, pause)).await;
            let request = ClaimRequest {
                command_id: CommandId(self.new_id()),
                correlation_id: None,
                traceparent: None,
                user_id: user,
                workflow: None,
                step: None,
                roles: Vec::new(),
                skills: Vec::new(),
                fresh: self.random.strikes(300),
                sender: Sender::default(),
            };
            let claim = self
                .ask(|worker| {
                    let request = request.clone();
                    async move {
                        let store = &*worker.store;
                        worker.orchestrator.claim_next(store, &request).await.ok()
                    }
                })
                .await;
            let Some(Some(claim)) = claim else { continue };
            let (task, step) = (claim.task_id.0, claim.step_id.to_string());
            match self.random.below(10) {
                0 => {}
                1 => {
                    let body = json!({"type": "release", "task_id": task, "step_id": step,
                        "user_id": user});
                    self.send(body, None, Duration::ZERO);
                }
                _ => {
                    let body = self.submission(task, &step, user.0, None);
                    let after = self.random.millis(0, 500);
                    self.send(body, None, after);
                }
            }
        }
    }

    /// Interferes as operators do.
    pub(crate) async fn operate(mut self, tasks: Vec<PlannedTask>) {
        for _ in 0..self.world.plan.operator {
            let pause = self.moment() / 2;
            tokio::time::sleep(pause).await;
            let task = self.random.pick(&tasks);
            let workflow: WorkflowId = task.shape.id.parse().unwrap();
            match self.random.below(8) {
                6 | 7 => self.replay().await,
                0 => {
                    let body = json!({"type": "cancel", "task_id": task.id});
                    self.send(body, None, Duration::ZERO);
                }
                1 => {
                    let body = json!({"type": "pause", "task_id": task.id});
                    self.send(body, None, Duration::ZERO);
                    let after = self.random.millis(100, 3_000);
                    let body = json!({"type": "resume", "task_id": task.id});
                    self.send(body, None, after);
                }
                2 | 3 => {
                    self.order(OperatorCommand::WorkflowPause {
                        workflow: workflow.clone(),
                        reason: None,
                        until: None,
                    })
                    .await;
                    if self.random.strikes(700) {
                        tokio::time::sleep(self.random.millis(0, 3_000)).await;
                        self.order(OperatorCommand::WorkflowResume {
                            workflow,
                            reason: None,
                            ran_out: None,
                        })
                        .await;
                    }
                }
                4 => {
                    let until = self.world.store_time() + TimeDelta::seconds(3);
                    self.order(OperatorCommand::WorkflowPause {
                        workflow,
                        reason: None,
                        until: Some(until),
                    })
                    .await;
                }
                _ => {
                    let user_id = UserId(Uuid::from_u128(101));
                    self.order(OperatorCommand::AnnotatorPause {
                        workflow,
                        user_id,
                        reason: None,
                        fallen_at: None,
                    })
                    .await;
                }
            }
        }
    }

    /// Has all dead letters tried again.
    async fn replay(&mut self) {
        let spec = JobSpec {
            kind: JobKind::ReplayDeadLetters,
            actor: "operator".to_owned(),
            settings: JobSettings {
                select: Selection::default(),
                stop_at: 1.0,
            },
        };
        let job = NewJob {
            id: self.new_id(),
            ..spec.new_job()
        };
        self.ask(|worker| {
            let job = job.clone();
            async move {
                // Another try may have been done, and its answer lost.
                if worker.store.job(job.id).await.ok()?.is_some() {
                    return Some(());
                }
                worker.store.create_job(job).await.ok()
            }
        })
        .await;
    }

    async fn order(&mut self, command: OperatorCommand) {
        let envelope = OperatorEnvelope::new(self.new_id(), command);
        self.ask(|worker| {
            let envelope = envelope.clone();
            async move {
                let store = &*worker.store;
                worker
                    .orchestrator
                    .operator_command(store, envelope)
                    .await
                    .ok()
            }
        })
        .await;
    }

    /// Follows the feed of the log for ever, from its beginning where it is another one.
    pub(crate) async fn follow(mut self, read: Arc<Mutex<Read>>) {
        let messages = CloudEventMessages::default();
        let mut after = LogPosition::default();
        loop {
            if let Some(worker) = self.fleet.any(&mut self.random) {
                let filter = FeedFilter::default();
                let page = feed(&*worker.store, &messages, &filter, after, FEED_PAGE, |_| {});
                match timeout(PATIENCE, page).await {
                    Ok(Ok(page)) if page.log == read.lock().unwrap().log => {
                        after = page.next_after.parse().unwrap();
                        let events = page.items.into_iter().filter_map(|item| item.event);
                        let events = events.map(|event| event.event_id);
                        read.lock().unwrap().events.extend(events);
                    }
                    Ok(Ok(FeedPage { log, .. })) => {
                        after = LogPosition::default();
                        let events = Vec::new();
                        *read.lock().unwrap() = Read { log, events };
                    }
                    Ok(Err(FeedError::Beyond { .. })) => {
                        after = LogPosition::default();
                        read.lock().unwrap().events.clear();
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            tokio::time::sleep(self.random.millis(200, 2_000)).await;
        }
    }
}
