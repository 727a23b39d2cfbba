//! Durable jobs.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{
        ENDED_JOBS_MAX, EventStoreError, JobCounts, JobItem, JobItemState, JobRow, JobState,
        JobStore, JobWrite, NewJob,
    },
    data::{HeldJob, MemoryStore, later, refuse_nul},
};

impl HeldJob {
    fn row(&self) -> JobRow {
        let mut row = self.row.clone();
        for item in self.items.values() {
            row.counts.add(item.state, 1);
        }
        row
    }
}

#[async_trait]
impl JobStore for MemoryStore {
    async fn create_job(&self, job: NewJob) -> Result<(), EventStoreError> {
        refuse_nul(&job.settings)?;
        let now = self.now();
        let mut data = self.data();
        let mut ended: Vec<_> = data
            .jobs
            .values()
            .filter(|held| held.row.state != JobState::Running)
            .map(|held| (held.row.created_at, held.row.id))
            .collect();
        ended.sort_unstable();
        ended.reverse();
        for (_, id) in ended.into_iter().skip(ENDED_JOBS_MAX as usize) {
            data.jobs.remove(&id);
        }
        let row = JobRow {
            id: job.id,
            kind: job.kind,
            actor: job.actor,
            settings: job.settings,
            state: JobState::Running,
            phase: String::new(),
            reason: None,
            stop_by: None,
            created_at: now,
            changed_at: now,
            counts: JobCounts::default(),
        };
        data.jobs.entry(job.id).or_insert(HeldJob {
            row,
            items: std::collections::BTreeMap::new(),
            lease: None,
        });
        Ok(())
    }

    async fn job(&self, id: Uuid) -> Result<Option<JobRow>, EventStoreError> {
        Ok(self.data().jobs.get(&id).map(HeldJob::row))
    }

    async fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, EventStoreError> {
        let mut rows: Vec<_> = self.data().jobs.values().map(HeldJob::row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn stop_job(&self, id: Uuid, actor: &str) -> Result<bool, EventStoreError> {
        let mut data = self.data();
        let running = data.jobs.get_mut(&id);
        let Some(held) = running.filter(|held| held.row.state == JobState::Running) else {
            return Ok(false);
        };
        held.row.stop_by.get_or_insert_with(|| actor.to_owned());
        Ok(true)
    }

    async fn claim_job(
        &self,
        runner: Uuid,
        lease: Duration,
    ) -> Result<Option<JobRow>, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let free = data.jobs.values_mut().filter(|held| {
            held.row.state == JobState::Running && held.lease.is_none_or(|(_, until)| until <= now)
        });
        let oldest = free.min_by_key(|held| (held.row.created_at, held.row.id));
        Ok(oldest.map(|held| {
            held.lease = Some((runner, later(now, lease)));
            held.row()
        }))
    }

    async fn write_job(
        &self,
        id: Uuid,
        runner: Uuid,
        write: JobWrite,
    ) -> Result<bool, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let held = data.jobs.get_mut(&id).filter(|held| {
            held.row.state == JobState::Running
                && held.lease.is_some_and(|(owner, _)| owner == runner)
        });
        let Some(held) = held else { return Ok(false) };
        held.lease = Some((runner, later(now, write.lease)));
        held.row.changed_at = now;
        if let Some(phase) = write.phase {
            phase.clone_into(&mut held.row.phase);
        }
        if let Some(note) = write.note {
            held.row.reason = Some(note).filter(|note| !note.is_empty());
        }
        if write.arrived {
            for item in held.items.values_mut() {
                if item.state == JobItemState::Arriving {
                    item.state = JobItemState::Pending;
                }
            }
        }
        let (state, items) = write.add.unwrap_or((JobItemState::Pending, Vec::new()));
        for item in items {
            let ordinal = held.items.last_key_value().map_or(1, |(last, _)| last + 1);
            let item = JobItem {
                ordinal,
                state,
                identity: item.identity,
                order_key: item.order_key,
                properties: item.properties,
                body: item.body,
                detail: None,
            };
            held.items.insert(ordinal, item);
        }
        for outcome in write.outcomes {
            let item = held.items.get_mut(&outcome.ordinal);
            let Some(item) = item.filter(|item| item.state != JobItemState::Failed) else {
                continue;
            };
            item.state = outcome.state;
            item.detail = outcome.detail.or(item.detail.take());
            match outcome.state {
                JobItemState::Failed => {
                    item.properties.clear();
                    item.body.clear();
                }
                JobItemState::Succeeded | JobItemState::Returned => {
                    held.items.remove(&outcome.ordinal);
                    held.row.counts.add(outcome.state, 1);
                }
                JobItemState::Arriving
                | JobItemState::Pending
                | JobItemState::Failing
                | JobItemState::Returning => {}
            }
        }
        if let Some((state, reason)) = write.end {
            held.row.state = state;
            held.row.reason = reason;
            held.lease = None;
        }
        Ok(true)
    }

    async fn job_items(
        &self,
        id: Uuid,
        state: JobItemState,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobItem>, EventStoreError> {
        let data = self.data();
        let Some(held) = data.jobs.get(&id) else {
            return Ok(Vec::new());
        };
        let items = held
            .items
            .range(after.saturating_add(1)..)
            .map(|(_, item)| item);
        let of_state = items.filter(|item| item.state == state).cloned();
        Ok(of_state.take(limit as usize).collect())
    }

    async fn last_job_item(&self, id: Uuid) -> Result<Option<JobItem>, EventStoreError> {
        let data = self.data();
        let last = data
            .jobs
            .get(&id)
            .and_then(|held| held.items.last_key_value());
        Ok(last.map(|(_, item)| item.clone()))
    }
}
