//! Rebuilds all derived data from the event log.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    super::{DerivedChanges, EventStoreError, Rebuild, SnapshotRow, TaskRow, Timer},
    data::MemoryStore,
    locks::Lock,
};
use crate::{ids::TaskId, limits::PAGE_MAX, state::Slots};

#[async_trait]
impl Rebuild for MemoryStore {
    async fn stream_ids(
        &self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError> {
        let data = self.data();
        let ids = data
            .streams
            .keys()
            .filter(|task| after.is_none_or(|after| **task > after));
        Ok(ids
            .take(limit.clamp(1, PAGE_MAX) as usize)
            .copied()
            .collect())
    }

    async fn replace_derived(
        &self,
        task: TaskRow,
        slots: Slots,
        snapshots: Vec<SnapshotRow>,
        due: Vec<Timer>,
    ) -> Result<DerivedChanges, EventStoreError> {
        let _head = self.locks.take(Lock::Head(task.task_id)).await;
        let mut data = self.data();
        let id = task.task_id;
        let actual = data.version(id);
        if actual != task.version {
            let expected = task.version;
            return Err(EventStoreError::VersionConflict {
                task_id: id,
                expected,
                actual,
            });
        }
        let row_changed = data.tasks.get(&id) != Some(&task);
        data.tasks.insert(id, task);
        let found = Slots {
            open: data
                .slots
                .values()
                .filter(|slot| slot.task_id == id)
                .cloned()
                .collect(),
            claimed: data
                .claimed
                .iter()
                .filter(|claimed| claimed.task_id == id)
                .cloned()
                .collect(),
        };
        let change = slots.since(&found);
        let task_changed = row_changed || !change.is_empty();
        data.change_slots(id, change);

        let snapshots: BTreeMap<_, _> = snapshots
            .into_iter()
            .map(|row| (row.version, row.state))
            .collect();
        let found = data.snapshots.get(&id).cloned().unwrap_or_default();
        // Older ones may have been deleted; loading needs the newest one.
        let are_right = found
            .iter()
            .all(|(version, one)| snapshots.get(version) == Some(one));
        let snapshots_changed = !are_right || found.last_key_value() != snapshots.last_key_value();
        if snapshots_changed {
            data.snapshots.insert(id, snapshots);
        }

        let wanted: BTreeMap<_, _> = due.into_iter().map(|row| (row.id, row)).collect();
        let found = data
            .due
            .values()
            .map(|(row, _)| row)
            .filter(|row| row.task_id == id);
        let found: BTreeMap<_, _> = found.map(|row| (row.id, row.clone())).collect();
        let timers_changed = found != wanted;
        if timers_changed {
            data.due.retain(|_, (row, _)| row.task_id != id);
            data.due
                .extend(wanted.into_iter().map(|(id, row)| (id, (row, None))));
        }
        Ok(DerivedChanges {
            task: task_changed,
            snapshots: snapshots_changed,
            timers: timers_changed,
        })
    }

    async fn recount_tasks(&self) -> Result<bool, EventStoreError> {
        // This store keeps no numbers beside its tasks.
        Ok(false)
    }
}
