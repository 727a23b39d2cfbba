//! Messages between commit and publisher confirm.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    super::{
        CLAIM_BYTES_MAX, EventRange, EventStoreError, FailedOutboxRow, NewMessage, Outbox,
        OutboxContent, OutboxMessage, OutboxRow, OutboxStats, PublisherId, RangeEvents,
        ReleasedRow, SkippedMessage, UnconfirmedMessage,
        outbox::{CONTEXT_EVENTS, NewRow},
    },
    data::{Data, MemoryStore, WaitingRow, later, seconds},
};
use crate::{events::StoredEvent, ids::TaskId, limits::PAGE_MAX};

/// A lease that ends so soon may have ended when a batch commits that begins now.
const LEASE_ENDS_SOON: Duration = Duration::from_secs(5);

#[async_trait]
impl Outbox for MemoryStore {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<(), EventStoreError> {
        let now = self.now();
        self.data().enqueue(messages, now);
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
        let data = &mut *data;
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
                bytes += bytes_of(&data.streams, &message.row.content);
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

    async fn events_of(
        &self,
        ranges: &[EventRange],
    ) -> Result<Vec<Result<RangeEvents, EventStoreError>>, EventStoreError> {
        let data = self.data();
        let events_of = |range: &EventRange| {
            let stream = data.streams.get(&range.task_id).into_iter().flatten();
            let wanted = stream.filter(|event| {
                let is_before = event.version < range.from;
                (is_before && CONTEXT_EVENTS.contains(&event.event.event_type()))
                    || (range.from..=range.to).contains(&event.version)
            });
            Ok(RangeEvents::split(*range, wanted.cloned().collect()))
        };
        Ok(ranges.iter().map(events_of).collect())
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
        released: &[ReleasedRow],
        failed: Option<(String, Duration)>,
    ) -> Result<(), EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        for ReleasedRow {
            position,
            from_version,
        } in released
        {
            let Some(message) = data.outbox.get_mut(position) else {
                continue;
            };
            message.lease = None;
            message.next_attempt_at = None;
            if let (OutboxContent::Events(range), Some(from)) =
                (&mut message.row.content, *from_version)
                && from > range.from
            {
                range.from = from;
                message.row.attempts = 0;
                message.last_error.clear();
            }
            if let Some((error, back_off)) = &failed {
                message.row.attempts = message.row.attempts.saturating_add(1);
                message.last_error.clone_from(error);
                message.next_attempt_at = Some(later(now, *back_off));
            }
        }
        Ok(())
    }

    async fn skip(&self, message: SkippedMessage) -> Result<bool, EventStoreError> {
        let now = self.now();
        let mut data = self.data();
        let Some(waiting) = data.outbox.get_mut(&message.position) else {
            return Ok(false);
        };
        if waiting.is_leased(now) || waiting.row.attempts == 0 {
            return Ok(false);
        }
        match (&mut waiting.row.content, message.versions) {
            (OutboxContent::Events(range), Some((from, version)))
                if range.from == from && range.to > version =>
            {
                range.from = version + 1;
                waiting.row.attempts = 0;
                waiting.last_error.clear();
                waiting.next_attempt_at = None;
                waiting.lease = None;
                return Ok(true);
            }
            (OutboxContent::Events(range), Some((from, version)))
                if range.from == from && range.to == version => {}
            (OutboxContent::Message(_), None) => {}
            (OutboxContent::Events(_) | OutboxContent::Message(_), _) => return Ok(false),
        }
        data.outbox.remove(&message.position);
        Ok(true)
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
        task: TaskId,
        version: u64,
    ) -> Result<Option<UnconfirmedMessage>, EventStoreError> {
        let data = self.data();
        let found = data.outbox.values().find_map(|row| match row.row.content {
            OutboxContent::Events(range)
                if range.task_id == task && (range.from..=range.to).contains(&version) =>
            {
                Some((row, range.from == version))
            }
            OutboxContent::Events(_) | OutboxContent::Message(_) => None,
        });
        Ok(found.map(|(row, is_first)| UnconfirmedMessage {
            attempts: if is_first { row.row.attempts } else { 0 },
            last_error: (is_first && row.row.attempts > 0).then(|| row.last_error.clone()),
        }))
    }
}

/// What has to be read to publish a row.
fn bytes_of(streams: &BTreeMap<TaskId, Vec<StoredEvent>>, content: &OutboxContent) -> usize {
    match content {
        OutboxContent::Message(message) => message.body.len(),
        OutboxContent::Events(range) => {
            let stream = streams.get(&range.task_id).into_iter().flatten();
            let events = stream.filter(|event| (range.from..=range.to).contains(&event.version));
            events
                .map(|event| serde_json::to_string(&event.event).map_or(0, |text| text.len()))
                .sum()
        }
    }
}

impl Data {
    /// Whether messages of the task wait that are not leased to the publisher, or whose lease is about
    /// to expire: the relay may claim those before the batch is committed.
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
                !message.is_leased(later(now, LEASE_ENDS_SOON))
                    || message.lease.map(|(owner, _)| owner) != publisher
            })
    }

    /// Adds the messages of one task; returns them with the positions of their rows.
    pub(super) fn queue(
        &mut self,
        task: TaskId,
        messages: Vec<NewMessage>,
        lease: Option<(PublisherId, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) -> Vec<OutboxMessage> {
        let mut queued = Vec::new();
        for row in NewRow::of(messages) {
            let content = row.versions.map(|(from, to)| EventRange {
                task_id: task,
                from,
                to,
            });
            let (task_id, content) = match (content, row.message()) {
                (None, Some(message)) => (message.task_id, OutboxContent::Message(message.into())),
                (Some(range), _) => (Some(task), OutboxContent::Events(range)),
                (None, None) => continue,
            };
            let position = self.add(task_id, content, lease, now);
            queued.extend(row.messages.into_iter().map(|message| message.at(position)));
        }
        queued
    }

    fn add(
        &mut self,
        task_id: Option<TaskId>,
        content: OutboxContent,
        lease: Option<(PublisherId, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) -> i64 {
        self.outbox_position += 1;
        let row = OutboxRow {
            position: self.outbox_position,
            task_id,
            content,
            attempts: 0,
        };
        self.outbox.insert(
            row.position,
            WaitingRow {
                row,
                lease,
                next_attempt_at: None,
                last_error: String::new(),
                created_at: now,
            },
        );
        self.outbox_position
    }

    /// Enqueues messages that are leased to no publisher; known ids are left unchanged.
    pub(super) fn enqueue(&mut self, messages: Vec<NewMessage>, now: DateTime<Utc>) {
        for message in messages {
            if self.say(&message) {
                self.add(
                    message.task_id,
                    OutboxContent::Message((&message).into()),
                    None,
                    now,
                );
            }
        }
    }

    /// Adds a message that no event stands for to the log, unless it is in it.
    pub(super) fn say(&mut self, message: &NewMessage) -> bool {
        let mut said = self.log_messages.iter();
        let is_new = said.all(|(_, known)| known.message_id != message.message_id);
        if is_new {
            self.log_messages.push((self.log.len(), message.into()));
        }
        is_new
    }
}
