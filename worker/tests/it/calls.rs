//! External handlers through the timer runner: crashes, slow answers, jobs that nobody takes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use chrono::TimeDelta;
use glyph_worker::{
    broker::PublishOutcome,
    failpoints::Failpoints,
    metrics::Metrics,
    pipeline::{Pipeline, PipelineHandle, PipelineParts, PipelineSettings},
    timers::{ExternalHandlers, Handlers, TimerRunner},
    traces::Traces,
    webhook::{WebhookClient, WebhookSecret, WebhookSettings},
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    HandlerCall, StateRebuilder, WorkflowEvent, WorkflowOrchestrator,
    command::{
        Advance, AnnotationInput, Command, CommandEnvelope, EffectOutcome, Outcome, Pause, Start,
        Submission,
    },
    events::{EventStore, StoredEvent},
    ids::{TaskId, UserId},
    state::TaskStatus,
    store::{Outbox, SqliteEventStore, TaskIndex},
};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use crate::support::{broker::FakeBroker, eventually};

/// A worker on a SQLite file whose clock a test can advance.
struct World {
    _folder: tempfile::TempDir,
    store: SqliteEventStore,
    ahead: Arc<AtomicI64>,
    orchestrator: Arc<WorkflowOrchestrator>,
    pipeline: PipelineHandle,
    broker: Arc<FakeBroker>,
    metrics: Arc<Metrics>,
}

impl World {
    async fn new(workflow: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let clock = {
            let ahead = Arc::clone(&ahead);
            Arc::new(move || chrono::Utc::now() + TimeDelta::seconds(ahead.load(Ordering::SeqCst)))
        };
        let file = folder.path().join("glyph.db");
        let store = SqliteEventStore::open(file, clock).await.unwrap();
        store.migrate().await.unwrap();
        let shared = Arc::new(store.clone());
        let orchestrator = WorkflowOrchestrator::new(shared.clone(), shared.clone())
            .with_messages(Arc::new(CloudEventMessages::default()));
        orchestrator.create_workflow(workflow).await.unwrap();
        let orchestrator = Arc::new(orchestrator);
        let (broker, metrics) = (FakeBroker::new(), Arc::new(Metrics::new().unwrap()));
        let pipeline = Pipeline::start(PipelineParts {
            orchestrator: orchestrator.clone(),
            store: shared,
            source: Some(broker.clone()),
            publisher: Some(broker.clone()),
            settings: PipelineSettings::default(),
            metrics: Arc::clone(&metrics),
            failpoints: Failpoints::default(),
            traces: Traces::default(),
        });
        Self {
            _folder: folder,
            store,
            ahead,
            orchestrator,
            pipeline,
            broker,
            metrics,
        }
    }

    /// Runs timers until the guard is dropped.
    fn run_timer(&self, handlers: Arc<dyn Handlers>) -> DropGuard {
        let stopping = CancellationToken::new();
        let runner = TimerRunner::new(
            Arc::new(self.store.clone()),
            Arc::clone(&self.orchestrator),
            self.pipeline.clone(),
            handlers,
        );
        tokio::spawn(runner.run(stopping.clone()));
        stopping.drop_guard()
    }

    async fn submit(&self, command: Command) -> Outcome {
        let id = Uuid::now_v7();
        let submitted = self
            .pipeline
            .submit(CommandEnvelope::new(id, command))
            .await;
        submitted.unwrap()
    }

    async fn start(&self, task: u128) -> TaskId {
        let task_id = TaskId(Uuid::from_u128(task));
        let outcome = self
            .submit(Command::Start(Start {
                task_id,
                workflow: "calling".parse().unwrap(),
                input: Some(json!({"text": "x"})),
                labels: None,
                expected: None,
            }))
            .await;
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
        task_id
    }

    async fn until(&self, task: TaskId, status: TaskStatus) {
        eventually("the task gets there", || async {
            let row = self.store.task(task).await.unwrap()?;
            (row.status == status).then_some(())
        })
        .await;
    }

    async fn events(&self, task: TaskId) -> Vec<StoredEvent> {
        self.store.events(task, 0, 1_000).await.unwrap().events
    }

    async fn completions(&self, task: TaskId) -> usize {
        let events = self.events(task).await;
        let completed = |e: &&StoredEvent| matches!(e.event, WorkflowEvent::StepCompleted { .. });
        events.iter().filter(completed).count()
    }
}

fn calling(step: &str) -> String {
    format!("workflow: {{ id: calling, steps: [{{ id: call, type: auto_process, {step} }}] }}")
}

/// Makes the call like the real handlers and then hangs, like a process that died before it
/// recorded the answer; `let_go` wakes it.
struct Hanging {
    inner: ExternalHandlers,
    answered: Notify,
    let_go: Notify,
}

#[async_trait]
impl Handlers for Hanging {
    async fn call(&self, call: &HandlerCall) -> EffectOutcome {
        let outcome = self.inner.call(call).await;
        self.answered.notify_one();
        self.let_go.notified().await;
        outcome
    }
}

fn real(world: &World, server: &MockServer) -> ExternalHandlers {
    let settings = WebhookSettings {
        hosts: vec![server.address().to_string().parse().unwrap()],
        allow_private: true,
        secret: Some(WebhookSecret::new("a secret of the tests").unwrap()),
        secrets_dir: None,
    };
    let client = WebhookClient::new(settings).unwrap();
    ExternalHandlers::new(client, Arc::clone(&world.metrics))
}

async fn answering(answer: &Value) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(200).set_body_json(answer))
        .mount(&server)
        .await;
    server
}

#[tokio::test]
async fn a_crash_between_call_and_record_calls_again_under_the_same_key() {
    let server = answering(&json!({"label": "b"})).await;
    let step = format!("handler: webhook, config: {{ url: '{}' }}", server.uri());
    let world = World::new(&calling(&step)).await;
    let hanging = Arc::new(Hanging {
        inner: real(&world, &server),
        answered: Notify::new(),
        let_go: Notify::new(),
    });
    let first = world.run_timer(Arc::clone(&hanging) as _);
    let task = world.start(1).await;
    hanging.answered.notified().await;
    assert_eq!(world.completions(task).await, 0);

    // The lease of the dead process expires; another process takes over.
    world.ahead.store(120, Ordering::SeqCst);
    let _second = world.run_timer(Arc::new(real(&world, &server)));
    world.until(task, TaskStatus::Completed).await;
    let requests = server.received_requests().await.unwrap();
    let keys: Vec<_> = requests
        .iter()
        .map(|r| &r.headers["idempotency-key"])
        .collect();
    let bodies: Vec<Value> = requests.iter().map(|r| r.body_json().unwrap()).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(
        (&bodies[0]["attempt"], &bodies[0]["call"]),
        (&json!(1), &json!(1))
    );

    // The first process was not dead, only slow: its answer is a duplicate.
    hanging.let_go.notify_one();
    drop(first);
    assert_eq!(world.completions(task).await, 1);
    let events = world.events(task).await;
    let state = StateRebuilder::rebuild(&events).unwrap().unwrap();
    assert_eq!(state.output.unwrap()["result"], json!({"label": "b"}));
}

#[tokio::test]
async fn a_failing_webhook_is_called_again_and_then_its_task_is_held() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(503))
        .mount(&server)
        .await;
    let step = format!("handler: webhook, config: {{ url: '{}' }}", server.uri());
    let world = World::new(&calling(&step)).await;
    let _due = world.run_timer(Arc::new(real(&world, &server)));
    let task = world.start(1).await;
    for attempts in 1..=4 {
        eventually("the next attempt", || async {
            let events = world.events(task).await;
            let failed = |e: &&StoredEvent| matches!(e.event, WorkflowEvent::HandlerFailed { .. });
            (events.iter().filter(failed).count() == attempts).then_some(())
        })
        .await;
        world.ahead.fetch_add(20, Ordering::SeqCst);
    }
    let row = world.store.task(task).await.unwrap().unwrap();
    assert_eq!((row.status, row.incidents), (TaskStatus::Running, 1));
    let metrics = world.metrics.encode();
    let counted = r#"glyph_handler_duration_seconds_count{handler="webhook",outcome="error"} 4"#;
    assert!(metrics.contains(counted), "{metrics}");
}

/// Answers every hook with the place it is called from.
async fn answering_hooks() -> MockServer {
    let server = MockServer::start().await;
    for (name, answer) in [
        ("suggest", json!({"label": "Complaint"})),
        ("normalise", json!("complaint")),
        ("begun", Value::Null),
        ("done", Value::Null),
    ] {
        Mock::given(method("POST"))
            .and(path(format!("/{name}")))
            .respond_with(ResponseTemplate::new(200).set_body_json(answer))
            .mount(&server)
            .await;
    }
    server
}

fn hooked(server: &MockServer) -> String {
    let call = |name: &str| {
        let url = format!("{}/{name}", server.uri());
        format!("[{{ handler: webhook, config: {{ url: '{url}' }} }}]")
    };
    format!(
        "workflow: {{ id: calling, steps: [{{ id: call, type: annotation, field: label, hooks: {{ \
         pre_process: {}, post_process: {}, on_start: {}, on_complete: {} }} }}] }}",
        call("suggest"),
        call("normalise"),
        call("begun"),
        call("done"),
    )
}

#[tokio::test]
async fn hooks_are_called_around_the_work_and_after_the_end_of_the_task() {
    let server = answering_hooks().await;
    let world = World::new(&hooked(&server)).await;
    let _due = world.run_timer(Arc::new(real(&world, &server)));
    let task = world.start(1).await;
    let prepared = eventually("the step is open", || async {
        let state = StateRebuilder::rebuild(&world.events(task).await).unwrap()?;
        let visit = state.current_visit("call")?.clone();
        visit.is_open().then_some(visit.prepared)
    })
    .await;
    assert_eq!(prepared, Some(json!({"label": "Complaint"})));
    let submission = Command::Submission(Submission {
        task_id: task,
        step_id: Some("call".to_owned()),
        annotation: AnnotationInput {
            annotation_id: None,
            user_id: UserId(Uuid::from_u128(7)),
            data: json!({"label": "Complaint"}),
            decision: None,
            submitted_at: None,
            roles: None,
            confidence: None,
        },
        workflow: None,
    });
    let outcome = world.submit(submission).await;
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    world.until(task, TaskStatus::Completed).await;
    eventually("all four are called", || async {
        (server.received_requests().await?.len() == 4).then_some(())
    })
    .await;
    let state = StateRebuilder::rebuild(&world.events(task).await).unwrap();
    assert_eq!(state.unwrap().output.unwrap()["result"], "complaint");
    let requests = server.received_requests().await.unwrap();
    let bodies: Vec<Value> = requests.iter().map(|r| r.body_json().unwrap()).collect();
    let hook = |name: &str| bodies.iter().find(|body| body["hook"] == name).unwrap();
    for name in ["pre_process", "on_start", "post_process", "on_complete"] {
        assert_eq!(hook(name)["step_id"], "call", "{name}");
    }
    assert_eq!(hook("on_start")["input"]["prepared"]["label"], "Complaint");
    assert_eq!(
        hook("post_process")["input"]["result"]["value"],
        "Complaint"
    );
    assert_eq!(hook("on_complete")["input"]["result"]["value"], "complaint");
    let keys: BTreeSet<&str> = bodies
        .iter()
        .filter_map(|body| body["idempotency_key"].as_str())
        .collect();
    assert_eq!(keys.len(), 4, "each hook has a key of its own");
}

/// Never answers.
struct Deaf;

#[async_trait]
impl Handlers for Deaf {
    async fn call(&self, _: &HandlerCall) -> EffectOutcome {
        std::future::pending().await
    }
}

#[tokio::test]
async fn slow_calls_do_not_hold_up_timers() {
    let step = "handler: webhook, config: { url: 'https://a.org' }";
    let world = World::new(&calling(step)).await;
    let _due = world.run_timer(Arc::new(Deaf));
    // More calls than may run at the same time.
    for task in 1..100 {
        world.start(task).await;
    }
    let task = world.start(100).await;
    let until = chrono::Utc::now() + TimeDelta::seconds(60);
    let paused = Pause {
        task_id: task,
        step_id: None,
        reason: None,
        until: Some(until),
    };
    world.submit(Command::Pause(paused)).await;
    world.until(task, TaskStatus::Paused).await;
    world.ahead.store(61, Ordering::SeqCst);
    world.until(task, TaskStatus::Running).await;
}

#[tokio::test]
async fn a_job_without_a_taker_holds_its_task_and_is_listed() {
    let world = World::new(&calling("handler: queue, config: { model: m }")).await;
    world.broker.judge(|message| {
        if message.routing_key.starts_with("job.requested") {
            PublishOutcome::Returned("no queue".to_owned())
        } else {
            PublishOutcome::Confirmed
        }
    });
    let task = world.start(1).await;
    let listed = eventually("the job is listed", || async {
        world.store.outbox_failed(10).await.unwrap().pop()
    })
    .await;
    // The row begins with the job: what comes before it is confirmed.
    let range = listed.row.content.events().unwrap();
    assert!(listed.error.contains("no queue"), "{}", listed.error);
    let sent = world.broker.sent(|_| true);
    let (job, _) = sent
        .iter()
        .find(|(message, _)| message.routing_key == "job.requested.calling.call")
        .unwrap();
    let job: Value = serde_json::from_slice(&job.body).unwrap();
    assert_eq!(job["sequence"], format!("{:020}", range.from));
    assert_eq!(job["type"], "dev.glyph.job.requested.v1");
    assert_eq!(job["data"]["config"], json!({"model": "m"}));
    assert_eq!(job["data"]["input"]["input"], json!({"text": "x"}));
    assert_eq!(job["data"]["attempt"], 1);

    // A queue is bound; the job arrives and is answered.
    world.broker.judge(|_| PublishOutcome::Confirmed);
    world.ahead.store(600, Ordering::SeqCst);
    eventually("the job arrives", || async {
        let jobs = world.broker.confirmed(|_| true);
        jobs.iter()
            .any(|message| message.routing_key.starts_with("job."))
            .then_some(())
    })
    .await;
    let advance = Advance {
        task_id: task,
        step_id: None,
        output: Some(json!(7)),
    };
    world.submit(Command::Advance(advance)).await;
    world.until(task, TaskStatus::Completed).await;
}
