//! Which deployment a database belongs to.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{Deployment, EventStoreError},
    PgEventStore,
    connection::WORK_TIMEOUT,
    query::nth,
};

const DEPLOYMENT: &str = "SELECT id FROM deployment";

#[async_trait]
impl Deployment for PgEventStore {
    async fn deployment(&self) -> Result<Uuid, EventStoreError> {
        let found = self.fetch(WORK_TIMEOUT, sqlx::query(DEPLOYMENT), |row| nth(row, 0));
        let mut found = found.await?;
        found.pop().ok_or_else(|| {
            EventStoreError::Other("the table deployment is empty; insert a row with a UUID".into())
        })
    }
}
