//! Open slots, and claiming them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glyph_workflow_engine::{
    WorkflowOrchestrator,
    assignment::is_for_overdue,
    command::{
        AnnotationInput, Claim, ClaimRequest, Command, CommandEnvelope, Outcome, Release, Sender,
        Start, Submission,
    },
    events::{OfferBasis, ReleaseReason, WorkflowEvent},
    ids::{CommandId, RevisionId, TaskId, UserId},
    limits::PAGE_MAX,
    state::{AnnotationData, OpenSlot, Slots},
    store::{
        LogFilter, LogPosition, PeopleSeen, SlotOrder, SlotQuery, StepWithOpenSlots, Store,
        TaskFilter, TaskRow,
    },
};
use serde_json::json;
use uuid::Uuid;

use super::until;
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
        offered: None,
    }
}

async fn offered(store: &dyn Store, workflow: &str, user: UserId) -> Vec<OpenSlot> {
    offered_by(store, workflow, user, SlotOrder::FewestPeople).await
}

async fn offered_by(
    store: &dyn Store,
    workflow: &str,
    user: UserId,
    order: SlotOrder,
) -> Vec<OpenSlot> {
    let query = SlotQuery {
        step: StepWithOpenSlots {
            revision_id: RevisionId(id(workflow)),
            step_id: slug("annotate"),
        },
        gold: false,
        user,
        prevents_reassignment: true,
        order,
        limit: 10,
    };
    store.open_slots(query).await.unwrap()
}

fn ids(slots: &[OpenSlot]) -> Vec<TaskId> {
    slots.iter().map(|slot| slot.task_id).collect()
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
        .map(|workflow| StepWithOpenSlots {
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

    // Fresh tasks first, the oldest of them first; then tasks that somebody has begun.
    assert_eq!(ids(&offered(&*store, "flow", person(1)).await), [one, two]);
    append(&*store, one, None, vec![assigned(1, person(1))]).await;
    assert_eq!(ids(&offered(&*store, "flow", person(2)).await), [two, one]);
    // The holder of a slot is not offered another one in the same visit.
    assert_eq!(ids(&offered(&*store, "flow", person(1)).await), [two]);
    // A claim alone does not begin a task; a submission does.
    let begun = offered_by(&*store, "flow", person(2), SlotOrder::OldestBegun).await;
    assert!(begun.is_empty());
    let claimed = store.claimed_slots(person(1)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(
        (claimed[0].task_id, &*claimed[0].step_id),
        (one, "annotate")
    );
    assert!(store.claimed_slots(person(2)).await.unwrap().is_empty());
    let held_by = async |user| {
        let filter = TaskFilter {
            held_by: Some(user),
            limit: 10,
            ..TaskFilter::default()
        };
        let found = store.tasks(filter).await.unwrap().tasks.into_iter();
        found.map(|row| row.task_id).collect::<Vec<_>>()
    };
    let held: Vec<TaskId> = claimed.iter().map(|slot| slot.task_id).collect();
    assert_eq!(held_by(person(1)).await, held);
    assert!(held_by(person(2)).await.is_empty());
    let counts = store.claim_counts(10).await.unwrap();
    let counts: Vec<_> = counts.iter().map(|one| (one.user_id, one.slots)).collect();
    assert_eq!(counts, [(person(1), 1)]);
    assert!(store.claim_counts(0).await.unwrap().is_empty());

    // Paused or ended tasks are not offered; a released slot is not claimed.
    append(
        &*store,
        two,
        None,
        vec![WorkflowEvent::WorkflowPaused {
            step_id: None,
            reason: None,
            until: None,
            by_parent: false,
            holds: Vec::new(),
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
    assert!(store.claimed_slots(person(1)).await.unwrap().is_empty());
    let flow = slug("flow");
    assert!(
        store
            .open_steps(Some(&flow), None)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(in crate::stores) async fn slots_are_remade_from_the_state(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    append(&*store, one, None, started("flow", &[])).await;
    append(&*store, one, None, vec![assigned(1, person(1))]).await;
    let state = states(&*store, &[one]).await.remove(&one).unwrap();
    let replace = async |slots: Slots| {
        let row = TaskRow::from(&state);
        let changed = store.replace_derived(row, slots, vec![], vec![]).await;
        changed.unwrap().task
    };
    assert!(!replace(Slots::from(&state)).await);
    let found = offered(&*store, "flow", person(2)).await;
    assert!(replace(Slots::default()).await);
    assert!(offered(&*store, "flow", person(2)).await.is_empty());
    assert!(store.claimed_slots(person(1)).await.unwrap().is_empty());
    assert!(replace(Slots::from(&state)).await);
    assert_eq!(offered(&*store, "flow", person(2)).await, found);
    assert_eq!(store.claimed_slots(person(1)).await.unwrap().len(), 1);
}

fn released(user_id: UserId) -> WorkflowEvent {
    WorkflowEvent::TaskReleased {
        step_id: slug("annotate"),
        visit: 1,
        user_id,
        cause: ReleaseReason::Released,
        reason: Some("cannot tell".to_owned()),
    }
}

pub(in crate::stores) async fn who_released_a_slot_is_offered_it_after_all_others(
    a: &impl Adapter,
) {
    let store = a.store();
    let all = [1, 2, 3, 4].map(numbered);
    for task in all {
        append(&*store, task, None, started("flow", &[])).await;
    }
    let [one, two, three, four] = all;
    let (ann, bob) = (person(1), person(2));
    for task in [one, two] {
        append(&*store, task, None, vec![assigned(1, ann), released(ann)]).await;
    }
    // Somebody else has begun the third one, so it comes after fresh ones.
    append(&*store, three, None, vec![annotated(json!(1))]).await;
    let orders = [
        (
            SlotOrder::FewestPeople,
            vec![four, three, one, two],
            vec![one, two, four, three],
        ),
        (SlotOrder::OldestBegun, vec![three], vec![three]),
    ];
    for (order, of_ann, of_bob) in orders {
        assert_eq!(ids(&offered_by(&*store, "flow", ann, order).await), of_ann);
        assert_eq!(ids(&offered_by(&*store, "flow", bob, order).await), of_bob);
    }
    // Others come first among the begun ones too.
    append(&*store, one, None, vec![annotated(json!(1))]).await;
    let begun = offered_by(&*store, "flow", ann, SlotOrder::OldestBegun).await;
    assert_eq!(ids(&begun), [three, one]);
    assert_eq!(begun[1].released, [ann]);

    // The limit cuts what comes last.
    let query = |limit| SlotQuery {
        step: StepWithOpenSlots {
            revision_id: RevisionId(id("flow")),
            step_id: slug("annotate"),
        },
        gold: false,
        user: ann,
        prevents_reassignment: true,
        order: SlotOrder::FewestPeople,
        limit,
    };
    let cut = store.open_slots(query(3)).await.unwrap();
    assert_eq!(ids(&cut), [four, three, two]);
    let cut = store.open_slots(query(1)).await.unwrap();
    assert_eq!(ids(&cut), [four]);
}

pub(in crate::stores) async fn people_at_work_are_seen_with_their_roles(a: &impl Adapter) {
    let store = a.store();
    let (one, two) = (numbered(1), numbered(2));
    append(&*store, one, None, started("flow", &[])).await;
    append(&*store, two, None, started("other", &[])).await;
    let seen = async |workflow: &str, events: u32| {
        store.people_seen(&slug(workflow), events).await.unwrap()
    };
    let nobody = PeopleSeen {
        whole: true,
        ..PeopleSeen::default()
    };
    assert_eq!(seen("flow", 100).await, nobody);
    assert!(seen("flow", 4).await.whole && !seen("flow", 3).await.whole);

    let with_roles = |mut event: WorkflowEvent, names: &[&str]| {
        if let WorkflowEvent::TaskAssigned { roles, .. } = &mut event {
            *roles = names.iter().map(|name| (*name).to_owned()).collect();
        }
        event
    };
    let mut work = AnnotationData::new(id("work"), person(2), json!(1));
    work.roles = vec!["lead".to_owned(), "expert".to_owned()];
    let submitted = WorkflowEvent::AnnotationSubmitted {
        step_id: slug("annotate"),
        visit: 1,
        annotation: work.into(),
        closes_at: None,
    };
    append(
        &*store,
        one,
        None,
        vec![with_roles(assigned(1, person(1)), &["annotator"])],
    )
    .await;
    append(&*store, one, None, vec![submitted]).await;
    append(
        &*store,
        two,
        None,
        vec![with_roles(assigned(1, person(1)), &[])],
    )
    .await;
    let people = |roles: &[&str], whole| PeopleSeen {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        steps: [slug("annotate")].into(),
        whole,
    };
    let all = ["annotator", "expert", "lead"];
    assert_eq!(seen("flow", 100).await, people(&all, true));
    assert_eq!(seen("other", 100).await, people(&[], true));
    // The newest two events are a submission and a claim in the other workflow.
    assert_eq!(seen("flow", 2).await, people(&["expert", "lead"], false));
}

type Scenario = (WorkflowOrchestrator, Arc<dyn Store>);

/// A store with a workflow and started tasks, and two processes that work on it.
async fn scenarios(a: &impl Adapter, yaml: &str, tasks: u32) -> [Arc<Scenario>; 2] {
    scenarios_of(a, yaml, "flow", tasks).await
}

/// The same, where the workflow has another name.
async fn scenarios_of(
    a: &impl Adapter,
    yaml: &str,
    workflow: &str,
    tasks: u32,
) -> [Arc<Scenario>; 2] {
    // Several workflows in one store have tasks of their own.
    let apart = u32::try_from(workflow.len()).unwrap() * 1_000;
    let first = if workflow == "flow" { 0 } else { apart };
    let scenario = |store: Arc<dyn Store>| {
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        Arc::new((orchestrator, store))
    };
    let scenarios = [scenario(a.store()), scenario(a.another().await)];
    scenarios[0].0.create_workflow(yaml).await.unwrap();
    let starts = (first..first + tasks).map(|n| {
        CommandEnvelope::new(
            id(&format!("start {n}")),
            Command::Start(Start {
                task_id: numbered(n),
                workflow: workflow.parse().unwrap(),
                input: Some(json!({"n": n})),
                labels: None,
                expected: None,
            }),
        )
    });
    let report = scenarios[0]
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
    scenarios
}

/// A workflow whose tasks require labels from three people.
fn threefold(load_balancing: &str) -> String {
    format!(
        "
workflow:
  id: flow
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: annotation_count, count: 3 }}
      assignment: {{ load_balancing: {load_balancing} }}
      consensus: {{ field: label, on_disagreement: {{ strategy: majority_vote }} }}
"
    )
}

/// Claims, and repeats under the same id if the store asks to retry.
async fn claim_at_last(scenario: &Scenario, request: &ClaimRequest) -> Option<Claim> {
    loop {
        match scenario.0.claim_next(&*scenario.1, request).await {
            Ok(claimed) => return claimed,
            Err(error) => assert!(error.is_passing(), "{error:?}"),
        }
    }
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
        fresh: true,
        sender: Sender::default(),
    }
}

pub(in crate::stores) async fn claims_never_exceed_the_overlap_however_many_race(a: &impl Adapter) {
    // 50 people, 15 tasks of 3 slots: five of them find nothing.
    let scenarios = scenarios(a, &threefold("round_robin"), 15).await;
    let mut claims = Vec::new();
    for n in 0..50 {
        let scenario = Arc::clone(&scenarios[n % 2]);
        claims.push(tokio::spawn(async move {
            let request = request(&n.to_string(), person(n as u128));
            let claimed = claim_at_last(&scenario, &request).await;
            // The same key again returns the same slot.
            if claimed.is_some() {
                let again = scenario.0.claim_next(&*scenario.1, &request).await.unwrap();
                assert_eq!(again, claimed);
            }
            claimed
        }));
    }
    let mut taken: BTreeMap<TaskId, BTreeSet<UserId>> = BTreeMap::new();
    let mut claimed = 0;
    for claim in claims {
        if let Some(slot) = claim.await.unwrap() {
            claimed += 1;
            assert!(taken.entry(slot.task_id).or_default().insert(slot.user_id));
            assert_eq!((&*slot.step_id, slot.visit), ("annotate", 1));
        }
    }
    assert!(taken.values().all(|people| people.len() <= 3));
    // Everyone who could get a slot got one, even if many were too late for the first ones.
    assert_eq!(claimed, 45);
    let all: Vec<TaskId> = (0..15).map(numbered).collect();
    for (task, state) in states(&*scenarios[0].1, &all).await {
        let visit = state.current_visit("annotate").unwrap();
        let holders: BTreeSet<_> = visit
            .assignments
            .iter()
            .map(|claimed| claimed.user_id)
            .collect();
        assert_eq!((visit.assignments.len(), &holders), (3, &taken[&task]));
    }
}

pub(in crate::stores) async fn who_skips_gets_another_task_while_there_is_one(a: &impl Adapter) {
    for strategy in ["round_robin", "least_loaded", "quality_weighted"] {
        let yaml = threefold(strategy).replace("id: flow", &format!("id: {strategy}"));
        let [scenario, other] = scenarios_of(a, &yaml, strategy, 3).await;
        let claim_and_skip = async |scenario: &Scenario, n: u32| {
            let name = format!("{strategy} {n}");
            let request = ClaimRequest {
                workflow: Some(strategy.parse().unwrap()),
                ..request(&name, person(1))
            };
            let claimed = claim(scenario, &request).await;
            let release = Command::Release(Release {
                task_id: claimed,
                step_id: None,
                user_id: person(1),
                reason: None,
            });
            let release = CommandEnvelope::new(id(&format!("skip {name}")), release);
            submit(scenario, vec![release]).await;
            claimed
        };
        let mut skipped = Vec::new();
        for (n, scenario) in [&scenario, &other, &scenario].into_iter().enumerate() {
            let n = u32::try_from(n).unwrap();
            skipped.push(claim_and_skip(scenario, n).await);
        }
        let different: BTreeSet<TaskId> = skipped.iter().copied().collect();
        assert_eq!(different.len(), 3, "{strategy}: {skipped:?}");
        // Nobody is locked out: with nothing else left, they are offered again.
        assert!(
            skipped.contains(&claim_and_skip(&other, 4).await),
            "{strategy}"
        );
    }
}

pub(in crate::stores) async fn one_person_never_holds_more_than_allowed(a: &impl Adapter) {
    const YAML: &str = "
workflow:
  id: flow
  steps:
    - { id: annotate, type: annotation, assignment: { max_concurrent: 4 } }
";
    let scenarios = scenarios(a, YAML, 12).await;
    let mut claims = Vec::new();
    for n in 0..10 {
        let scenario = Arc::clone(&scenarios[n % 2]);
        claims.push(tokio::spawn(async move {
            let request = request(&n.to_string(), person(1));
            claim_at_last(&scenario, &request).await
        }));
    }
    let mut tasks = BTreeSet::new();
    for claim in claims {
        if let Some(slot) = claim.await.unwrap() {
            assert!(tasks.insert(slot.task_id), "never the same task twice");
        }
    }
    assert_eq!(tasks.len(), 4);
    assert_eq!(
        scenarios[1].1.claimed_slots(person(1)).await.unwrap().len(),
        4
    );
    // That does not block another person.
    let other = scenarios[0]
        .0
        .claim_next(&*scenarios[0].1, &request("other", person(2)))
        .await;
    assert!(other.unwrap().is_some());
}

fn label(task_id: TaskId, who: u128, label: &str) -> CommandEnvelope {
    CommandEnvelope::new(
        id(&format!("label {task_id} {who}")),
        Command::Submission(Submission {
            task_id,
            step_id: Some("annotate".to_owned()),
            annotation: AnnotationInput {
                annotation_id: None,
                user_id: person(who),
                data: json!({"label": label}),
                decision: None,
                submitted_at: None,
                roles: None,
                confidence: None,
            },
            workflow: None,
        }),
    )
}

async fn submit(scenario: &Scenario, labels: Vec<CommandEnvelope>) {
    let report = scenario.0.process_batch(labels, None).await.unwrap();
    for outcome in &report.outcomes {
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    }
}

/// Waits until this many labels can be read in the log: a transaction elsewhere blocks its readers.
async fn readable(scenario: &Scenario, labels: usize) {
    until(async || {
        let (mut found, mut after) = (0, LogPosition::default());
        loop {
            let filter = LogFilter {
                workflow: slug("flow"),
                event_types: vec!["annotation_submitted"],
            };
            let page = scenario
                .1
                .read_workflow_log(filter, after, PAGE_MAX)
                .await
                .unwrap();
            found += page.entries.len();
            if page.read < PAGE_MAX {
                return (found == labels).then_some(());
            }
            after = page.through;
        }
    })
    .await;
}

/// A request that is, or is not, drawn to get the task that has waited longest.
fn request_drawn(name: &str, who: u128, overdue: bool) -> ClaimRequest {
    (0..1_000)
        .map(|n| request(&format!("{name} {who} {n}"), person(who)))
        .find(|request| is_for_overdue(request.command_id) == overdue)
        .unwrap()
}

async fn claim(scenario: &Scenario, request: &ClaimRequest) -> TaskId {
    let claimed = scenario.0.claim_next(&*scenario.1, request).await.unwrap();
    claimed.expect("a slot is free").task_id
}

/// The reason for which the person was offered the task.
async fn basis(scenario: &Scenario, task: TaskId, who: u128) -> Option<OfferBasis> {
    let events = scenario.1.events(task, 0, 100).await.unwrap().events;
    events
        .into_iter()
        .find_map(|event| match event.event {
            WorkflowEvent::TaskAssigned {
                user_id, offered, ..
            } if user_id == person(who) => Some(offered),
            _ => None,
        })
        .expect("the person has a slot in the task")
}

/// Completed tasks: three people who agree, and one who differs, in turn.
async fn teach(scenario: &Scenario, tasks: u32) {
    let mut labels = Vec::new();
    for n in 0..tasks {
        let truth = ["cat", "dog"][n as usize % 2];
        let good = [1, 2, 3, 4]
            .into_iter()
            .filter(|who| who % 4 != u128::from(n) % 4);
        let mut answers: Vec<_> = good.map(|who| (who, truth)).collect();
        // Number 9 always says "cat".
        answers[2] = (9, "cat");
        labels.extend(answers.iter().map(|(who, l)| label(numbered(n), *who, l)));
    }
    submit(scenario, labels).await;
}

pub(in crate::stores) async fn reliable_people_get_what_is_contested(a: &impl Adapter) {
    let scenarios = scenarios(a, &threefold("quality_weighted"), 84).await;
    let scenario = &*scenarios[0];
    teach(scenario, 80).await;
    let [fresh, older, agreed, contested] = [80, 81, 82, 83].map(numbered);
    submit(
        scenario,
        vec![
            label(older, 21, "cat"),
            label(agreed, 21, "dog"),
            label(agreed, 22, "dog"),
            label(contested, 21, "cat"),
            label(contested, 22, "dog"),
        ],
    )
    .await;
    readable(scenario, 80 * 3 + 5).await;
    // Another process has learned the same from the log.
    for (slot, scenario) in scenarios.iter().enumerate() {
        // The reliability of the first ones is unknown; the last one is not reliable.
        let people: &[u128] = if slot == 0 { &[30] } else { &[31, 9] };
        for &who in people {
            let claimed = claim(scenario, &request_drawn(&format!("{slot}"), who, false)).await;
            assert_eq!(claimed, fresh, "{who}");
            assert_eq!(basis(scenario, claimed, who).await, None);
            scenario
                .0
                .process_batch(
                    vec![CommandEnvelope::new(
                        id(&format!("release {slot} {who}")),
                        Command::Release(Release {
                            task_id: claimed,
                            step_id: None,
                            user_id: person(who),
                            reason: None,
                        }),
                    )],
                    None,
                )
                .await
                .unwrap();
        }
    }
    // The least certain task comes first, whoever else has begun it, and nobody gets a task twice.
    let mut claims = Vec::new();
    for who in [1, 2, 3] {
        let claimed = claim(&scenarios[1], &request_drawn("", who, false)).await;
        let Some(OfferBasis::Contested {
            confidence: Some(confidence),
            accuracy_low,
            accuracy_expected,
            ..
        }) = basis(scenario, claimed, who).await
        else {
            panic!("{who} is reliable");
        };
        assert!(accuracy_low > accuracy_expected);
        claims.push((claimed, confidence));
    }
    let tasks: Vec<TaskId> = claims.iter().map(|(task, _)| *task).collect();
    assert_eq!(tasks[0], contested);
    assert!(claims.is_sorted_by(|a, b| a.1 <= b.1), "{claims:?}");
    let states = states(&*scenario.1, &[older, agreed, contested]).await;
    for state in states.values() {
        let visit = state.current_visit("annotate").unwrap();
        assert!(visit.annotations.len() + visit.assignments.len() <= 3);
    }
}

pub(in crate::stores) async fn no_task_is_left_behind_by_those_that_are_contested(
    a: &impl Adapter,
) {
    let scenarios = scenarios(a, &threefold("quality_weighted"), 120).await;
    let scenario = &*scenarios[0];
    teach(scenario, 80).await;
    let (fresh, contested) = (numbered(80), 81..120);
    let mut labels = Vec::new();
    for n in contested.clone() {
        labels.push(label(numbered(n), 21, "cat"));
        labels.push(label(numbered(n), 22, "dog"));
    }
    submit(scenario, labels).await;
    readable(scenario, 80 * 3 + 39 * 2).await;
    // Other tasks always have a higher priority, and the oldest still gets its turn.
    let mut turns = 0;
    for n in 0..contested.len() {
        let request = request(&format!("turn {n}"), person(1));
        let claimed = claim(scenario, &request).await;
        if is_for_overdue(request.command_id) {
            turns += 1;
            assert_eq!(claimed, fresh);
            assert_eq!(basis(scenario, claimed, 1).await, Some(OfferBasis::Overdue));
            break;
        }
        assert_ne!(claimed, fresh);
    }
    assert_eq!(turns, 1, "one claim in ten is for the oldest");
}

pub(in crate::stores) async fn sharing_by_quality_never_exceeds_the_overlap(a: &impl Adapter) {
    let scenarios = scenarios(a, &threefold("quality_weighted"), 95).await;
    teach(&scenarios[0], 80).await;
    let open: Vec<TaskId> = (80..95).map(numbered).collect();
    submit(
        &scenarios[0],
        open[..8]
            .iter()
            .map(|task| label(*task, 21, "cat"))
            .collect(),
    )
    .await;
    // 8 tasks with 2 slots and 7 with 3; reliable people get the first, the others the rest.
    let mut claims = Vec::new();
    for n in 0..60_usize {
        let scenario = Arc::clone(&scenarios[n % 2]);
        let who = [1, 2, 3, 4].get(n).copied().unwrap_or(40 + n as u128);
        claims.push(tokio::spawn(async move {
            let request = request(&format!("race {n}"), person(who));
            claim_at_last(&scenario, &request).await
        }));
    }
    let mut claimed = 0;
    for claim in claims {
        claimed += usize::from(claim.await.unwrap().is_some());
    }
    assert_eq!(claimed, 8 * 2 + 7 * 3);
    for state in states(&*scenarios[0].1, &open).await.values() {
        let visit = state.current_visit("annotate").unwrap();
        let people = visit.annotations.iter().map(|a| a.user_id);
        let mut people: Vec<_> = people
            .chain(visit.assignments.iter().map(|a| a.user_id))
            .collect();
        people.sort_unstable();
        people.dedup();
        assert_eq!(people.len(), 3, "nobody twice, nobody too many");
    }
}
