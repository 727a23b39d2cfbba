//! Messages between commit and publisher confirm.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    super::{
        CLAIM_BYTES_MAX, EventStoreError, FailedOutboxRow, NewOutboxRow, Outbox, OutboxRow,
        OutboxStats, PublisherId, UnconfirmedMessage,
    },
    data::{Data, MemoryStore, Message, later, seconds},
};
use crate::{ids::TaskId, limits::PAGE_MAX};

#[async_trait]
impl Outbox for MemoryStore {
    async fn enqueue(&self, rows: Vec<NewOutboxRow>) -> Result<(), EventStoreError> {
        let now = self.now();
        self.data().enqueue(rows, now);
        Ok(())
    }

    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let mut closed = HashSet::new();
        let (mut claimed, mut bytes) = (Vec::new(), 0);
        for message in data.outbox.values_mut() {
            if claimed.len() == limit as usize || bytes >= CLAIM_BYTES_MAX {
                break;
            }
            let free = !message.is_leased(now) && !message.backs_off(now);
            let task = message.row.task_id;
            if free && task.is_none_or(|task| !closed.contains(&task)) {
                message.lease = Some((publisher, later(now, lease)));
                message.next_attempt_at = None;
                bytes += message.row.body.len();
                claimed.push(message.row.clone());
            } else if message.backs_off(now)
                || message
                    .lease
                    .is_some_and(|(owner, until)| owner != publisher && until > now)
            {
                closed.extend(task);
            }
        }
        Ok(claimed)
    }

    async fn confirmed(&self, positions: &[i64]) -> Result<(), EventStoreError> {
        let mut data = self.data();
        for position in positions {
            data.outbox.remove(position);
        }
        Ok(())
    }

    async fn release(
        &self,
        positions: &[i64],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        for position in positions {
            let Some(message) = data.outbox.get_mut(position) else {
                continue;
            };
            message.lease = None;
            message.next_attempt_at = None;
            if let Some((error, back_off)) = &failed {
                message.row.attempts = message.row.attempts.saturating_add(1);
                message.last_error.clone_from(error);
                message.next_attempt_at = Some(later(now, *back_off));
            }
        }
        Ok(())
    }

    async fn leased(
        &self,
        publisher: PublisherId,
        after: i64,
    ) -> Result<Vec<OutboxRow>, EventStoreError> {
        let data = self.data();
        let beyond = data.outbox.values().filter(|m| m.row.position > after);
        let claimed = beyond.filter(|m| m.lease.is_some_and(|(owner, _)| owner == publisher));
        Ok(claimed.map(|message| message.row.clone()).collect())
    }

    async fn renew(&self, publisher: PublisherId, lease: Duration) -> Result<(), EventStoreError> {
        let now = self.now();
        for message in self.data().outbox.values_mut() {
            if message.is_leased(now) && message.lease.is_some_and(|(owner, _)| owner == publisher)
            {
                message.lease = Some((publisher, later(now, lease)));
            }
        }
        Ok(())
    }

    async fn outbox_stats(&self) -> Result<OutboxStats, EventStoreError> {
        let now = self.now();
        let data = self.data();
        let oldest = data
            .outbox
            .values()
            .map(|message| now - message.created_at)
            .max();
        Ok(OutboxStats {
            pending: i64::try_from(data.outbox.len()).unwrap_or(i64::MAX),
            oldest_seconds: oldest.map_or(0.0, seconds),
        })
    }

    async fn outbox_failed(&self, limit: u32) -> Result<Vec<FailedOutboxRow>, EventStoreError> {
        let data = self.data();
        let failed = data
            .outbox
            .values()
            .filter(|message| message.row.attempts > 0);
        let failed = failed.take(limit.clamp(1, PAGE_MAX) as usize);
        Ok(failed
            .map(|message| FailedOutboxRow {
                row: message.row.clone(),
                error: message.last_error.clone(),
            })
            .collect())
    }

    async fn unconfirmed(
        &self,
        message: Uuid,
    ) -> Result<Option<UnconfirmedMessage>, EventStoreError> {
        let data = self.data();
        let found = data.outbox.values().find(|m| m.row.message_id == message);
        Ok(found.map(|message| UnconfirmedMessage {
            attempts: message.row.attempts,
            last_error: (message.row.attempts > 0).then(|| message.last_error.clone()),
        }))
    }
}

impl Data {
    /// Whether messages of the task wait that are not leased to the publisher, or whose lease has
    /// expired.
    pub(super) fn relay_only(
        &self,
        task: TaskId,
        publisher: Option<PublisherId>,
        now: DateTime<Utc>,
    ) -> bool {
        self.outbox
            .values()
            .filter(|message| message.row.task_id == Some(task))
            .any(|message| {
                !message.is_leased(now) || message.lease.map(|(owner, _)| owner) != publisher
            })
    }

    pub(super) fn queue(
        &mut self,
        row: NewOutboxRow,
        lease: Option<(PublisherId, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) -> OutboxRow {
        self.outbox_position += 1;
        let row = OutboxRow {
            position: self.outbox_position,
            message_id: row.message_id,
            task_id: row.task_id,
            routing_key: row.routing_key,
            message_type: row.message_type.to_owned(),
            body: row.body,
            attempts: 0,
        };
        self.outbox.insert(
            row.position,
            Message {
                row: row.clone(),
                lease,
                next_attempt_at: None,
                last_error: String::new(),
                created_at: now,
            },
        );
        row
    }

    /// Enqueues messages that are leased to no publisher; known ids are left unchanged.
    pub(super) fn enqueue(&mut self, rows: Vec<NewOutboxRow>, now: DateTime<Utc>) {
        for row in rows {
            if self.say(&row) {
                self.queue(row, None, now);
            }
        }
    }

    /// Adds a message that no event stands for to the log, unless it is in it.
    pub(super) fn say(&mut self, row: &NewOutboxRow) -> bool {
        let mut said = self.log_messages.iter();
        let is_new = said.all(|(_, known)| known.message_id != row.message_id);
        if is_new {
            self.log_messages.push((self.log.len(), row.clone()));
        }
        is_new
    }
}
