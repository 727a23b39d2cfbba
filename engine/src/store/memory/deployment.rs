//! Which deployment a store belongs to.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{Deployment, EventStoreError},
    MemoryStore,
};

#[async_trait]
impl Deployment for MemoryStore {
    /// The nil id: nobody shares a store in memory.
    async fn deployment(&self) -> Result<Uuid, EventStoreError> {
        Ok(Uuid::nil())
    }
}
