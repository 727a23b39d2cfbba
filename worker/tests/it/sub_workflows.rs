//! A parent and its child on a worker's pipeline, with the timers between them.

use std::{os::unix::process::ExitStatusExt, sync::Arc};

use async_trait::async_trait;
use glyph_worker::{
    failpoints::CrashPoint,
    operations::tasks::explain_task,
    timers::{Handlers, TimerRunner},
};
use glyph_workflow_engine::{
    EventStore, HandlerCall,
    command::{Command, CommandEnvelope, EffectOutcome, Outcome, Start},
    events::SqliteEventStore,
    ids::TaskId,
    state::TaskStatus,
    store::{Clock, TaskIndex, TimerQueue},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    DEADLINE,
    engine::{World, envelope, task},
    eventually,
    schemas::assert_message,
};

const EXAMPLES: [&str; 2] = [
    include_str!("../../../examples/field-extraction.yaml"),
    include_str!("../../../examples/nested-extraction.yaml"),
];

/// Handlers for workflows that call none.
struct Nobody;

#[async_trait]
impl Handlers for Nobody {
    async fn call(&self, call: &HandlerCall) -> EffectOutcome {
        panic!("nothing is called: {call:?}")
    }
}

async fn submit(world: &World, of: Uuid, step: &str, user: u128, data: Value) {
    let name = format!("{of}/{step}/{user}");
    let body = json!({
        "command_id": Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
        "task_id": of,
        "step_id": step,
        "annotation": {"user_id": Uuid::from_u128(user), "data": data},
    });
    let outcome = world.pipeline.submit(envelope(&body)).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
}

async fn status(world: &World, of: Uuid) -> Option<TaskStatus> {
    let row = world.store.task(TaskId(of)).await.unwrap();
    row.map(|row| row.status)
}

#[tokio::test]
async fn a_child_runs_beside_its_parent_and_its_messages_name_it() {
    let world = World::new().await;
    for yaml in EXAMPLES {
        world
            .engine
            .orchestrator
            .create_workflow(yaml)
            .await
            .unwrap();
    }
    let stopping = CancellationToken::new();
    let runner = TimerRunner::new(
        Arc::new(world.store.clone()),
        Arc::clone(&world.engine.orchestrator),
        world.pipeline.clone(),
        Arc::new(Nobody),
    );
    let running = tokio::spawn(runner.run(stopping.clone()));

    let parent = task(1);
    let start = Command::Start(Start {
        task_id: TaskId(parent),
        workflow: "nested-extraction".parse().unwrap(),
        input: Some(json!({"text": "t"})),
        labels: None,
        expected: None,
    });
    let start = CommandEnvelope {
        correlation_id: Some("order-7".to_owned()),
        ..CommandEnvelope::new(Uuid::from_u128(1), start)
    };
    world.pipeline.submit(start).await.unwrap();
    submit(&world, parent, "triage", 1, json!({"kind": "invoice"})).await;
    let child = Uuid::new_v5(&parent, b"extract/1");
    eventually("the child", || status(&world, child)).await;

    let state = world.engine.orchestrator.get_task_state(parent).await;
    let explanation = explain_task(&world.store, state.unwrap().snapshot()).await;
    let explanation = serde_json::to_value(explanation.unwrap()).unwrap();
    let waiting = &explanation["waiting"][0];
    assert_eq!(waiting["child"]["task_id"], child.to_string());
    assert_eq!(waiting["child"]["status"], "running");
    assert_eq!(waiting["child"]["current_steps"], json!(["mark"]));
    let summary = explanation["summary"].as_str().unwrap();
    assert!(summary.contains(&child.to_string()), "{summary}");

    for user in [1, 2] {
        submit(&world, child, "mark", user, json!({"fields": {}})).await;
    }
    // The extraction found nothing, so there is nothing to link.
    eventually("the parent's end", || async {
        (status(&world, parent).await? == TaskStatus::Completed).then_some(())
    })
    .await;
    eventually("no timers", || async {
        let due = world.store.timer_stats();
        (due.await.unwrap().total == 0).then_some(())
    })
    .await;
    stopping.cancel();
    running.await.unwrap();
    world.drain().await;

    let messages = world.broker.events();
    let (of_child, of_parent): (Vec<&Value>, Vec<&Value>) = messages
        .iter()
        .partition(|message| message["subject"] == child.to_string());
    assert!(of_child.len() > 5 && of_parent.len() > 5);
    for message in &of_child {
        assert_message(message);
        assert_eq!(message["data"]["parent_task_id"], parent.to_string());
        assert_eq!(message["data"]["root_task_id"], parent.to_string());
    }
    for message in &of_parent {
        assert_message(message);
        assert!(message["data"].get("parent_task_id").is_none());
    }
    // One correlation id to follow, through the child and back.
    let started = of_child
        .iter()
        .find(|message| message["type"] == "dev.glyph.workflow.started.v1")
        .unwrap();
    let completed = of_parent
        .iter()
        .find(|message| message["type"] == "dev.glyph.workflow.completed.v1")
        .unwrap();
    assert_eq!(started["correlationid"], completed["correlationid"]);
}

const INNER: &str = "
workflow:
  id: inner
  steps: [{ id: merge, type: auto_process, handler: finalize }]
";
const OUTER: &str = "
workflow:
  id: outer
  steps: [{ id: run, type: sub_workflow, workflow: inner }]
";
/// The signal of `abort`.
const SIGABRT: i32 = 6;

/// A folder with an embedded worker's database.
struct Folder(tempfile::TempDir);

impl Folder {
    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("glyph.db")
    }

    fn glyph(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_glyph"));
        command
            .args(arguments)
            .env(
                "DATABASE_URL",
                format!("sqlite://{}", self.file().display()),
            )
            .env("AMQP_URL", "embedded:")
            .env("GLYPH_LOG", "warn")
            .env_remove("GLYPH_CRASH_AT")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn done(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--output", "json"]].concat();
        let output = self.glyph(&arguments).output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    async fn create(&self, yaml: &str) {
        let file = self.0.path().join("workflow.yaml");
        std::fs::write(&file, yaml).unwrap();
        self.done(&["workflow", "create", file.to_str().unwrap()])
            .await;
    }
}

/// The types of a task's events, in order.
async fn story(store: &SqliteEventStore, of: Uuid) -> Vec<&'static str> {
    let page = store.events(TaskId(of), 0, 1_000).await.unwrap();
    page.events.iter().map(|e| e.event.event_type()).collect()
}

/// One worker dies between parent and child, another one takes over.
async fn crash_between(point: CrashPoint, pass: u32) {
    let what = format!("{point}:{pass}");
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.done(&["migrate"]).await;
    folder.create(INNER).await;
    folder.create(OUTER).await;
    let parent = task(1);
    let child = Uuid::new_v5(&parent, b"run/1");
    folder
        .done(&["task", "start", &parent.to_string(), "--workflow", "outer"])
        .await;

    let mut crashing = folder
        .glyph(&["worker", "--no-http"])
        .env("GLYPH_CRASH_AT", &what)
        .spawn()
        .unwrap();
    let ended = tokio::time::timeout(DEADLINE, crashing.wait()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{what} was not reached"));
    assert_eq!(ended.unwrap().signal(), Some(SIGABRT), "{what}");

    // In this half-done state, a rebuild from the log is consistent.
    let rebuilt = folder.done(&["rebuild"]).await;
    assert_eq!(rebuilt["due_changed"], 0, "{what}: {rebuilt}");
    assert_eq!(rebuilt["tasks_changed"], 0, "{what}: {rebuilt}");

    let mut healthy = folder.glyph(&["worker", "--no-http"]).spawn().unwrap();
    let clock: Clock = Arc::new(chrono::Utc::now);
    let store = SqliteEventStore::open(folder.file(), clock).await.unwrap();
    // The claims of the dead worker are free once its lease has expired.
    let deadline = Instant::now() + 2 * DEADLINE;
    while story(&store, child).await.last() != Some(&"parent_told")
        || story(&store, parent).await.last() != Some(&"workflow_completed")
        || store.timer_stats().await.unwrap().total > 0
    {
        assert!(Instant::now() < deadline, "{what}: not done in time");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    healthy.start_kill().unwrap();
    healthy.wait().await.unwrap();
    let once = [
        "workflow_started",
        "step_activated",
        "child_requested",
        "child_ended",
        "step_completed",
        "workflow_completed",
    ];
    let mut happened = story(&store, parent).await;
    // The child's report may arrive before the notification that it has started, which then lapses.
    happened.retain(|event| *event != "child_told");
    assert_eq!(happened, once, "{what}");
    let once = [
        "workflow_started",
        "step_activated",
        "step_completed",
        "workflow_completed",
        "parent_told",
    ];
    assert_eq!(story(&store, child).await, once, "{what}");
}

/// In parallel, as each waits until the leases of the dead worker expire. There are at least three
/// batches between a parent's request and the child's last report.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_between_parent_and_child_heals() {
    let armed = cfg!(feature = "faults");
    assert!(
        armed,
        "the worker has no crash points: run with --features glyph-worker/faults"
    );
    let runs: Vec<_> = [CrashPoint::Decided, CrashPoint::AfterCommit]
        .into_iter()
        .flat_map(|point| (1..=3).map(move |pass| crash_between(point, pass)))
        .map(tokio::spawn)
        .collect();
    for run in runs {
        run.await.unwrap();
    }
}
