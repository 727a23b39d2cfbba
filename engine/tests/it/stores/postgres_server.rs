//! Which servers are used, and what sessions on them are set to.

use std::time::Duration;

use glyph_workflow_engine::store::{EventStoreError, PgEventStore, PgSettings, UnsuitableServer};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};
use tokio::time::timeout;

use super::{adapter::Adapter as _, pooler::Pooler, postgres::Postgres, samples::*};

async fn settled(store: &PgEventStore, done: impl Fn(&Result<(), EventStoreError>) -> bool) {
    let reached = async {
        while !done(&store.recheck_server().await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), reached)
        .await
        .expect("the check gets there");
}

fn is_pooled<T>(result: &Result<T, EventStoreError>) -> bool {
    matches!(
        result,
        Err(EventStoreError::Unsuitable(
            UnsuitableServer::TransactionPooling
        ))
    )
}

async fn pooler(fresh: &Postgres) -> Pooler {
    let options = fresh.options();
    let host = match options.get_host() {
        host if host.starts_with('/') => "127.0.0.1",
        host => host,
    };
    let server = format!("{host}:{}", options.get_port());
    Pooler::start(server, options.get_username()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_of_sessions_is_fine_and_one_of_transactions_is_refused_whenever_it_begins() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let pooler = pooler(&fresh).await;
    let options = fresh.options();
    let url = pooler.url(options.get_database().unwrap());
    let store = PgEventStore::connect(&url, PgSettings::default())
        .await
        .unwrap();
    store.check_migrated().await.unwrap();
    append(&store, task("one"), None, started("flow", &[])).await;
    settled(&store, Result::is_ok).await;

    pooler.pool_by_transaction(true);
    let refused = PgEventStore::connect(&url, PgSettings::default()).await;
    assert!(is_pooled(&refused), "{refused:?}");
    settled(&store, is_pooled).await;
    assert!(is_pooled(&store.check_migrated().await));

    pooler.pool_by_transaction(false);
    settled(&store, Result::is_ok).await;
    // No connection has kept a session of another.
    for n in 0..20 {
        let name = format!("task {n}");
        append(&store, task(&name), None, started("flow", &[])).await;
    }
    store.pool().close().await;
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let Some(fresh) = Postgres::empty(PgSettings::default()).await else {
        return;
    };
    let latin = format!("{}_latin1", fresh.options().get_database().unwrap());
    let mut conn = fresh.connection().await;
    let create = format!(
        "CREATE DATABASE {latin} ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    );
    raw_sql(AssertSqlSafe(create))
        .execute(&mut conn)
        .await
        .unwrap();
    let url = fresh.options().database(&latin).to_url_lossy();
    let refused = PgEventStore::connect(url.as_str(), PgSettings::default())
        .await
        .unwrap_err();
    let text = refused.to_string();
    assert!(
        text.starts_with("the database's encoding is LATIN1; UTF8 is needed"),
        "{text}"
    );
    let drop = format!("DROP DATABASE {latin} WITH (FORCE)");
    raw_sql(AssertSqlSafe(drop))
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_the_disk_at_least() {
    let Some(fresh) = Postgres::empty(PgSettings::default()).await else {
        return;
    };
    let database = fresh.options().get_database().unwrap().to_owned();
    let url = fresh.options().to_url_lossy();
    for (set, expected) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        let mut conn = fresh.connection().await;
        let alter = format!("ALTER DATABASE {database} SET synchronous_commit = {set}");
        raw_sql(AssertSqlSafe(alter))
            .execute(&mut conn)
            .await
            .unwrap();
        conn.close().await.unwrap();
        let store = PgEventStore::connect(url.as_str(), PgSettings::default())
            .await
            .unwrap();
        let shown: String = sqlx::query_scalar("SHOW synchronous_commit")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!(shown, expected, "{set}");
        store.pool().close().await;
    }
    fresh.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_told_before_a_command_comes() {
    let Some(fresh) = Postgres::fresh().await else {
        return;
    };
    let database = fresh.options().get_database().unwrap().to_owned();
    fresh.store.recheck_server().await.unwrap();
    let mut conn = fresh.connection().await;
    let alter = format!("ALTER DATABASE {database} SET default_transaction_read_only = on");
    raw_sql(AssertSqlSafe(alter))
        .execute(&mut conn)
        .await
        .unwrap();
    let url = fresh.options().to_url_lossy();
    // Reading is possible.
    let store = PgEventStore::connect(url.as_str(), PgSettings::default())
        .await
        .unwrap();
    store.check_migrated().await.unwrap();
    for checked in [
        store.check_server().await,
        store.recheck_server().await,
        fresh.store.check_server().await,
    ] {
        assert!(
            matches!(
                checked,
                Err(EventStoreError::Unsuitable(UnsuitableServer::ReadOnly))
            ),
            "{checked:?}"
        );
    }
    store.pool().close().await;
    conn.close().await.unwrap();
    fresh.finish().await;
}
