//! The in-memory store.

use std::sync::Arc;

use async_trait::async_trait;
use glyph_workflow_engine::{
    ids::TaskId,
    store::{MemoryStore, Store, TaskFilter, TaskIndex},
};

use super::adapter::Adapter;

pub(super) struct Memory(MemoryStore);

#[async_trait]
impl Adapter for Memory {
    async fn fresh() -> Option<Self> {
        Some(Self(MemoryStore::new()))
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }

    async fn damage_snapshot(&self, _: TaskId) -> bool {
        false
    }

    async fn heads(&self) -> u64 {
        let page = self
            .0
            .tasks(TaskFilter {
                limit: 1_000,
                ..TaskFilter::default()
            })
            .await;
        page.unwrap().tasks.len() as u64
    }
}
