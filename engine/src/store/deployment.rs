//! Which deployment a database belongs to.

use async_trait::async_trait;
use uuid::Uuid;

use super::EventStoreError;

/// The identity of a database, by which its workers claim their names on a broker.
#[async_trait]
pub trait Deployment: Send + Sync {
    /// The id, drawn when the database was migrated first. A copy of the database has it too.
    async fn deployment(&self) -> Result<Uuid, EventStoreError>;
}
