//! Timers.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;

use super::{
    super::{EventStoreError, Timer, TimerLane, TimerQueue, TimerStats},
    data::{MemoryStore, later},
};
use crate::ids::TaskId;

#[async_trait]
impl TimerQueue for MemoryStore {
    async fn claim_timers(
        &self,
        lane: TimerLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Timer>, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let claimed: HashSet<TaskId> = data
            .due
            .values()
            .map(|(row, _)| row.task_id)
            .filter(|task| data.is_paused(*task, now))
            .collect();
        let mut due: Vec<_> = data
            .due
            .values_mut()
            .filter(|(row, leased)| {
                row.kind.lane() == lane
                    && row.due_at <= now
                    && leased.is_none_or(|until| until <= now)
            })
            .filter(|(row, _)| !claimed.contains(&row.task_id))
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

    async fn drop_timers(&self, rows: &[Timer]) -> Result<(), EventStoreError> {
        let is_dropped = |timer: &Timer| {
            rows.iter()
                .any(|row| (row.id, row.due_at) == (timer.id, timer.due_at))
        };
        self.data().due.retain(|_, (timer, _)| !is_dropped(timer));
        Ok(())
    }

    async fn timer_stats(&self) -> Result<TimerStats, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let due = data.due.values().map(|(row, _)| row);
        let due = due.filter(|row| row.due_at <= now && !data.is_paused(row.task_id, now));
        let due: Vec<_> = due.map(|row| row.due_at).collect();
        let oldest = due.iter().min().map(|oldest| now - oldest);
        Ok(TimerStats {
            due: i64::try_from(due.len()).unwrap_or(i64::MAX),
            oldest_seconds: oldest.map_or(0.0, TimeDelta::as_seconds_f64),
            total: i64::try_from(data.due.len()).unwrap_or(i64::MAX),
        })
    }
}
