//! A worker that dies at any point of the road leaves nothing undone and does nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::process::ExitStatusExt,
    process::Stdio,
};

use glyph_worker::faults::CrashPoint;
use glyph_workflow_engine::{
    events::{EventStore, StateRebuilder},
    ids::TaskId,
    store::{TaskIndex, TaskRow},
};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::support::{
    DEADLINE,
    engine::{submission, task},
    eventually,
    services::{Services, amqp_url, assert_first_deliveries_in_order},
};

const TASKS: u128 = 60;
/// The signal of `abort`.
const SIGABRT: i32 = 6;

fn worker(services: &Services, crash_at: Option<CrashPoint>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glyph"));
    command
        .args(["worker", "--no-http"])
        .env("DATABASE_URL", &services.database_url)
        .env("AMQP_URL", amqp_url())
        .env("GLYPH_PREFIX", &services.prefix)
        .env("GLYPH_BATCH_MAX", "32")
        .env("GLYPH_LOG", "warn")
        .env_remove("GLYPH_CRASH_AT")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    if let Some(point) = crash_at {
        // The second pass, so that something has gone well before.
        command.env("GLYPH_CRASH_AT", format!("{point}:2"));
    }
    command.spawn().unwrap()
}

/// Two people on each task, who agree on every second; each third submission is sent twice.
fn commands() -> Vec<Value> {
    let mut commands = Vec::new();
    for n in 0..TASKS {
        commands.push(submission(task(n), "annotate", 1, "yes"));
        let label = if n % 2 == 0 { "yes" } else { "no" };
        commands.push(submission(task(n), "annotate", 2, label));
        // A third person comes too late.
        commands.push(submission(task(n), "annotate", 3, "yes"));
    }
    let again: Vec<_> = commands.iter().step_by(3).cloned().collect();
    commands.extend(again);
    commands
}

async fn crash_and_recover(point: CrashPoint) {
    let services = Services::new().await;
    let mut crashing = worker(&services, Some(point));
    let tap = services.tap().await;
    let commands = commands();
    services.send(&commands).await;
    let ended = timeout(DEADLINE, crashing.wait()).await;
    let ended = ended
        .unwrap_or_else(|_| panic!("{point} was not reached"))
        .unwrap();
    assert_eq!(ended.signal(), Some(SIGABRT), "{point}: {ended}");

    let mut healthy = worker(&services, None);
    let ids: BTreeSet<_> = commands
        .iter()
        .map(|c| c["command_id"].as_str().unwrap())
        .collect();
    let expected = i64::try_from(ids.len()).unwrap();
    eventually("every command decided", || async {
        let decided = services.count("SELECT count(*) FROM commands").await;
        (decided == expected).then_some(())
    })
    .await;
    services.outbox_empty().await;
    eventually("empty queues", || async {
        services.queues_empty().await.then_some(())
    })
    .await;

    check_log(&services, point).await;
    let messages = services.take_until(&tap, |all| !all.is_empty()).await;
    check_messages(&services, &messages, point).await;
    let dead = services.take(&services.topology.dead()).await;
    assert!(dead.is_empty(), "{point}: {} dead letters", dead.len());
    healthy.start_kill().unwrap();
    healthy.wait().await.unwrap();
    services.remove().await;
}

/// Versions without gaps, one end for each visit, rows and replays alike.
async fn check_log(services: &Services, point: CrashPoint) {
    let none = [
        (
            "gaps",
            "SELECT count(*) FROM (SELECT stream_id FROM workflow_events GROUP BY stream_id
             HAVING count(*) <> max(version)) AS found",
        ),
        (
            "heads that differ",
            "SELECT count(*) FROM tasks WHERE version <>
             (SELECT max(version) FROM workflow_events WHERE stream_id = task_id)",
        ),
        (
            "visits that ended twice",
            "SELECT count(*) FROM (SELECT 1 FROM workflow_events
             WHERE event_type = 'step_completed'
             GROUP BY stream_id, event_data->>'step_id', event_data->>'visit'
             HAVING count(*) > 1) AS found",
        ),
    ];
    for (what, query) in none {
        assert_eq!(services.count(query).await, 0, "{point}: {what}");
    }
    for n in 0..TASKS {
        let id = TaskId(task(n));
        let page = services.store.events(id, 0, 1_000).await.unwrap();
        let replayed = StateRebuilder::rebuild(&page.events).unwrap().unwrap();
        let loaded = services.store.load(&[id]).await.unwrap();
        assert_eq!(loaded[&id], replayed, "{point}");
        let row = services.store.task(id).await.unwrap().unwrap();
        assert_eq!(row, TaskRow::from(&replayed), "{point}");
    }
}

/// Every message came at least once, none came that has no cause, and first deliveries of a task
/// came in order.
async fn check_messages(services: &Services, messages: &[Value], point: CrashPoint) {
    assert_first_deliveries_in_order(messages);
    let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for message in messages {
        let kind = message["type"].as_str().unwrap();
        ids.entry(kind)
            .or_default()
            .insert(message["id"].as_str().unwrap());
    }
    let received = |kind: &str| i64::try_from(ids.get(kind).map_or(0, BTreeSet::len)).unwrap();
    for kind in [
        "workflow_started",
        "step_completed",
        "transition_occurred",
        "workflow_completed",
    ] {
        let query = format!("SELECT count(*) FROM workflow_events WHERE event_type = '{kind}'");
        let name = format!("dev.glyph.{}.v1", kind.replacen('_', ".", 1));
        assert_eq!(
            received(&name),
            services.count(&query).await,
            "{point}: {kind}"
        );
    }
    let rejected = "SELECT count(*) FROM commands WHERE outcome = 'rejected'";
    let rejected = services.count(rejected).await;
    assert_eq!(
        received("dev.glyph.command.rejected.v1"),
        rejected,
        "{point}"
    );
    let strangers = messages
        .iter()
        .filter(|message| message.get("sequence").is_some());
    let known = "SELECT count(*) FROM workflow_events WHERE event_id = '";
    for id in strangers
        .map(|m| m["id"].as_str().unwrap())
        .collect::<BTreeSet<_>>()
    {
        assert_eq!(
            services.count(&format!("{known}{id}'")).await,
            1,
            "{point}: {id}"
        );
    }
}

/// Side by side, as each waits for the leases of the dead to run out.
#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_heals() {
    let armed = cfg!(feature = "faults");
    assert!(
        armed,
        "the worker has no crash points: run with --features glyph-worker/faults"
    );
    let points: Vec<_> = CrashPoint::ALL
        .into_iter()
        .map(|point| (point, tokio::spawn(crash_and_recover(point))))
        .collect();
    for (point, run) in points {
        run.await
            .unwrap_or_else(|failed| panic!("{point}: {failed}"));
    }
}
