//! Work whose time has come.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{DueLane, DueQueue, DueRow, DueStats, EventStoreError},
    data::{MemoryStore, later},
};
use crate::ids::TaskId;

#[async_trait]
impl DueQueue for MemoryStore {
    async fn claim_due(
        &self,
        lane: DueLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<DueRow>, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let held: HashSet<TaskId> = data
            .due
            .values()
            .map(|(row, _)| row.task_id)
            .filter(|task| data.is_held(*task, now))
            .collect();
        let mut due: Vec<_> = data
            .due
            .values_mut()
            .filter(|(row, leased)| {
                row.kind.lane() == lane
                    && row.due_at <= now
                    && leased.is_none_or(|until| until <= now)
            })
            .filter(|(row, _)| !held.contains(&row.task_id))
            .collect();
        due.sort_by_key(|(row, _)| (row.due_at, row.id));
        due.truncate(limit as usize);
        Ok(due
            .into_iter()
            .map(|(row, leased)| {
                *leased = Some(later(now, lease));
                row.clone()
            })
            .collect())
    }

    async fn drop_due(&self, ids: &[Uuid]) -> Result<(), EventStoreError> {
        let mut data = self.data();
        for id in ids {
            data.due.remove(id);
        }
        Ok(())
    }

    async fn due_stats(&self) -> Result<DueStats, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let due = data
            .due
            .values()
            .filter(|(row, _)| row.due_at <= now)
            .count();
        Ok(DueStats {
            due: i64::try_from(due).unwrap_or(i64::MAX),
            total: i64::try_from(data.due.len()).unwrap_or(i64::MAX),
        })
    }
}
