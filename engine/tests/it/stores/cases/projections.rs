//! Projections of the log.

use std::{collections::BTreeMap, time::Duration};

use glyph_workflow_engine::{
    events::WorkflowEvent,
    store::{OpenProjection, ProjectionWrite, Store},
};
use serde_json::json;

use super::{PATIENCE, until};
use crate::stores::{adapter::Adapter, samples::*};

/// Counts completed tasks in the row `count` and emits each count once. Keeps its position in the
/// row `last`, which every other step deletes.
async fn count(mut step: OpenProjection) -> usize {
    let rows = std::mem::take(&mut step.rows);
    let mut count = rows.get("count").map_or(0, |row| row.as_u64().unwrap());
    let mut messages = Vec::new();
    for entry in &step.entries {
        assert_eq!(*entry.workflow, *"flow");
        if matches!(entry.event.event, WorkflowEvent::WorkflowCompleted { .. }) {
            count += 1;
            messages.push(message(id(&format!("count {count}")), None));
        }
    }
    let read = step.entries.len();
    assert!(read > 0, "what was committed can be read");
    assert_eq!(step.at_beginning, rows.is_empty());
    let last = (!rows.contains_key("last")).then(|| json!({"count": count}));
    let rows = [("count", Some(json!(count))), ("last", last)];
    let rows = rows.map(|(key, row)| (key.to_owned(), row));
    let write = ProjectionWrite {
        rows: BTreeMap::from(rows),
        messages,
        ..ProjectionWrite::default()
    };
    step.commit(write).await.unwrap();
    read
}

async fn read_all(store: &dyn Store, name: &str) {
    let mut read = 0;
    while read < 60 {
        let step = until(async || store.open_projection(name, 100).await.unwrap()).await;
        read += count(step).await;
    }
    assert_eq!(read, 60);
}

pub(in crate::stores) async fn what_a_projection_has_not_read_has_an_age(a: &impl Adapter) {
    let store = a.store();
    assert!(store.projection_lags().await.unwrap().is_empty());
    append(&*store, numbered(1), None, started("flow", &[])).await;
    let lag = async || {
        store
            .projection_lags()
            .await
            .unwrap()
            .get("behind")
            .copied()
    };
    let read = async |limit| {
        let step = store.open_projection("behind", limit).await.unwrap();
        let step = step.expect("nobody else runs it");
        step.commit(ProjectionWrite::default()).await.unwrap();
    };
    // In the middle of what was written at once, and at its end.
    read(1).await;
    until(async || (lag().await? > 0.0).then_some(())).await;
    read(10).await;
    assert_eq!(lag().await, Some(0.0));
    append(&*store, numbered(1), None, vec![annotated(json!(1))]).await;
    until(async || (lag().await? > 0.0).then_some(())).await;
}

pub(in crate::stores) async fn a_projection_counts_each_event_once(a: &impl Adapter) {
    let store = a.store();
    for n in 0..20 {
        let mut events = started("flow", &[]);
        events.push(WorkflowEvent::WorkflowCompleted { output: json!(n) });
        append_with(&*store, numbered(n), None, events, |write, _| {
            write.outbox.clear();
        })
        .await;
    }
    // Several processes in parallel, each dropping some of its steps like one that dies.
    let mut projections = Vec::new();
    for n in 0..4 {
        let store = if n % 2 == 0 {
            a.store()
        } else {
            a.another().await
        };
        projections.push(tokio::spawn(async move {
            for pass in 0.. {
                if let Some(step) = store.open_projection("count", 7).await.unwrap() {
                    if step.entries.is_empty() && step.settled > at(-1_000_000_000) {
                        break;
                    }
                    if pass % 3 != n % 3 {
                        count(step).await;
                    }
                }
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
    let rows = store.projection_rows("count").await.unwrap();
    assert_eq!(rows["count"], 20);
    let sent = store
        .claim(publisher("relay"), Duration::from_mins(10), 100)
        .await
        .unwrap();
    assert_eq!(sent.len(), 20);
    let sent: Vec<_> = sent.iter().map(|row| row.position).collect();
    store.confirmed(&sent).await.unwrap();

    // Another projection is independent; rebuilt, the first is the same and emits nothing again.
    assert!(store.projection_rows("other").await.unwrap().is_empty());
    read_all(&*store, "other").await;
    store.reset_projection("count").await.unwrap();
    assert!(store.projection_rows("count").await.unwrap().is_empty());
    assert_eq!(store.projection_rows("other").await.unwrap()["count"], 20);
    read_all(&*store, "count").await;
    let again = store.projection_rows("count").await.unwrap();
    assert_eq!(again["count"], rows["count"]);
    assert_eq!(store.outbox_stats().await.unwrap().pending, 0);
}

/// All events up to `settled` are among the entries, also while batches are open.
pub(in crate::stores) async fn what_is_settled_is_read(a: &impl Adapter) {
    let store = a.store();
    let writer = a.another().await;
    let writing = tokio::spawn(async move {
        for n in 0..60 {
            append(&*writer, numbered(n), None, started("flow", &[])).await;
        }
    });
    let mut settled_at = at(-1_000_000_000);
    let mut read = 0;
    while read < 120 {
        let step = until(async || store.open_projection("settled", 50).await.unwrap()).await;
        for entry in &step.entries {
            assert!(entry.event.occurred_at > settled_at, "read too late");
        }
        assert!(step.settled <= step.now);
        settled_at = settled_at.max(step.settled);
        read += step.entries.len();
        step.commit(ProjectionWrite::default()).await.unwrap();
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}
