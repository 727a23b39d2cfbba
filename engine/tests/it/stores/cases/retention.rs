//! What is deleted, what is archived, and what comes back.

use std::{collections::HashMap, slice::from_ref};

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::{
    events::{LogPosition, StoredEvent, WorkflowEvent},
    ids::{TaskId, UserId},
    state::TaskStatus,
    store::{
        BroughtBack, Draft, KEPT_EVENTS, Leftover, LogEntry, OpenRequest, RejectedFilter,
        SnapshotRow, Store, Timer, TimerKind, ToArchive, WholeTask,
    },
};
use serde_json::json;

use crate::stores::{adapter::Adapter, samples::*};

fn completed() -> WorkflowEvent {
    WorkflowEvent::WorkflowCompleted {
        output: json!({"result": "yes", "large": 1e17}),
    }
}

fn draft(task_id: TaskId) -> Draft {
    Draft {
        task_id,
        step_id: slug("annotate"),
        visit: 1,
        user_id: UserId(id("ann")),
        draft: json!({"text": "Grüße", "number": 1.0}),
        saved_at: at(3),
    }
}

fn activity() -> WorkflowEvent {
    WorkflowEvent::TaskAssigned {
        step_id: slug("annotate"),
        visit: 1,
        n: 1,
        user_id: UserId(id("ann")),
        roles: Vec::new(),
        expires_at: at(9_000),
        offered: None,
    }
}

/// A task that has ended, with everything that a task may have.
async fn ended(store: &dyn Store, task: TaskId, name: &str) {
    append_with(
        store,
        task,
        None,
        started("flow", &[("k", "v")]),
        |write, _| {
            write.outbox.clear();
            write.commands = vec![applied("cause", Some(task))];
            write.commands[0].command_id = command(&format!("cause of {name}"));
            for event in &mut write.events {
                event.metadata.command_id = command(&format!("cause of {name}"));
            }
        },
    )
    .await;
    let events = vec![activity(), annotated(json!({"label": "yes"})), completed()];
    append_with(store, task, None, events, |write, state| {
        write.outbox.clear();
        write.drafts = vec![draft(task)];
        write.snapshot = state.map(snapshot_of);
        write.commands = vec![rejected(&format!("late for {name}"), Some(task), at(7))];
    })
    .await;
}

async fn to_archive(store: &dyn Store, task: TaskId) -> ToArchive {
    let whole = store.whole_task(task).await.unwrap().unwrap();
    let state = whole.last_state().unwrap();
    ToArchive { whole, state }
}

async fn log(store: &dyn Store) -> Vec<LogEntry> {
    store.read_log(LogPosition::default(), 1_000).await.unwrap()
}

async fn history(store: &dyn Store, task: TaskId) -> Vec<StoredEvent> {
    store.events(task, 0, 1_000).await.unwrap().events
}

/// As an archive keeps it.
fn text(whole: &WholeTask) -> String {
    serde_json::to_string(whole).unwrap()
}

fn end_of_time() -> DateTime<Utc> {
    at(0) + TimeDelta::days(40_000)
}

pub(in crate::stores) async fn an_archived_task_leaves_its_end_and_what_is_read_of_the_log(
    a: &impl Adapter,
) {
    let store = a.store();
    let (one, other) = (task("one"), task("two"));
    ended(&*store, one, "one").await;
    append(&*store, other, None, started("flow", &[])).await;
    let before = states(&*store, &[one]).await.remove(&one).unwrap();
    let (log_before, history_before) = (log(&*store).await, history(&*store, one).await);
    let whole_before = to_archive(&*store, one).await;
    assert_eq!(whole_before.state, before);
    assert_eq!(whole_before.whole.commands.len(), 2);
    let read_back: WholeTask = serde_json::from_str(&text(&whole_before.whole)).unwrap();
    assert_eq!(read_back.last_state().unwrap(), before);

    let found = store.archivable(end_of_time(), None, 10).await.unwrap();
    assert_eq!(found, [one]);
    assert!(
        store
            .archivable(DateTime::UNIX_EPOCH, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    let archived = store.archive(from_ref(&whole_before)).await.unwrap();
    assert_eq!(archived, [one]);

    // The log has what its readers take in, in its places.
    let stays = |event: &StoredEvent| {
        event.task_id == other || KEPT_EVENTS.contains(&event.event.event_type())
    };
    let kept = log_before.iter().filter(|entry| stays(&entry.event));
    assert_eq!(log(&*store).await, kept.cloned().collect::<Vec<_>>());
    let kept = history_before.iter().filter(|event| stays(event));
    assert_eq!(
        history(&*store, one).await,
        kept.cloned().collect::<Vec<_>>()
    );
    assert!(history(&*store, one).await.len() < history_before.len());

    // The task has its end.
    let state = states(&*store, &[one, other]).await.remove(&one).unwrap();
    let archive = state.archived.unwrap();
    assert_eq!(
        (state.status, archive.ended),
        (TaskStatus::Archived, TaskStatus::Completed)
    );
    assert_eq!(state, before.clone().archived_at(archive.at));
    let row = store.task(one).await.unwrap().unwrap();
    assert_eq!(
        (row.status, row.version),
        (TaskStatus::Archived, before.version)
    );
    let known = store.archived(&[one, other]).await.unwrap();
    assert_eq!(known, HashMap::from([(one, archive.at)]));
    let counts = store.task_counts().await.unwrap();
    assert_eq!(
        (
            counts[&TaskStatus::Archived],
            counts[&TaskStatus::Completed]
        ),
        (1, 0)
    );
    assert_eq!(store.stream_ids(None, 10).await.unwrap().len(), 2);
    assert!(store.drafts(one).await.unwrap().is_empty());

    // Whatever state a batch comes with, it learns that the task is archived.
    for version in [0, before.version] {
        let request = OpenRequest {
            tasks: HashMap::from([(one, version)]),
            commands: vec![command("cause of one"), command("late for one")],
            ..OpenRequest::default()
        };
        let mut batch = store.open(request).await.unwrap();
        let opened = batch.take_task(one);
        assert_eq!(opened.snapshot.as_ref(), Some(&state));
        assert_eq!((opened.tail.len(), opened.version), (0, before.version));
        // What was rejected and not exported stays.
        assert!(batch.known(command("cause of one")).is_none());
        assert!(batch.known(command("late for one")).is_some());
    }

    // It comes back as it was, once.
    let brought = async || store.bring_back(&read_back).await.unwrap();
    assert_eq!(brought().await, BroughtBack::Restored);
    assert_eq!(log(&*store).await, log_before);
    assert_eq!(states(&*store, &[one]).await.remove(&one), Some(before));
    let whole = store.whole_task(one).await.unwrap().unwrap();
    assert_eq!(text(&whole), text(&whole_before.whole));
    assert!(store.archived(&[one]).await.unwrap().is_empty());
    assert_eq!(store.task_counts().await.unwrap()[&TaskStatus::Archived], 0);
    assert_eq!(brought().await, BroughtBack::AlreadyWhole);
    assert_eq!(store.archive(&[whole_before]).await.unwrap(), [one]);
    assert_eq!(brought().await, BroughtBack::Restored);
    assert_eq!(log(&*store).await, log_before);
}

pub(in crate::stores) async fn what_an_archive_does_not_fit_is_left_as_it_is(a: &impl Adapter) {
    let store = a.store();
    let (one, other) = (task("one"), task("two"));
    ended(&*store, one, "one").await;
    ended(&*store, other, "two").await;
    let archive = to_archive(&*store, one).await;
    let mut elsewhere = archive.whole.clone();
    elsewhere.task.task_id = task("three");
    assert_eq!(
        store.bring_back(&elsewhere).await.unwrap(),
        BroughtBack::NotThere
    );
    store.archive(from_ref(&archive)).await.unwrap();
    let mut another = archive.whole.clone();
    another.events[0].event_id = id("another");
    assert_eq!(
        store.bring_back(&another).await.unwrap(),
        BroughtBack::Another
    );
    let mut shorter = archive.whole.clone();
    shorter.events.pop();
    shorter.task.version -= 1;
    assert_eq!(
        store.bring_back(&shorter).await.unwrap(),
        BroughtBack::Another
    );
    assert_eq!(
        store.task(one).await.unwrap().unwrap().status,
        TaskStatus::Archived
    );
    assert!(
        store.archive(from_ref(&archive)).await.unwrap().is_empty(),
        "it is archived"
    );

    let mut gap = archive.whole.clone();
    gap.events.remove(1);
    assert!(gap.last_state().is_err());
    let mut other_row = archive.whole;
    other_row.task.status = TaskStatus::Failed;
    assert!(other_row.last_state().is_err());
}

pub(in crate::stores) async fn a_task_to_which_something_is_to_happen_is_not_archived(
    a: &impl Adapter,
) {
    let store = a.store();
    let (running, timed, sending, moved) = (numbered(1), numbered(2), numbered(3), numbered(4));
    append_with(&*store, running, None, started("flow", &[]), |write, _| {
        write.outbox.clear();
    })
    .await;
    for (task, name) in [(timed, "timed"), (sending, "sending"), (moved, "moved")] {
        ended(&*store, task, name).await;
    }
    let all: Vec<TaskId> = store.archivable(end_of_time(), None, 10).await.unwrap();
    assert_eq!(all, [timed, sending, moved]);
    assert_eq!(
        store
            .archivable(end_of_time(), Some(timed), 1)
            .await
            .unwrap(),
        [sending]
    );
    let mut batch = Vec::new();
    for task in [timed, sending, moved] {
        batch.push(to_archive(&*store, task).await);
    }
    append_with(&*store, timed, None, Vec::new(), |write, _| {
        write.commands = vec![applied("sets a timer", Some(timed))];
        write.timers_set = vec![Timer {
            id: id("timer"),
            task_id: timed,
            step_id: None,
            visit: 0,
            kind: TimerKind::Resume,
            n: 0,
            due_at: end_of_time(),
        }];
    })
    .await;
    append_with(&*store, sending, None, Vec::new(), |write, _| {
        write.commands = vec![applied("sends", Some(sending))];
        write.outbox = vec![message(id("message"), Some(sending))];
    })
    .await;
    let details = WorkflowEvent::TaskDetailsSupplied {
        input: Some(json!(1)),
        labels: labels(&[]),
        expected: None,
        parent: None,
    };
    append_with(&*store, moved, None, vec![details], |write, _| {
        write.outbox.clear();
    })
    .await;
    assert_eq!(
        store.archivable(end_of_time(), None, 10).await.unwrap(),
        [moved]
    );
    assert!(store.archive(&batch).await.unwrap().is_empty());
    assert_eq!(store.task_counts().await.unwrap()[&TaskStatus::Archived], 0);
}

pub(in crate::stores) async fn leftovers_are_counted_and_deleted_page_by_page(a: &impl Adapter) {
    let store = a.store();
    for n in 0..5 {
        let (task, name) = (numbered(n), format!("task {n}"));
        ended(&*store, task, &name).await;
    }
    let running = numbered(7);
    let mut versions = Vec::new();
    for events in [
        started("flow", &[]),
        vec![activity()],
        vec![annotated(json!(1))],
    ] {
        append_with(&*store, running, None, events, |write, state| {
            write.snapshot = state.map(snapshot_of);
            write.drafts = vec![draft(running)];
            versions.extend(state.map(|state| state.version));
        })
        .await;
    }
    let all = async |kind, delete| {
        let (mut rows, mut bytes, mut after) = (0, 0, None);
        loop {
            let page = store.leftovers(kind, after, 2, delete).await.unwrap();
            rows += page.rows;
            bytes += page.bytes;
            match page.next_after {
                Some(next) => after = Some(next),
                None => return (rows, bytes > 0),
            }
        }
    };
    assert_eq!(all(Leftover::Snapshots, false).await, (2, true));
    assert_eq!(all(Leftover::Snapshots, true).await, (2, true));
    assert_eq!(all(Leftover::Snapshots, true).await, (0, false));
    // A rebuild finds nothing wrong with that.
    let state = states(&*store, &[running]).await.remove(&running).unwrap();
    let kept: Vec<SnapshotRow> = versions
        .iter()
        .map(|version| SnapshotRow {
            task_id: running,
            version: *version,
            state: state.clone(),
        })
        .collect();
    let newest = kept.last().unwrap().clone();
    let older = SnapshotRow {
        version: 1,
        ..newest.clone()
    };
    let replaced = store
        .replace_derived(
            (&state).into(),
            (&state).into(),
            vec![older, newest],
            Vec::new(),
        )
        .await
        .unwrap();
    assert!(!replaced.snapshots);

    assert_eq!(all(Leftover::Drafts, false).await, (5, true));
    assert_eq!(all(Leftover::Drafts, true).await, (5, true));
    assert_eq!(store.drafts(running).await.unwrap().len(), 1);
    assert!(store.drafts(numbered(1)).await.unwrap().is_empty());

    assert_eq!(all(Leftover::RejectedPayloads, true).await, (0, false));
    let filter = RejectedFilter {
        not_exported: true,
        oldest_first: true,
        ..RejectedFilter::default()
    };
    let page = store.rejected(&filter, None, 3).await.unwrap();
    let ids: Vec<_> = page.commands.iter().map(|row| row.command_id).collect();
    assert_eq!(ids.len(), 3);
    store.drop_rejected(&ids[..1], "test").await.unwrap();
    assert_eq!(
        store.rejected(&filter, None, 3).await.unwrap(),
        page,
        "dropped ones too"
    );
    assert_eq!(store.mark_exported(&ids, "test").await.unwrap(), 3);
    assert_eq!(store.mark_exported(&ids, "test").await.unwrap(), 0);
    assert_eq!(
        store
            .rejected(&filter, None, 9)
            .await
            .unwrap()
            .commands
            .len(),
        2
    );
    assert_eq!(all(Leftover::RejectedPayloads, false).await, (3, true));
    assert_eq!(all(Leftover::RejectedPayloads, true).await, (3, true));
    assert_eq!(all(Leftover::RejectedPayloads, true).await, (0, false));
    let rows = store.commands(&ids).await.unwrap();
    assert!(rows.iter().all(|row| row.payload.is_none()));
}
