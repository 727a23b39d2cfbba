//! Goals: a projection of the log.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use glyph_workflow_engine::{
    events::WorkflowEvent,
    store::{GoalProgressRow, GoalProjection, LogEntry},
};
use serde_json::json;

use super::{PATIENCE, until};
use crate::stores::{adapter::Adapter, samples::*};

/// Counts completed tasks and says so for each.
fn count(rows: Vec<GoalProgressRow>, entries: &[LogEntry]) -> GoalProjection {
    let mut row = rows.into_iter().next().unwrap_or(GoalProgressRow {
        workflow: slug("flow"),
        goal: slug("volume"),
        epoch: 1,
        target: 10.0,
        current: 0.0,
        completed_at: None,
    });
    let mut messages = Vec::new();
    for entry in entries {
        if matches!(entry.event.event, WorkflowEvent::WorkflowCompleted { .. }) {
            row.current += 1.0;
            if row.current >= row.target && row.completed_at.is_none() {
                row.completed_at = Some(entry.event.occurred_at);
            }
            messages.push(message(id(&format!("goal {}", row.current)), None));
        }
    }
    GoalProjection {
        rows: vec![row],
        messages,
    }
}

pub(in crate::stores) async fn goals_are_projected_exactly_once(a: &impl Adapter) {
    let store = a.store();
    assert_eq!(store.project_goals(&count, 10).await.unwrap(), Some(0));
    assert!(store.goals().await.unwrap().is_empty());
    for n in 0..20 {
        let mut events = started("flow", &[]);
        events.push(WorkflowEvent::WorkflowCompleted { output: json!(n) });
        append_with(&*store, numbered(n), None, events, |write, _| {
            write.outbox.clear();
        })
        .await;
    }
    // Several processes at once, until everything is read.
    let read = Arc::new(AtomicUsize::new(0));
    let mut projections = Vec::new();
    for n in 0..4 {
        let store = if n % 2 == 0 {
            a.store()
        } else {
            a.another().await
        };
        let read = read.clone();
        projections.push(tokio::spawn(async move {
            while read.load(Ordering::Relaxed) < 60 {
                let entries = store.project_goals(&count, 7).await.unwrap().unwrap_or(0);
                read.fetch_add(entries, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }));
    }
    for projection in projections {
        tokio::time::timeout(PATIENCE, projection)
            .await
            .expect("all is read in time")
            .unwrap();
    }
    assert_eq!(read.load(Ordering::Relaxed), 60);
    let goals = store.goals().await.unwrap();
    assert_eq!(goals.len(), 1);
    assert!((goals[0].current - 20.0).abs() < f64::EPSILON);
    let tenth = store
        .events(numbered(9), 0, 10)
        .await
        .unwrap()
        .events
        .pop()
        .unwrap();
    assert_eq!(goals[0].completed_at, Some(tenth.occurred_at));
    let sent = store
        .claim(publisher("relay"), std::time::Duration::from_secs(600), 100)
        .await;
    let sent = sent.unwrap();
    assert_eq!(sent.len(), 20);
    store
        .confirmed(&sent.iter().map(|row| row.position).collect::<Vec<_>>())
        .await
        .unwrap();

    // Made anew, progress is the same, and what was caused once is not caused again.
    store.reset_goals().await.unwrap();
    assert!(store.goals().await.unwrap().is_empty());
    let mut again = 0;
    while again < 60 {
        again += until(async || store.project_goals(&count, 100).await.unwrap()).await;
    }
    assert_eq!(store.project_goals(&count, 100).await.unwrap(), Some(0));
    assert_eq!(store.goals().await.unwrap(), goals);
    assert_eq!(store.outbox_stats().await.unwrap().pending, 0);
}
