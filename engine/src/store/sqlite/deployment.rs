//! Which deployment a database belongs to.

use async_trait::async_trait;
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    super::{Deployment, EventStoreError},
    SqliteEventStore,
    query::nth,
};

const DEPLOYMENT: &str = "SELECT id FROM deployment";

#[async_trait]
impl Deployment for SqliteEventStore {
    async fn deployment(&self) -> Result<Uuid, EventStoreError> {
        let found = self.fetch(sqlx::query(DEPLOYMENT), |row| nth::<Hyphenated>(row, 0));
        let mut found = found.await?;
        let id = found.pop().ok_or_else(|| {
            EventStoreError::Other("the table deployment is empty; insert a row with a UUID".into())
        })?;
        Ok(id.into_uuid())
    }
}
