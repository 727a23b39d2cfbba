//! The pipeline on an in-memory store and a scripted broker.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use glyph_worker::{
    broker::{Destination, Properties, PublishOutcome, RetryDelay},
    pipeline::{BatchMax, PipelineSettings},
    traces::Traces,
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{Dead, Outcome, ProcessResult, Undecided},
    store::{MemoryStore, OUTBOX_LEASE, Outbox, OutboxRow, PublisherId, ReleasedRow},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    engine::{World, envelope, submission, task},
    eventually,
    schemas::assert_valid,
};

fn text<'a>(message: &'a Value, key: &str) -> &'a str {
    message[key].as_str().unwrap_or_default()
}

/// Message types of one task, in order of delivery.
fn types_of(events: &[Value], task_id: Uuid) -> Vec<&str> {
    let of_task = events
        .iter()
        .filter(|e| e["subject"] == task_id.to_string());
    of_task.map(|event| text(event, "type")).collect()
}

/// Panics unless first deliveries of every task come in version order.
fn assert_in_order(events: &[Value]) {
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for event in events
        .iter()
        .filter(|event| event.get("sequence").is_some())
    {
        let before = last.insert(text(event, "subject"), text(event, "sequence"));
        assert!(
            before < Some(text(event, "sequence")),
            "{before:?} comes before {event:#}"
        );
    }
}

async fn settled(world: &World, count: usize) {
    eventually("settled", || async {
        (world.broker.settled().len() >= count).then_some(())
    })
    .await;
}

async fn outbox_empty(world: &World) {
    eventually("an empty outbox", || async {
        (world.store.outbox_stats().await.unwrap().pending == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn submissions_become_ordered_messages_and_an_empty_outbox() {
    let world = World::new().await;
    for n in 0..50 {
        for (user, label) in [(1, "yes"), (2, if n % 2 == 0 { "yes" } else { "no" })] {
            world
                .broker
                .send(&submission(task(n), "annotate", user, label));
        }
    }
    settled(&world, 100).await;
    outbox_empty(&world).await;
    let events = world.broker.events();
    assert_in_order(&events);
    let agreed = types_of(&events, task(0));
    assert_eq!(agreed.first(), Some(&"dev.glyph.workflow.started.v1"));
    assert_eq!(agreed.last(), Some(&"dev.glyph.workflow.completed.v1"));
    let opposed = types_of(&events, task(1));
    assert!(opposed.contains(&"dev.glyph.transition.occurred.v1"));
    assert!(!opposed.contains(&"dev.glyph.workflow.completed.v1"));
    world.drain().await;
    let metrics = world.metrics.encode();
    assert!(metrics.contains(r#"glyph_commands_total{outcome="applied",type="submission"} 100"#));
}

#[tokio::test]
async fn a_duplicate_publishes_nothing_and_is_answered() {
    let world = World::new().await;
    let body = submission(task(1), "annotate", 1, "yes").to_string();
    let properties = Properties {
        reply_to: Some("answers".to_owned()),
        correlation_id: Some("call-1".to_owned()),
        ..Properties::default()
    };
    world
        .broker
        .send_with(body.as_bytes(), properties.clone(), 0);
    settled(&world, 1).await;
    outbox_empty(&world).await;
    let before = world.broker.events().len();
    world.broker.send_with(body.as_bytes(), properties, 0);
    settled(&world, 2).await;
    world.drain().await;
    assert_eq!(world.broker.events().len(), before);
    let answers = world
        .broker
        .confirmed(|to| matches!(to, Destination::Reply(_)));
    let bodies: Vec<Value> = answers
        .iter()
        .map(|answer| serde_json::from_slice(&answer.body).unwrap())
        .collect();
    assert_eq!(bodies.len(), 2);
    for body in &bodies {
        assert_valid("messages/reply.v1.json", body);
    }
    assert_eq!(bodies[0]["outcome"], "applied");
    assert_eq!(bodies[1]["outcome"], "duplicate");
    assert_eq!(bodies[0]["result"], bodies[1]["result"]);
    assert!(
        answers
            .iter()
            .all(|a| a.correlation_id.as_deref() == Some("call-1") && !a.persistent)
    );
}

#[tokio::test]
async fn an_unreadable_command_is_copied_to_the_dead_queue_before_it_is_settled() {
    let world = World::new().await;
    let confirm = Arc::new(AtomicBool::new(false));
    let confirming = Arc::clone(&confirm);
    world.broker.judge(move |_| {
        if confirming.load(Ordering::SeqCst) {
            PublishOutcome::Confirmed
        } else {
            PublishOutcome::Nacked
        }
    });
    let properties = Properties {
        routing_key: "submission".to_owned(),
        ..Properties::default()
    };
    let tag = world.broker.send_with(b"{not json", properties, 0);
    let dead = |to: &Destination| *to == Destination::Dead;
    let sent = || async { (world.broker.sent(dead).len() >= 2).then_some(()) };
    eventually("two attempts", sent).await;
    assert!(
        world.broker.settled().is_empty(),
        "acknowledged without a confirmed copy"
    );
    confirm.store(true, Ordering::SeqCst);
    settled(&world, 1).await;
    assert_eq!(world.broker.settled(), [tag]);
    let copy = world.broker.confirmed(dead).remove(0);
    assert_eq!(&*copy.body, b"{not json");
    assert_eq!(copy.routing_key, "submission");
    assert_eq!(copy.headers["x-glyph-reason"], "malformed");
    assert_eq!(copy.headers["x-glyph-attempts"], "1");
    assert!(copy.headers["x-glyph-error"].starts_with("not JSON"));
    assert!(copy.headers.contains_key("x-glyph-first-failed-at"));
    assert!(copy.mandatory && copy.persistent);
    world.drain().await;
}

#[tokio::test]
async fn a_command_for_an_unknown_task_climbs_the_ladder() {
    let world = World::new().await;
    let body = json!({"type": "advance", "command_id": Uuid::from_u128(5), "task_id": task(9)});
    let mut headers = BTreeMap::new();
    for (attempts, rung) in (1_u32..).zip(RetryDelay::ALL) {
        let properties = Properties {
            routing_key: "advance".to_owned(),
            headers: headers.clone(),
            ..Properties::default()
        };
        world
            .broker
            .send_with(body.to_string().as_bytes(), properties, 0);
        settled(&world, attempts as usize).await;
        let copy = world
            .broker
            .confirmed(|to| *to == Destination::Retry(rung))
            .remove(0);
        assert_eq!(copy.headers["x-glyph-attempts"], attempts.to_string());
        assert_eq!(
            (copy.routing_key.as_str(), copy.message_type.as_str()),
            ("advance", "advance")
        );
        let first = headers.get("x-glyph-first-failed-at").cloned();
        assert!(first.is_none_or(|first| first == copy.headers["x-glyph-first-failed-at"]));
        headers = copy.headers;
    }
    let properties = Properties {
        headers,
        ..Properties::default()
    };
    world
        .broker
        .send_with(body.to_string().as_bytes(), properties, 0);
    settled(&world, 5).await;
    let dead = world
        .broker
        .confirmed(|to| *to == Destination::Dead)
        .remove(0);
    assert_eq!(dead.headers["x-glyph-reason"], "task_not_found");
    assert_eq!(dead.headers["x-glyph-attempts"], "5");
    world.drain().await;
    let metrics = world.metrics.encode();
    assert!(metrics.contains(r#"glyph_retries_total{reason="task_not_found"} 4"#));
    assert!(metrics.contains(r#"glyph_dead_letters_total{reason="task_not_found"} 1"#));
}

#[tokio::test]
async fn a_command_that_panics_is_found_among_its_neighbours() {
    let world = World::with(PipelineSettings {
        lanes: 1,
        ..PipelineSettings::default()
    })
    .await;
    *world.engine.poison.lock().unwrap() = Some("arsenic");
    for n in 0..40 {
        let label = if n == 23 { "arsenic" } else { "yes" };
        world
            .broker
            .send(&submission(task(n), "annotate", 1, label));
    }
    settled(&world, 40).await;
    world.drain().await;
    let retried = world
        .broker
        .confirmed(|to| matches!(to, Destination::Retry(_)));
    assert_eq!(retried.len(), 1);
    assert_eq!(
        retried[0].headers["x-glyph-error"],
        "deciding it failed: poison"
    );
    let metrics = world.metrics.encode();
    assert!(metrics.contains(r#"glyph_commands_total{outcome="applied",type="submission"} 39"#));
    assert!(metrics.contains(r#"glyph_retries_total{reason="panicked"} 1"#));
}

/// No decision is repeated then: the cached state is brought up to date under the lock.
#[tokio::test]
async fn a_task_that_another_process_moved_on_is_stale_in_the_cache_and_no_conflict() {
    let world = World::new().await;
    let first = submission(task(1), "annotate", 1, "yes");
    world.broker.send(&first);
    settled(&world, 1).await;
    let shared = Arc::new(world.store.clone());
    let other = WorkflowOrchestrator::new(shared.clone(), shared);
    let second = envelope(&submission(task(1), "annotate", 2, "no"));
    other.process_batch(vec![second], None).await.unwrap();
    world
        .broker
        .send(&submission(task(1), "adjudicate", 3, "yes"));
    settled(&world, 2).await;
    world.drain().await;
    let metrics = world.metrics.encode();
    assert!(metrics.contains(r#"glyph_task_cache_total{result="stale"} 1"#));
    assert!(metrics.contains("\nglyph_version_conflicts_total 0"));
}

#[tokio::test]
async fn a_batch_that_the_version_check_refuses_is_counted_and_its_command_tried_again() {
    let world = World::new().await;
    world.engine.conflicting.store(1, Ordering::SeqCst);
    world
        .broker
        .send(&submission(task(1), "annotate", 1, "yes"));
    settled(&world, 1).await;
    world.drain().await;
    let retried = world
        .broker
        .confirmed(|to| matches!(to, Destination::Retry(_)));
    assert_eq!(retried.len(), 1);
    let metrics = world.metrics.encode();
    assert!(metrics.contains("\nglyph_version_conflicts_total 1"));
}

/// The sizes of the batches in which commands are run that were all delivered so often before.
async fn sizes_of_redelivered(commands: usize, deliveries_before: u32) -> Vec<usize> {
    let settings = PipelineSettings {
        lanes: 1,
        batch_max: BatchMax::of_commands(64),
        batch_wait: Duration::from_millis(200),
        ..PipelineSettings::default()
    };
    let world = World::with(settings).await;
    for n in (0..).take(commands) {
        let body = submission(task(n), "annotate", 1, "yes").to_string();
        world
            .broker
            .send_with(body.as_bytes(), Properties::default(), deliveries_before);
    }
    settled(&world, commands).await;
    world.drain().await;
    world.engine.sizes.lock().unwrap().clone()
}

#[tokio::test]
async fn redelivered_commands_travel_in_smaller_batches() {
    let sizes = sizes_of_redelivered(32, 1).await;
    assert!(sizes.iter().all(|size| *size <= 8), "{sizes:?}");
}

/// A lost link brings back all that was on it, and none of it has killed anything.
#[tokio::test]
async fn redelivered_commands_that_kill_nothing_travel_in_larger_batches_again() {
    let sizes = sizes_of_redelivered(60, 5).await;
    assert_eq!(sizes[..5], [1, 1, 1, 1, 8], "{sizes:?}");
}

#[tokio::test]
async fn a_store_that_is_away_holds_intake_and_loses_nothing() {
    let world = World::new().await;
    world.engine.away.store(3, Ordering::SeqCst);
    world
        .broker
        .send(&submission(task(1), "annotate", 1, "yes"));
    eventually("held", || async { world.broker.is_paused().then_some(()) }).await;
    settled(&world, 1).await;
    eventually("let go", || async {
        (!world.broker.is_paused()).then_some(())
    })
    .await;
    world.drain().await;
    assert!(
        world
            .broker
            .sent(|to| matches!(to, Destination::Retry(_) | Destination::Dead))
            .is_empty()
    );
}

/// Their messages belong to this process, which only finds duplicates when it runs them again.
#[tokio::test]
async fn messages_of_batches_with_an_unknown_commit_are_published_in_order() {
    let world = World::new().await;
    world
        .broker
        .send(&submission(task(1), "annotate", 1, "yes"));
    settled(&world, 1).await;
    world.engine.silent.store(2, Ordering::SeqCst);
    for n in 0..20 {
        world
            .broker
            .send(&submission(task(n), "annotate", 2, "yes"));
        world
            .broker
            .send(&submission(task(n), "annotate", 3, "yes"));
    }
    settled(&world, 41).await;
    outbox_empty(&world).await;
    let events = world.broker.events();
    assert_in_order(&events);
    for n in 0..20 {
        let last = types_of(&events, task(n)).pop();
        // Of the first task, one of the two submissions came too late.
        let end = "dev.glyph.workflow.completed.v1";
        let rejected = "dev.glyph.command.rejected.v1";
        assert!(
            last == Some(end) || (n == 1 && last == Some(rejected)),
            "{n}: {last:?}"
        );
    }
    world.drain().await;
}

/// A commit whose reply is lost again and again is given up, and no batch may follow on its lane.
#[tokio::test]
async fn messages_of_an_unknown_commit_do_not_wait_for_the_next_batch() {
    let world = World::new().await;
    world.engine.silent.store(3, Ordering::SeqCst);
    world
        .broker
        .send(&submission(task(1), "annotate", 1, "yes"));
    eventually("three batches without an answer", || async {
        (world.engine.silent.load(Ordering::SeqCst) == 0).then_some(())
    })
    .await;
    outbox_empty(&world).await;
    assert_eq!(
        types_of(&world.broker.events(), task(1))[0],
        "dev.glyph.workflow.started.v1"
    );
    world.drain().await;
}

/// The lease of a row that nobody has in memory may run out before the lane looks for it. Another
/// process publishes it then, and the lane's next messages of the task wait for that.
#[tokio::test]
async fn nothing_overtakes_messages_of_an_unknown_commit_that_another_took_over() {
    let late = Arc::new(AtomicI64::new(0));
    let seconds = Arc::clone(&late);
    let clock = move || Utc::now() + TimeDelta::seconds(seconds.load(Ordering::SeqCst));
    let settings = PipelineSettings {
        lanes: 1,
        batch_max: BatchMax::of_commands(2),
        batch_wait: Duration::from_secs(5),
        ..PipelineSettings::default()
    };
    let store = MemoryStore::with_clock(Arc::new(clock));
    let world = World::on(store.clone(), settings, Traces::default()).await;
    // The first batch writes one of two commands, and its reply is lost. When both have run again,
    // with the other command's messages in memory, the leases run out.
    world.engine.silent.store(1, Ordering::SeqCst);
    world.engine.hasty.store(1, Ordering::SeqCst);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (thief, loot) = (store.clone(), Arc::clone(&taken));
    *world.engine.after.lock().unwrap() = Some(Box::pin(async move {
        late.store(60, Ordering::SeqCst);
        let other = PublisherId(Uuid::from_u128(1));
        let hour = Duration::from_hours(1);
        *loot.lock().unwrap() = thief.claim(other, hour, 1).await.unwrap();
    }));
    for user in [1, 2] {
        world
            .broker
            .send(&submission(task(1), "annotate", user, "yes"));
    }
    settled(&world, 2).await;
    // The lane sends windows in their order: when it has sent this one, it is done with the others.
    world
        .broker
        .send(&submission(task(2), "annotate", 1, "yes"));
    world
        .broker
        .send(&submission(task(2), "annotate", 2, "yes"));
    eventually("messages of another task", || async {
        (!types_of(&world.broker.events(), task(2)).is_empty()).then_some(())
    })
    .await;
    assert_eq!(
        types_of(&world.broker.events(), task(1)),
        Vec::<&str>::new()
    );
    let released: Vec<_> = taken
        .lock()
        .unwrap()
        .iter()
        .map(|row: &OutboxRow| ReleasedRow {
            position: row.position,
            from_version: None,
        })
        .collect();
    assert_eq!(released.len(), 1);
    store.release(&released, None).await.unwrap();
    outbox_empty(&world).await;
    assert_in_order(&world.broker.events());
    world.drain().await;
}

/// A store whose clock is the one of a test that waits in no time.
fn store_in_virtual_time() -> MemoryStore {
    let (utc, began) = (Utc::now(), tokio::time::Instant::now());
    MemoryStore::with_clock(Arc::new(move || utc + began.elapsed()))
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slow_broker_stays_leased() {
    let store = store_in_virtual_time();
    let settings = PipelineSettings::default();
    let world = World::on(store.clone(), settings, Traces::default()).await;
    world.broker.set_stalled(true);
    world
        .broker
        .send(&submission(task(1), "annotate", 1, "yes"));
    eventually("a row", || async {
        (store.outbox_stats().await.unwrap().pending > 0).then_some(())
    })
    .await;
    tokio::time::sleep(3 * OUTBOX_LEASE).await;
    let other = PublisherId(Uuid::from_u128(1));
    let taken = store.claim(other, OUTBOX_LEASE, 10).await.unwrap();
    assert!(taken.is_empty(), "{taken:?}");
    world.broker.set_stalled(false);
    outbox_empty(&world).await;
    world.drain().await;
}

#[tokio::test(start_paused = true)]
async fn gauges_follow_the_store() {
    let store = store_in_virtual_time();
    let world = World::on(store, PipelineSettings::default(), Traces::default()).await;
    world
        .broker
        .send(&submission(task(1), "annotate", 1, "yes"));
    eventually("a running task", || async {
        let metrics = world.metrics.encode();
        metrics
            .contains(r#"glyph_tasks{status="running"} 1"#)
            .then_some(())
    })
    .await;
    world.drain().await;
}

#[tokio::test]
async fn a_drain_gives_back_what_waits_for_the_store() {
    let world = World::new().await;
    world.engine.away.store(usize::MAX, Ordering::SeqCst);
    let tag = world
        .broker
        .send(&submission(task(1), "annotate", 1, "yes"));
    let pipeline = world.pipeline.clone();
    let waiting = envelope(&submission(task(2), "annotate", 1, "yes"));
    let caller = tokio::spawn(async move { pipeline.submit(waiting).await });
    eventually("held", || async { world.broker.is_paused().then_some(()) }).await;
    world.drain().await;
    assert_eq!(world.broker.given_back(), [tag]);
    assert!(caller.await.unwrap().is_err());
    let late = envelope(&submission(task(3), "annotate", 1, "yes"));
    assert!(world.pipeline.submit(late).await.is_err());
}

#[tokio::test]
async fn a_caller_in_the_process_is_answered_at_once() {
    let world = World::new().await;
    let first = submission(task(1), "annotate", 1, "yes");
    let applied = world.pipeline.submit(envelope(&first)).await.unwrap();
    assert!(
        matches!(applied, Outcome::Applied(ProcessResult::Waiting { .. })),
        "{applied:?}"
    );
    let again = world.pipeline.submit(envelope(&first)).await.unwrap();
    assert!(matches!(again, Outcome::Duplicate(_)), "{again:?}");
    let mut unknown = submission(task(2), "annotate", 1, "yes");
    unknown["workflow"] = Value::Null;
    let unknown = world.pipeline.submit(envelope(&unknown)).await.unwrap();
    assert_eq!(unknown, Outcome::Undecided(Undecided::TaskNotFound));
    let mut nowhere = submission(task(3), "annotate", 1, "yes");
    nowhere["workflow"] = "nowhere".into();
    let nowhere = world.pipeline.submit(envelope(&nowhere)).await.unwrap();
    assert!(
        matches!(nowhere, Outcome::Dead(Dead::WorkflowNotFound(_))),
        "{nowhere:?}"
    );
    world.drain().await;
    assert!(
        world
            .broker
            .sent(|to| *to != Destination::Events)
            .is_empty()
    );
}

/// The heart of delivery: a returned message blocks its own task, in this lane and behind it, until
/// the relay has published it; the later messages of the task then follow in order.
#[tokio::test]
async fn a_returned_message_holds_its_own_task_only_and_order_is_kept() {
    let settings = PipelineSettings {
        lanes: 1,
        batch_max: BatchMax::of_commands(4),
        ..PipelineSettings::default()
    };
    let world = World::with(settings).await;
    let stuck = task(1).to_string();
    let refusals = Arc::new(AtomicUsize::new(0));
    let (refused, of_task) = (Arc::clone(&refusals), stuck.clone());
    world.broker.judge(move |publication| {
        let body: Value = serde_json::from_slice(&publication.body).unwrap_or_default();
        let is_first = text(&body, "type") == "dev.glyph.workflow.started.v1";
        if is_first
            && text(&body, "subject") == of_task
            && refused.fetch_add(1, Ordering::SeqCst) < 2
        {
            return PublishOutcome::Returned("312 NO_ROUTE".to_owned());
        }
        PublishOutcome::Confirmed
    });
    for n in 0..40 {
        world
            .broker
            .send(&submission(task(n), "annotate", 1, "yes"));
        world
            .broker
            .send(&submission(task(1), "annotate", 100 + n, "yes"));
    }
    settled(&world, 80).await;
    outbox_empty(&world).await;
    assert!(refusals.load(Ordering::SeqCst) >= 3);
    let events = world.broker.events();
    let others: Vec<_> = events
        .iter()
        .filter(|event| event["subject"] != stuck.as_str())
        .cloned()
        .collect();
    assert_in_order(&others);
    assert_eq!(
        others
            .iter()
            .filter(|e| text(e, "type").contains("workflow.started"))
            .count(),
        39
    );
    // Messages in the same window as the refused one were already on the wire. Order holds from the
    // first confirmed start on, and for all windows after the refusal.
    let sent = world.broker.sent(|to| *to == Destination::Events);
    let of_stuck: Vec<_> = sent
        .iter()
        .filter_map(|(publication, outcome)| {
            let body: Value = serde_json::from_slice(&publication.body).unwrap();
            (body["subject"] == stuck.as_str()).then(|| (body, outcome.clone()))
        })
        .collect();
    let is_start = |body: &Value| text(body, "type").contains("workflow.started");
    let start = of_stuck
        .iter()
        .position(|(body, outcome)| is_start(body) && *outcome == PublishOutcome::Confirmed)
        .unwrap();
    let after: Vec<_> = of_stuck[start..]
        .iter()
        .map(|(body, _)| body.clone())
        .collect();
    assert_in_order(
        &after
            .into_iter()
            .filter(|e| e.get("sequence").is_some())
            .collect::<Vec<_>>(),
    );
    let retries = of_stuck[..start]
        .iter()
        .filter(|(body, _)| is_start(body))
        .count();
    assert_eq!(retries, 2);
    world.drain().await;
}

#[tokio::test]
async fn while_the_broker_is_away_callers_go_on_and_the_relay_catches_up() {
    let world = World::new().await;
    world.broker.set_publishing(false);
    for n in 0..20 {
        let body = submission(task(n), "annotate", 1, "yes");
        let outcome = world.pipeline.submit(envelope(&body)).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    }
    assert!(world.store.outbox_stats().await.unwrap().pending > 0);
    assert!(world.broker.events().is_empty());
    world.broker.set_publishing(true);
    outbox_empty(&world).await;
    let events = world.broker.events();
    assert_in_order(&events);
    assert_eq!(
        events
            .iter()
            .filter(|e| text(e, "type").contains("workflow.started"))
            .count(),
        20
    );
    world.drain().await;
}
