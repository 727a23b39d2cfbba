//! Tests that only Postgres needs: concurrent transactions, lost connections, roles, migrations.

use std::{collections::HashMap, sync::Arc, time::Duration};

use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Submission},
    events::WorkflowEvent,
    ids::TaskId,
    state::TaskStatus,
    store::{
        CommandLog, EventStore, EventStoreError, LogPosition, OpenBatch, OpenRequest, Outbox,
        OutboxRow, PgEventStore, PgSettings, ProjectionStore, ProjectionWrite, Rebuild,
        SplitReason, TaskIndex, UnsuitableServer, Verdict, WorkflowConfigStore,
    },
};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};
use tokio::time::timeout;

use super::{adapter::Adapter as _, postgres::Postgres, samples::*};
use crate::{
    confidence::{ROAD, Road, by_model, by_road, crowd, task_id},
    stored_events::every_type,
};

async fn versions(store: &PgEventStore) -> Vec<(TaskId, u64)> {
    let log = store.read_log(LogPosition::default(), 1_000).await.unwrap();
    log.iter()
        .map(|entry| (entry.event.task_id, entry.event.version))
        .collect()
}

pub(super) async fn waiting(fresh: &Postgres, count: i64) {
    const WAITING: &str = "
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let reached = async {
        while fresh.ask::<i64>(WAITING).await < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), reached)
        .await
        .expect("somebody waits for a lock");
}

fn is_forbidden(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .as_deref()
        == Some("42501")
}

pub(super) async fn begin(store: &PgEventStore, tasks: &[TaskId]) -> OpenBatch {
    open(store, tasks, None).await
}

/// Appends to each of `tasks`: its start, or one annotation.
pub(super) async fn finish(mut batch: OpenBatch, tasks: &[TaskId]) {
    let now = batch.now;
    let mut writes = Vec::new();
    for task in tasks {
        let state = fold(batch.take_task(*task));
        let events = match &state {
            None => started("flow", &[]),
            Some(_) => vec![annotated(json!(1))],
        };
        writes.push(write_on(state, *task, now, events).0);
    }
    batch.commit(writes).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_waits_for_no_open_transaction_and_skips_nothing() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let store = &fresh.store;
    let (early, late) = (task("early"), task("late"));
    let first = begin(store, &[early]).await;
    let second = begin(store, &[late]).await;
    finish(second, &[late]).await;
    // The later transaction committed first, and comes first.
    let read = store.read_log(LogPosition::default(), 100).await.unwrap();
    assert_eq!(read.len(), 2);
    finish(first, &[early]).await;
    assert_eq!(
        versions(store).await,
        [(late, 1), (late, 2), (early, 1), (early, 2)]
    );
    // Who had read so far finds what was committed behind it.
    let after = read[1].position;
    let read = store.read_log(after, 100).await.unwrap();
    assert!(read.iter().all(|entry| entry.event.task_id == early));
    assert_eq!(read.len(), 2);

    // What is rolled back leaves no gap, though it had its number.
    let mut conn = fresh.connection().await;
    raw_sql(
        "BEGIN; INSERT INTO log_batches (has_events) VALUES (true);
         SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    conn.close().await.unwrap();
    finish(begin(store, &[late]).await, &[late]).await;
    let entries =
        "SELECT array_agg(entry ORDER BY entry) = ARRAY[1, 2, 3]::bigint[] FROM log_entries";
    assert!(fresh.ask::<bool>(entries).await);
    fresh.finish().await;
}

/// Readers follow the log while others write to it, and each sees every event once, in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_follows_the_log_sees_everything_in_one_order() {
    const WRITERS: u32 = 4;
    const EACH: u32 = 25;
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = fresh.store.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    let task = numbered(writer * EACH + n);
                    append(&store, task, None, started("flow", &[])).await;
                }
            })
        })
        .collect();
    let follow = async || {
        let (mut after, mut seen) = (LogPosition::default(), Vec::new());
        while seen.len() < (WRITERS * EACH * 2) as usize {
            for entry in fresh.store.read_log(after, 7).await.unwrap() {
                assert!(entry.position > after);
                after = entry.position;
                seen.push((entry.event.task_id, entry.event.version));
            }
        }
        seen
    };
    let followed = timeout(Duration::from_mins(1), async {
        tokio::join!(follow(), follow())
    });
    let (one, other) = followed.await.expect("all is seen in time");
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(one, other);
    assert_eq!(one, versions(&fresh.store).await);
    fresh.finish().await;
}

/// A projection gets what its process has committed as it was decided, and reads only what others have.
/// Either is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_followed_from_memory_is_what_the_database_has() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    for (n, stream) in (1..).zip(every_type()) {
        let events = stream.into_iter().map(|stored| stored.event).collect();
        append(&fresh.store, numbered(n), None, events).await;
    }
    append(&fresh.store, task("one"), None, started("flow", &[])).await;
    let hard = json!({
        "numbers": [0.1 + 0.2, -0.0, 1.0, 1e308, 5e-324, u64::MAX, i64::MIN],
        "text": "\u{2028} \u{1f600} \\ \" \u{7f}",
        "deep": [[[[{"": null}]]]],
    });
    append(&fresh.store, task("one"), None, vec![annotated(hard)]).await;

    let other = PgEventStore::from_pool(fresh.store.pool().clone());
    let read = async |store: &PgEventStore, name: &str, limit: u32| {
        let step = store.open_projection(name, limit).await.unwrap().unwrap();
        let entries: Vec<_> = step.entries.iter().map(|entry| (**entry).clone()).collect();
        let (is_full, settles) = (step.is_full, step.settled == step.now);
        assert_eq!(is_full, !settles);
        step.commit(ProjectionWrite::default()).await.unwrap();
        (entries, is_full)
    };
    let (from_database, is_full) = read(&other, "other", 1_000).await;
    assert!(!is_full);
    assert_eq!(from_database.len(), versions(&fresh.store).await.len());

    let mut conn = fresh.connection().await;
    raw_sql("ALTER TABLE stored_events RENAME TO elsewhere")
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(
        read(&fresh.store, "whole", 1_000).await,
        (from_database.clone(), false)
    );
    // In pages that end within a batch.
    let mut paged = Vec::new();
    loop {
        let (page, is_full) = read(&fresh.store, "paged", 7).await;
        assert!(page.len() == 7 || !is_full);
        paged.extend(page);
        if !is_full {
            break;
        }
    }
    assert_eq!(paged, from_database);
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_names_the_workflow_though_a_head_is_lost() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    append(&fresh.store, task("one"), None, started("flow", &[])).await;
    let mut conn = fresh.connection().await;
    raw_sql("DELETE FROM tasks")
        .execute(&mut conn)
        .await
        .unwrap();
    let log = fresh.store.read_log(LogPosition::default(), 10).await;
    let log = log.unwrap();
    assert!(log.iter().all(|entry| entry.workflow == slug("flow")));
    assert_eq!(log.len(), 2);
    fresh.finish().await;
}

/// A transaction gets its id with its first lock. One that waits for a second lock writes after
/// others with higher ids, and must come after them in the log, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_holds_a_stream_in_order_though_transactions_overtake_each_other() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let store = fresh.store.clone();
    let [low, middle, high] = [1, 2, 3].map(numbered);
    for task in [low, middle, high] {
        append(&store, task, None, started("flow", &[])).await;
    }
    let holder = begin(&store, &[middle]).await;
    let waiter = tokio::spawn({
        let store = store.clone();
        async move {
            finish(
                begin(&store, &[low, middle, high]).await,
                &[low, middle, high],
            )
            .await;
        }
    });
    waiting(&fresh, 1).await;
    // A higher id than that of the waiting transaction, committed before it.
    finish(begin(&store, &[high]).await, &[high]).await;
    drop(holder);
    waiter.await.unwrap();
    let of_high: Vec<_> = versions(&store)
        .await
        .into_iter()
        .filter(|(task, _)| *task == high)
        .collect();
    assert_eq!(of_high, [(high, 1), (high, 2), (high, 3), (high, 4)]);
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_head_is_seen_by_nobody_before_its_events() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let one = task("one");
    let batch = begin(&fresh.store, &[one]).await;
    assert_eq!(fresh.heads().await, 0);
    assert!(fresh.store.task(one).await.unwrap().is_none());
    finish(batch, &[one]).await;
    assert_eq!(
        fresh
            .ask::<i64>("SELECT count(*) FROM tasks WHERE version = 2")
            .await,
        1
    );
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_batch_waits_for_the_head_and_decides_on_what_the_first_wrote() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let one = task("one");
    append(&fresh.store, one, None, started("flow", &[])).await;
    let mut first = begin(&fresh.store, &[one]).await;
    let second = tokio::spawn({
        let store = fresh.store.clone();
        async move {
            let request = OpenRequest {
                tasks: HashMap::from([(one, 0)]),
                commands: vec![command("same")],
                ..OpenRequest::default()
            };
            let mut batch = store.open(request).await.unwrap();
            (
                batch.take_task(one).version,
                batch.known(command("same")).is_some(),
            )
        }
    });
    waiting(&fresh, 1).await;
    let state = fold(first.take_task(one));
    let (mut write, _) = write_on(state, one, first.now, vec![annotated(json!(1))]);
    write.commands = vec![applied("same", Some(one))];
    first.commit(vec![write]).await.unwrap();
    assert_eq!(second.await.unwrap(), (3, true));
    fresh.finish().await;
}

/// A standby without the newest events has taken over, and others have got their versions since.
#[tokio::test]
async fn a_worker_decides_on_what_a_takeover_left_not_on_what_it_remembers() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let worker = || {
        let store = Arc::new(fresh.store.clone());
        WorkflowOrchestrator::new(Arc::clone(&store) as _, store)
    };
    let (one, other) = (worker(), worker());
    let yaml = "workflow: { id: flow, steps: [{ id: annotate, type: annotation, \
                completion: { type: annotation_count, count: 3 } }] }";
    one.create_workflow(yaml).await.unwrap();
    let submission = |person: &str| {
        let body = json!({"task_id": task("one"), "workflow": "flow",
            "annotation": {"user_id": id(person), "data": {"label": "a"}}});
        let submission: Submission = serde_json::from_value(body).unwrap();
        CommandEnvelope::new(id(person), Command::Submission(submission))
    };
    let outcome = async |worker: &WorkflowOrchestrator, person: &str| {
        let batch = vec![submission(person)];
        let report = worker.process_batch(batch, None).await.unwrap();
        report.outcomes[0].name()
    };
    assert_eq!(outcome(&one, "ann").await, "applied");

    let lost = "BEGIN; SET LOCAL glyph.retention = on; DELETE FROM stored_events;
                DELETE FROM tasks; DELETE FROM commands; DELETE FROM outbox; COMMIT";
    raw_sql(lost).execute(fresh.store.pool()).await.unwrap();
    assert_eq!(outcome(&other, "bob").await, "applied");
    // It remembers ann at the version of bob.
    assert_eq!(outcome(&one, "ann").await, "applied");
    assert_eq!(outcome(&one, "cem").await, "applied");
    let submitted = fresh
        .store
        .events(task("one"), 0, 100)
        .await
        .unwrap()
        .events;
    let submitted = submitted
        .iter()
        .filter(|event| matches!(event.event, WorkflowEvent::AnnotationSubmitted { .. }));
    assert_eq!(submitted.count(), 3);
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_batches_count_the_same_tasks() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let first = fresh.store.open(counting("flow", 9, "one")).await.unwrap();
    assert_eq!(first.started.values().sum::<u32>(), 0);
    let second = tokio::spawn({
        let store = fresh.store.clone();
        async move {
            let batch = store.open(counting("flow", 9, "two")).await.unwrap();
            batch.started.values().sum::<u32>()
        }
    });
    waiting(&fresh, 1).await;
    finish(first, &[task("one")]).await;
    assert_eq!(second.await.unwrap(), 1);
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_command_for_two_tasks_at_once_asks_one_of_them_to_try_again() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let (one, two) = (task("one"), task("two"));
    let first = begin(&fresh.store, &[one]).await;
    let second = begin(&fresh.store, &[two]).await;
    let (mut write_one, _) = write_on(None, one, first.now, started("flow", &[]));
    write_one.commands = vec![applied("same", Some(one))];
    let (mut write_two, _) = write_on(None, two, second.now, started("flow", &[]));
    write_two.commands = vec![applied("same", Some(two))];
    first.commit(vec![write_one]).await.unwrap();
    let refused = second.commit(vec![write_two]).await.unwrap_err();
    assert!(refused.is_passing(), "{refused:?}");
    assert!(fresh.store.task(two).await.unwrap().is_none());
    fresh.finish().await;
}

/// A cancelled caller leaves neither a lock, nor an open transaction, nor half a commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_callers_leave_nothing_behind() {
    const OPEN: &str = "
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let mut committed = 0;
    for n in 0..200_u32 {
        let one = numbered(n % 7);
        let limit = Duration::from_micros(u64::from(n) * 25);
        let store = fresh.store.clone();
        let work = async {
            let batch = begin(&store, &[one]).await;
            finish(batch, &[one]).await;
        };
        if timeout(limit, work).await.is_ok() {
            committed += 1;
        }
    }
    let quiet = async {
        while fresh.ask::<i64>(OPEN).await > 0 || fresh.store.pool().num_idle() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), quiet)
        .await
        .expect("no transaction stays open");
    let tasks: Vec<_> = (0..7).map(numbered).collect();
    let batch = begin(&fresh.store, &tasks).await;
    drop(batch);
    assert!(committed < 200, "some were cancelled");
    assert_eq!(
        fresh
            .ask::<i64>("SELECT count(*) FROM tasks WHERE version = 0")
            .await,
        0,
        "heads without events are gone"
    );
    assert_eq!(
        fresh.ask::<i64>(
            "SELECT count(*) FROM tasks t WHERE version <> (SELECT count(*) FROM workflow_events \
             WHERE stream_id = t.task_id)"
        )
        .await,
        0
    );
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_goes_on_when_its_caller_goes_away() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let one = task("one");
    let batch = begin(&fresh.store, &[one]).await;
    let (write, _) = write_on(None, one, batch.now, started("flow", &[]));
    // Polled once, then dropped.
    assert!(
        timeout(Duration::ZERO, batch.commit(vec![write]))
            .await
            .is_err()
    );
    let there = async {
        while fresh.store.task(one).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), there)
        .await
        .expect("the commit has happened");
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_backend_asks_to_try_again_and_writes_nothing() {
    const TERMINATE: &str = "
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'idle in transaction'";
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let one = task("one");
    let batch = begin(&fresh.store, &[one]).await;
    let (write, _) = write_on(None, one, batch.now, started("flow", &[]));
    assert_eq!(fresh.ask::<i64>(TERMINATE).await, 1);
    let refused = batch.commit(vec![write]).await.unwrap_err();
    assert!(refused.is_passing(), "{refused:?}");
    append(&fresh.store, one, None, started("flow", &[])).await;
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_at_once_do_not_split_a_task() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    for n in 0..10 {
        append(&fresh.store, numbered(n), None, started("flow", &[])).await;
        for answer in 0..8 {
            append(
                &fresh.store,
                numbered(n),
                None,
                vec![annotated(json!(answer))],
            )
            .await;
        }
    }
    let mut relays = Vec::new();
    for n in 0..4 {
        let store = fresh.store.clone();
        relays.push(tokio::spawn(async move {
            let me = publisher(&format!("relay {n}"));
            let mut tasks = Vec::new();
            loop {
                let rows = store.claim(me, Duration::from_mins(10), 7).await.unwrap();
                if rows.is_empty() {
                    return tasks;
                }
                tasks.extend(rows.into_iter().map(|row| row.task_id.unwrap()));
            }
        }));
    }
    let mut holders: HashMap<TaskId, usize> = HashMap::new();
    for (n, relay) in relays.into_iter().enumerate() {
        for task in relay.await.unwrap() {
            assert_eq!(
                *holders.entry(task).or_insert(n),
                n,
                "one relay holds a task"
            );
        }
    }
    assert_eq!(holders.len(), 10);
    let free = "SELECT count(*) FROM outbox WHERE owner IS NULL";
    assert_eq!(fresh.ask::<i64>(free).await, 0);
    fresh.finish().await;
}

/// A claim looks at the outbox window by window. While it is between two windows, here held there by
/// the lock that each of them takes, a row of an earlier window may become free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_overtakes_a_row_that_becomes_free_during_a_claim() {
    const LOCK: &str =
        "SELECT pg_advisory_xact_lock(hashtextextended('glyph outbox ' || current_schema(), 0))";
    const MANY: &str = "
        INSERT INTO outbox (task_id, from_version, to_version, bytes, next_attempt_at)
        SELECT gen_random_uuid(), 1, 1, 100, now() + interval '1 hour' FROM generate_series(1, 5000)";
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let store = &fresh.store;
    let (early, other) = (task("early"), task("other"));
    append(store, early, None, started("flow", &[])).await;
    let held = claim(store, "another").await;
    raw_sql(MANY).execute(store.pool()).await.unwrap();
    append(store, early, None, vec![annotated(json!(1))]).await;
    append(store, other, None, started("flow", &[])).await;

    let mut before = store.pool().begin().await.unwrap();
    raw_sql(LOCK).execute(&mut *before).await.unwrap();
    let relay = store.clone();
    let claimed = tokio::spawn(async move { claim(&relay, "relay").await });
    waiting(&fresh, 1).await;
    // Whoever waits for the lock gets it in turn: this one between the two windows.
    let mut between = store.pool().begin().await.unwrap();
    let frees = format!(
        "UPDATE outbox SET owner = NULL, leased_until = NULL WHERE position = {}",
        held[0].position
    );
    let frees = tokio::spawn(async move {
        raw_sql(LOCK).execute(&mut *between).await.unwrap();
        raw_sql(AssertSqlSafe(frees))
            .execute(&mut *between)
            .await
            .unwrap();
        between.commit().await.unwrap();
    });
    waiting(&fresh, 2).await;
    before.commit().await.unwrap();
    frees.await.unwrap();

    let tasks = |rows: &[OutboxRow]| {
        rows.iter()
            .map(|row| row.task_id.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(tasks(&claimed.await.unwrap()), [other]);
    assert_eq!(tasks(&claim(store, "relay").await), [early, early]);
    fresh.finish().await;
}

/// A row whose lease has run out may be on its way back from its publisher, to wait longer, while
/// somebody claims.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_overtakes_a_row_that_is_locked_during_a_claim() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let store = &fresh.store;
    let (early, other) = (task("early"), task("other"));
    append(store, early, None, started("flow", &[])).await;
    append(store, early, None, vec![annotated(json!(1))]).await;
    append(store, other, None, started("flow", &[])).await;
    let mut release = store.pool().begin().await.unwrap();
    let first = "SELECT FROM outbox ORDER BY position LIMIT 1 FOR UPDATE";
    raw_sql(first).execute(&mut *release).await.unwrap();
    let tasks = |rows: Vec<OutboxRow>| {
        rows.iter()
            .map(|row| row.task_id.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(tasks(claim(store, "relay").await), [other]);
    release.rollback().await.unwrap();
    assert_eq!(tasks(claim(store, "relay").await), [early, early]);
    fresh.finish().await;
}

async fn claim(store: &PgEventStore, by: &str) -> Vec<OutboxRow> {
    store
        .claim(publisher(by), Duration::from_mins(10), 100)
        .await
        .unwrap()
}

/// Both were opened before either of them was committed, and nothing of the second one is written:
/// neither its other tasks nor a rejection, which holds only for a task that has not started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_loses_a_race_about_a_new_task_writes_nothing() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let store = &fresh.store;
    let (contested, own) = (task("contested"), task("own"));
    let first = open(store, &[contested], None).await;
    let second = open(store, &[contested, own], None).await;
    let third = open(store, &[contested, own], None).await;
    let (write, _) = write_on(None, contested, first.now, started("flow", &[]));
    first.commit(vec![write]).await.unwrap();

    let now = second.now;
    let (lost, _) = write_on(None, contested, now, started("flow", &[]));
    let (beside, _) = write_on(None, own, now, started("flow", &[]));
    let refused = second.commit(vec![beside.clone(), lost]).await.unwrap_err();
    let conflict = Verdict::Split(SplitReason::Conflict);
    assert_eq!(refused.verdict(true), conflict, "{refused:?}");
    let (mut rejection, _) = write_on(None, contested, now, Vec::new());
    rejection.commands = vec![rejected("late", Some(contested), now)];
    let refused = third.commit(vec![rejection, beside]).await.unwrap_err();
    assert_eq!(refused.verdict(true), conflict, "{refused:?}");
    assert!(store.command(command("late")).await.unwrap().is_none());
    assert_eq!(fresh.heads().await, 1);

    let mut again = open(store, &[contested, own], None).await;
    assert_eq!(again.take_task(contested).version, 2);
    assert_eq!(again.take_task(own).version, 0);
    drop(again);
    // Nor does it hold up anybody until its connection is gone.
    let open = "
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(fresh.ask::<i64>(open).await, 0);
    fresh.finish().await;
}

/// A commit waits for another one that is inserting the same head, and starts the task if that one
/// is rolled back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_rolled_back_costs_nobody_a_race() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let one = task("one");
    let batch = open(&fresh.store, &[one], None).await;
    let mut other = fresh.connection().await;
    let insert = format!("BEGIN; INSERT INTO tasks (task_id) VALUES ('{one}')");
    raw_sql(AssertSqlSafe(insert))
        .execute(&mut other)
        .await
        .unwrap();
    let (write, _) = write_on(None, one, batch.now, started("flow", &[]));
    let commit = tokio::spawn(batch.commit(vec![write]));
    waiting(&fresh, 1).await;
    raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    commit.await.unwrap().unwrap();
    assert_eq!(fresh.heads().await, 1);
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_neither_changed_nor_deleted() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    append(&fresh.store, task("one"), None, started("flow", &[])).await;
    let mut conn = fresh.connection().await;
    for sql in [
        "UPDATE stored_events SET version = 9",
        "DELETE FROM stored_events",
        "TRUNCATE stored_events",
    ] {
        let refused = raw_sql(sql).execute(&mut conn).await.unwrap_err();
        assert!(is_forbidden(&refused), "{sql}: {refused:?}");
    }
    fresh.finish().await;
}

/// The numbers of tasks are those of a count, whoever folds them while tasks are written, and a
/// rebuild corrects numbers that somebody has spoilt.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_numbers_of_tasks_are_right_while_they_are_folded() {
    const ADDED_UP: &str =
        "SELECT coalesce(sum(change), 0)::bigint FROM task_counts WHERE status = 'running'";
    const COUNTED: &str = "SELECT count(*) FROM tasks WHERE status = 'running'";
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let store = fresh.store.clone();
    let writer = |first: u32| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in first..first + 100 {
                append(&store, numbered(n), None, started("flow", &[])).await;
            }
        })
    };
    let folder = || {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                store.fold_task_counts().await.unwrap();
            }
        })
    };
    for task in [writer(0), writer(100), folder(), folder()] {
        task.await.unwrap();
    }
    let running = async || store.task_counts().await.unwrap()[&TaskStatus::Running];
    assert_eq!(running().await, 200);
    store.fold_task_counts().await.unwrap();
    assert!(fresh.ask::<i64>("SELECT count(*) FROM task_counts").await < 64);
    assert_eq!(running().await, 200);

    let mut conn = fresh.connection().await;
    raw_sql("UPDATE task_counts SET change = change + 7")
        .execute(&mut conn)
        .await
        .unwrap();
    assert!(fresh.ask::<i64>(ADDED_UP).await != 200);
    assert!(store.recount_tasks().await.unwrap());
    assert_eq!(running().await, fresh.ask::<i64>(COUNTED).await);
    raw_sql("DELETE FROM tasks")
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(running().await, 0);
    assert!(!store.recount_tasks().await.unwrap());
    fresh.finish().await;
}

/// The role of `migrations/postgres/runtime_role.sql` suffices for all operations of the store, and
/// permits no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runtime_role_suffices() {
    const GRANTS: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../migrations/postgres/runtime_role.sql"
    ));
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let name: uuid::Uuid = fresh.ask("SELECT gen_random_uuid()").await;
    let role = format!("glyph_test_{}", name.simple());
    let mut conn = fresh.connection().await;
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'of the test'");
    raw_sql(AssertSqlSafe(create))
        .execute(&mut conn)
        .await
        .unwrap();
    let grants = GRANTS.replace(":role", &role).replace(":schema", "public");
    raw_sql(AssertSqlSafe(grants))
        .execute(&mut conn)
        .await
        .unwrap();

    let options = fresh.options().username(&role).password("of the test");
    let settings = PgSettings::default();
    let store = PgEventStore::connect(options.to_url_lossy().as_str(), settings)
        .await
        .unwrap();
    store.check_migrated().await.unwrap();
    let one = task("one");
    append_with(&store, one, None, started("flow", &[]), |write, state| {
        write.commands = vec![applied("one", Some(one))];
        write.snapshot = state.map(snapshot_of);
    })
    .await;
    append(&store, one, None, vec![annotated(json!(1))]).await;
    store.save(&workflow("flow", "")).await.unwrap();
    let rows = store
        .claim(publisher("relay"), Duration::from_mins(1), 10)
        .await
        .unwrap();
    store
        .confirmed(&rows.iter().map(|row| row.position).collect::<Vec<_>>())
        .await
        .unwrap();
    assert!(store.command(command("one")).await.unwrap().is_some());
    store.fold_task_counts().await.unwrap();
    assert_eq!(store.task_counts().await.unwrap()[&TaskStatus::Running], 1);
    for sql in [
        "DELETE FROM stored_events",
        "UPDATE stored_events SET version = 9",
        "CREATE TABLE t ()",
    ] {
        let refused = raw_sql(sql).execute(store.pool()).await.unwrap_err();
        assert!(is_forbidden(&refused), "{sql}: {refused:?}");
    }
    store.pool().close().await;
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    raw_sql(AssertSqlSafe(drop))
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_run_once_in_a_schema_of_their_own() {
    let settings = PgSettings {
        schema: "glyph \"x\"".to_owned(),
        ..PgSettings::default()
    };
    let Some(fresh) = Postgres::empty(settings).await else {
        return;
    };
    let missing = fresh.store.check_migrated().await.unwrap_err();
    assert!(
        matches!(missing, EventStoreError::NotMigrated { found: 0, .. }),
        "{missing:?}"
    );
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let store = fresh.store.clone();
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    fresh.store.check_migrated().await.unwrap();
    append(&fresh.store, task("one"), None, started("flow", &[])).await;
    let count = "SELECT count(*) FROM \"glyph \"\"x\"\"\".workflow_events";
    assert_eq!(fresh.ask::<i64>(count).await, 2);
    assert!(
        fresh
            .ask::<bool>("SELECT to_regclass('public.tasks') IS NULL")
            .await
    );

    // A later build has migrated further.
    let mut conn = fresh.connection().await;
    raw_sql(
        "INSERT INTO \"glyph \"\"x\"\"\"._sqlx_migrations
         (version, description, success, checksum, execution_time) VALUES (999, 'later', true, '', 0)",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    conn.close().await.unwrap();
    fresh.store.check_migrated().await.unwrap();
    fresh.store.migrate().await.unwrap();
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_another_beginning_are_refused() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let mut conn = fresh.connection().await;
    raw_sql("UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    for refused in [
        fresh.store.check_migrated().await,
        fresh.store.migrate().await,
    ] {
        assert!(
            matches!(
                refused,
                Err(EventStoreError::Unsuitable(UnsuitableServer::OtherBaseline))
            ),
            "{refused:?}"
        );
    }
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_unavailable() {
    let url = "postgres://postgres@127.0.0.1:1/postgres";
    let refused = PgEventStore::connect(url, PgSettings::default())
        .await
        .unwrap_err();
    assert!(refused.is_passing(), "{refused:?}");
}

// --- annotator models while a transaction stays open somewhere on the server --------------------

const WRITES: &str = "SELECT pg_current_xact_id()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_fed_serially_sees_its_own_completions_whatever_transaction_is_open() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let data = crowd(60);
    let expected = by_model(&data);
    let mut road = Road::new(fresh.store(), ROAD).await;
    let mut came = by_road(&mut road, &data, 0..10).await;
    let mut foreign = fresh.connection().await;
    let mut open = foreign.begin().await.unwrap();
    raw_sql(WRITES).execute(&mut *open).await.unwrap();
    raw_sql("CREATE TABLE opened AS SELECT max(entry) AS entry FROM log_entries")
        .execute(&mut fresh.connection().await)
        .await
        .unwrap();
    came.extend(by_road(&mut road, &data, 10..40).await);
    let mut another = fresh.connection().await;
    let mut later = another.begin().await.unwrap();
    raw_sql(WRITES).execute(&mut *later).await.unwrap();
    came.extend(by_road(&mut road, &data, 40..45).await);
    open.rollback().await.unwrap();
    came.extend(by_road(&mut road, &data, 45..50).await);
    later.rollback().await.unwrap();
    came.extend(by_road(&mut road, &data, 50..55).await);
    // The log says the same to another process and to this one.
    came.extend(by_road(&mut road.another(1), &data, 55..60).await);
    assert_eq!(came, expected);
    assert_eq!(decisions_at_odds(&fresh).await, 0);
    // Models went on reading the log while the transactions were open.
    let went_on = "
        SELECT count(*) FROM workflow_events
        WHERE event_type = 'consensus_calculated'
          AND (event_data #>> '{posterior,position,entry}')::bigint > (
              SELECT max(entry) FROM opened)";
    assert!(fresh.ask::<i64>(went_on).await > 30);
    fresh.finish().await;
}

/// Decisions whose recorded inputs disagree with the log: at their position they must know all labels
/// of other tasks before them.
async fn decisions_at_odds(fresh: &Postgres) -> i64 {
    const AT_ODDS: &str = "
        WITH log AS (
            SELECT l.entry, e.* FROM log_entries l JOIN workflow_events e ON e.batch = l.batch
        ), learnt AS (
            SELECT stream_id, entry, position, event_data -> 'posterior' AS known
            FROM log WHERE event_type = 'consensus_calculated'
        ), counted AS (
            SELECT known, (known -> 'evidence' ->> 'position')::bigint AS knows, (
                SELECT count(*) FROM log label
                WHERE label.event_type = 'annotation_submitted'
                  AND (label.entry, label.position) < (learnt.entry, learnt.position)
            ) - 1 AS labels, (
                SELECT count(*) FROM log label
                WHERE label.event_type = 'annotation_submitted'
                  AND (label.entry, label.position) <= (
                      (known -> 'position' ->> 'entry')::bigint,
                      (known -> 'position' ->> 'position')::bigint
                  )
            ) AS read
            FROM learnt
        )
        SELECT count(*) FROM counted
        WHERE knows <> labels OR knows <> read";
    fresh.ask(AT_ODDS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_alone_sees_its_own_completions_where_the_log_stands_still() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let data = crowd(30);
    let mut road = Road::new(fresh.store(), ROAD).await;
    road.start(29, None).await;
    // Another transaction locks a task, so a batch waits for it while it uses the model.
    let mut foreign = fresh.connection().await;
    let mut open = foreign.begin().await.unwrap();
    sqlx::query("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE")
        .bind(task_id(29).0)
        .execute(&mut *open)
        .await
        .unwrap();
    let mut beside = road.beside(1);
    let claimed = tokio::spawn(async move {
        beside.label(29, 1, 0).await;
    });
    waiting(&fresh, 1).await;
    // Few enough to be done, on a busy machine too, before the waiting batch gives up its lock.
    by_road(&mut road, &data, 0..3).await;
    open.rollback().await.unwrap();
    claimed.await.unwrap();
    let known = "
        SELECT max((event_data -> 'posterior' -> 'evidence' ->> 'position')::bigint)
        FROM workflow_events WHERE event_type = 'consensus_calculated'";
    let labels = "
        SELECT count(*) FROM workflow_events
        WHERE event_type = 'annotation_submitted' AND stream_id <> '00000000-0000-0000-0000-00000000701d'";
    assert_eq!(
        fresh.ask::<i64>(known).await,
        fresh.ask::<i64>(labels).await - 1
    );
    fresh.finish().await;
}
