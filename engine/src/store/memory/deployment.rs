//! Which deployment a store belongs to.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{Deployment, EventStoreError, RestoreReport, TableSize},
    MemoryStore,
};
use crate::ids::LogId;

#[async_trait]
impl Deployment for MemoryStore {
    /// The nil id: nobody shares a store in memory.
    async fn deployment(&self) -> Result<Uuid, EventStoreError> {
        Ok(Uuid::nil())
    }

    async fn log_id(&self) -> Result<LogId, EventStoreError> {
        Ok(LogId::default())
    }

    async fn check_whole(&self) -> Result<(), EventStoreError> {
        Ok(())
    }

    async fn table_sizes(&self) -> Result<Vec<TableSize>, EventStoreError> {
        Ok(Vec::new())
    }

    /// Nothing to put right: a store in memory is restored from nowhere.
    async fn restored(&self) -> Result<RestoreReport, EventStoreError> {
        Ok(RestoreReport::default())
    }
}
