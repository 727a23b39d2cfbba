//! The SQLite store, each in its own file.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use glyph_workflow_engine::{
    ids::TaskId,
    store::{SqliteEventStore, Store},
};
use tempfile::TempDir;

use super::adapter::Adapter;

pub(super) struct Sqlite {
    store: SqliteEventStore,
    directory: TempDir,
}

/// The system clock: the cases wait for leases to expire.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock is a fact that a store is given"
)]
async fn open(directory: &TempDir) -> SqliteEventStore {
    let path = directory.path().join("glyph.db");
    SqliteEventStore::open(path, Arc::new(Utc::now))
        .await
        .unwrap()
}

#[async_trait]
impl Adapter for Sqlite {
    async fn fresh() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory).await;
        store.migrate().await.unwrap();
        store.check_migrated().await.unwrap();
        Some(Self { store, directory })
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    async fn another(&self) -> Arc<dyn Store> {
        Arc::new(open(&self.directory).await)
    }

    async fn damage_snapshot(&self, task: TaskId) -> bool {
        let mut tx = self.store.begin().await.unwrap();
        let damaged = sqlx::query(
            "UPDATE workflow_snapshots SET state = json_set(state, '$.status', 'failed')
             WHERE task_id = ?1
               AND version = (SELECT MAX(version) FROM workflow_snapshots WHERE task_id = ?1)",
        )
        .bind(task.0.hyphenated())
        .execute(&mut *tx)
        .await
        .unwrap()
        .rows_affected();
        tx.commit().await.unwrap();
        damaged == 1
    }

    async fn heads(&self) -> u64 {
        let heads: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM tasks")
            .fetch_one(self.store.readers())
            .await
            .unwrap();
        heads.unsigned_abs()
    }

    async fn finish(self) {
        self.store.close().await;
    }
}
