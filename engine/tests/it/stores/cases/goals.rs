//! Goals: the same live and rebuilt, with their actions.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use glyph_workflow_engine::{
    events::WorkflowEvent,
    goals::{GoalDefinition, GoalEffect, GoalTracker, goals_of},
    store::{
        GoalActionOutcome, GoalActionStatus, NewGoalAction, ProjectionWrite, Store,
        WorkflowConfigStore,
    },
};
use serde_json::json;

use super::{PATIENCE, until};
use crate::stores::{adapter::Adapter, samples::*};

const LEASE: Duration = Duration::from_mins(10);

async fn add(store: &dyn Store, epochs: &[u32]) {
    let step = until(async || store.open_projection("goals", 10).await.unwrap()).await;
    let actions = epochs.iter().map(|epoch| NewGoalAction {
        id: id(&format!("action {epoch}")),
        workflow: slug("flow"),
        goal: slug("volume"),
        epoch: *epoch,
        action: "trigger_webhook".to_owned(),
        payload: json!({"epoch": epoch}),
    });
    let write = ProjectionWrite {
        actions: actions.collect(),
        ..ProjectionWrite::default()
    };
    step.commit(write).await.unwrap();
}

pub(in crate::stores) async fn goal_actions_are_done_once(a: &impl Adapter) {
    let store = a.store();
    add(&*store, &[1, 2, 3]).await;
    add(&*store, &[2, 3]).await;

    // Two runners share the actions.
    let (one, other) = (store.clone(), a.another().await);
    let (one, other) = tokio::join!(
        one.claim_goal_actions(LEASE, 2),
        other.claim_goal_actions(LEASE, 2)
    );
    let claimed: Vec<_> = one.unwrap().into_iter().chain(other.unwrap()).collect();
    let ids: HashSet<_> = claimed.iter().map(|row| row.action.id).collect();
    assert_eq!((claimed.len(), ids.len()), (3, 3));
    assert!(store.claim_goal_actions(LEASE, 9).await.unwrap().is_empty());

    let settle = async |epoch: u32, outcome| {
        let id = id(&format!("action {epoch}"));
        store.settle_goal_action(id, outcome).await.unwrap();
    };
    let error = || "away".to_owned();
    settle(1, GoalActionOutcome::Done).await;
    let after = Duration::ZERO;
    settle(
        2,
        GoalActionOutcome::Retry {
            error: error(),
            after,
        },
    )
    .await;
    settle(3, GoalActionOutcome::Failed { error: error() }).await;

    let again = store.claim_goal_actions(Duration::ZERO, 9).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].action.epoch, again[0].attempts), (2, 1));
    assert_eq!(again[0].last_error.as_deref(), Some("away"));
    // The runner died: its lease has expired.
    let again = until(async || store.claim_goal_actions(LEASE, 9).await.unwrap().pop()).await;
    assert_eq!(again.action.epoch, 2);
    settle(2, GoalActionOutcome::Done).await;

    // A rebuild keeps all of them.
    store.reset_projection("goals").await.unwrap();
    add(&*store, &[1, 2, 3]).await;
    let all = store.goal_actions().await.unwrap();
    let known: Vec<_> = all
        .iter()
        .map(|row| (row.action.epoch, row.status))
        .collect();
    let (done, failed) = (GoalActionStatus::Done, GoalActionStatus::Failed);
    assert_eq!(known, [(1, done), (2, done), (3, failed)]);
    assert_eq!(all[0].action.payload, json!({"epoch": 1}));
    assert!(store.claim_goal_actions(LEASE, 9).await.unwrap().is_empty());
}

/// One projection step as in a worker: fold, advance to the settled position, commit. A step that
/// `dies` is dropped.
async fn goal_step(store: &dyn Store, limit: u32, dies: bool) -> Option<usize> {
    let mut step = store.open_projection("goals", limit).await.unwrap()?;
    let mut definitions = Vec::new();
    for row in store.revisions(None).await.unwrap() {
        let config = WorkflowConfigStore::load(store, row.id.0).await.unwrap();
        definitions.extend(
            config
                .unwrap()
                .goals
                .into_iter()
                .map(|config| GoalDefinition {
                    workflow: row.workflow.clone(),
                    revision: row.revision,
                    since: row.created_at,
                    config,
                }),
        );
    }
    let mut tracker =
        GoalTracker::resume(std::mem::take(&mut step.rows), definitions, Vec::new()).unwrap();
    for entry in &step.entries {
        tracker.apply(entry, true);
    }
    tracker.advance(step.settled);
    let found = tracker.finish().unwrap();
    let once = found.effects.iter().map(|effect| match effect {
        GoalEffect::Completed(done) => message(done.id(), None),
        GoalEffect::Alert(alert) => message(alert.id(), None),
    });
    let write = ProjectionWrite {
        messages: once.collect(),
        rows: found.rows.into_iter().map(|(k, v)| (k, Some(v))).collect(),
        ..ProjectionWrite::default()
    };
    let read = step.entries.len();
    if !dies {
        step.commit(write).await.unwrap();
    }
    (!dies).then_some(read)
}

pub(in crate::stores) async fn goals_are_the_same_live_and_made_anew(a: &impl Adapter) {
    const EVENTS: usize = 40 * 3;
    let store = a.store();
    let mut config = workflow("flow", "goals");
    config.goals = serde_json::from_value(json!([
        {"id": "volume", "type": "volume", "target": 25, "on_complete": ["notify"],
         "alerts": {"progress": [0.5]}},
        {"id": "words", "type": "volume", "unit": "annotations", "target": 40},
        {"id": "fast", "type": "duration", "within": "1h", "min_samples": 5,
         "on_complete": ["notify"]},
        {"id": "over", "type": "deadline", "deadline": "1999-01-01T00:00:00Z", "target": 5},
        {"id": "all", "type": "composite", "goals": ["volume", "fast"], "on_complete": ["notify"]},
    ]))
    .unwrap();
    store.save(&config).await.unwrap();
    let writer = a.another().await;
    let writing = tokio::spawn(async move {
        for n in 0..40 {
            let mut events = started("flow", &[]);
            events.push(WorkflowEvent::WorkflowCompleted { output: json!(n) });
            append_with(&*writer, numbered(n), None, events, |write, _| {
                write.outbox.clear();
            })
            .await;
        }
    });
    // Live: two projectors in parallel, each dying before every third commit.
    let read = Arc::new(AtomicUsize::new(0));
    let projectors = [(a.store(), 3_u32), (a.another().await, 7)].map(|(store, limit)| {
        let read = Arc::clone(&read);
        tokio::spawn(async move {
            for pass in 0_u32.. {
                if read.load(Ordering::SeqCst) >= EVENTS {
                    break;
                }
                if let Some(n) = goal_step(&*store, limit, pass % 3 == limit % 3).await {
                    read.fetch_add(n, Ordering::SeqCst);
                }
                tokio::task::yield_now().await;
            }
        })
    });
    writing.await.unwrap();
    for projector in projectors {
        tokio::time::timeout(PATIENCE, projector)
            .await
            .expect("all is read in time")
            .unwrap();
    }
    assert_eq!(read.load(Ordering::SeqCst), EVENTS);
    let goals = async || {
        // The definition applies once everything up to it is known.
        until(async || {
            goal_step(&*store, 1_000, false).await?;
            let goals = goals_of(&store.projection_rows("goals").await.unwrap()).unwrap();
            (goals.len() == 5).then_some(goals)
        })
        .await
    };
    let live = goals().await;
    let of = |id: &str| &live[&(slug("flow"), slug(id))];
    assert_eq!(of("volume").count, 40);
    assert_eq!(of("words").count, 0);
    assert!(of("volume").completed_at.is_some() && of("all").completed_at.is_some());
    let claimed = async || {
        let rows = store.claim(publisher("relay"), LEASE, 100).await.unwrap();
        let positions: Vec<_> = rows.iter().map(|row| row.position).collect();
        store.confirmed(&positions).await.unwrap();
        rows.len()
    };
    // Three goals reached, one half-way report; the deadline was past before it was set.
    assert_eq!(claimed().await, 5);

    // Rebuilt, the numbers are the same and no action runs again.
    store.reset_projection("goals").await.unwrap();
    while goal_step(&*store, 11, false).await != Some(0) {}
    assert_eq!(goals().await, live);
    assert_eq!(claimed().await, 0);
}
