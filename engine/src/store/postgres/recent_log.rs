//! The newest part of the log, read once for all projections of a process.
//!
//! Projections follow the log side by side, and each needs the same events a moment after the
//! others. What one of them has read is kept here, decoded, for the next. An entry never changes
//! once it is visible, and parts join only where one was read from inside the other, so nothing is
//! passed over. A projection that is far behind, as after a rebuild, reads for itself.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    events::LogPosition,
    store::{
        LogEntry,
        rows::{LOG_BYTES_MAX, WithSize},
    },
};

/// Events kept: those of some pages of a projection.
const EVENTS_MAX: usize = 5_000;
/// Bytes of their data kept, as text.
const BYTES_MAX: usize = LOG_BYTES_MAX;
/// Events for which a page is asked at least.
const PAGE_MIN: usize = 8;

/// The newest part of the log that was read.
#[derive(Debug, Default)]
pub(super) struct RecentLog {
    part: Mutex<Part>,
    reading: tokio::sync::Mutex<()>,
    /// Bytes of an event's data in the page that was read last.
    event_bytes: AtomicUsize,
}

/// Everything of the log after one position and up to its last event.
#[derive(Debug, Default)]
struct Part {
    after: LogPosition,
    events: VecDeque<WithSize<Arc<LogEntry>>>,
    bytes: usize,
}

impl RecentLog {
    /// What is known after a position, at most `limit` events; empty where that is not known, or
    /// nothing is.
    pub(super) fn after(&self, after: LogPosition, limit: u32) -> Vec<Arc<LogEntry>> {
        let part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        if after < part.after {
            return Vec::new();
        }
        let known = part
            .events
            .partition_point(|(entry, _)| entry.position <= after);
        let next = part.events.range(known..).take(limit as usize);
        next.map(|(entry, _)| Arc::clone(entry)).collect()
    }

    /// Waits for the turn to read more.
    pub(super) async fn reading(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reading.lock().await
    }

    /// For how many events a page is asked, at most `limit`: what the database sends beyond a page's
    /// bytes is sent for nothing, so it is asked for about as many events as the page can hold.
    pub(super) fn events_for_page(&self, limit: u32) -> u32 {
        let held = LOG_BYTES_MAX / self.event_bytes.load(Ordering::Relaxed).max(1);
        u32::try_from(held.max(PAGE_MIN)).map_or(limit, |held| held.min(limit))
    }

    /// Learns how large events are now.
    pub(super) fn learn_size(&self, read: &[WithSize<LogEntry>]) {
        let bytes: usize = read.iter().map(|(_, bytes)| bytes).sum();
        if let Some(mean) = bytes.checked_div(read.len()) {
            self.event_bytes.store(mean, Ordering::Relaxed);
        }
    }

    /// Takes in what was read after a position: all events from there to the last of them.
    pub(super) fn take(&self, after: LogPosition, read: &[WithSize<Arc<LogEntry>>]) {
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        let end = part
            .events
            .back()
            .map_or(part.after, |(entry, _)| entry.position);
        if after < part.after || read.last().is_none_or(|(last, _)| last.position <= end) {
            return;
        }
        if after > end {
            *part = Part {
                after,
                ..Part::default()
            };
        }
        for (entry, bytes) in read {
            if after > end || entry.position > end {
                part.bytes += bytes;
                part.events.push_back((Arc::clone(entry), *bytes));
            }
        }
        while part.events.len() > EVENTS_MAX || part.bytes > BYTES_MAX {
            let Some((entry, bytes)) = part.events.pop_front() else {
                break;
            };
            part.bytes -= bytes;
            part.after = entry.position;
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{
        events::{StoredEvent, WorkflowEvent},
        ids::Slug,
    };

    fn at(entry: i64) -> LogPosition {
        LogPosition { entry, position: 0 }
    }

    fn read(entries: impl IntoIterator<Item = i64>) -> Vec<WithSize<Arc<LogEntry>>> {
        let event = WorkflowEvent::WorkflowCompleted { output: json!(1) };
        let entry = |entry| LogEntry {
            position: at(entry),
            workflow: Slug::new("w").unwrap(),
            started_at: DateTime::UNIX_EPOCH,
            event: StoredEvent {
                event_id: Uuid::nil(),
                task_id: crate::ids::TaskId(Uuid::nil()),
                version: 1,
                occurred_at: DateTime::UNIX_EPOCH,
                metadata: serde_json::from_value(json!({
                    "command_id": Uuid::nil(), "correlation_id": "", "schema_version": 1
                }))
                .unwrap(),
                event: event.clone(),
            },
        };
        entries
            .into_iter()
            .map(|n| (Arc::new(entry(n)), 10))
            .collect()
    }

    fn known(log: &RecentLog, after: i64) -> Vec<i64> {
        let found = log.after(at(after), 100).into_iter();
        found.map(|entry| entry.position.entry).collect()
    }

    #[test]
    fn what_one_has_read_the_next_finds() {
        let log = RecentLog::default();
        assert!(known(&log, 0).is_empty());
        log.take(at(0), &read([1, 2, 3]));
        assert_eq!(known(&log, 0), [1, 2, 3]);
        assert_eq!(known(&log, 2), [3]);
        assert!(known(&log, 3).is_empty());
        // Read from within, and from its end.
        log.take(at(1), &read([2, 3, 4]));
        log.take(at(4), &read([5]));
        assert_eq!(known(&log, 0), [1, 2, 3, 4, 5]);
        assert_eq!(log.after(at(0), 2).len(), 2);
    }

    #[test]
    fn parts_with_a_gap_between_them_do_not_join() {
        let log = RecentLog::default();
        log.take(at(0), &read([1, 2]));
        log.take(at(7), &read([8, 9]));
        assert_eq!(known(&log, 7), [8, 9]);
        assert!(known(&log, 2).is_empty(), "3 to 7 are not known");
        // Who is far behind does not push out what is new.
        log.take(at(0), &read([1, 2, 3]));
        assert_eq!(known(&log, 8), [9]);
    }

    #[test]
    fn the_oldest_are_forgotten_beyond_the_bounds() {
        let log = RecentLog::default();
        let many = i64::try_from(EVENTS_MAX).unwrap() + 2;
        log.take(at(0), &read(1..=many));
        assert!(known(&log, 1).is_empty());
        assert_eq!(log.after(at(2), 1)[0].position, at(3));
        let huge: Vec<WithSize<Arc<LogEntry>>> = read([many + 1, many + 2]);
        let huge: Vec<WithSize<Arc<LogEntry>>> = huge
            .into_iter()
            .map(|(entry, _)| (entry, BYTES_MAX))
            .collect();
        log.take(at(many), &huge);
        assert_eq!(known(&log, many + 1), [many + 2]);
    }
}
