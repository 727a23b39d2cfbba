//! The Postgres store, each in its own database.

use std::{str::FromStr, sync::Arc};

use async_trait::async_trait;
use glyph_workflow_engine::{
    ids::TaskId,
    store::{PgEventStore, PgSettings, Store},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions, raw_sql,
};
use uuid::Uuid;

use super::adapter::Adapter;

/// The server of the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment names the server of the tests"
)]
fn server() -> Option<PgConnectOptions> {
    if std::env::var("GLYPH_TEST_CORE").is_ok_and(|core| core == "1") {
        eprintln!("left out: GLYPH_TEST_CORE=1 asks for tests that need no service");
        return None;
    }
    let url = std::env::var("DATABASE_URL")
        .ok()
        .filter(|url| url.starts_with("postgres"));
    let url = url
        .as_deref()
        .unwrap_or("postgres://postgres@127.0.0.1:5432/postgres");
    Some(PgConnectOptions::from_str(url).expect("DATABASE_URL can be read"))
}

pub(super) struct Postgres {
    pub(super) store: PgEventStore,
    server: PgConnectOptions,
    database: String,
}

impl Postgres {
    /// An empty database, without tables.
    pub(super) async fn empty(settings: PgSettings) -> Option<Self> {
        let server = server()?;
        let mut conn = server
            .connect()
            .await
            .expect("the Postgres of DATABASE_URL answers");
        // Named by the server: unique, whatever else runs on it.
        let name: Uuid = sqlx::query_scalar("SELECT gen_random_uuid()")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        let database = format!("glyph_test_{}", name.simple());
        let create = format!("CREATE DATABASE {database}");
        raw_sql(AssertSqlSafe(create))
            .execute(&mut conn)
            .await
            .unwrap();
        conn.close().await.unwrap();
        let url = server.clone().database(&database).to_url_lossy();
        let store = PgEventStore::connect(url.as_str(), settings).await.unwrap();
        Some(Self {
            store,
            server,
            database,
        })
    }

    /// The address of the database.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.database)
    }

    /// A connection outside the store.
    pub(super) async fn connection(&self) -> PgConnection {
        self.options().connect().await.unwrap()
    }

    /// The result of one query.
    pub(super) async fn ask<T>(&self, sql: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
        T: 'static,
    {
        let mut conn = self.connection().await;
        let answer = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        answer
    }
}

#[async_trait]
impl Adapter for Postgres {
    async fn fresh() -> Option<Self> {
        let fresh = Self::empty(PgSettings::default()).await?;
        fresh.store.migrate().await.unwrap();
        Some(fresh)
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    async fn another(&self) -> Arc<dyn Store> {
        let settings = PgSettings {
            max_connections: 2,
            ..PgSettings::default()
        };
        let url = self.options().to_url_lossy();
        Arc::new(PgEventStore::connect(url.as_str(), settings).await.unwrap())
    }

    async fn damage_snapshot(&self, task: TaskId) -> bool {
        let damage = "
            UPDATE workflow_snapshots
            SET state = replace(state::text, '\"running\"', '\"failed\"')::json WHERE task_id = $1";
        let mut conn = self.connection().await;
        let done = sqlx::query(damage)
            .bind(task.0)
            .execute(&mut conn)
            .await
            .unwrap();
        done.rows_affected() > 0
    }

    async fn heads(&self) -> u64 {
        let count: i64 = self.ask("SELECT count(*) FROM tasks").await;
        count.try_into().unwrap()
    }

    async fn finish(self) {
        self.store.pool().close().await;
        let mut conn = self.server.connect().await.unwrap();
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        raw_sql(AssertSqlSafe(drop))
            .execute(&mut conn)
            .await
            .unwrap();
    }
}
