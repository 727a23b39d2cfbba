//! Replays of dead letters and rejected commands: each once, in order, and no further than the
//! canary allows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use glyph_worker::{
    amqp::{AmqpDeadLetters, AmqpPublisher},
    broker::{Destination, MessagePublisher, Publication, PublishOutcome},
    dead_letters::{DeadLetter, DeadLetters},
    jobs::{JobKind, JobSettings, JobSpec, Selection},
};
use glyph_workflow_engine::store::{JobItemState, JobRow, JobState, JobStore, JobWrite};
use lapin::{
    BasicProperties,
    types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable},
};
use serde_json::{Value, json};
use tokio::{process::Child, time::Instant};
use uuid::Uuid;

use crate::support::{
    DEADLINE,
    engine::{submission, task},
    eventually,
    services::Services,
};

/// How long a replay of thousands may take, with pauses until the leases of the dead run out.
const LONG: Duration = Duration::from_mins(5);

/// Headers of every type that RabbitMQ carries.
fn every_type() -> FieldTable {
    let values = [
        ("bool", AMQPValue::Boolean(true)),
        ("byte", AMQPValue::ShortShortInt(-1)),
        ("short", AMQPValue::ShortInt(-300)),
        ("int", AMQPValue::LongInt(-70_000)),
        ("long", AMQPValue::LongLongInt(1_764_300_000_000)),
        ("float", AMQPValue::Float(0.1)),
        ("double", AMQPValue::Double(0.1)),
        (
            "decimal",
            AMQPValue::DecimalValue(DecimalValue {
                scale: 2,
                value: 314,
            }),
        ),
        ("text", AMQPValue::LongString("näme".into())),
        (
            "list",
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongInt(1)])),
        ),
        ("time", AMQPValue::Timestamp(1_764_300_000)),
        ("table", {
            let mut table = FieldTable::default();
            table.insert("k".into(), AMQPValue::LongString("v".into()));
            AMQPValue::FieldTable(table)
        }),
        ("bytes", AMQPValue::ByteArray(ByteArray::from(vec![0, 255]))),
        ("nothing", AMQPValue::Void),
    ];
    let mut table = FieldTable::default();
    for (name, value) in values {
        table.insert(name.into(), value);
    }
    table
}

fn producers() -> BasicProperties {
    BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("gzip".into())
        .with_headers(every_type())
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("correlation".into())
        .with_expiration("600000".into())
        .with_timestamp(1_764_300_000)
        .with_app_id("labeller".into())
        .with_cluster_id("cluster".into())
}

/// Waits until every command queue is there with its bindings. A command that is sent before is
/// unroutable; another one of its task, whose binding is there already, overtakes it.
async fn declared(services: &Services) {
    // Declared last.
    let last = services.topology.transition_occurred();
    eventually("the topology", async || {
        services.queue_exists(&last).await.then_some(())
    })
    .await;
}

/// Nothing that the producer said is lost, and nothing is added but the worker's own headers.
fn assert_kept(copy: &BasicProperties) {
    let sent = producers();
    assert_eq!(copy.content_type(), sent.content_type());
    assert_eq!(copy.content_encoding(), sent.content_encoding());
    assert_eq!(copy.priority(), sent.priority());
    assert_eq!(copy.correlation_id(), sent.correlation_id());
    assert_eq!(copy.timestamp(), sent.timestamp());
    assert_eq!(copy.app_id(), sent.app_id());
    assert_eq!(copy.cluster_id(), sent.cluster_id());
    assert_eq!((copy.message_id(), copy.kind()), (&None, &None));
    assert_eq!(copy.expiration(), &None, "a copy does not expire");
    let headers = copy.headers().as_ref().unwrap().inner();
    for (name, value) in &every_type() {
        assert_eq!(headers.get(name.as_str()), Some(value), "{name}");
    }
    let others = headers
        .keys()
        .filter(|name| !every_type().contains_key(name.as_str()));
    assert!(
        others.clone().all(|name| name.as_str().starts_with("x-")),
        "{headers:?}"
    );
    let expiration = headers.get("x-glyph-expiration").unwrap();
    assert_eq!(expiration.as_long_string().unwrap().as_bytes(), b"600000");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_keep_what_the_producer_said_and_invent_nothing() {
    let services = Services::new().await;
    let worker = services.worker(services.orchestrator());
    declared(&services).await;
    let _tap = services.tap().await;
    let unreadable = b"\x1f\x8b not JSON";
    services
        .send_with("submission", unreadable, producers())
        .await;
    // The task is unknown: it goes to the retry ladder.
    let id = Uuid::from_u128(1);
    let waits = json!({"command_id": id, "type": "advance", "task_id": task(1)}).to_string();
    services
        .send_with("advance", waits.as_bytes(), producers())
        .await;
    // Published twice, without an id.
    let idless = json!({"type": "advance", "task_id": task(2)}).to_string();
    for _ in 0..2 {
        let plain = BasicProperties::default().with_delivery_mode(2);
        services
            .send_with("advance", idless.as_bytes(), plain)
            .await;
    }

    let retry = services
        .topology
        .retry(glyph_worker::broker::RetryDelay::S4);
    let copy = eventually("a retry", async || services.take(&retry).await.pop()).await;
    assert_eq!(copy.body, waits.as_bytes());
    assert_kept(&copy.properties);

    let letters = AmqpDeadLetters::new(services.amqp_settings());
    eventually("three letters", async || {
        (letters.list(10).await.unwrap().len() == 3).then_some(())
    })
    .await;
    let listed = letters.list(10).await.unwrap();
    let ids: Vec<_> = listed
        .iter()
        .map(|letter| letter.command_id.clone())
        .collect();
    assert_eq!(ids, [None, None, None]);
    let handles: BTreeSet<_> = listed.iter().map(|letter| letter.letter.clone()).collect();
    assert_eq!(handles.len(), 3);
    let dead = services.take(&services.topology.dead()).await;
    let unread = dead
        .iter()
        .find(|letter| letter.body == unreadable)
        .unwrap();
    assert_kept(&unread.properties);
    worker.stop().await;
    services.remove().await;
}

/// A dead letter as a worker publishes it: under the key of its command, without which it is not read
/// as that command.
fn dead(body: String, reason: &str) -> Publication {
    let command: Value = serde_json::from_str(&body).unwrap();
    let command_type = command["type"].as_str().unwrap();
    let mut headers = BTreeMap::new();
    headers.insert("x-glyph-reason".to_owned(), reason.to_owned());
    headers.insert("x-glyph-attempts".to_owned(), "5".to_owned());
    Publication {
        destination: Destination::Dead,
        routing_key: command_type.to_owned(),
        message_id: String::new(),
        message_type: command_type.to_owned(),
        correlation_id: None,
        reply_to: None,
        headers,
        original: Some(Arc::new(producers().with_expiration("1".into()))),
        content_type: "application/json",
        body: body.into_bytes().into(),
        timestamp: chrono::Utc::now(),
        mandatory: true,
        persistent: true,
    }
}

/// Buries letters, and says how many are in the queue.
async fn bury(services: &Services, bodies: impl IntoIterator<Item = String>) -> usize {
    let publisher = AmqpPublisher::start(services.amqp_settings());
    let mut state = publisher.state();
    let ready = state.wait_for(|state| state.publishing);
    tokio::time::timeout(DEADLINE, ready)
        .await
        .unwrap()
        .unwrap();
    let letters: Vec<_> = bodies
        .into_iter()
        .map(|body| dead(body, "task_not_found"))
        .collect();
    for window in letters.chunks(500) {
        let outcomes = publisher.publish(0, window).await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == PublishOutcome::Confirmed)
        );
    }
    publisher.close().await;
    letters.len()
}

async fn create(services: &Services, kind: JobKind, stop_at: f64, select: Selection) -> Uuid {
    let spec = JobSpec {
        kind,
        actor: "cli:test".to_owned(),
        settings: JobSettings { select, stop_at },
    };
    let job = spec.new_job();
    let id = job.id;
    services.store.create_job(job).await.unwrap();
    id
}

/// A replay of all dead letters.
async fn replay_all(services: &Services, stop_at: f64) -> Uuid {
    create(
        services,
        JobKind::ReplayDeadLetters,
        stop_at,
        Selection::default(),
    )
    .await
}

async fn job(services: &Services, id: Uuid) -> JobRow {
    services.store.job(id).await.unwrap().unwrap()
}

/// Waits until a job is as far as `until` says.
async fn reached(services: &Services, id: Uuid, until: impl Fn(&JobRow) -> bool) -> JobRow {
    let deadline = Instant::now() + LONG;
    loop {
        let row = job(services, id).await;
        if until(&row) {
            return row;
        }
        assert!(Instant::now() < deadline, "not in time: {row:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ended(services: &Services, id: Uuid) -> JobRow {
    reached(services, id, |row| row.state != JobState::Running).await
}

/// The letters in the dead queue; panics if one of them is there twice.
async fn each_once(services: &Services) -> BTreeMap<String, DeadLetter> {
    let letters = AmqpDeadLetters::new(services.amqp_settings());
    let listed = letters.list(usize::MAX).await.unwrap();
    let count = listed.len();
    let by_body: BTreeMap<_, _> = listed
        .into_iter()
        .map(|letter| (letter.body.clone(), letter))
        .collect();
    assert_eq!(by_body.len(), count, "a letter is there twice");
    by_body
}

fn counts(row: &JobRow) -> [u64; 3] {
    [
        JobItemState::Succeeded,
        JobItemState::Failed,
        JobItemState::Returned,
    ]
    .map(|state| row.count(state))
}

/// A command that is applied, or one that is dead again.
fn command(n: u128, fails: bool) -> String {
    if fails {
        json!({"type": "advance", "command_id": Uuid::from_u128(n), "task_id": "none"}).to_string()
    } else {
        submission(task(n), "annotate", 1, "yes").to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_stops_by_itself_and_puts_the_rest_back_as_it_was() {
    let services = Services::new().await;
    // Sound at first: the canary lets them through.
    let fails = |n: u128| n >= 150;
    let bodies: BTreeSet<_> = (0..600).map(|n| command(n, fails(n))).collect();
    let total = bury(&services, (0..600).map(|n| command(n, fails(n)))).await;
    let before = each_once(&services).await;
    let id = replay_all(&services, 0.01).await;
    let worker = services.worker_process().spawn().unwrap();
    let row = ended(&services, id).await;
    assert_eq!(row.state, JobState::Stopped, "{row:?}");
    assert!(
        row.reason.as_deref().unwrap().contains("more than 1 %"),
        "{row:?}"
    );
    let [succeeded, failed, returned] = counts(&row);
    assert_eq!(succeeded + failed + returned, total as u64, "{row:?}");
    assert!(failed > 0 && failed <= 202, "{row:?}");
    assert!(returned >= 200, "{row:?}");
    let applied = "SELECT count(*) FROM commands WHERE outcome = 'applied'";
    assert_eq!(
        services.count(applied).await,
        i64::try_from(succeeded).unwrap()
    );

    let after = each_once(&services).await;
    assert_eq!(after.len() as u64, failed + returned);
    let again = after.values().filter(|letter| letter.reason == "malformed");
    assert_eq!(again.count() as u64, failed);
    for (body, letter) in &after {
        assert!(bodies.contains(body));
        // Everything it had, and the mark of the job.
        let old = &before[body];
        assert_eq!(letter.properties, old.properties);
        assert!(letter.producers_headers().eq(old.producers_headers()));
        let mark = letter.headers["x-glyph-replay"].as_str().unwrap();
        assert!(mark.starts_with(&id.to_string()));
        if letter.reason == "malformed" {
            assert_eq!(letter.attempts, 6);
            assert!(letter.error.as_deref().unwrap().contains("task_id"));
        } else {
            assert_eq!((&letter.reason, letter.attempts), (&old.reason, 5));
        }
    }
    let failures = services
        .store
        .job_items(id, JobItemState::Failed, 0, 1_000)
        .await
        .unwrap();
    assert_eq!(failures.len() as u64, failed);
    assert!(
        failures[0]
            .detail
            .as_deref()
            .unwrap()
            .starts_with("malformed: ")
    );
    services.end(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_a_task_go_in_their_order() {
    let services = Services::new().await;
    // A submission before its start would be dead again: the task is unknown then.
    let of_task = |n: u128| {
        let start = json!({
            "type": "start", "command_id": Uuid::from_u128(10_000 + n), "task_id": task(n),
            "workflow": "sentiment-dual",
        });
        let mut first = submission(task(n), "annotate", 1, "yes");
        first.as_object_mut().unwrap().remove("workflow");
        let mut second = submission(task(n), "annotate", 2, "no");
        second.as_object_mut().unwrap().remove("workflow");
        let judged = json!({
            "type": "submission", "command_id": Uuid::from_u128(20_000 + n), "task_id": task(n),
            "step_id": "adjudicate",
            "annotation": {"user_id": Uuid::from_u128(9), "data": {"label": "yes"}},
        });
        [start, first, second, judged].map(|command: Value| command.to_string())
    };
    bury(&services, (0..40).flat_map(of_task)).await;
    let id = replay_all(&services, 0.0).await;
    let worker = services.worker_process().spawn().unwrap();
    let row = ended(&services, id).await;
    assert_eq!(
        (row.state, counts(&row)),
        (JobState::Done, [160, 0, 0]),
        "{row:?}"
    );
    let completed = "SELECT count(*) FROM tasks WHERE status = 'completed'";
    assert_eq!(services.count(completed).await, 40);
    assert!(each_once(&services).await.is_empty());
    services.end(worker).await;
}

/// Kills a worker that has come as far as `at`, and starts the next one.
async fn kill_at(
    services: &Services,
    worker: &mut Child,
    id: Uuid,
    at: impl Fn(&JobRow) -> bool,
) -> JobRow {
    let row = reached(services, id, |row| {
        at(row) || row.state != JobState::Running
    })
    .await;
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();
    *worker = services.worker_process().spawn().unwrap();
    row
}

/// Buries `total` letters of which `fails` says which die again, and replays them through three
/// kills. Returns the job.
async fn replay_through_kills(
    services: &Services,
    total: u64,
    stop_at: f64,
    fails: impl Fn(u128) -> bool,
) -> JobRow {
    bury(
        services,
        (0..u128::from(total)).map(|n| command(n, fails(n))),
    )
    .await;
    let id = create(
        services,
        JobKind::ReplayDeadLetters,
        stop_at,
        Selection::default(),
    )
    .await;
    let mut worker = services.worker_process().spawn().unwrap();
    let tried = |row: &JobRow| row.count(JobItemState::Succeeded) + row.count(JobItemState::Failed);
    // While letters move into the job, early in the replay, and late.
    kill_at(services, &mut worker, id, |row| row.items() > total / 3).await;
    kill_at(services, &mut worker, id, |row| tried(row) > total / 4).await;
    kill_at(services, &mut worker, id, |row| tried(row) > total * 3 / 4).await;
    let row = ended(services, id).await;
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn three_kills_change_no_count_and_nothing_is_done_twice() {
    let services = Services::new().await;
    let fails = |n: u128| n % 300 == 299;
    let row = replay_through_kills(&services, 3_000, 0.05, fails).await;
    assert_eq!(
        (row.state, counts(&row)),
        (JobState::Done, [2_990, 10, 0]),
        "{row:?}"
    );
    assert_eq!(services.count("SELECT count(*) FROM commands").await, 2_990);
    assert_eq!(
        services
            .count("SELECT count(*) FROM tasks WHERE version = 0")
            .await,
        0
    );
    let dead = each_once(&services).await;
    assert_eq!(dead.len(), 10);
    services.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_letters_go_back_puts_none_back_twice() {
    let services = Services::new().await;
    bury(&services, (0..1_500).map(|n| command(n, true))).await;
    let id = replay_all(&services, 0.01).await;
    let mut worker = services.worker_process().spawn().unwrap();
    for share in [100, 700] {
        kill_at(&services, &mut worker, id, |row| {
            row.count(JobItemState::Returned) > share
        })
        .await;
    }
    let row = ended(&services, id).await;
    assert_eq!(
        (row.state, counts(&row)),
        (JobState::Stopped, [0, 1, 1_499]),
        "{row:?}"
    );
    assert_eq!(row.reason.as_deref(), Some("1 of 1 failed, more than 1 %"));
    assert_eq!(each_once(&services).await.len(), 1_500);
    services.end(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_stopped_by_an_operator() {
    let services = Services::new().await;
    bury(&services, (0..300).map(|n| command(n, false))).await;
    let id = replay_all(&services, 1.0).await;
    assert!(services.store.stop_job(id, "cli:boss").await.unwrap());
    let worker = services.worker_process().spawn().unwrap();
    let row = ended(&services, id).await;
    assert_eq!(
        (row.state, counts(&row)),
        (JobState::Stopped, [0, 0, 300]),
        "{row:?}"
    );
    assert_eq!(row.reason.as_deref(), Some("stopped by cli:boss"));
    assert_eq!(each_once(&services).await.len(), 300);
    services.end(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_begins_when_those_before_it_have_ended() {
    let services = Services::new().await;
    bury(&services, (0..5).map(|n| command(n, false))).await;
    let first = replay_all(&services, 1.0).await;
    let second = replay_all(&services, 1.0).await;
    // Somebody else has the first one.
    let (other, store) = (Uuid::now_v7(), &services.store);
    let long = Duration::from_mins(10);
    assert_eq!(
        store.claim_job(other, long).await.unwrap().unwrap().id,
        first
    );
    let worker = services.worker_process().spawn().unwrap();
    eventually("the second job says what it waits for", async || {
        let row = store.job(second).await.unwrap().unwrap();
        row.reason?.contains(&first.to_string()).then_some(())
    })
    .await;
    assert_eq!(each_once(&services).await.len(), 5);
    assert!(store.stop_job(second, "cli:boss").await.unwrap());
    let row = ended(&services, second).await;
    assert_eq!((row.state, counts(&row)), (JobState::Stopped, [0, 0, 0]));

    let free = JobWrite::default();
    assert!(store.write_job(first, other, free).await.unwrap());
    let row = ended(&services, first).await;
    assert_eq!((row.state, row.items()), (JobState::Done, 5), "{row:?}");
    services.end(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_commands_are_replayed_once() {
    let services = Services::new().await;
    let worker = services.worker_process().spawn().unwrap();
    declared(&services).await;
    let control = |n: u128, verb: &str, id: u128| json!({"type": verb, "command_id": Uuid::from_u128(id + n), "task_id": task(n)});
    let mut commands = Vec::new();
    for n in 0..30 {
        let mut start = control(n, "start", 1_000);
        start["workflow"] = "sentiment-dual".into();
        let pause = control(n, "pause", 2_000);
        commands.extend([start, pause]);
    }
    services.send(&commands).await;
    let decided = async |count: i64| {
        eventually(&format!("{count} decided"), async || {
            let found = services.count("SELECT count(*) FROM commands").await;
            (found == count).then_some(())
        })
        .await;
    };
    decided(60).await;
    let labels: Vec<_> = (0..30)
        .map(|n| submission(task(n), "annotate", 1, "yes"))
        .collect();
    services.send(&labels).await;
    decided(90).await;
    let paused = Selection {
        reason: Some("task_paused".to_owned()),
        ..Selection::default()
    };
    // Still paused: the first one is rejected again, and the job stops.
    let id = create(&services, JobKind::ReplayRejected, 0.01, paused.clone()).await;
    let row = ended(&services, id).await;
    assert_eq!(
        (row.state, counts(&row)),
        (JobState::Stopped, [0, 1, 29]),
        "{row:?}"
    );

    let resumes: Vec<_> = (0..30).map(|n| control(n, "resume", 3_000)).collect();
    services.send(&resumes).await;
    decided(121).await;
    // The one that was rejected again is in the list itself.
    let id = create(&services, JobKind::ReplayRejected, 0.01, paused.clone()).await;
    let row = ended(&services, id).await;
    assert_eq!(
        (row.state, counts(&row)),
        (JobState::Done, [30, 0, 0]),
        "{row:?}"
    );
    let applied = "SELECT count(*) FROM commands WHERE type = 'submission' AND outcome = 'applied'";
    assert_eq!(services.count(applied).await, 30);
    // What was done is not done again.
    let id = create(&services, JobKind::ReplayRejected, 0.01, paused).await;
    let row = ended(&services, id).await;
    assert_eq!((row.state, row.items()), (JobState::Done, 0), "{row:?}");
    services.end(worker).await;
}

/// The figures of the documentation. Takes minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; run by name"]
async fn a_hundred_thousand_of_which_three_in_a_hundred_fail() {
    let fails = |n: u128| n % 100 == 33 || n % 100 == 66 || n % 100 == 99;
    let services = Services::new().await;
    bury(&services, (0..100_000).map(|n| command(n, fails(n)))).await;
    let began = Instant::now();
    let id = replay_all(&services, 0.01).await;
    let worker = services.worker_process().spawn().unwrap();
    let row = ended(&services, id).await;
    println!(
        "canary: {:?}, {:?}, {:?}",
        began.elapsed(),
        row.counts,
        row.reason
    );
    assert_eq!(row.state, JobState::Stopped);
    assert!(row.count(JobItemState::Failed) <= 200);
    services.end(worker).await;

    let services = Services::new().await;
    let began = Instant::now();
    let row = replay_through_kills(&services, 100_000, 0.1, fails).await;
    println!("three kills: {:?}, {:?}", began.elapsed(), row.counts);
    assert_eq!(
        (row.state, counts(&row)),
        (JobState::Done, [97_000, 3_000, 0])
    );
    assert_eq!(
        services.count("SELECT count(*) FROM commands").await,
        97_000
    );
    assert_eq!(each_once(&services).await.len(), 3_000);
    services.remove().await;
}
