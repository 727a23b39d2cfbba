//! Two hundred commands, and the conditions that must hold after them, whatever failure was
//! injected.

use std::collections::{BTreeMap, BTreeSet};

use glyph_workflow_engine::{
    events::{EventStore, StateRebuilder},
    ids::TaskId,
    store::{TaskIndex, TaskRow},
};
use serde_json::Value;

use super::{
    engine::{submission, task},
    eventually,
    services::{Services, assert_first_deliveries_in_order},
};

const TASKS: u128 = 60;

/// Two people label each task and agree on every second one; each third submission is sent twice.
pub(crate) fn commands() -> Vec<Value> {
    let mut commands = Vec::new();
    for n in 0..TASKS {
        commands.push(submission(task(n), "annotate", 1, "yes"));
        let label = if n % 2 == 0 { "yes" } else { "no" };
        commands.push(submission(task(n), "annotate", 2, label));
        // A third person is too late.
        commands.push(submission(task(n), "annotate", 3, "yes"));
    }
    let again: Vec<_> = commands.iter().step_by(3).cloned().collect();
    commands.extend(again);
    commands
}

/// Waits until all commands are decided and published, then checks the log, the rows and the
/// messages in `tap`. `point` names the injected failure.
pub(crate) async fn check(services: &Services, tap: &str, commands: &[Value], point: &str) {
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

    check_log(services, point).await;
    let messages = services.take_until(tap, |all| !all.is_empty()).await;
    check_messages(services, &messages, point).await;
    let dead = services.take(&services.topology.dead()).await;
    assert!(dead.is_empty(), "{point}: {} dead letters", dead.len());
}

/// Versions have no gaps, each visit has one end, and rows equal replays.
async fn check_log(services: &Services, point: &str) {
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

/// Every message arrived at least once, none without a cause, and first deliveries of a task are in
/// order.
async fn check_messages(services: &Services, messages: &[Value], point: &str) {
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
