//! What Postgres says of a failed batch, and who is kept from going on by whom.

use std::{collections::HashMap, time::Duration};

use glyph_workflow_engine::store::{
    EventStore, EventStoreError, MigrationFile, OnLocked, OpenRequest, PgEventStore, SplitReason,
    Timer, TimerKind, TimerLane, TimerQueue, Verdict,
};
use sqlx::{AssertSqlSafe, Connection, postgres::PgPoolOptions, raw_sql};
use tokio::time::timeout;

use super::{
    adapter::Adapter as _,
    cases::until,
    postgres::Postgres,
    postgres_only::{begin, finish, waiting},
    samples::*,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_too_long_names_its_task() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let one = task("one");
    let two = task("two");
    append(&fresh.store, one, None, started("flow", &[])).await;
    append(&fresh.store, two, None, started("flow", &[])).await;
    let batch = begin(&fresh.store, &[one]).await;
    let request = OpenRequest {
        tasks: HashMap::from([(one, 2), (two, 2)]),
        ..OpenRequest::default()
    };
    let refused = fresh.store.open(request).await.err().unwrap();
    assert_eq!(refused.verdict(true), Verdict::Split(SplitReason::Blocked));
    let EventStoreError::Hindered { tasks, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(tasks, [one].into());
    drop(begin(&fresh.store, &[two]).await);
    finish(batch, &[one]).await;
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_waits_for_a_lock_as_long_as_it_is_told() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let one = task("one");
    append(&fresh.store, one, None, started("flow", &[])).await;
    let batch = begin(&fresh.store, &[one]).await;
    let request = OpenRequest {
        tasks: HashMap::from([(one, 2)]),
        on_locked: OnLocked::WaitAtMost(Duration::from_millis(1)),
        ..OpenRequest::default()
    };
    // Far less than a session waits.
    let refused = timeout(Duration::from_millis(1_500), fresh.store.open(request));
    let refused = refused.await.expect("no wait").err().unwrap();
    assert_eq!(refused.verdict(true), Verdict::Split(SplitReason::Blocked));
    finish(batch, &[one]).await;
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_passes_over_what_others_have_locked_and_only_that() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let (held, free, new) = (task("held"), task("free"), task("new"));
    append(&fresh.store, held, None, started("flow", &[])).await;
    append(&fresh.store, free, None, started("flow", &[])).await;
    let batch = begin(&fresh.store, &[held]).await;
    let seen = fresh.store.events(held, 1, 1).await.unwrap().events[0].occurred_at;
    let request = OpenRequest {
        tasks: HashMap::from([(held, 2), (free, 0), (new, 0)]),
        last_decided: HashMap::from([(held, seen)]),
        on_locked: OnLocked::PassOver { others: None },
        ..OpenRequest::default()
    };
    let opened = timeout(Duration::from_secs(5), fresh.store.open(request.clone()));
    let opened = opened.await.expect("no wait").unwrap();
    assert_eq!(opened.passed_over, [held].into());
    assert_eq!(
        (opened.tasks[&held].version, opened.tasks[&held].tail.len()),
        (0, 0),
        "nothing is read of what cannot be decided on"
    );
    assert_eq!(
        (opened.tasks[&free].version, opened.tasks[&free].tail.len()),
        (2, 2)
    );
    assert_eq!(opened.tasks[&new].version, 0);
    drop(opened);
    finish(batch, &[held]).await;
    let opened = fresh.store.open(request).await.unwrap();
    assert!(opened.passed_over.is_empty());
    assert_eq!(opened.tasks[&held].version, 3);
    drop(opened);
    fresh.finish().await;
}

/// The reason of a trigger, an unknown SQLSTATE and a statement that takes too long are no fault of
/// the content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_content_is_to_blame() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let mut conn = fresh.connection().await;
    let store = &fresh.store;
    let one = task("one");
    for (body, verdict) in [
        (
            "RAISE 'the audit server is away'",
            Verdict::Split(SplitReason::Unexplained),
        ),
        (
            "RAISE SQLSTATE 'ZZ999'",
            Verdict::Split(SplitReason::Unexplained),
        ),
        ("PERFORM pg_sleep(60)", Verdict::Split(SplitReason::TooSlow)),
        ("RAISE SQLSTATE '53100'", Verdict::Wait),
        ("RAISE SQLSTATE '22023'", Verdict::Blame),
    ] {
        let trigger = format!(
            "CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN {body}; RETURN NEW; END $$; \
             CREATE OR REPLACE TRIGGER audit BEFORE INSERT ON stored_events \
             FOR EACH ROW EXECUTE FUNCTION audit()"
        );
        raw_sql(AssertSqlSafe(trigger))
            .execute(&mut conn)
            .await
            .unwrap();
        let batch = begin(store, &[one]).await;
        let (write, _) = write_on(None, one, batch.now, started("flow", &[]));
        let refused = batch.commit(vec![write]).await.unwrap_err();
        EventStore::ping(store).await.unwrap();
        assert_eq!(refused.verdict(true), verdict, "{body}: {refused:?}");
    }
    conn.close().await.unwrap();
    fresh.finish().await;
}

/// Their number does not matter: claiming goes past the workflow, not past its timers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_of_a_paused_workflow_are_in_nobodys_way() {
    const OVERDUE: &str = "
        INSERT INTO timers (id, task_id, visit, kind, n, due_at, workflow)
        SELECT gen_random_uuid(), gen_random_uuid(), 1, 'resume', 0, now() - interval '1 day', 'held'
        FROM generate_series(1, 200000)";
    const BUSY: &str = "
        INSERT INTO timers (id, task_id, visit, kind, n, due_at, workflow)
        SELECT gen_random_uuid(), gen_random_uuid(), 1, 'resume', 0, now() - interval '1 hour', 'busy'
        FROM generate_series(1, 600)";
    const PAUSED: &str = "
        INSERT INTO workflow_pauses (pause_id, workflow, since)
        VALUES (gen_random_uuid(), 'held', now())";
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let mut conn = fresh.connection().await;
    raw_sql(OVERDUE).execute(&mut conn).await.unwrap();
    raw_sql(BUSY).execute(&mut conn).await.unwrap();
    raw_sql(PAUSED).execute(&mut conn).await.unwrap();
    raw_sql("ANALYZE timers").execute(&mut conn).await.unwrap();
    let one = task("one");
    let now = begin(&fresh.store, &[one]).await.now;
    let timer = Timer {
        id: id("due"),
        task_id: one,
        step_id: None,
        visit: 1,
        kind: TimerKind::Resume,
        n: 0,
        due_at: now,
    };
    append_with(&fresh.store, one, None, started("flow", &[]), |write, _| {
        write.timers_set = vec![timer.clone()];
    })
    .await;
    // Reading all of them takes about a second, each time; others may keep the machine busy now and then.
    let impatient = fresh.options().options([("statement_timeout", "150ms")]);
    let pool = PgPoolOptions::new().connect_with(impatient).await.unwrap();
    let store = PgEventStore::from_pool(pool);
    let lease = Duration::from_mins(1);
    let claim = async || {
        let claimed = store.claim_timers(TimerLane::Decisions, lease, 512).await;
        claimed.ok()
    };
    let claimed = until(claim).await;
    assert_eq!(claimed.len(), 512);
    assert_eq!(
        claimed.last(),
        Some(&timer),
        "one of the busy workflow's share"
    );
    let stats = until(async || store.timer_stats().await.ok()).await;
    assert_eq!(stats.due, 601);
    store.pool().close().await;
    conn.close().await.unwrap();
    fresh.finish().await;
}

/// Whoever wants the table would queue up behind a migration that waits for its lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_waits_for_a_lock_lets_readers_through() {
    const LATER: MigrationFile = MigrationFile {
        version: 1_000,
        name: "later",
        sql: "ALTER TABLE timers ADD COLUMN later text",
    };
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let mut reader = fresh.connection().await;
    raw_sql("BEGIN; SELECT FROM timers")
        .execute(&mut reader)
        .await
        .unwrap();
    let store = fresh.store.clone();
    let migrating = tokio::spawn(async move { store.migrate_by(&[LATER]).await });
    waiting(&fresh, 1).await;
    let reads = fresh.ask::<i64>("SELECT count(*) FROM timers");
    let read = timeout(Duration::from_secs(10), reads).await;
    assert_eq!(read.expect("reads in time"), 0);
    assert!(!migrating.is_finished());
    raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    migrating.await.unwrap().unwrap();
    assert_eq!(fresh.ask::<i64>("SELECT count(later) FROM timers").await, 0);
    reader.close().await.unwrap();
    fresh.finish().await;
}
