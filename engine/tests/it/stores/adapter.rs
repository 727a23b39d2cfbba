//! What a store brings along to be asked.

use std::sync::Arc;

use async_trait::async_trait;
use glyph_workflow_engine::{ids::TaskId, store::Store};

/// A fresh, empty store of its own, and what the suite must do to it behind its back.
#[async_trait]
pub(super) trait Adapter: Sized + Send + Sync {
    /// Makes an empty store; `None`, with a printed note, where this run leaves the store out.
    async fn fresh() -> Option<Self>;

    /// The store. Several handles are several clients of the same data.
    fn store(&self) -> Arc<dyn Store>;

    /// Another client of the same data, as another process would be. A store of one process gives
    /// the same one.
    async fn another(&self) -> Arc<dyn Store> {
        self.store()
    }

    /// Damages the newest snapshot of `task`: still JSON, another state. Answers whether there was
    /// one to damage; a store that cannot lose a bit answers `false` and keeps it whole.
    async fn damage_snapshot(&self, task: TaskId) -> bool;

    /// Rows of `tasks`, heads without events included.
    async fn heads(&self) -> u64;

    /// Deletes what it made; called only where the case held.
    async fn finish(self) {}
}
