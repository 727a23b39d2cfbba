//! How many tasks went which way, folded from the log of an in-memory store.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, Utc};
use glyph_worker::projections::{
    FlowProjector, PageOutcome,
    flow::{Flow, flow_of},
};
use glyph_workflow_engine::{WorkflowOrchestrator, ids::Slug, store::MemoryStore};

use crate::support::engine::{DUAL, envelope, submission, task};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// Tasks that two people label at a time, alike or not; the flow as it is read after some of them.
async fn flow_after(tasks: &[(i64, bool)], page_after_each: bool, now: i64) -> Vec<Flow> {
    let seconds = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&seconds);
    let clock = move || at(clock.load(Ordering::SeqCst));
    let store = Arc::new(MemoryStore::with_clock(Arc::new(clock)));
    let orchestrator = WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
    orchestrator.create_workflow(DUAL).await.unwrap();
    let projector = FlowProjector::new(Arc::clone(&store) as _);
    let catch_up = async || while let PageOutcome::Read { .. } = projector.step().await.unwrap() {};
    for (n, (when, agree)) in (1..).zip(tasks) {
        seconds.store(*when, Ordering::SeqCst);
        let second = if *agree { "positive" } else { "negative" };
        for (user, label) in [(1, "positive"), (2, second)] {
            let command = envelope(&submission(task(n), "annotate", user, label));
            orchestrator
                .process_batch(vec![command], None)
                .await
                .unwrap();
        }
        if page_after_each {
            catch_up().await;
        }
    }
    catch_up().await;
    let workflow = Slug::new("sentiment-dual").unwrap();
    flow_of(&*store, &workflow, at(now)).await.unwrap()
}

fn way(to: &str, last_hour: u64, last_day: u64) -> Flow {
    Flow {
        from: "annotate".to_owned(),
        to: to.to_owned(),
        last_hour,
        last_day,
    }
}

#[tokio::test]
async fn ways_are_counted_in_the_last_hour_and_day() {
    let tasks = [
        (0, true),
        (10 * HOUR, true),
        (10 * HOUR, false),
        (20 * HOUR, false),
        (20 * HOUR + 30 * MINUTE, true),
    ];
    let now = 20 * HOUR + 40 * MINUTE;
    let flow = flow_after(&tasks, false, now).await;
    assert_eq!(flow, [way("_complete", 1, 3), way("adjudicate", 1, 2)]);
    // However the log is cut into pages.
    assert_eq!(flow_after(&tasks, true, now).await, flow);
    let later = flow_after(&tasks, true, 40 * HOUR).await;
    assert_eq!(later, [way("_complete", 0, 1), way("adjudicate", 0, 1)]);
    assert_eq!(flow_after(&tasks, true, 60 * HOUR).await, []);
}
