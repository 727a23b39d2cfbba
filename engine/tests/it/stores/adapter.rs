//! What a store must provide to run the suite.

use std::sync::Arc;

use async_trait::async_trait;
use glyph_workflow_engine::{ids::TaskId, store::Store};

/// A fresh, empty store, and changes that the suite makes behind its back.
#[async_trait]
pub(super) trait Adapter: Sized + Send + Sync {
    /// Creates an empty store; `None`, with a printed note, if this run excludes the store.
    async fn fresh() -> Option<Self>;

    /// The store. Several handles are several clients of the same data.
    fn store(&self) -> Arc<dyn Store>;

    /// Another client of the same data, as in another process. A single-process store returns
    /// itself.
    async fn another(&self) -> Arc<dyn Store> {
        self.store()
    }

    /// Damages the newest snapshot of `task`: still valid JSON, but another state. Returns whether
    /// there was a snapshot to damage; a store that cannot corrupt data returns `false` and leaves
    /// it.
    async fn damage_snapshot(&self, task: TaskId) -> bool;

    /// Rows of `tasks`, heads without events included.
    async fn heads(&self) -> u64;

    /// Deletes the store; called only if the case passed.
    async fn finish(self) {}
}
