//! Which deployment a store belongs to.

use std::collections::HashMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{Deployment, EventStoreError, JobState, RestoreReport, TableSize},
    MemoryStore,
};
use crate::ids::{FormerLogId, LogId};

#[async_trait]
impl Deployment for MemoryStore {
    /// The nil id: nobody shares a store in memory.
    async fn deployment(&self) -> Result<Uuid, EventStoreError> {
        Ok(Uuid::nil())
    }

    async fn log_id(&self) -> Result<LogId, EventStoreError> {
        Ok(self.data().log_ids.present)
    }

    async fn check_whole(&self) -> Result<(), EventStoreError> {
        Ok(())
    }

    async fn table_sizes(&self) -> Result<Vec<TableSize>, EventStoreError> {
        Ok(Vec::new())
    }

    /// The new id of the log follows from the old one and the time, so runs are reproducible.
    async fn restored(&self) -> Result<RestoreReport, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let data = &mut *data;
        let former = FormerLogId {
            log_id: data.log_ids.present,
            until: now,
        };
        data.log_ids.former.push(former);
        let log_id = Uuid::new_v5(&former.log_id.0, now.to_rfc3339().as_bytes());
        data.log_ids.present = LogId(log_id);
        let ends = data.log.len();
        let models = i64::try_from(ends).unwrap_or(i64::MAX);
        let mut report = RestoreReport {
            log_id,
            projections_reset: removed(&mut data.projections, |(read, _)| *read > ends),
            models_forgotten: removed(&mut data.learnt, |model| model.position.entry > models),
            ..RestoreReport::default()
        };
        let messages = data
            .outbox
            .values_mut()
            .map(|waiting| waiting.lease.take().is_some());
        let timers = data
            .due
            .values_mut()
            .map(|(_, lease)| lease.take().is_some());
        for was_leased in messages.chain(timers) {
            report.leases_ended += u64::from(was_leased);
        }
        let jobs = data.jobs.values_mut();
        for job in jobs.filter(|job| job.row.state == JobState::Running) {
            job.row
                .stop_by
                .get_or_insert_with(|| "glyph restore".to_owned());
            job.lease = None;
            report.jobs_stopped += 1;
        }
        Ok(report)
    }
}

/// Removes what is beyond the log; returns how many.
fn removed<K, V>(rows: &mut HashMap<K, V>, is_beyond: impl Fn(&V) -> bool) -> u64 {
    let before = rows.len();
    rows.retain(|_, row| !is_beyond(row));
    (before - rows.len()) as u64
}
