//! Goals are the same wherever and whenever the worker dies, and their actions run once.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::process::ExitStatusExt,
    sync::Arc,
};

use glyph_worker::{
    failpoints::CrashPoint,
    projections::{GOALS, GoalProjector, PageOutcome, read_goals},
    wire::CloudEventMessages,
};
use glyph_workflow_engine::store::{GoalStore, ProjectionStore};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::{process::Child, time::timeout};
use uuid::Uuid;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use crate::support::{
    DEADLINE,
    engine::{submission, task},
    eventually,
    services::Services,
};

/// Tasks between two crashes.
const WAVE: u128 = 4;
/// Minimum number of events of a wave, whatever was left of those before: start, activation, two
/// submissions, comparison, end of the step and of the task.
const WAVE_EVENTS: u8 = 4 * 7;
/// Tasks that end the workflows which their goals pause.
const LAST: u128 = 3;

/// How a worker ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By itself, when it reaches this crash point for the n-th time.
    At(CrashPoint, u64),
    /// Killed once this many more events are in the log.
    After(u8),
}

/// Goals that are reached one after the other, wave by wave, and two workflows that their goals
/// pause.
fn workflows(waves: u128, hook: &str) -> [String; 3] {
    let hook = format!("trigger_webhook: {{ url: \"{hook}\" }}");
    let volumes: Vec<String> = (1..=waves)
        .map(|n| {
            let target = n * WAVE;
            format!(
                "  - {{ id: v{n}, type: volume, target: {target}, on_complete: [notify, {hook}] }}\n"
            )
        })
        .collect();
    let volumes = volumes.concat();
    let counted = format!(
        "
workflow:
  id: counted
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: annotation_count, count: 2 }}
      consensus: {{ field: label, on_disagreement: {{ strategy: majority_vote }} }}
goals:
{volumes}  - {{ id: quality, type: quality, metric: agreement, target: 0.5, min_samples: 6, on_complete: [notify, {hook}] }}
  - {{ id: both, type: composite, operator: and, goals: [v2, quality], on_complete: [notify, {hook}] }}
"
    );
    let held = |action: &str| {
        format!(
            "
workflow:
  id: {action}d
  steps: [{{ id: annotate, type: annotation }}]
goals:
  - {{ id: last, type: volume, target: {LAST}, on_complete: [notify, {action}] }}
"
        )
    };
    [counted, held("pause"), held("archive")]
}

/// Two people label each task and agree on three of four tasks.
fn wave(n: u128) -> Vec<Value> {
    let tasks = (n * WAVE..).take(4);
    tasks
        .flat_map(|n| {
            let second = if n % 4 == 3 { "no" } else { "yes" };
            [
                on("counted", task(n), 1, "yes"),
                on("counted", task(n), 2, second),
            ]
        })
        .collect()
}

/// The commands that end one of the workflows which their goals pause.
fn last(workflow: &str) -> Vec<Value> {
    let name = |n: u128| Uuid::new_v5(&task(n), workflow.as_bytes());
    let tasks = (0..LAST).map(|n| on(workflow, name(n), 1, "yes"));
    tasks.collect()
}

fn on(workflow: &str, task: Uuid, user: u128, label: &str) -> Value {
    let mut command = submission(task, "annotate", user, label);
    command["workflow"] = json!(workflow);
    command
}

struct Run {
    services: Services,
    hook: MockServer,
}

impl Run {
    fn worker(&self, crash: Option<(CrashPoint, u64)>) -> Child {
        let mut command = self.services.worker_process();
        command
            .env("GLYPH_WEBHOOK_HOSTS", self.hook.address().to_string())
            .env("GLYPH_WEBHOOK_ALLOW_PRIVATE", "true")
            .env("GLYPH_WEBHOOK_SECRET", "a secret of sixteen bytes");
        if let Some((point, pass)) = crash {
            command.env("GLYPH_CRASH_AT", format!("{point}:{pass}"));
        }
        command.spawn().unwrap()
    }

    async fn events(&self) -> i64 {
        let all = "SELECT count(*) FROM workflow_events";
        self.services.count(all).await
    }

    /// Expires the leases of the dead worker, which would take minutes.
    async fn lapse(&self) {
        for sql in [
            "UPDATE goal_actions SET due_at = clock_timestamp() WHERE status = 'waiting'",
            "UPDATE outbox SET leased_until = clock_timestamp() WHERE leased_until IS NOT NULL",
        ] {
            let pool = self.services.store.pool();
            sqlx::query(sql).execute(pool).await.unwrap();
        }
    }

    /// One life of a worker: it gets work, and dies.
    async fn live_and_die(&self, end: End, work: &[Value]) {
        self.lapse().await;
        let before = self.events().await;
        match end {
            End::At(point, pass) => {
                let mut worker = self.worker(Some((point, pass)));
                self.services.send(work).await;
                let ended = timeout(2 * DEADLINE, worker.wait()).await;
                let ended = ended.unwrap_or_else(|_| panic!("{point}:{pass} was not reached"));
                // The signal of `abort`.
                assert_eq!(ended.unwrap().signal(), Some(6), "{point}:{pass}");
            }
            End::After(more) => {
                let mut worker = self.worker(None);
                self.services.send(work).await;
                eventually("events", || async {
                    (self.events().await >= before + i64::from(more)).then_some(())
                })
                .await;
                worker.start_kill().unwrap();
                worker.wait().await.unwrap();
            }
        }
    }
}

/// A number computed from the log without any projection.
async fn recount(services: &Services, workflow: &str, what: &str) -> f64 {
    let sql = AssertSqlSafe(format!(
        "SELECT {what} FROM workflow_events e JOIN tasks t ON t.task_id = e.stream_id
         WHERE t.workflow = '{workflow}' GROUP BY t.workflow"
    ));
    sqlx::query_scalar(sql)
        .fetch_one(services.store.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn goals_survive_every_crash() {
    let armed = cfg!(feature = "faults");
    assert!(
        armed,
        "the worker has no crash points: run with --features glyph-worker/faults"
    );
    // To repeat a run: `SIM_SEED=… cargo test`.
    let seed = std::env::var("SIM_SEED").map_or_else(|_| Uuid::now_v7(), |s| s.parse().unwrap());
    println!("SIM_SEED={seed}");
    let drawn = seed.as_bytes();
    let mut ends: Vec<End> = CrashPoint::ALL
        .into_iter()
        .filter(|point| !point.is_on_the_road())
        .flat_map(|point| match point {
            CrashPoint::BeforeProjection | CrashPoint::AfterProjection => {
                vec![End::At(point, 1), End::At(point, 2), End::At(point, 3)]
            }
            _ => vec![End::At(point, 1)],
        })
        .collect();
    ends.extend(
        drawn[12..]
            .iter()
            .map(|byte| End::After(byte % (WAVE_EVENTS + 1))),
    );

    let hook = MockServer::start().await;
    let done = Mock::given(method("POST")).respond_with(ResponseTemplate::new(200));
    done.mount(&hook).await;
    let services = Services::new().await;
    let waves = u128::try_from(ends.len()).unwrap();
    for yaml in workflows(waves, &hook.uri()) {
        services
            .orchestrator()
            .create_workflow(&yaml)
            .await
            .unwrap();
    }
    let run = Run { services, hook };
    let services = &run.services;
    let mut first = run.worker(None);
    let tap = services.tap().await;
    first.start_kill().unwrap();
    first.wait().await.unwrap();

    let mut sent = BTreeSet::new();
    for (n, end) in (0..).zip(&ends) {
        let mut work = wave(n);
        match end {
            End::At(CrashPoint::BeforeAction, _) => work.extend(last("paused")),
            End::At(CrashPoint::AfterAction, _) => work.extend(last("archived")),
            _ => {}
        }
        sent.extend(work.iter().map(|command| command["command_id"].to_string()));
        run.live_and_die(*end, &work).await;
    }
    run.lapse().await;
    let mut healthy = run.worker(None);
    let expected = i64::try_from(sent.len()).unwrap();
    eventually("every command decided", || async {
        let decided = "SELECT count(*) FROM commands WHERE task_id IS NOT NULL";
        (services.count(decided).await == expected).then_some(())
    })
    .await;
    let all_done = async || {
        let goals = read_goals(&services.store).await.unwrap();
        let reached = goals.values().filter(|goal| goal.completed_at.is_some());
        let actions = services.store.goal_actions().await.unwrap();
        let open = actions.iter().any(|row| row.status.as_str() != "done");
        (reached.count() == ends.len() + 4 && !open).then_some(())
    };
    eventually("every goal reached, every action done", all_done).await;
    services.outbox_empty().await;
    healthy.start_kill().unwrap();
    healthy.wait().await.unwrap();

    check_numbers(&run, waves).await;
    let actions = services.store.goal_actions().await.unwrap();
    check_actions(&run, &tap, ends.len()).await;

    // A rebuild from the first event gives the same state, and runs no action again.
    let live = read_goals(&services.store).await.unwrap();
    // Progress messages are delayed, so the worker may have died on such a message.
    let outbox = "SELECT count(*) FROM outbox";
    let left = services.count(outbox).await;
    services.store.reset_projection(GOALS).await.unwrap();
    let store = Arc::new(services.store.clone());
    let projector = GoalProjector::new(store, CloudEventMessages::default()).without_progress();
    // A transaction of another test may block the readers of the log.
    eventually("the log read again", || async {
        while let PageOutcome::Read { .. } = projector.step().await.unwrap() {}
        let again = read_goals(&services.store).await.unwrap();
        (again == live).then_some(())
    })
    .await;
    assert_eq!(services.store.goal_actions().await.unwrap(), actions);
    assert_eq!(services.count(outbox).await, left);
    run.services.remove().await;
}

/// The goals agree with the log.
async fn check_numbers(run: &Run, waves: u128) {
    let goals = read_goals(&run.services.store).await.unwrap();
    let of = |workflow: &str, goal: &str| {
        let key = (workflow.parse().unwrap(), goal.parse().unwrap());
        goals
            .get(&key)
            .unwrap_or_else(|| panic!("{workflow}/{goal}"))
    };
    let completed = "count(*) FILTER (WHERE e.event_type = 'workflow_completed')::float8";
    let tasks = recount(&run.services, "counted", completed).await;
    assert_eq!(Some(tasks), Some((waves * WAVE) as f64));
    for n in 1..=waves {
        let goal = of("counted", &format!("v{n}"));
        assert_eq!(goal.current(), Some(tasks));
        // Reached by the event that crossed the target, whichever worker was alive then. Of two
        // concurrent transactions, the one that is first in the log may have the later time; that
        // time stays.
        let at = format!(
            "(SELECT extract(epoch FROM max(f.occurred_at))::float8
              FROM workflow_events f JOIN log_entries fl ON fl.batch = f.batch
              WHERE (fl.entry, f.position) <= (
                  SELECT cl.entry, c.position
                  FROM workflow_events c JOIN log_entries cl ON cl.batch = c.batch
                  JOIN tasks ct ON ct.task_id = c.stream_id AND ct.workflow = 'counted'
                  WHERE c.event_type = 'workflow_completed'
                  ORDER BY cl.entry, c.position OFFSET {} LIMIT 1))",
            n * WAVE - 1
        );
        let at = recount(&run.services, "counted", &at).await;
        let reached = goal.completed_at.unwrap().timestamp_micros() as f64 / 1e6;
        assert!((reached - at).abs() < 1e-5, "v{n}: {reached} and {at}");
    }
    let agreement = "avg((e.event_data #>> '{result,agreement}')::float8)
                     FILTER (WHERE e.event_type = 'step_completed')";
    let agreement = recount(&run.services, "counted", agreement).await;
    let measured = of("counted", "quality").current().unwrap();
    assert!(
        (measured - agreement).abs() < 1e-9,
        "{measured}, {agreement}"
    );
    for workflow in ["paused", "archived"] {
        let tasks = recount(&run.services, workflow, completed).await;
        assert_eq!(of(workflow, "last").current(), Some(tasks));
    }
}

/// Messages, calls and operator commands: each once, however often it was attempted.
async fn check_actions(run: &Run, tap: &str, waves: usize) {
    let services = &run.services;
    let notified = waves + 4;
    let completed = |messages: &[Value]| {
        let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let of_goals = |m: &&Value| m["type"] == "dev.glyph.goal.completed.v1";
        for message in messages.iter().filter(of_goals) {
            let goal = format!(
                "{}/{}",
                message["data"]["workflow"], message["data"]["goal"]
            );
            let id = message["id"].to_string();
            ids.entry(goal).or_default().insert(id);
        }
        ids
    };
    let messages = services
        .take_until(tap, |all| completed(all).len() == notified)
        .await;
    for (goal, ids) in completed(&messages) {
        assert_eq!(ids.len(), 1, "{goal} is told of once: {ids:?}");
    }
    let requests = run.hook.received_requests().await.unwrap();
    let mut calls: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in &requests {
        let key = request.headers["idempotency-key"].to_str().unwrap();
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let goal = body["data"]["goal"].to_string();
        calls.entry(goal).or_default().insert(key.to_owned());
    }
    // One for each wave, one for the quality, and one for both together.
    assert_eq!(calls.len(), waves + 2);
    for (goal, keys) in &calls {
        assert_eq!(keys.len(), 1, "{goal} calls under one key");
    }
    let operator_commands = "SELECT count(*) FROM commands WHERE task_id IS NULL AND type =";
    for operator_command in ["workflow_pause", "workflow_archive"] {
        assert_eq!(
            services
                .count(&format!("{operator_commands} '{operator_command}'"))
                .await,
            1,
            "{operator_command}"
        );
    }
    let held = "SELECT count(*) FROM workflow_pauses WHERE ended_at IS NULL";
    assert_eq!(services.count(held).await, 2);
}
