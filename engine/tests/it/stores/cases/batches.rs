//! Batches, streams and the log.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chrono::TimeDelta;
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Outcome, Start},
    events::{StateRebuilder, WorkflowEvent},
    ids::TaskId,
    store::{
        EventStoreError, LogFilter, LogPosition, OpenRequest, ProjectionWrite, RecordedOutcome,
        SplitReason, Store, TaskRow, TaskWrite, Verdict,
    },
};
use serde_json::json;

use super::until;
use crate::stores::{adapter::Adapter, samples::*};

pub(in crate::stores) async fn an_appended_stream_loads_in_order_of_version(a: &impl Adapter) {
    let store = a.store();
    let (one, two) = (task("one"), task("two"));
    let mut batch = open(&*store, &[one, two], None).await;
    let now = batch.now;
    assert_eq!(
        now.timestamp_subsec_nanos() % 1_000,
        0,
        "the clock has whole microseconds"
    );
    assert_eq!(
        (batch.take_task(one).version, batch.take_task(two).version),
        (0, 0)
    );
    let mut events = started("flow", &[("project", "p1")]);
    events.push(annotated(
        json!({"label": "positive", "scores": [0.1, 1e300, -1e17, 1e16]}),
    ));
    let (first, state_one) = write_on(None, one, now, events);
    let (second, state_two) = write_on(None, two, now, started("other", &[]));
    let appended = first.events.clone();
    let rows = batch.commit(vec![first, second]).await.unwrap();
    assert!(rows.is_empty());

    let loaded = states(&*store, &[one, two, task("three")]).await;
    assert_eq!(loaded.len(), 2);
    assert_eq!(loaded.get(&one), state_one.as_ref());
    assert_eq!(loaded.get(&two), state_two.as_ref());
    let page = store.events(one, 0, 100).await.unwrap();
    assert_eq!((page.events, page.next_after), (appended, None));
    assert_eq!(
        store.task(one).await.unwrap(),
        state_one.as_ref().map(TaskRow::from)
    );

    let later = append(&*store, one, None, vec![annotated(json!(2))]).await;
    assert!(later.is_empty());
    assert_eq!(states(&*store, &[one]).await[&one].version, 4);
    assert_eq!(store.task(one).await.unwrap().unwrap().version, 4);
    assert_eq!(store.task(two).await.unwrap().unwrap().version, 2);
}

pub(in crate::stores) async fn histories_come_in_pages(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    append(&*store, one, None, started("flow", &[])).await;
    append(
        &*store,
        one,
        None,
        (0..5).map(|n| annotated(json!(n))).collect(),
    )
    .await;
    let mut versions = Vec::new();
    let mut after = 0;
    loop {
        let page = store.events(one, after, 3).await.unwrap();
        versions.extend(page.events.iter().map(|event| event.version));
        assert!(page.events.len() <= 3);
        match page.next_after {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7]);
    assert!(
        store
            .events(task("none"), 0, 3)
            .await
            .unwrap()
            .events
            .is_empty()
    );
}

pub(in crate::stores) async fn a_batch_decided_on_another_version_writes_nothing_beside_healthy_streams(
    a: &impl Adapter,
) {
    let store = a.store();
    let (healthy, moved, new) = (task("healthy"), task("moved"), task("new"));
    append(&*store, healthy, None, started("flow", &[])).await;
    append(&*store, moved, None, started("flow", &[])).await;
    let outdated = states(&*store, &[moved]).await.remove(&moved);
    append(&*store, moved, None, vec![annotated(json!(1))]).await;

    let mut batch = open(&*store, &[healthy, moved, new], Some(publisher("p"))).await;
    let now = batch.now;
    let state = fold(batch.take_task(healthy));
    let (mut first, _) = write_on(state, healthy, now, vec![annotated(json!(1))]);
    first.commands = vec![applied("one", Some(healthy))];
    first.outbox = first.events.iter().map(message_of).collect();
    let (second, _) = write_on(outdated, moved, now, vec![annotated(json!("late"))]);
    let (third, _) = write_on(None, new, now, started("flow", &[]));
    let refused = batch.commit(vec![first, second, third]).await.unwrap_err();
    assert!(
        matches!(
            refused,
            EventStoreError::VersionConflict { task_id, expected: 2, actual: 3 } if task_id == moved
        ),
        "{refused:?}"
    );
    assert_eq!(
        refused.verdict(true),
        Verdict::Split(SplitReason::Unexplained)
    );

    let loaded = states(&*store, &[healthy, moved, new]).await;
    assert_eq!(loaded.len(), 2);
    assert_eq!((loaded[&healthy].version, loaded[&moved].version), (2, 3));
    assert!(store.command(command("one")).await.unwrap().is_none());
    assert_eq!(a.heads().await, 2);
    // A row for each batch that was committed.
    assert_eq!(store.outbox_stats().await.unwrap().pending, 3);
    // The streams are unlocked again.
    append(&*store, moved, None, vec![annotated(json!(2))]).await;
    append(&*store, new, None, started("flow", &[])).await;
}

pub(in crate::stores) async fn events_that_do_not_follow_each_other_are_refused(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    let spoil: [fn(&mut TaskWrite); 6] = [
        |write| write.events[1].version = 3,
        |write| write.events[1].version = 1,
        |write| write.expected_version = 1,
        // A message of an event that is not written, or twice, or of another task.
        |write| write.outbox[1].version = Some(3),
        |write| write.outbox[1].version = Some(1),
        |write| write.outbox[1].task_id = Some(task("other")),
    ];
    for spoil in spoil {
        let batch = open(&*store, &[one], None).await;
        let (mut write, _) = write_on(None, one, batch.now, started("flow", &[]));
        write.outbox = write.events.iter().map(message_of).collect();
        spoil(&mut write);
        let refused = batch.commit(vec![write]).await.unwrap_err();
        assert!(
            matches!(refused, EventStoreError::VersionConflict { .. }),
            "{refused:?}"
        );
    }
    assert!(states(&*store, &[one]).await.is_empty());
    assert_eq!(a.heads().await, 0);
}

pub(in crate::stores) async fn a_batch_of_rejections_leaves_no_head(a: &impl Adapter) {
    let store = a.store();
    let (one, two) = (task("one"), task("two"));
    let batch = open(&*store, &[one, two], None).await;
    let (mut write, _) = write_on(None, one, batch.now, Vec::new());
    let record = rejected("one", Some(one), batch.now);
    write.commands = vec![record.clone()];
    write.outbox = vec![message(id("rejection"), Some(one))];
    batch.commit(vec![write]).await.unwrap();

    assert_eq!(a.heads().await, 0);
    assert!(store.task(one).await.unwrap().is_none());
    assert!(states(&*store, &[one]).await.is_empty());
    let found = store.command(command("one")).await.unwrap().unwrap();
    assert_eq!(
        (
            found.outcome,
            found.payload,
            found.decided_at,
            found.content_hash
        ),
        (
            record.outcome,
            record.payload,
            record.decided_at,
            record.content_hash
        )
    );
    assert_eq!(store.outbox_stats().await.unwrap().pending, 1);
    // The task can still be started.
    append(&*store, one, None, started("flow", &[])).await;
    assert_eq!(a.heads().await, 1);
}

pub(in crate::stores) async fn a_dropped_batch_writes_nothing_and_frees_its_streams(
    a: &impl Adapter,
) {
    let store = a.store();
    let one = task("one");
    for _ in 0..20 {
        drop(open(&*store, &[one, task("two")], None).await);
    }
    append(&*store, one, None, started("flow", &[])).await;
    assert_eq!(a.heads().await, 1);
}

pub(in crate::stores) async fn known_commands_are_found_under_the_lock(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    let events = started("flow", &[]);
    append_with(&*store, one, None, events, |write, _| {
        write.commands = vec![applied("known", Some(one)), applied("operator's", None)];
    })
    .await;
    let batch = store
        .open(OpenRequest {
            tasks: HashMap::from([(one, 2)]),
            commands: vec![command("known"), command("operator's"), command("new")],
            ..OpenRequest::default()
        })
        .await
        .unwrap();
    let known = batch.known(command("known")).unwrap();
    assert_eq!(known.command_id, command("known"));
    assert_eq!((known.task_id, known.content_hash), (Some(one), [7; 32]));
    assert_eq!(
        known.outcome,
        RecordedOutcome::Applied {
            result: json!({"status": "waiting", "n": 1.5})
        }
    );
    assert_eq!(batch.known(command("operator's")).unwrap().task_id, None);
    assert!(batch.known(command("new")).is_none());
}

pub(in crate::stores) async fn tasks_that_have_started_are_counted_up_to_a_number(
    a: &impl Adapter,
) {
    let store = a.store();
    for name in ["one", "two", "three"] {
        append(&*store, task(name), None, started("flow", &[])).await;
    }
    append(&*store, task("other"), None, started("other", &[])).await;
    for (most, count) in [(2, 2), (3, 3), (9, 3)] {
        let batch = store.open(counting("flow", most, "four")).await.unwrap();
        assert_eq!(batch.started.values().copied().collect::<Vec<_>>(), [count]);
    }
    let batch = store.open(counting("nobodys", 5, "four")).await.unwrap();
    assert_eq!(batch.started.values().copied().collect::<Vec<_>>(), [0]);
    drop(batch);
    assert!(
        open(&*store, &[task("four")], None)
            .await
            .started
            .is_empty()
    );
}

pub(in crate::stores) async fn a_command_that_completed_its_task_is_known_with_the_output(
    a: &impl Adapter,
) {
    let store = a.store();
    let one = task("one");
    let batch = open(&*store, &[one], None).await;
    let output = json!({"result": "positive", "steps": {"annotate": {"value": 1e17}}});
    let mut events = started("flow", &[]);
    events.push(WorkflowEvent::WorkflowCompleted {
        output: output.clone(),
    });
    let (mut write, _) = write_on(None, one, batch.now, events);
    let mut completed = applied("last", Some(one));
    completed.outcome = RecordedOutcome::Applied {
        result: json!({"status": "completed", "output": output}),
    };
    write.commands = vec![applied("first", Some(one)), completed.clone()];
    batch.tx.commit(vec![write]).await.unwrap();

    let row = store.command(command("last")).await.unwrap().unwrap();
    assert_eq!(row.outcome, completed.outcome);
    let request = OpenRequest {
        tasks: HashMap::from([(one, 0)]),
        commands: vec![command("last"), command("first")],
        ..OpenRequest::default()
    };
    let known = store.open(request).await.unwrap().known;
    assert_eq!(known[&command("last")].outcome, completed.outcome);
    assert_eq!(
        known[&command("first")].outcome,
        applied("first", Some(one)).outcome
    );
}

pub(in crate::stores) async fn a_command_id_that_comes_twice_is_refused(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    let batch = open(&*store, &[one], None).await;
    let (mut write, _) = write_on(None, one, batch.now, started("flow", &[]));
    write.commands = vec![applied("same", Some(one)), applied("same", Some(one))];
    assert!(batch.commit(vec![write]).await.is_err());
    assert!(states(&*store, &[one]).await.is_empty());

    append_with(&*store, one, None, started("flow", &[]), |write, _| {
        write.commands = vec![applied("same", Some(one))];
    })
    .await;
    let mut batch = open(&*store, &[one], None).await;
    let state = fold(batch.take_task(one));
    let (mut write, _) = write_on(state, one, batch.now, vec![annotated(json!(1))]);
    write.commands = vec![applied("same", Some(one))];
    assert!(batch.commit(vec![write]).await.is_err());
    assert_eq!(states(&*store, &[one]).await[&one].version, 2);
}

pub(in crate::stores) async fn what_lies_after_the_held_version_is_read_under_the_lock(
    a: &impl Adapter,
) {
    let store = a.store();
    let one = task("one");
    append(&*store, one, None, started("flow", &[])).await;
    append(
        &*store,
        one,
        None,
        vec![annotated(json!(1)), annotated(json!(2))],
    )
    .await;
    for (claimed, tail) in [
        (0, vec![1, 2, 3, 4]),
        (2, vec![3, 4]),
        (3, vec![4]),
        (4, vec![]),
    ] {
        let request = OpenRequest {
            tasks: HashMap::from([(one, claimed)]),
            ..OpenRequest::default()
        };
        let mut batch = store.open(request).await.unwrap();
        let opened = batch.take_task(one);
        assert_eq!(opened.version, 4);
        assert!(opened.snapshot.is_none());
        let versions: Vec<_> = opened.tail.iter().map(|event| event.version).collect();
        assert_eq!(versions, tail, "claimed {claimed}");
    }
}

pub(in crate::stores) async fn a_state_of_events_that_were_lost_counts_for_nothing(
    a: &impl Adapter,
) {
    let store = a.store();
    let one = task("one");
    append(&*store, one, None, started("flow", &[])).await;
    append(&*store, one, None, vec![annotated(json!(1))]).await;
    append(&*store, one, None, vec![annotated(json!(2))]).await;
    let events = store.events(one, 0, 10).await.unwrap().events;
    let decided = |version: usize| events[version - 1].occurred_at;
    let other = decided(4) + TimeDelta::seconds(1);
    for (claimed, at, anew, tail) in [
        (4, decided(4), false, vec![]),
        (3, decided(3), false, vec![4]),
        (1, decided(1), false, vec![2, 3, 4]),
        // Other events have these versions now.
        (4, other, true, vec![1, 2, 3, 4]),
        (3, other, true, vec![1, 2, 3, 4]),
        (1, other, true, vec![1, 2, 3, 4]),
        // No event has it any more.
        (5, other, true, vec![1, 2, 3, 4]),
    ] {
        let request = OpenRequest {
            tasks: HashMap::from([(one, claimed)]),
            last_decided: HashMap::from([(one, at)]),
            ..OpenRequest::default()
        };
        let opened = store.open(request).await.unwrap().take_task(one);
        let versions: Vec<_> = opened.tail.iter().map(|event| event.version).collect();
        assert_eq!((opened.anew, versions), (anew, tail), "{claimed} at {at}");
    }
    // The whole stream is gone.
    let lost = OpenRequest {
        tasks: HashMap::from([(task("two"), 2)]),
        last_decided: HashMap::from([(task("two"), other)]),
        ..OpenRequest::default()
    };
    let opened = store.open(lost).await.unwrap().take_task(task("two"));
    assert_eq!((opened.anew, opened.version), (true, 0));
}

pub(in crate::stores) async fn a_snapshot_shortens_the_load_and_a_damaged_one_is_replayed(
    a: &impl Adapter,
) {
    let store = a.store();
    let (one, two) = (task("one"), task("two"));
    for task in [one, two] {
        append(&*store, task, None, started("flow", &[])).await;
        let events = vec![annotated(json!({"large": 1e16, "list": [1.0, 2]}))];
        append_with(&*store, task, None, events, |write, state| {
            write.snapshot = state.map(snapshot_of);
        })
        .await;
        append(&*store, task, None, vec![annotated(json!("last"))]).await;
    }
    let events = store.events(one, 0, 10).await.unwrap().events;
    let replayed = StateRebuilder::rebuild(&events).unwrap();

    let opened = open(&*store, &[one], None).await.take_task(one);
    assert_eq!(opened.snapshot.as_ref().map(|state| state.version), Some(3));
    assert_eq!(
        opened
            .tail
            .iter()
            .map(|event| event.version)
            .collect::<Vec<_>>(),
        [4]
    );
    assert_eq!(fold(opened), replayed);
    assert_eq!(states(&*store, &[one]).await.get(&one), replayed.as_ref());

    if a.damage_snapshot(one).await {
        let mut batch = open(&*store, &[one, two], None).await;
        let opened = batch.take_task(one);
        assert!(opened.snapshot.is_none());
        assert_eq!(opened.tail.len(), 4);
        assert_eq!(fold(opened), replayed);
        assert!(batch.take_task(two).snapshot.is_some());
        drop(batch);
        assert_eq!(
            states(&*store, &[one, two]).await.get(&one),
            replayed.as_ref()
        );
    }
}

pub(in crate::stores) async fn a_nul_in_a_text_is_bad_data(a: &impl Adapter) {
    let store = a.store();
    let one = task("one");
    let nul = json!({"text": "a\0b"});
    let batch = open(&*store, &[one], None).await;
    let mut events = started("flow", &[]);
    events.push(annotated(nul.clone()));
    let (write, _) = write_on(None, one, batch.now, events);
    let refused = batch.commit(vec![write]).await.unwrap_err();
    assert_eq!(refused.verdict(true), Verdict::Blame, "{refused:?}");

    let batch = open(&*store, &[one], None).await;
    let (mut write, _) = write_on(None, one, batch.now, Vec::new());
    let mut record = rejected("one", Some(one), batch.now);
    record.payload = Some(nul);
    write.commands = vec![record];
    let refused = batch.commit(vec![write]).await.unwrap_err();
    assert_eq!(refused.verdict(true), Verdict::Blame, "{refused:?}");
    assert_eq!(a.heads().await, 0);
    // A message that only looks similar is kept.
    let mut events = started("flow", &[]);
    events.push(annotated(json!("a\\u0000b")));
    append(&*store, one, None, events).await;
    assert_eq!(states(&*store, &[one]).await[&one].version, 3);
}

pub(in crate::stores) async fn overlapping_batches_neither_deadlock_nor_leave_gaps(
    a: &impl Adapter,
) {
    const CLIENTS: u32 = 8;
    const BATCHES: u32 = 12;
    const STREAMS: u32 = 60;
    const PER_BATCH: u32 = 20;
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let store = if client % 2 == 0 {
            a.store()
        } else {
            a.another().await
        };
        clients.push(tokio::spawn(async move {
            let mut seed = client + 1;
            let mut next = move || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed >> 8
            };
            let mut appended = 0_u64;
            for n in 0..BATCHES {
                let tasks: BTreeSet<_> =
                    (0..PER_BATCH).map(|_| numbered(next() % STREAMS)).collect();
                let tasks: Vec<_> = tasks.into_iter().collect();
                let name = format!("{client} {n}");
                appended += loop {
                    match append_to_each(&*store, &tasks, &name).await {
                        Ok(appended) => break appended,
                        // On a slow machine a lock may time out; a deadlock must not happen.
                        Err(error) => {
                            assert!(error.is_passing(), "{error:?}");
                            assert!(!format!("{error:?}").contains("40P01"), "{error:?}");
                        }
                    }
                };
            }
            appended
        }));
    }
    let mut appended = 0;
    for client in clients {
        appended += client.await.unwrap();
    }
    let store = a.store();
    let mut found = 0;
    for n in 0..STREAMS {
        let events = store.events(numbered(n), 0, 1_000).await.unwrap().events;
        let Some(row) = store.task(numbered(n)).await.unwrap() else {
            continue;
        };
        let versions: Vec<_> = events.iter().map(|event| event.version).collect();
        assert_eq!(versions, (1..=row.version).collect::<Vec<_>>());
        found += row.version;
    }
    assert_eq!(found, appended);
    let lease = std::time::Duration::from_mins(10);
    let rows = store
        .claim(publisher("relay"), lease, 10_000)
        .await
        .unwrap();
    let told = rows.iter().map(|row| {
        let range = row.content.events().unwrap();
        range.to - range.from + 1
    });
    assert_eq!(told.sum::<u64>(), appended);
}

/// Appends to each of `tasks` in one batch, with messages and a command; returns the number of
/// events.
async fn append_to_each(
    store: &dyn Store,
    tasks: &[TaskId],
    name: &str,
) -> Result<u64, EventStoreError> {
    let request = OpenRequest {
        tasks: tasks.iter().map(|task| (*task, 0)).collect(),
        ..OpenRequest::default()
    };
    let mut batch = store.open(request).await?;
    let now = batch.now;
    let mut appended = 0;
    let mut writes = Vec::new();
    for task in tasks {
        let state = fold(batch.take_task(*task));
        let events = match &state {
            None => started("flow", &[]),
            Some(_) => vec![annotated(json!({ "batch": name }))],
        };
        appended += events.len() as u64;
        let (mut write, _) = write_on(state, *task, now, events);
        write.outbox = write.events.iter().map(message_of).collect();
        write.commands = vec![applied(&format!("{name} {task}"), Some(*task))];
        writes.push(write);
    }
    batch.commit(writes).await?;
    Ok(appended)
}

pub(in crate::stores) async fn the_log_holds_all_streams_in_order(a: &impl Adapter) {
    let store = a.store();
    let workflow = |task| format!("flow-{}", (0..3).position(|n| numbered(n) == task).unwrap());
    for n in 0..3 {
        append(
            &*store,
            numbered(n),
            None,
            started(&workflow(numbered(n)), &[]),
        )
        .await;
    }
    for n in 0..6 {
        append(&*store, numbered(n % 3), None, vec![annotated(json!(n))]).await;
    }
    // Transactions of others on the same server may block the reader for a while.
    let whole = until(async || {
        let log = store.read_log(LogPosition::default(), 100).await.unwrap();
        (log.len() >= 12).then_some(log)
    })
    .await;
    assert_eq!(whole.len(), 12);
    assert!(whole.is_sorted_by(|a, b| a.position < b.position));
    let mut versions = HashMap::new();
    for entry in &whole {
        let version = versions.entry(entry.event.task_id).or_insert(0);
        *version += 1;
        assert_eq!(entry.event.version, *version);
        assert_eq!(*entry.workflow, *workflow(entry.event.task_id));
    }
    assert!(matches!(
        whole[0].event.event,
        WorkflowEvent::WorkflowStarted(_)
    ));

    let mut paged = Vec::new();
    let mut after = LogPosition::default();
    loop {
        let page = store.read_log(after, 5).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        paged.extend(page);
    }
    assert_eq!(paged, whole);
}

/// A page of large events ends early: its reader holds several times as much in memory. The size is
/// that of the text, of which a database may keep a hundredth.
pub(in crate::stores) async fn a_page_of_the_log_is_bounded_in_bytes(a: &impl Adapter) {
    const TASKS: u32 = 24;
    const BYTES: usize = 900_000;
    const EVENTS: usize = TASKS as usize * 3;
    let store = a.store();
    for n in 0..TASKS {
        let mut events = started("flow", &[]);
        let output = json!("x".repeat(BYTES));
        events.push(WorkflowEvent::WorkflowCompleted { output });
        append(&*store, numbered(n), None, events).await;
    }
    let large = |event: &WorkflowEvent| matches!(event, WorkflowEvent::WorkflowCompleted { .. });
    let most = (8 << 20) / BYTES + 1;

    let (mut after, mut read) = (LogPosition::default(), 0);
    loop {
        let page = store.read_log(after, 100).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        read += page.len();
        let of_page = page.iter().filter(|entry| large(&entry.event.event));
        assert!(of_page.count() <= most);
    }
    assert_eq!(read, EVENTS);

    let filter = LogFilter {
        workflow: slug("flow"),
        event_types: vec!["workflow_completed"],
    };
    let (mut after, mut read, mut found) = (LogPosition::default(), 0, 0);
    loop {
        let page = store.read_workflow_log(filter.clone(), after, 100).await;
        let page = page.unwrap();
        assert!(page.entries.len() <= most);
        after = page.through;
        read += page.read as usize;
        found += page.entries.len();
        if page.is_last {
            break;
        }
    }
    assert_eq!((read, found), (EVENTS, TASKS as usize));

    let mut counted = 0;
    loop {
        let opened = store.open_projection("counted", 100).await.unwrap();
        let step = opened.expect("nobody else runs it");
        let large = step
            .entries
            .iter()
            .filter(|entry| large(&entry.event.event));
        assert!(large.count() <= most);
        counted += step.entries.len();
        let is_full = step.is_full;
        step.commit(ProjectionWrite::default()).await.unwrap();
        if !is_full {
            break;
        }
    }
    assert_eq!(counted, EVENTS);
}

/// Two processes get the same commands at once, which start tasks; each of them is applied by one
/// and a duplicate for the other, whoever comes first. Other tasks of the batches exist already.
pub(in crate::stores) async fn tasks_that_are_started_by_two_at_once_are_started_once(
    a: &impl Adapter,
) {
    const ROUNDS: u32 = 12;
    const TASKS: u32 = 8;
    let stores = [a.store(), a.another().await];
    let orchestrators = stores.map(|store| {
        Arc::new(WorkflowOrchestrator::new(
            Arc::clone(&store) as _,
            store as _,
        ))
    });
    let yaml = "workflow: { id: flow, steps: [{ id: annotate, type: annotation }] }";
    orchestrators[0].create_workflow(yaml).await.unwrap();
    let start = |n: u32| {
        let start = Start {
            task_id: numbered(n),
            workflow: "flow".parse().unwrap(),
            input: Some(json!({ "n": n })),
            labels: None,
            expected: None,
        };
        CommandEnvelope::new(id(&format!("start {n}")), Command::Start(start))
    };
    for round in 0..ROUNDS {
        // Half of the tasks are those of the round before.
        let first = round * TASKS / 2;
        let commands: Vec<_> = (first..first + TASKS).map(start).collect();
        let reversed = commands.iter().rev().cloned().collect();
        let run = |who: usize, commands: Vec<CommandEnvelope>| {
            let orchestrator = Arc::clone(&orchestrators[who]);
            tokio::spawn(async move { orchestrator.process_batch(commands, None).await })
        };
        let (one, other) = (run(0, commands), run(1, reversed));
        let one = one.await.unwrap().unwrap().outcomes;
        let other = other.await.unwrap().unwrap().outcomes;
        let known = if round == 0 { 0 } else { TASKS as usize / 2 };
        for (n, pair) in one.iter().zip(other.iter().rev()).enumerate() {
            let applied = [pair.0, pair.1]
                .iter()
                .filter(|outcome| matches!(outcome, Outcome::Applied(_)))
                .count();
            let duplicates = [pair.0, pair.1]
                .iter()
                .filter(|outcome| matches!(outcome, Outcome::Duplicate(_)))
                .count();
            let expected = if n < known { (0, 2) } else { (1, 1) };
            assert_eq!((applied, duplicates), expected, "round {round}: {pair:?}");
        }
    }
    let store = a.store();
    let count = TASKS + (ROUNDS - 1) * TASKS / 2;
    assert_eq!(a.heads().await, u64::from(count));
    for n in 0..count {
        let events = store.events(numbered(n), 0, 100).await.unwrap().events;
        let state = StateRebuilder::rebuild(&events).unwrap().unwrap();
        let row = store.task(numbered(n)).await.unwrap().unwrap();
        assert_eq!(row, TaskRow::from(&state));
    }
}
