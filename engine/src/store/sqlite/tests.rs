//! Tests specific to this store; the conformance suite covers what all stores promise.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::{Map, json};
use uuid::Uuid;

use super::{
    super::{
        CommandRecord, EventStore, EventStoreError, LogPosition, NewMessage, OpenRequest, Outbox,
        PublisherId, Rebuild, RecordedOutcome, SnapshotRow, TaskIndex, TaskRow, TaskWrite, Verdict,
        WorkflowConfigStore, revision_id,
    },
    SqliteEventStore,
};
use crate::{
    config::{Sampling, WorkflowConfig},
    events::{
        EVENT_SCHEMA_VERSION, EventMetadata, StateRebuilder, StoredEvent, WorkflowEvent,
        WorkflowStarted,
    },
    ids::{CommandId, LogId, Slug, TaskId},
    state::{TaskStatus, WorkflowRef},
};

/// Each reading of the clock is a millisecond later.
fn clock() -> Arc<dyn Fn() -> DateTime<Utc> + Send + Sync> {
    let micros = AtomicI64::new(1_700_000_000_000_000);
    Arc::new(move || {
        DateTime::from_timestamp_micros(micros.fetch_add(1_000, Ordering::Relaxed)).unwrap()
    })
}

async fn store(path: &Path) -> SqliteEventStore {
    let store = SqliteEventStore::open(path, clock()).await.unwrap();
    store.migrate().await.unwrap();
    store.check_migrated().await.unwrap();
    store
}

fn task(n: u128) -> TaskId {
    TaskId(Uuid::from_u128(n))
}

fn event(task_id: TaskId, version: u64, now: DateTime<Utc>) -> StoredEvent {
    let workflow = Slug::new("w").unwrap();
    let event = if version == 1 {
        WorkflowEvent::WorkflowStarted(WorkflowStarted {
            workflow: WorkflowRef {
                revision_id: revision_id(&workflow, 1),
                workflow,
                revision: 1,
            },
            content_hash: String::new(),
            by_submission: false,
            input: Some(json!({"text": "it's \"quoted\", 0.1, \\u0000 and ü"})),
            labels: BTreeMap::from([("a \"b\".c".to_owned(), "1".to_owned())]),
            expected: None,
            context: Map::new(),
            parent: None,
            sampling: Sampling::default(),
        })
    } else {
        WorkflowEvent::TaskDetailsSupplied {
            input: None,
            labels: BTreeMap::from([(format!("k{version}"), "v".to_owned())]),
            expected: None,
            parent: None,
        }
    };
    StoredEvent {
        event_id: LogId::default().event_id(task_id, version),
        task_id,
        version,
        occurred_at: now,
        metadata: EventMetadata {
            command_id: CommandId(Uuid::from_u128(u128::from(version))),
            correlation_id: "c".to_owned(),
            traceparent: None,
            actor: None,
            schema_version: EVENT_SCHEMA_VERSION,
            gold: false,
        },
        event,
    }
}

/// The next `count` events of a task, with one message each and an inbox row.
fn write(
    history: &mut Vec<StoredEvent>,
    task_id: TaskId,
    count: u64,
    now: DateTime<Utc>,
) -> TaskWrite {
    let expected_version = u64::try_from(history.len()).unwrap();
    let events: Vec<_> = (1..=count)
        .map(|n| event(task_id, expected_version + n, now))
        .collect();
    history.extend(events.iter().cloned());
    let state = StateRebuilder::rebuild(&*history).unwrap().unwrap();
    TaskWrite {
        task_id,
        expected_version,
        outbox: events
            .iter()
            .map(|event| NewMessage {
                message_id: event.event_id,
                task_id: Some(task_id),
                version: Some(event.version),
                routing_key: "step.completed.w.s".to_owned(),
                message_type: "step.completed",
                body: Arc::from("{}"),
            })
            .collect(),
        events,
        task: Some(TaskRow::from(&state)),
        commands: vec![CommandRecord {
            command_id: CommandId(Uuid::new_v5(&task_id.0, &expected_version.to_be_bytes())),
            task_id: Some(task_id),
            command_type: "start",
            content_hash: [7; 32],
            outcome: RecordedOutcome::Applied {
                result: json!(null),
            },
            payload: None,
            decided_at: now,
        }],
        timers_set: vec![],
        timers_unset: vec![],
        slots: crate::state::SlotsChange::default(),
        drafts: vec![],
        snapshot: Some(SnapshotRow {
            task_id,
            version: state.version,
            state,
        }),
    }
}

fn request(tasks: &[TaskId]) -> OpenRequest {
    OpenRequest {
        tasks: tasks.iter().map(|task| (*task, 0)).collect(),
        commands: vec![],
        publisher: Some(PublisherId(Uuid::from_u128(1))),
        ..OpenRequest::default()
    }
}

async fn append(
    store: &SqliteEventStore,
    task_id: TaskId,
    count: u64,
) -> Result<(), EventStoreError> {
    let batch = store.open(request(&[task_id])).await?;
    let mut history = store.events(task_id, 0, 1_000).await?.events;
    let write = write(&mut history, task_id, count, batch.now);
    batch.commit(vec![write]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let first = store(&path).await;
    append(&first, task(1), 3).await.unwrap();
    let state = EventStore::load(&first, &[task(1)]).await.unwrap();
    first.close().await;

    let second = store(&path).await;
    assert_eq!(
        EventStore::load(&second, &[task(1), task(2)])
            .await
            .unwrap(),
        state
    );
    assert_eq!(state[&task(1)].version, 3);
    assert_eq!(second.outbox_stats().await.unwrap().pending, 1);
    let mut found = TaskIndex::task(&second, task(1)).await.unwrap().unwrap();
    found.labels.remove("k2");
    found.labels.remove("k3");
    assert_eq!(found.labels["a \"b\".c"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_dropped_half_way_leaves_nothing_and_frees_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = store(&path).await;
    let other = SqliteEventStore::open(&path, clock()).await.unwrap();
    for _ in 0..50 {
        let batch = store.open(request(&[task(1)])).await.unwrap();
        drop(batch);
    }
    // The next caller and another process can both write at once.
    append(&other, task(2), 1).await.unwrap();
    append(&store, task(1), 1).await.unwrap();
    let loaded = EventStore::load(&store, &[task(1), task(2)]).await.unwrap();
    assert_eq!(loaded.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_dropped_leave_no_transaction_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("a.db")).await;
    let mut committed = 0;
    for n in 0..60_u64 {
        let patience = Duration::from_micros(n * 50);
        // Dropped while it opens or commits; the store must be consistent either way.
        if tokio::time::timeout(patience, append(&store, task(9), 1))
            .await
            .is_ok()
        {
            committed += 1;
        }
    }
    append(&store, task(9), 1).await.unwrap();
    let version = EventStore::load(&store, &[task(9)]).await.unwrap()[&task(9)].version;
    assert!(
        version > committed,
        "{version} events, {committed} commits were waited for"
    );
    let page = store.events(task(9), 0, 1_000).await.unwrap();
    let versions: Vec<u64> = page.events.iter().map(|event| event.version).collect();
    assert_eq!(versions, (1..=version).collect::<Vec<_>>());
    assert_eq!(
        store.outbox_stats().await.unwrap().pending,
        i64::try_from(version).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let stores = [store(&path).await, store(&path).await];
    let writers = stores.iter().cloned().enumerate().map(|(n, store)| {
        tokio::spawn(async move {
            for round in 0..20_u128 {
                let own = task(100 + 100 * u128::try_from(n).unwrap() + round);
                append(&store, own, 2).await.unwrap();
                append(&store, task(1), 1).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(
        EventStore::load(&stores[0], &[task(1)]).await.unwrap()[&task(1)].version,
        40
    );
    let log = stores[1]
        .read_log(LogPosition::default(), 1_000)
        .await
        .unwrap();
    assert_eq!(log.len(), 40 + 2 * 20 * 2);
    assert!(log.is_sorted_by_key(|entry| entry.position));
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_at_once_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let unmigrated = SqliteEventStore::open(&path, clock()).await.unwrap();
    let Err(EventStoreError::NotMigrated { found, needed }) = unmigrated.check_migrated().await
    else {
        panic!("an empty file has no schema");
    };
    assert!(found == 0 && needed > 0, "{found} of {needed}");
    let stores = [
        SqliteEventStore::open(&path, clock()).await.unwrap(),
        SqliteEventStore::open(&path, clock()).await.unwrap(),
        unmigrated,
    ];
    let (a, b, c) = tokio::join!(
        stores[0].migrate(),
        stores[1].migrate(),
        stores[2].migrate()
    );
    a.unwrap();
    b.unwrap();
    c.unwrap();
    stores[2].check_migrated().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_whole_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("a.db")).await;
    append(&store, task(1), 2).await.unwrap();
    append(&store, task(1), 2).await.unwrap();
    let whole = EventStore::load(&store, &[task(1)]).await.unwrap();
    for damage in [
        "UPDATE workflow_snapshots SET state = replace(state, 'running', 'paused') WHERE version = 4",
        "UPDATE workflow_snapshots SET checksum = zeroblob(32)",
        "UPDATE workflow_snapshots SET schema_version = 99",
    ] {
        let mut tx = store.begin().await.unwrap();
        sqlx::query(damage).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(EventStore::load(&store, &[task(1)]).await.unwrap(), whole);
        let mut batch = store.open(request(&[task(1)])).await.unwrap();
        let opened = batch.take_task(task(1));
        assert_eq!(
            (opened.snapshot, opened.tail.len(), opened.version),
            (None, 4, 4)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_corrects_the_numbers_of_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("a.db")).await;
    append(&store, task(1), 1).await.unwrap();
    let running = async || store.task_counts().await.unwrap()[&TaskStatus::Running];
    let mut tx = store.begin().await.unwrap();
    sqlx::query("UPDATE task_counts SET count = 7")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(running().await, 7);
    assert!(store.recount_tasks().await.unwrap());
    assert_eq!(running().await, 1);
    assert!(!store.recount_tasks().await.unwrap());
    let mut tx = store.begin().await.unwrap();
    sqlx::query("DELETE FROM tasks")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(running().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("a.db")).await;
    append(&store, task(1), 1).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    // Limits the file as a full disk would, until the connection is closed.
    sqlx::query("PRAGMA max_page_count = 1")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let mut failed = None;
    for n in 2..400 {
        if let Err(error) = append(&store, task(n), 20).await {
            failed = Some((n, error));
            break;
        }
    }
    let (n, error) = failed.expect("the file is full at some point");
    assert!(error.is_passing(), "{error:?}");
    let mut tx = store.begin().await.unwrap();
    sqlx::query("PRAGMA max_page_count = 1000000")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    append(&store, task(n), 20).await.unwrap();
    assert_eq!(
        EventStore::load(&store, &[task(n)]).await.unwrap()[&task(n)].version,
        20
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_and_revisions_cannot_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("a.db")).await;
    append(&store, task(1), 1).await.unwrap();
    let config: WorkflowConfig = serde_json::from_value(json!({
        "id": "w", "entry_step": "a", "steps": []
    }))
    .unwrap();
    let id = store.save(&config).await.unwrap();
    assert_eq!(store.save(&config).await.unwrap(), id);
    assert_eq!(id, revision_id(&config.id, 1).0);
    let mut tx = store.begin().await.unwrap();
    for sql in [
        "UPDATE stored_events SET version = 2",
        "DELETE FROM stored_events",
        "UPDATE workflows SET config = '{}'",
    ] {
        assert!(sqlx::query(sql).execute(&mut *tx).await.is_err(), "{sql}");
    }
    drop(tx);
    let mut reader = store.readers().acquire().await.unwrap();
    assert!(
        sqlx::query("DELETE FROM outbox")
            .execute(&mut *reader)
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_postgres_refuses_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("a.db")).await;
    let batch = store.open(request(&[task(1)])).await.unwrap();
    let mut history = Vec::new();
    let mut write = write(&mut history, task(1), 1, batch.now);
    let WorkflowEvent::WorkflowStarted(started) = &mut write.events[0].event else {
        panic!("the first event starts");
    };
    started.input = Some(json!("a\u{0}b"));
    let error = batch.commit(vec![write]).await.unwrap_err();
    assert_eq!(error.verdict(true), Verdict::Blame);
    assert_eq!(
        EventStore::load(&store, &[task(1)]).await.unwrap(),
        HashMap::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_or_id_that_comes_twice_is_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("a.db")).await;
    append(&store, task(1), 2).await.unwrap();

    let batch = store.open(request(&[task(1)])).await.unwrap();
    let stale = write(&mut Vec::new(), task(1), 1, batch.now);
    let error = batch.commit(vec![stale]).await.unwrap_err();
    assert!(
        matches!(
            error,
            EventStoreError::VersionConflict {
                expected: 0,
                actual: 2,
                ..
            }
        ),
        "{error:?}"
    );

    // The same command id on another task, not looked up before.
    let batch = store.open(request(&[task(2)])).await.unwrap();
    let mut second = write(&mut Vec::new(), task(2), 1, batch.now);
    second.commands[0].command_id = CommandId(Uuid::new_v5(&task(1).0, &0_u64.to_be_bytes()));
    let error = batch.commit(vec![second]).await.unwrap_err();
    assert!(
        matches!(error, EventStoreError::VersionConflict { .. }),
        "{error:?}"
    );
    assert_eq!(
        EventStore::load(&store, &[task(2)]).await.unwrap(),
        HashMap::new()
    );
}

#[cfg(unix)]
#[tokio::test]
async fn no_file_of_a_store_can_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("x.db")).await;
    for name in ["x.db", "x.db-wal", "x.db-shm"] {
        let rights = std::fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!(rights.permissions().mode() & 0o077, 0, "{name}");
    }
    store.close().await;
}
