//! What a failed batch means: waiting, running it in parts, setting aside, blaming.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use glyph_worker::{
    broker::{Destination, Properties, Publication, RetryDelay},
    pipeline::PipelineSettings,
};
use glyph_workflow_engine::{
    command::{CommandEnvelope, Outcome, Undecided},
    store::{CommandLog, EventStore, EventStoreError, OpenRequest, RecordedOutcome, SplitReason},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    engine::{World, envelope, submission, task},
    eventually,
};

async fn one_lane() -> World {
    World::with(PipelineSettings {
        lanes: 1,
        batch_wait: Duration::from_millis(200),
        ..PipelineSettings::default()
    })
    .await
}

fn hindered(reason: SplitReason) -> EventStoreError {
    EventStoreError::Hindered {
        reason,
        tasks: [].into(),
        source: "told to".into(),
    }
}

fn holds(batch: &[Arc<CommandEnvelope>], label: &str) -> bool {
    let mut bodies = batch.iter().map(|c| c.command.payload().to_string());
    bodies.any(|body| body.contains(label))
}

impl World {
    /// Whatever a batch holds the label for is answered by the error.
    fn fails_for(&self, label: &'static str, error: fn() -> EventStoreError) {
        let fault = move |batch: &[Arc<CommandEnvelope>]| holds(batch, label).then(error);
        *self.engine.fault.lock().unwrap() = Some(Box::new(fault));
    }

    fn labels(&self, tasks: u128, odd: u128, label: &str) {
        for n in 0..tasks {
            let label = if n == odd { label } else { "yes" };
            self.broker.send(&submission(task(n), "annotate", 1, label));
        }
    }

    async fn settled(&self, count: usize) {
        eventually("settled", || async {
            (self.broker.settled().len() >= count).then_some(())
        })
        .await;
    }

    fn copies(&self) -> Vec<Publication> {
        self.broker
            .confirmed(|to| matches!(to, Destination::Retry(_) | Destination::Dead))
    }

    fn applied(&self, count: usize) {
        let metrics = self.metrics.encode();
        let line =
            format!(r#"glyph_commands_total{{outcome="applied",type="submission"}} {count}"#);
        assert!(metrics.contains(&line), "{line}");
    }
}

/// The batch is halved; intake goes on; the command waits at the last rung and is not counted
/// against.
#[tokio::test]
async fn what_is_too_slow_alone_is_set_aside_and_its_neighbours_stand() {
    for (reason, name) in [
        (SplitReason::TooSlow, "too_slow"),
        (SplitReason::Unexplained, "unexplained"),
        (SplitReason::Conflict, "conflict"),
    ] {
        let world = one_lane().await;
        let fault =
            move |batch: &[Arc<CommandEnvelope>]| holds(batch, "odd").then(|| hindered(reason));
        *world.engine.fault.lock().unwrap() = Some(Box::new(fault));
        world.labels(40, 23, "odd");
        world.settled(40).await;
        let copies = world.copies();
        assert_eq!(copies.len(), 1);
        assert_eq!(copies[0].destination, Destination::Retry(RetryDelay::S60));
        assert_eq!(copies[0].headers["x-glyph-reason"], name);
        assert_eq!(copies[0].headers["x-glyph-attempts"], "0");
        assert!(copies[0].headers["x-glyph-error"].contains("told to"));
        assert_eq!(world.broker.pauses(), 0);
        world.applied(39);
        world.drain().await;
    }
}

#[tokio::test]
async fn a_command_that_was_set_aside_is_tried_for_ever_and_never_dies() {
    let world = one_lane().await;
    world.fails_for("odd", || hindered(SplitReason::Unexplained));
    let body = submission(task(1), "annotate", 1, "odd").to_string();
    let mut headers = BTreeMap::new();
    for round in 1..=12 {
        let properties = Properties {
            routing_key: "submission".to_owned(),
            headers,
            ..Properties::default()
        };
        world.broker.send_with(body.as_bytes(), properties, 0);
        world.settled(round).await;
        let copies = world.copies();
        assert_eq!(copies.len(), round);
        let copy = copies.last().unwrap();
        assert_eq!(copy.destination, Destination::Retry(RetryDelay::S60));
        let first = &copies[0].headers["x-glyph-first-failed-at"];
        assert_eq!(first, &copy.headers["x-glyph-first-failed-at"]);
        headers = copy.headers.clone();
    }
    *world.engine.fault.lock().unwrap() = None;
    world
        .broker
        .send_with(body.as_bytes(), Properties::default(), 0);
    world.settled(13).await;
    world.applied(1);
    world.drain().await;
}

/// The store names them, so that neither halving nor waiting is needed for the others.
#[tokio::test]
async fn blocked_tasks_are_set_aside_and_keep_out_of_the_batches_of_others() {
    let world = one_lane().await;
    let blocked = |n: u128| n.is_multiple_of(10);
    let fault = move |batch: &[Arc<CommandEnvelope>]| {
        let tasks = (0..40).filter(|n| blocked(*n)).map(|n| task(n).into());
        let named: std::collections::BTreeSet<_> = tasks.collect();
        let mut of_batch = batch.iter().map(|c| c.command.task_id());
        let is_hit = of_batch.any(|task| named.contains(&task));
        is_hit.then(|| EventStoreError::Hindered {
            reason: SplitReason::Blocked,
            tasks: named,
            source: "a lock".into(),
        })
    };
    *world.engine.fault.lock().unwrap() = Some(Box::new(fault));
    world.labels(40, 99, "");
    world.settled(40).await;
    assert_eq!(world.copies().len(), 4);
    let first = {
        let sizes = world.engine.sizes.lock().unwrap();
        // Those that are blocked are tried again for a while, alone.
        assert_eq!(sizes[..3], [40, 36, 4]);
        assert!(
            sizes.len() > 4 && sizes[3..].iter().all(|size| *size == 4),
            "{sizes:?}"
        );
        sizes.len()
    };
    // A later command of one of them runs apart from the first.
    for n in 0..40 {
        world
            .broker
            .send(&submission(task(n), "annotate", 2, "yes"));
    }
    world.settled(80).await;
    assert_eq!(world.engine.sizes.lock().unwrap()[first..], [36, 4]);
    assert_eq!(world.broker.pauses(), 0);
    eventually("shown", || async {
        let metrics = world.metrics.encode();
        let shown = metrics.contains("glyph_set_aside_tasks{reason=\"blocked\"} 4")
            && metrics.contains("\nglyph_commands_held 0");
        shown.then_some(())
    })
    .await;
    world.drain().await;
}

/// They wait beside their lane, and what comes later for the same task waits behind them.
#[tokio::test]
async fn commands_of_a_blocked_task_go_on_in_order_once_it_is_free() {
    let world = one_lane().await;
    let held = task(7).into();
    let fault = move |batch: &[Arc<CommandEnvelope>]| {
        let is_hit = batch.iter().any(|c| c.command.task_id() == held);
        is_hit.then(|| EventStoreError::Hindered {
            reason: SplitReason::Blocked,
            tasks: [held].into(),
            source: "a lock".into(),
        })
    };
    *world.engine.fault.lock().unwrap() = Some(Box::new(fault));
    world.labels(10, 99, "");
    world.settled(9).await;
    let later: Vec<_> = (1..=3)
        .map(|user| submission(task(7), "annotate", user, "yes"))
        .collect();
    for body in &later[1..] {
        world.broker.send(body);
    }
    // Of another task, and behind them.
    world
        .broker
        .send(&submission(task(50), "annotate", 1, "yes"));
    world.settled(10).await;
    *world.engine.fault.lock().unwrap() = None;
    world.settled(13).await;
    assert!(world.copies().is_empty());
    let ids: Vec<_> = later.iter().map(|body| envelope(body).command_id).collect();
    let rows = world.store.commands(&ids).await.unwrap();
    let applied: Vec<_> = ids
        .iter()
        .map(|id| rows.iter().find(|row| row.command_id == *id).unwrap())
        .map(|row| matches!(row.outcome, RecordedOutcome::Applied { .. }))
        .collect();
    // The step asks for two.
    assert_eq!(applied, [true, true, false]);
    world.drain().await;
}

/// A batch of another worker has a task: the lane goes on with all others at once, and with its
/// commands in their order as soon as it is free.
#[tokio::test]
async fn a_task_that_others_work_on_is_passed_over_and_holds_up_nobody() {
    let world = one_lane().await;
    world.labels(10, 99, "");
    world.settled(10).await;
    let locks = OpenRequest {
        tasks: [(task(7).into(), 0)].into(),
        ..OpenRequest::default()
    };
    let held = world.store.open(locks).await.unwrap();
    let body = |n, user| submission(task(n), "annotate", user, "yes");
    // A batch for the waiting ones and one that comes later, with another task in each.
    let of_held = [body(7, 2), body(7, 3)];
    for (user, of_held) in (2..).zip(&of_held) {
        world.broker.send(of_held);
        for n in 0..7 {
            world.broker.send(&body(n, user));
        }
        world.settled(10 + 7 * (user as usize - 1)).await;
    }
    let tries = world.engine.sizes.lock().unwrap().len();
    assert!(tries < 30, "{tries} batches");
    drop(held);
    world.settled(26).await;
    assert!(world.copies().is_empty());
    let ids = of_held.map(|body| envelope(&body).command_id);
    let rows = world.store.commands(&ids).await.unwrap();
    // The step asks for two.
    for (id, is_applied) in ids.iter().zip([true, false]) {
        let row = rows.iter().find(|row| row.command_id == *id).unwrap();
        let applied = matches!(row.outcome, RecordedOutcome::Applied { .. });
        assert_eq!(applied, is_applied);
    }
    world.drain().await;
}

/// Nobody waits for the lock at the end: the command comes again.
#[tokio::test]
async fn a_drain_waits_for_no_lock() {
    let world = one_lane().await;
    world.fails_for("odd", || hindered(SplitReason::Blocked));
    world.labels(10, 3, "odd");
    world.settled(9).await;
    let begun = Instant::now();
    world.drain().await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(world.copies().len(), 1);
    assert_eq!(world.broker.settled().len(), 10);
}

#[tokio::test]
async fn a_slow_batch_of_a_store_that_gives_no_answer_waits_for_it() {
    let world = one_lane().await;
    world.engine.answers.store(false, Ordering::SeqCst);
    world.fails_for("", || hindered(SplitReason::TooSlow));
    world.labels(4, 99, "");
    eventually("held", || async { world.broker.is_paused().then_some(()) }).await;
    *world.engine.fault.lock().unwrap() = None;
    world.settled(4).await;
    assert!(world.copies().is_empty());
    world.applied(4);
    world.drain().await;
}

/// A passing fault of a whole batch is no reason to divide it.
#[tokio::test]
async fn a_batch_that_lost_a_deadlock_runs_again_whole() {
    let world = one_lane().await;
    let once = std::sync::atomic::AtomicBool::new(true);
    let fault = move |_: &[Arc<CommandEnvelope>]| {
        let first = once.swap(false, Ordering::SeqCst);
        first.then(|| hindered(SplitReason::Conflict))
    };
    *world.engine.fault.lock().unwrap() = Some(Box::new(fault));
    world.labels(10, 99, "");
    world.settled(10).await;
    assert_eq!(*world.engine.sizes.lock().unwrap(), [10, 10]);
    assert!(world.copies().is_empty());
    world.drain().await;
}

#[tokio::test]
async fn content_that_the_store_refuses_is_found_and_dead() {
    let world = one_lane().await;
    world.fails_for("odd", || EventStoreError::Data("not text".into()));
    world.labels(40, 7, "odd");
    world.settled(40).await;
    let copies = world.copies();
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].destination, Destination::Dead);
    assert_eq!(copies[0].headers["x-glyph-reason"], "malformed");
    world.applied(39);
    world.drain().await;
}

#[tokio::test]
async fn a_caller_in_the_process_is_told_that_its_command_is_set_aside() {
    let world = one_lane().await;
    world.fails_for("odd", || hindered(SplitReason::TooSlow));
    let odd = envelope(&submission(task(1), "annotate", 1, "odd"));
    let outcome = world.pipeline.submit(odd).await.unwrap();
    let Outcome::Undecided(Undecided::SetAside { reason, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(reason, SplitReason::TooSlow);
    world.drain().await;
}

/// Timers are drained before the pipeline, and wait for its answers.
#[tokio::test]
async fn callers_do_not_wait_for_a_store_that_is_away_during_a_drain() {
    let world = one_lane().await;
    world.engine.away.store(usize::MAX, Ordering::SeqCst);
    let pipeline = world.pipeline.clone();
    let timer = envelope(&submission(task(1), "annotate", 1, "yes"));
    let caller = tokio::spawn(async move { pipeline.submit(timer).await });
    eventually("held", || async { world.broker.is_paused().then_some(()) }).await;
    world.pipeline.stop_waiting();
    assert!(caller.await.unwrap().is_err());
    world.drain().await;
}

#[tokio::test]
async fn what_a_batch_has_no_time_for_runs_next() {
    let world = one_lane().await;
    world.engine.hurries.store(true, Ordering::SeqCst);
    world.labels(12, 99, "");
    world.settled(12).await;
    assert!(world.copies().is_empty());
    let sizes: Vec<usize> = (1..=12).rev().collect();
    assert_eq!(*world.engine.sizes.lock().unwrap(), sizes);
    world.applied(12);
    world.drain().await;
}

#[tokio::test]
async fn batches_of_large_commands_hold_few_of_them() {
    let world = one_lane().await;
    for n in 0..32 {
        let mut body = submission(task(n), "annotate", 1, "yes");
        body["annotation"]["data"] = json!({"label": "yes", "note": "x".repeat(500_000)});
        world.broker.send(&Value::clone(&body));
    }
    world.settled(32).await;
    let sizes = world.engine.sizes.lock().unwrap().clone();
    assert!(sizes.iter().all(|size| *size <= 8), "{sizes:?}");
    world.applied(32);
    world.drain().await;
}
