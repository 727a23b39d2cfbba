//! Free places, and claiming them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{ClaimRequest, Command, CommandEnvelope, Outcome, Start},
    events::WorkflowEvent,
    ids::{CommandId, RevisionId, TaskId, UserId},
    state::{OpenPlace, Places},
    store::{OpenStep, PlaceQuery, Store, TaskRow},
};
use serde_json::json;
use uuid::Uuid;

use crate::stores::{adapter::Adapter, samples::*};

fn person(n: u128) -> UserId {
    UserId(Uuid::from_u128(0xA000 + n))
}

fn assigned(n: u32, user_id: UserId) -> WorkflowEvent {
    WorkflowEvent::TaskAssigned {
        step_id: slug("annotate"),
        visit: 1,
        n,
        user_id,
        roles: Vec::new(),
        expires_at: at(1_000),
    }
}

async fn offered(store: &dyn Store, workflow: &str, user: UserId) -> Vec<OpenPlace> {
    let query = PlaceQuery {
        step: OpenStep {
            revision_id: RevisionId(id(workflow)),
            step_id: slug("annotate"),
        },
        gold: false,
        user,
        prevents_reassignment: true,
        limit: 10,
    };
    store.open_places(query).await.unwrap()
}

fn ids(places: &[OpenPlace]) -> Vec<TaskId> {
    places.iter().map(|place| place.task_id).collect()
}

pub(in crate::stores) async fn free_places_are_found_by_who_may_take_them(a: &impl Adapter) {
    let store = a.store();
    let (one, two, three) = (numbered(1), numbered(2), numbered(3));
    for task in [one, two] {
        append(&*store, task, None, started("flow", &[])).await;
    }
    append(&*store, three, None, started("other", &[])).await;
    let steps = store.open_steps(None, None).await.unwrap();
    let mut expected: Vec<_> = ["flow", "other"]
        .map(|workflow| OpenStep {
            revision_id: RevisionId(id(workflow)),
            step_id: slug("annotate"),
        })
        .into();
    expected.sort();
    assert_eq!(steps, expected);
    let flow = slug("flow");
    assert_eq!(store.open_steps(Some(&flow), None).await.unwrap().len(), 1);
    let none = slug("none");
    assert!(
        store
            .open_steps(None, Some(&none))
            .await
            .unwrap()
            .is_empty()
    );

    // Fresh ones first, the oldest of them; then those that somebody has begun.
    assert_eq!(ids(&offered(&*store, "flow", person(1)).await), [one, two]);
    append(&*store, one, None, vec![assigned(1, person(1))]).await;
    assert_eq!(ids(&offered(&*store, "flow", person(2)).await), [two, one]);
    // Who holds a place is not offered another one in the same visit.
    assert_eq!(ids(&offered(&*store, "flow", person(1)).await), [two]);
    let held = store.held_places(person(1)).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].task_id, &*held[0].step_id), (one, "annotate"));
    assert!(store.held_places(person(2)).await.unwrap().is_empty());

    // What is paused or over is not offered; a place given back is not held.
    append(
        &*store,
        two,
        None,
        vec![WorkflowEvent::WorkflowPaused {
            step_id: None,
            reason: None,
            until: None,
            by_parent: false,
        }],
    )
    .await;
    assert_eq!(ids(&offered(&*store, "flow", person(2)).await), [one]);
    append(
        &*store,
        one,
        None,
        vec![WorkflowEvent::StepWithdrawn {
            step_id: slug("annotate"),
            visit: 1,
            reason: "needless".to_owned(),
        }],
    )
    .await;
    assert!(offered(&*store, "flow", person(2)).await.is_empty());
    assert!(store.held_places(person(1)).await.unwrap().is_empty());
    let flow = slug("flow");
    assert!(
        store
            .open_steps(Some(&flow), None)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(in crate::stores) async fn places_are_remade_from_the_state(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    append(&*store, one, None, started("flow", &[])).await;
    append(&*store, one, None, vec![assigned(1, person(1))]).await;
    let state = states(&*store, &[one]).await.remove(&one).unwrap();
    let replace = async |places: Places| {
        let row = TaskRow::from(&state);
        let changed = store.replace_derived(row, places, vec![], vec![]).await;
        changed.unwrap().0
    };
    assert!(!replace(Places::from(&state)).await);
    let found = offered(&*store, "flow", person(2)).await;
    assert!(replace(Places::default()).await);
    assert!(offered(&*store, "flow", person(2)).await.is_empty());
    assert!(store.held_places(person(1)).await.unwrap().is_empty());
    assert!(replace(Places::from(&state)).await);
    assert_eq!(offered(&*store, "flow", person(2)).await, found);
    assert_eq!(store.held_places(person(1)).await.unwrap().len(), 1);
}

/// A store with a workflow and started tasks, and two processes at work on it.
async fn desks(
    a: &impl Adapter,
    yaml: &str,
    tasks: u32,
) -> [Arc<(WorkflowOrchestrator, Arc<dyn Store>)>; 2] {
    let desk = |store: Arc<dyn Store>| {
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        Arc::new((orchestrator, store))
    };
    let desks = [desk(a.store()), desk(a.another().await)];
    desks[0].0.create_workflow(yaml).await.unwrap();
    let starts = (0..tasks).map(|n| {
        CommandEnvelope::new(
            id(&format!("start {n}")),
            Command::Start(Start {
                task_id: numbered(n),
                workflow: "flow".parse().unwrap(),
                input: Some(json!({"n": n})),
                labels: None,
                expected: None,
            }),
        )
    });
    let report = desks[0]
        .0
        .process_batch(starts.collect(), None)
        .await
        .unwrap();
    assert!(
        report
            .outcomes
            .iter()
            .all(|o| matches!(o, Outcome::Applied(_)))
    );
    desks
}

fn request(name: &str, user_id: UserId) -> ClaimRequest {
    ClaimRequest {
        command_id: CommandId(id(&format!("claim {name}"))),
        correlation_id: None,
        traceparent: None,
        user_id,
        workflow: None,
        step: None,
        roles: Vec::new(),
        skills: Vec::new(),
    }
}

pub(in crate::stores) async fn claims_never_exceed_the_overlap_however_many_race(a: &impl Adapter) {
    const YAML: &str = "
workflow:
  id: flow
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 3 } }
";
    // 50 people, 15 tasks of 3 places: five of them find nothing.
    let desks = desks(a, YAML, 15).await;
    let mut claims = Vec::new();
    for n in 0..50 {
        let desk = Arc::clone(&desks[n % 2]);
        claims.push(tokio::spawn(async move {
            let request = request(&n.to_string(), person(n as u128));
            let claimed = loop {
                match desk.0.claim_next(&*desk.1, &request).await {
                    Ok(claimed) => break claimed,
                    // The store asks to try again under the same id.
                    Err(error) => {
                        let class = error.class();
                        assert_eq!(
                            class,
                            glyph_workflow_engine::store::ErrorClass::Retry,
                            "{error:?}"
                        );
                    }
                }
            };
            // The same key again answers the same place.
            if claimed.is_some() {
                let again = desk.0.claim_next(&*desk.1, &request).await.unwrap();
                assert_eq!(again, claimed);
            }
            claimed
        }));
    }
    let mut taken: BTreeMap<TaskId, BTreeSet<UserId>> = BTreeMap::new();
    let mut claimed = 0;
    for claim in claims {
        if let Some(place) = claim.await.unwrap() {
            claimed += 1;
            assert!(
                taken
                    .entry(place.task_id)
                    .or_default()
                    .insert(place.user_id)
            );
            assert_eq!((&*place.step_id, place.visit), ("annotate", 1));
        }
    }
    assert!(taken.values().all(|people| people.len() <= 3));
    // Everyone who could get a place got one, also where many were too late for the first ones.
    assert_eq!(claimed, 45);
    let all: Vec<TaskId> = (0..15).map(numbered).collect();
    for (task, state) in states(&*desks[0].1, &all).await {
        let visit = state.current_visit("annotate").unwrap();
        let holders: BTreeSet<_> = visit.assignments.iter().map(|held| held.user_id).collect();
        assert_eq!((visit.assignments.len(), &holders), (3, &taken[&task]));
    }
}

pub(in crate::stores) async fn one_person_never_holds_more_than_allowed(a: &impl Adapter) {
    const YAML: &str = "
workflow:
  id: flow
  steps:
    - { id: annotate, type: annotation, assignment: { max_concurrent: 4 } }
";
    let desks = desks(a, YAML, 12).await;
    let mut claims = Vec::new();
    for n in 0..10 {
        let desk = Arc::clone(&desks[n % 2]);
        claims.push(tokio::spawn(async move {
            let request = request(&n.to_string(), person(1));
            loop {
                match desk.0.claim_next(&*desk.1, &request).await {
                    Ok(claimed) => break claimed,
                    Err(error) => assert_eq!(
                        error.class(),
                        glyph_workflow_engine::store::ErrorClass::Retry,
                        "{error:?}"
                    ),
                }
            }
        }));
    }
    let mut tasks = BTreeSet::new();
    for claim in claims {
        if let Some(place) = claim.await.unwrap() {
            assert!(tasks.insert(place.task_id), "never the same task twice");
        }
    }
    assert_eq!(tasks.len(), 4);
    assert_eq!(desks[1].1.held_places(person(1)).await.unwrap().len(), 4);
    // Another person is not held up by that.
    let other = desks[0]
        .0
        .claim_next(&*desks[0].1, &request("other", person(2)))
        .await;
    assert!(other.unwrap().is_some());
}
