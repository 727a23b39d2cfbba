//! Timers that are due.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::{
    ids::TaskId,
    store::{Timer, TimerKind, TimerLane},
};
use serde_json::json;
use uuid::Uuid;

use super::until;
use crate::stores::{adapter::Adapter, samples::*};

fn due(name: &str, task_id: TaskId, due_at: DateTime<Utc>) -> Timer {
    Timer {
        id: id(&format!("due {name}")),
        task_id,
        step_id: Some(slug("annotate")),
        visit: 1,
        kind: TimerKind::AssignmentTimeout,
        n: 3,
        due_at,
    }
}

fn ids(rows: &[Timer]) -> Vec<Uuid> {
    rows.iter().map(|row| row.id).collect()
}

pub(in crate::stores) async fn timers_is_leased_moved_and_unset(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    let long = Duration::from_mins(10);
    let now = open(&*store, &[one], None).await.now;
    let past = |seconds| now - TimeDelta::seconds(seconds);
    let future = now + TimeDelta::days(1);
    let first = due("first", one, past(20));
    let second = Timer {
        step_id: None,
        kind: TimerKind::Resume,
        ..due("second", one, past(10))
    };
    let later = due("later", one, future);
    let rows = vec![second.clone(), later.clone(), first.clone()];
    append_with(&*store, one, None, started("flow", &[]), |write, _| {
        write.timers_set = rows;
    })
    .await;

    let stats = store.timer_stats().await.unwrap();
    assert_eq!((stats.due, stats.total), (2, 3));
    assert!(stats.oldest_seconds >= 20.0, "{stats:?}");
    let short = Duration::from_millis(200);
    assert_eq!(
        store
            .claim_timers(TimerLane::Decisions, short, 1)
            .await
            .unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(
        store
            .claim_timers(TimerLane::Decisions, long, 10)
            .await
            .unwrap(),
        std::slice::from_ref(&second)
    );
    // An expired lease frees it.
    let again = until(async || {
        let rows = store
            .claim_timers(TimerLane::Decisions, long, 10)
            .await
            .unwrap();
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(ids(&again), [first.id]);
    assert!(
        store
            .claim_timers(TimerLane::Decisions, long, 10)
            .await
            .unwrap()
            .is_empty()
    );

    // Rescheduled, it is free; removed, it is gone; set and removed in one batch, it is set.
    let moved = Timer {
        due_at: past(5),
        n: 4,
        ..later.clone()
    };
    append_with(&*store, one, None, vec![annotated(json!(1))], |write, _| {
        write.timers_set = vec![moved.clone(), first.clone()];
        write.timers_unset = vec![second.id, first.id];
    })
    .await;
    assert_eq!(
        store
            .claim_timers(TimerLane::Decisions, long, 10)
            .await
            .unwrap(),
        [first.clone(), moved.clone()]
    );
    // What is due at another time by now is another timer, and stays.
    let none = due("none", one, past(5));
    store
        .drop_timers(&[first.clone(), later, none])
        .await
        .unwrap();
    let stats = store.timer_stats().await.unwrap();
    assert_eq!((stats.due, stats.total), (1, 1));
    store.drop_timers(&[moved]).await.unwrap();
    let stats = store.timer_stats().await.unwrap();
    assert_eq!((stats.due, stats.total), (0, 0));

    // Calls are claimed apart from decisions.
    let call = Timer {
        kind: TimerKind::HandlerCall,
        ..due("call", one, past(10))
    };
    let rows = vec![call.clone(), first.clone()];
    append_with(&*store, one, None, vec![annotated(json!(2))], |write, _| {
        write.timers_set = rows;
    })
    .await;
    for (lane, row) in [(TimerLane::Calls, call), (TimerLane::Decisions, first)] {
        assert_eq!(store.claim_timers(lane, long, 10).await.unwrap(), [row]);
        assert!(store.claim_timers(lane, long, 10).await.unwrap().is_empty());
    }
}
