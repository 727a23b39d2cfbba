//! Task search, drafts, and the operators' view of the inbox.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use glyph_workflow_engine::{
    events::WorkflowEvent,
    ids::{RevisionId, UserId},
    state::{IncidentCode, Slots, TaskStatus},
    store::{
        DerivedChanges, Draft, RejectedFilter, SnapshotRow, TaskFilter, TaskRow, Timer, TimerKind,
    },
};
use serde_json::json;

use super::until;
use crate::stores::{adapter::Adapter, samples::*};

pub(in crate::stores) async fn drafts_are_kept_by_person_and_visit(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    let draft = |user: &str, visit, text: &str, seconds| Draft {
        task_id: one,
        step_id: slug("annotate"),
        visit,
        user_id: UserId(id(user)),
        draft: json!({"text": text}),
        saved_at: at(seconds),
    };
    append_with(&*store, one, None, started("flow", &[]), |write, _| {
        write.drafts = vec![draft("ann", 1, "a", 3), draft("bob", 1, "b", 1)];
    })
    .await;
    append_with(&*store, one, None, Vec::new(), |write, _| {
        write.drafts = vec![draft("bob", 1, "b2", 5), draft("ann", 2, "a2", 2)];
    })
    .await;
    let found = store.drafts(one).await.unwrap();
    let expected = [
        draft("ann", 2, "a2", 2),
        draft("ann", 1, "a", 3),
        draft("bob", 1, "b2", 5),
    ];
    assert_eq!(found, expected);
    assert!(store.drafts(task("two")).await.unwrap().is_empty());
}

pub(in crate::stores) async fn tasks_are_found_by_what_they_are(a: &impl Adapter) {
    let store = a.store();
    for n in 0..12 {
        let flow = if n % 2 == 0 { "even" } else { "odd" };
        let third = (n % 3).to_string();
        let mut events = started(flow, &[("third", &third), ("project", "p'1")]);
        if n >= 8 {
            events.push(WorkflowEvent::WorkflowCompleted { output: json!(1) });
        } else if n >= 6 {
            events.push(WorkflowEvent::WorkflowPaused {
                step_id: None,
                reason: None,
                until: None,
                by_parent: false,
                holds: Vec::new(),
            });
        }
        append(&*store, numbered(n), None, events).await;
    }
    let find = async |filter: TaskFilter| -> Vec<u32> {
        let page = store
            .tasks(TaskFilter {
                limit: 100,
                ..filter
            })
            .await
            .unwrap();
        assert_eq!(page.next_after, None);
        page.tasks
            .iter()
            .map(|row| (row.task_id.0.as_u128() & 0xff) as u32)
            .collect()
    };
    let any = TaskFilter::default;
    assert_eq!(find(any()).await, (0..12).collect::<Vec<_>>());
    assert_eq!(
        find(TaskFilter {
            workflow: Some(slug("even")),
            ..any()
        })
        .await,
        [0, 2, 4, 6, 8, 10]
    );
    assert_eq!(
        find(TaskFilter {
            status: Some(TaskStatus::Paused),
            ..any()
        })
        .await,
        [6, 7]
    );
    assert_eq!(
        find(TaskFilter {
            step: Some(slug("annotate")),
            ..any()
        })
        .await,
        (0..8).collect::<Vec<_>>()
    );
    assert!(
        find(TaskFilter {
            step: Some(slug("review")),
            ..any()
        })
        .await
        .is_empty()
    );
    assert_eq!(
        find(TaskFilter {
            labels: labels(&[("third", "1"), ("project", "p'1")]),
            ..any()
        })
        .await,
        [1, 4, 7, 10]
    );
    assert!(
        find(TaskFilter {
            labels: labels(&[("third", "9")]),
            ..any()
        })
        .await
        .is_empty()
    );
    assert_eq!(
        find(TaskFilter {
            workflow: Some(slug("odd")),
            status: Some(TaskStatus::Running),
            step: Some(slug("annotate")),
            labels: labels(&[("third", "0")]),
            ..any()
        })
        .await,
        [3]
    );

    let oldest = TaskFilter {
        oldest_first: true,
        after: Some(numbered(11)),
        limit: 5,
        ..any()
    };
    let oldest = store.tasks(oldest).await.unwrap();
    assert_eq!((oldest.tasks.len(), oldest.next_after), (5, None));
    assert!(
        oldest
            .tasks
            .is_sorted_by_key(|row| (row.updated_at, row.task_id))
    );
    let all = store
        .tasks(TaskFilter {
            limit: 100,
            ..any()
        })
        .await
        .unwrap();
    let first = all.tasks.iter().map(|row| row.updated_at).min();
    assert_eq!(Some(oldest.tasks[0].updated_at), first);
    let of_ann = TaskFilter {
        held_by: Some(UserId(id("ann"))),
        ..any()
    };
    assert!(find(of_ann).await.is_empty());

    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .tasks(TaskFilter {
                after,
                limit: 5,
                ..any()
            })
            .await
            .unwrap();
        pages.push(page.tasks.len());
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [5, 5, 2]);
    assert!(store.task(task("none")).await.unwrap().is_none());
}

pub(in crate::stores) async fn tasks_are_counted_by_status_and_by_where_they_wait(
    a: &impl Adapter,
) {
    let store = a.store();
    let counts = store.task_counts().await.unwrap();
    assert_eq!(counts.len(), TaskStatus::ALL.len());
    assert!(counts.values().all(|count| *count == 0));
    for n in 0..5 {
        let mut events = started("flow", &[]);
        if n > 2 {
            events.push(WorkflowEvent::WorkflowCompleted {
                output: json!(null),
            });
        }
        append(&*store, numbered(n), None, events).await;
    }
    let counts = store.task_counts().await.unwrap();
    assert_eq!(
        (counts[&TaskStatus::Running], counts[&TaskStatus::Completed]),
        (3, 2)
    );
    let waits = until(async || {
        let waits = store.waiting(None, 100).await.unwrap();
        waits
            .steps
            .iter()
            .all(|step| step.oldest_seconds > 0.0)
            .then_some(waits)
    })
    .await;
    assert_eq!((waits.steps.len(), waits.next_after), (1, None));
    let step = &waits.steps[0];
    assert_eq!(
        (step.revision_id, &*step.step_id),
        (RevisionId(id("flow")), "annotate")
    );
    assert!(step.oldest_seconds < 60.0);
    let mut after = None;
    for running in [0, 1, 2] {
        let page = store.waiting(after, 1).await.unwrap();
        assert_eq!(page.steps.len(), 1);
        after = page.next_after;
        assert_eq!(after, (running < 2).then_some(numbered(running)));
    }
}

pub(in crate::stores) async fn what_has_not_ended_is_counted_by_step(a: &impl Adapter) {
    let store = a.store();
    assert!(store.step_loads().await.unwrap().is_empty());
    let incident = WorkflowEvent::IncidentOpened {
        incident_id: id("incident"),
        step_id: slug("annotate"),
        visit: 1,
        code: IncidentCode::HandlerFailed,
        reason: "no answer".to_owned(),
        escalated: false,
    };
    let paused = WorkflowEvent::WorkflowPaused {
        step_id: None,
        reason: None,
        until: None,
        by_parent: false,
        holds: Vec::new(),
    };
    let completed = WorkflowEvent::WorkflowCompleted { output: json!(1) };
    let more = [None, Some(incident), Some(paused), Some(completed)];
    for (n, more) in (0..).zip(more) {
        let mut events = started("flow", &[]);
        events.extend(more);
        append(&*store, numbered(n), None, events).await;
    }
    let loads = store.step_loads().await.unwrap();
    assert_eq!(loads.len(), 1, "{loads:?}");
    let load = &loads[0];
    assert_eq!(
        (&*load.workflow, load.revision_id, &*load.step_id),
        ("flow", RevisionId(id("flow")), "annotate")
    );
    assert_eq!((load.running, load.paused, load.with_incidents), (2, 1, 1));
    for (up_to, counted) in [(10, 1), (0, 0)] {
        assert_eq!(store.tasks_with_incidents(up_to).await.unwrap(), counted);
    }
    let mut oldest = None;
    for n in [0, 1] {
        let at = store.task(numbered(n)).await.unwrap().unwrap().updated_at;
        oldest = Some(oldest.map_or(at, |oldest| at.min(oldest)));
    }
    assert_eq!(load.oldest_at, oldest);
    let held = store
        .tasks(TaskFilter {
            incidents: true,
            limit: 10,
            ..TaskFilter::default()
        })
        .await
        .unwrap();
    let held: Vec<_> = held.tasks.iter().map(|task| task.task_id).collect();
    assert_eq!(held, [numbered(1)]);
}

pub(in crate::stores) async fn the_numbers_of_tasks_follow_every_change_of_a_status(
    a: &impl Adapter,
) {
    let store = a.store();
    let counted = async || {
        let mut counted: BTreeMap<TaskStatus, i64> =
            TaskStatus::ALL.map(|status| (status, 0)).into();
        let all = TaskFilter {
            limit: 1_000,
            ..TaskFilter::default()
        };
        for task in store.tasks(all).await.unwrap().tasks {
            *counted.entry(task.status).or_default() += 1;
        }
        counted
    };
    // More changes than are left alone by folding, some of them in one batch.
    for n in 0..40 {
        append(&*store, numbered(n), None, started("flow", &[])).await;
        let held = open(&*store, &[numbered(n)], None).await;
        drop(held);
    }
    for n in 0..40 {
        let event = match n % 4 {
            0 => WorkflowEvent::WorkflowCompleted {
                output: json!(null),
            },
            1 => WorkflowEvent::WorkflowCancelled { reason: None },
            2 => WorkflowEvent::WorkflowPaused {
                step_id: None,
                reason: None,
                until: None,
                by_parent: false,
                holds: Vec::new(),
            },
            _ => continue,
        };
        append(&*store, numbered(n), None, vec![event]).await;
    }
    assert_eq!(store.task_counts().await.unwrap(), counted().await);
    assert_eq!(counted().await[&TaskStatus::Paused], 10);
    store.fold_task_counts().await.unwrap();
    store.fold_task_counts().await.unwrap();
    assert_eq!(store.task_counts().await.unwrap(), counted().await);

    // A rebuild that corrects a row corrects the numbers.
    let states = states(&*store, &[numbered(3)]).await;
    let state = &states[&numbered(3)];
    let mut wrong = TaskRow::from(state);
    wrong.status = TaskStatus::Failed;
    let slots = || Slots::from(state);
    let replace = async |row| {
        let replaced = store.replace_derived(row, slots(), vec![], vec![]).await;
        replaced.unwrap();
        assert_eq!(store.task_counts().await.unwrap(), counted().await);
    };
    replace(wrong).await;
    assert_eq!(counted().await[&TaskStatus::Failed], 1);
    replace(TaskRow::from(state)).await;
    assert!(!store.recount_tasks().await.unwrap());
}

pub(in crate::stores) async fn rejected_commands_are_listed_newest_first(a: &impl Adapter) {
    let store = a.store();
    let (one, two) = (task("one"), task("two"));
    for n in 0..7_i32 {
        let task = if n % 2 == 0 { one } else { two };
        append_with(&*store, task, None, Vec::new(), |write, _| {
            // Two at the same instant are ordered by id.
            write.commands = vec![rejected(&format!("{n}"), Some(task), at(i64::from(n / 2)))];
        })
        .await;
    }
    append_with(&*store, one, None, started("flow", &[]), |write, _| {
        write.commands = vec![applied("applied", Some(one))];
    })
    .await;

    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .rejected(&RejectedFilter::default(), after, 3)
            .await
            .unwrap();
        found.extend(page.commands);
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 7);
    assert!(found.is_sorted_by(|a, b| (a.decided_at, a.command_id) > (b.decided_at, b.command_id)));
    assert!(found.iter().all(|row| row.payload.is_some()));
    let of = |task| RejectedFilter {
        task: Some(task),
        ..RejectedFilter::default()
    };
    let of_two = store.rejected(&of(two), None, 10).await.unwrap();
    assert_eq!(of_two.commands.len(), 3);
    assert_eq!(of_two.next_after, None);
    assert!(
        store
            .rejected(&RejectedFilter::default(), Some(command("none")), 10)
            .await
            .unwrap()
            .commands
            .is_empty()
    );
    let by = |reason: &str, workflow: &str| RejectedFilter {
        reason: Some(reason.to_owned()),
        workflow: Some(workflow.to_owned()),
        ..RejectedFilter::default()
    };
    for (filter, expected) in [
        (by("surplus", "flow"), 4),
        (by("other", "flow"), 0),
        (by("surplus", "other"), 0),
    ] {
        let page = store.rejected(&filter, None, 10).await.unwrap();
        assert_eq!(page.commands.len(), expected, "{filter:?}");
    }
    let oldest = RejectedFilter {
        oldest_first: true,
        ..RejectedFilter::default()
    };
    let first = store.rejected(&oldest, None, 2).await.unwrap();
    let rest = store.rejected(&oldest, first.next_after, 10).await.unwrap();
    let ascending: Vec<_> = first.commands.iter().chain(&rest.commands).collect();
    assert!(
        ascending
            .iter()
            .rev()
            .map(|row| row.command_id)
            .eq(found.iter().map(|row| row.command_id))
    );

    let known = [command("0"), command("none"), command("applied")];
    assert_eq!(store.commands(&known).await.unwrap().len(), 2);
    // What is dropped is out of the list and still known.
    assert_eq!(store.drop_rejected(&known, "cli:root").await.unwrap(), 1);
    assert_eq!(store.drop_rejected(&known, "cli:root").await.unwrap(), 0);
    assert_eq!(
        store
            .rejected(&oldest, None, 10)
            .await
            .unwrap()
            .commands
            .len(),
        6
    );
    assert!(store.command(command("0")).await.unwrap().is_some());
    assert!(store.command(command("none")).await.unwrap().is_none());
    let applied = store.command(command("applied")).await.unwrap().unwrap();
    assert_eq!(
        (&*applied.command_type, applied.payload),
        ("submission", None)
    );
}

pub(in crate::stores) async fn what_is_derived_is_replaced_where_it_differs(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    let other = task("two");
    let due_at = at(0) + TimeDelta::days(40_000);
    let due = |n| Timer {
        id: id(&format!("due {n}")),
        task_id: one,
        step_id: Some(slug("annotate")),
        visit: 1,
        kind: TimerKind::AssignmentTimeout,
        n,
        due_at,
    };
    append(&*store, other, None, started("flow", &[])).await;
    append_with(&*store, one, None, started("flow", &[]), |write, state| {
        write.timers_set = vec![due(1)];
        write.snapshot = state.map(snapshot_of);
    })
    .await;
    let state = states(&*store, &[one]).await.remove(&one).unwrap();
    let row = TaskRow::from(&state);
    let replace = async |row: &TaskRow, snapshots: Vec<SnapshotRow>, due: Vec<Timer>| {
        let slots = Slots::from(&state);
        store
            .replace_derived(row.clone(), slots, snapshots, due)
            .await
    };

    let same = replace(&row, vec![snapshot_of(&state)], vec![due(1)])
        .await
        .unwrap();
    assert_eq!(same, DerivedChanges::default());
    let mut wrong = row.clone();
    wrong.status = TaskStatus::Paused;
    wrong.current_steps = vec![slug("a"), slug("b")];
    wrong.labels = labels(&[("k", "v")]);
    let changed = replace(&wrong, vec![], vec![due(2), due(3)]).await.unwrap();
    let all = DerivedChanges {
        task: true,
        snapshots: true,
        timers: true,
    };
    assert_eq!(changed, all);
    assert_eq!(store.task(one).await.unwrap(), Some(wrong));
    assert_eq!(store.timer_stats().await.unwrap().total, 2);
    assert!(
        open(&*store, &[one], None)
            .await
            .take_task(one)
            .snapshot
            .is_none()
    );

    let back = replace(&row, vec![snapshot_of(&state)], vec![due(1)])
        .await
        .unwrap();
    assert_eq!(back, all);
    assert_eq!(store.task(one).await.unwrap(), Some(row.clone()));
    assert!(
        open(&*store, &[one], None)
            .await
            .take_task(one)
            .snapshot
            .is_some()
    );
    assert_eq!(states(&*store, &[one]).await.get(&one), Some(&state));

    // An older row does not replace that of a stream that has moved on.
    append(&*store, one, None, vec![annotated(json!(1))]).await;
    assert!(replace(&row, vec![], vec![]).await.is_err());
    assert_eq!(store.task(one).await.unwrap().unwrap().version, 3);

    let mut all = [one, other];
    all.sort();
    assert_eq!(store.stream_ids(None, 10).await.unwrap(), all);
    assert_eq!(store.stream_ids(None, 1).await.unwrap(), all[..1]);
    assert_eq!(store.stream_ids(Some(all[0]), 10).await.unwrap(), all[1..]);
    assert!(store.stream_ids(Some(all[1]), 10).await.unwrap().is_empty());
}

pub(in crate::stores) async fn a_deployment_keeps_its_id(a: &impl Adapter) {
    let store = a.store();
    let id = store.deployment().await.unwrap();
    append_with(&*store, task("one"), None, started("flow", &[]), |_, _| {}).await;
    assert_eq!(store.deployment().await.unwrap(), id);
}
