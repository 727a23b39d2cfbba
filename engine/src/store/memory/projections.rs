//! Projections of the log: checkpoint and rows, under the one lock of the store.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    super::{
        EventStoreError, GoalActionRow, GoalActionStatus, LogPosition, OpenProjection,
        ProjectionRows, ProjectionStore, ProjectionTx, ProjectionWrite,
    },
    data::{Data, MemoryStore, lock, refuse_nul, seconds},
    locks::{Held, Lock},
    log::entries,
};

#[async_trait]
impl ProjectionStore for MemoryStore {
    async fn open_projection(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Option<OpenProjection>, EventStoreError> {
        let Some(held) = self.locks.try_take(Lock::Projection(name.to_owned())) else {
            return Ok(None);
        };
        let now = self.now();
        let data = self.data();
        let (read, rows) = data.projections.get(name).cloned().unwrap_or_default();
        let entries = entries(&data, read, limit);
        // The last event of the log stays when its task is archived.
        let through = entries.last().map_or(read, |last| {
            usize::try_from(last.position.entry).unwrap_or(usize::MAX)
        });
        let is_full = through < data.log.len();
        // An open batch decides at its own time, and its events are appended later. One that is
        // opened after this may still read the same microsecond.
        let settled = if is_full {
            DateTime::UNIX_EPOCH
        } else {
            let oldest = data.open.values().min().copied();
            oldest.map_or(now, |oldest| now.min(oldest)) - TimeDelta::microseconds(1)
        };
        let log = data.log_ids.clone();
        drop(data);
        Ok(Some(OpenProjection {
            now,
            log,
            settled,
            is_full,
            entries: entries.into_iter().map(Arc::new).collect(),
            at_beginning: read == 0,
            rows,
            tx: Box::new(MemoryProjection {
                data: self.data.clone(),
                name: name.to_owned(),
                now,
                _held: held,
            }),
        }))
    }

    async fn projection_rows(&self, name: &str) -> Result<ProjectionRows, EventStoreError> {
        let data = self.data();
        Ok(data
            .projections
            .get(name)
            .map(|(_, rows)| rows.clone())
            .unwrap_or_default())
    }

    async fn projection_lags(&self) -> Result<BTreeMap<String, f64>, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let lag = |(name, (read, _)): (&String, &(usize, ProjectionRows))| {
            let oldest = data.log.iter().skip(*read).flatten().next();
            let lag = oldest.map_or(0.0, |(_, event)| seconds(now - event.occurred_at));
            (name.clone(), lag)
        };
        let begun = data.projections.iter().filter(|(_, (read, _))| *read > 0);
        Ok(begun.map(lag).collect())
    }

    async fn reset_projection(&self, name: &str) -> Result<(), EventStoreError> {
        let _held = self.locks.take(Lock::Projection(name.to_owned())).await;
        self.data().projections.remove(name);
        Ok(())
    }
}

/// A step of a projection, which nobody else runs while it is open.
struct MemoryProjection {
    data: Arc<Mutex<Data>>,
    name: String,
    now: DateTime<Utc>,
    _held: Held,
}

#[async_trait]
impl ProjectionTx for MemoryProjection {
    async fn commit(
        self: Box<Self>,
        write: ProjectionWrite,
        last: Option<LogPosition>,
    ) -> Result<(), EventStoreError> {
        refuse_nul(&write.rows)?;
        for message in &write.messages {
            refuse_nul(&(&message.routing_key, &*message.body))?;
        }
        let mut data = lock(&self.data);
        for operator_command in write.operator_commands {
            data.operator_command(operator_command, self.now)?;
        }
        let (read, rows) = data.projections.entry(self.name).or_default();
        if let Some(last) = last {
            *read = usize::try_from(last.entry).unwrap_or(usize::MAX);
        }
        for (key, row) in write.rows {
            match row {
                Some(row) => {
                    rows.insert(key, row);
                }
                None => {
                    rows.remove(&key);
                }
            }
        }
        data.enqueue(write.messages, self.now);
        for action in write.actions {
            data.goal_actions.entry(action.id).or_insert_with(|| {
                let row = GoalActionRow {
                    action,
                    status: GoalActionStatus::Waiting,
                    attempts: 0,
                    last_error: None,
                    changed_at: self.now,
                };
                (row, self.now)
            });
        }
        Ok(())
    }
}
