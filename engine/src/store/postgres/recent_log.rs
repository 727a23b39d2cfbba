//! The newest part of the log, kept in memory for the projections of a process.
//!
//! Projections follow the log side by side, and each needs the same events a moment after they were
//! committed. What this process has committed itself is kept here as it was decided, and what one
//! projection had to read is kept, decoded, for the next. The database alone says which batches the log
//! has and in which order ([`Batch`]), so memory never adds, moves or hides an event: it only saves
//! reading one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use chrono::{DateTime, Utc};

use crate::{
    events::LogPosition,
    limits,
    store::{
        LogEntry,
        rows::{LOG_BYTES_MAX, WithSize},
    },
};

/// Events kept: those of some steps of a projection, or of a second at full load.
const EVENTS_MAX: usize = 3 * limits::FOLDED_MAX as usize;
/// Bytes of their data kept, as text.
const BYTES_MAX: usize = LOG_BYTES_MAX;
/// Events for which a page is asked at least.
const PAGE_MIN: usize = 8;

/// A batch of the log. A server that has lost its newest transactions draws their numbers again, so a
/// batch is known by the time at which it was written, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Batch {
    pub(super) number: i64,
    pub(super) written_at: DateTime<Utc>,
}

/// A batch with its place in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlacedBatch {
    pub(super) entry: i64,
    pub(super) batch: Batch,
}

/// An event that was read, with its size and its batch.
pub(super) struct ReadEvent {
    pub(super) entry: Arc<LogEntry>,
    pub(super) bytes: usize,
    pub(super) batch: Batch,
}

/// The newest part of the log.
#[derive(Debug, Default)]
pub(super) struct RecentLog {
    kept: Mutex<Kept>,
    reading: tokio::sync::Mutex<()>,
    /// Bytes of an event's data in the page that was read last.
    event_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    batches: HashMap<Batch, Events>,
    /// The batches, those first that were kept first.
    order: VecDeque<Batch>,
    events: usize,
    bytes: usize,
    /// Events committed since somebody asked. Where nobody follows the log, as its projections run in
    /// other processes, nothing is kept.
    unasked: usize,
}

/// The first events of a batch, or all.
#[derive(Debug)]
struct Events {
    events: Vec<WithSize<Arc<LogEntry>>>,
    is_whole: bool,
}

/// What is known of the events after a position.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) events: Vec<Arc<LogEntry>>,
    /// Whether nothing is missing up to the end of the batches that were asked for.
    pub(super) is_all: bool,
}

impl Kept {
    fn add(&mut self, batch: Batch, events: Vec<WithSize<Arc<LogEntry>>>, is_whole: bool) {
        self.events += events.len();
        self.bytes += events.iter().map(|(_, bytes)| bytes).sum::<usize>();
        let kept = self.batches.entry(batch).or_insert_with(|| {
            self.order.push_back(batch);
            Events {
                events: Vec::new(),
                is_whole,
            }
        });
        kept.events.extend(events);
        kept.is_whole = is_whole;
        while self.events > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            let gone = self
                .batches
                .remove(&oldest)
                .map_or(Vec::new(), |b| b.events);
            self.events -= gone.len();
            self.bytes -= gone.iter().map(|(_, bytes)| bytes).sum::<usize>();
        }
    }

    /// The entry of what was kept first; 0 where that is not known yet, or nothing is kept.
    fn oldest_entry(&self) -> i64 {
        let oldest = self.order.front().and_then(|batch| self.batches.get(batch));
        let event = oldest.and_then(|kept| kept.events.first());
        event.map_or(0, |(event, _)| event.position.entry)
    }

    fn clear(&mut self) {
        *self = Self {
            unasked: self.unasked,
            ..Self::default()
        };
    }
}

impl RecentLog {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of `batches`, which follow each other in the log, after a position: at most
    /// `limit` events.
    pub(super) fn known(&self, batches: &[PlacedBatch], after: LogPosition, limit: usize) -> Known {
        let mut kept = self.kept();
        kept.unasked = 0;
        let mut events = Vec::new();
        let is_all = batches.iter().all(|PlacedBatch { entry, batch }| {
            let Some(found) = kept.batches.get_mut(batch) else {
                return false;
            };
            for (event, _) in &mut found.events {
                // Where a batch stands is known only after it was committed, and nobody has a part of
                // it before.
                if let Some(event) = Arc::get_mut(event) {
                    event.position.entry = *entry;
                }
                if event.position <= after {
                    continue;
                }
                if events.len() == limit {
                    return false;
                }
                events.push(Arc::clone(event));
            }
            found.is_whole
        });
        Known { events, is_all }
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
    pub(super) fn learn_size(&self, events: usize, bytes: usize) {
        if let Some(mean) = bytes.checked_div(events) {
            self.event_bytes.store(mean, Ordering::Relaxed);
        }
    }

    /// Takes in the events of a batch that is committed, whose entry nobody knows yet.
    pub(super) fn committed(&self, batch: Batch, events: Vec<WithSize<LogEntry>>) {
        let mut kept = self.kept();
        kept.unasked += events.len();
        if kept.unasked > EVENTS_MAX {
            kept.clear();
            return;
        }
        // A projection may have read it already, and a batch of messages alone is never asked for.
        if events.is_empty() || kept.batches.contains_key(&batch) {
            return;
        }
        let events = events
            .into_iter()
            .map(|(event, bytes)| (Arc::new(event), bytes));
        kept.add(batch, events.collect(), true);
    }

    /// Takes in what was read after a position: all events from there to the last of them, which is the
    /// end of the log or not.
    pub(super) fn take(&self, after: LogPosition, read: &[ReadEvent], is_end: bool) {
        let mut kept = self.kept();
        let Some(last) = read.last() else {
            return;
        };
        // Who is far behind does not push out what the others need.
        if kept.oldest_entry() > last.entry.position.entry {
            return;
        }
        let last = last.batch;
        for events in read.chunk_by(|one, next| one.batch == next.batch) {
            let (batch, entry) = (events[0].batch, events[0].entry.position.entry);
            // Of the batch at the position, the events up to there are missing, unless they are kept.
            let joins = match kept.batches.get(&batch) {
                Some(known) => {
                    let end = known.events.last();
                    !known.is_whole && end.is_some_and(|(end, _)| end.position == after)
                }
                None => entry != after.entry,
            };
            if joins {
                let events = events
                    .iter()
                    .map(|event| (Arc::clone(&event.entry), event.bytes));
                kept.add(batch, events.collect(), is_end || last != batch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{
        events::{StoredEvent, WorkflowEvent},
        ids::Slug,
    };

    fn log_entry(position: LogPosition) -> LogEntry {
        let event = StoredEvent {
            event_id: Uuid::nil(),
            task_id: crate::ids::TaskId(Uuid::nil()),
            version: 1,
            occurred_at: DateTime::UNIX_EPOCH,
            metadata: serde_json::from_value(json!({
                "command_id": Uuid::nil(), "correlation_id": "", "schema_version": 1
            }))
            .unwrap(),
            event: WorkflowEvent::WorkflowCompleted { output: json!(1) },
        };
        LogEntry {
            position,
            workflow: Slug::new("w").unwrap(),
            started_at: DateTime::UNIX_EPOCH,
            event,
        }
    }

    fn batch(number: i64) -> Batch {
        Batch {
            number,
            written_at: DateTime::UNIX_EPOCH,
        }
    }

    /// Batches are numbered by tens of their entries.
    fn placed(entries: RangeInclusive<i64>) -> Vec<PlacedBatch> {
        let placed = |entry| PlacedBatch {
            entry,
            batch: batch(entry * 10),
        };
        entries.map(placed).collect()
    }

    fn at(entry: i64, position: i64) -> LogPosition {
        LogPosition { entry, position }
    }

    fn commit_sized(log: &RecentLog, entry: i64, positions: RangeInclusive<i64>, bytes: usize) {
        let new = |position| (log_entry(at(0, position)), bytes);
        log.committed(batch(entry * 10), positions.map(new).collect());
    }

    fn commit(log: &RecentLog, entry: i64, positions: RangeInclusive<i64>) {
        commit_sized(log, entry, positions, 10);
    }

    fn read(entry: i64, positions: RangeInclusive<i64>) -> Vec<ReadEvent> {
        let read = |position| ReadEvent {
            entry: Arc::new(log_entry(at(entry, position))),
            bytes: 10,
            batch: batch(entry * 10),
        };
        positions.map(read).collect()
    }

    /// The positions known in these entries after a position, and whether that is all.
    fn known(
        log: &RecentLog,
        entries: RangeInclusive<i64>,
        after: LogPosition,
    ) -> (Vec<LogPosition>, bool) {
        let known = log.known(&placed(entries), after, usize::MAX);
        let positions = known.events.iter().map(|event| event.position);
        (positions.collect(), known.is_all)
    }

    #[test]
    fn what_is_committed_is_known_where_the_log_has_it() {
        let log = RecentLog::default();
        commit(&log, 2, 5..=6);
        commit(&log, 1, 7..=8);
        let all = vec![at(1, 7), at(1, 8), at(2, 5), at(2, 6)];
        assert_eq!(known(&log, 1..=2, at(0, 0)), (all, true));
        assert_eq!(known(&log, 1..=2, at(2, 5)), (vec![at(2, 6)], true));
        // Nothing that the database does not name is told, nor anything behind what is not known.
        assert_eq!(known(&log, 1..=1, at(1, 8)), (vec![], true));
        assert_eq!(known(&log, 2..=4, at(2, 5)), (vec![at(2, 6)], false));
        assert_eq!(known(&log, 0..=2, at(0, 0)), (vec![], false));
        // The same number, written at another time, is another batch.
        let mut other = placed(1..=1);
        other[0].batch.written_at += chrono::TimeDelta::microseconds(1);
        assert!(!log.known(&other, at(0, 0), 100).is_all);
    }

    #[test]
    fn a_page_ends_at_its_limit_and_goes_on_from_there() {
        let log = RecentLog::default();
        commit(&log, 1, 1..=3);
        let page = log.known(&placed(1..=1), at(0, 0), 2);
        assert_eq!((page.events.len(), page.is_all), (2, false));
        assert_eq!(known(&log, 1..=1, at(1, 2)), (vec![at(1, 3)], true));
        assert!(log.known(&placed(1..=1), at(0, 0), 3).is_all);
    }

    #[test]
    fn what_one_has_read_the_next_finds() {
        let log = RecentLog::default();
        let page: Vec<_> = read(1, 1..=2).into_iter().chain(read(2, 3..=3)).collect();
        log.take(at(0, 0), &page, false);
        let first = vec![at(1, 1), at(1, 2), at(2, 3)];
        assert_eq!(known(&log, 1..=2, at(0, 0)), (first, false), "2 may go on");
        // The rest of a batch joins its beginning, and nothing else does.
        log.take(at(2, 4), &read(2, 5..=5), true);
        log.take(at(2, 3), &read(2, 4..=5), true);
        log.take(at(2, 3), &read(2, 4..=5), true);
        let rest = vec![at(2, 4), at(2, 5)];
        assert_eq!(known(&log, 1..=2, at(2, 3)), (rest, true));
        log.take(at(3, 8), &read(3, 9..=9), true);
        assert_eq!(known(&log, 3..=3, at(3, 8)), (vec![], false));
    }

    #[test]
    fn who_is_far_behind_keeps_nothing_from_the_others() {
        let log = RecentLog::default();
        log.take(at(6, 9), &read(7, 1..=2), true);
        log.take(at(0, 0), &read(1, 1..=2), false);
        assert_eq!(known(&log, 1..=1, at(0, 0)), (vec![], false));
        log.take(at(7, 2), &read(8, 3..=3), true);
        assert_eq!(
            known(&log, 7..=8, at(7, 1)),
            (vec![at(7, 2), at(8, 3)], true)
        );
    }

    #[test]
    fn what_was_read_before_it_was_noted_as_committed_is_there_once() {
        let log = RecentLog::default();
        log.take(at(0, 0), &read(1, 1..=2), true);
        commit(&log, 1, 1..=2);
        log.take(at(0, 0), &read(1, 1..=2), true);
        let once = vec![at(1, 1), at(1, 2)];
        assert_eq!(known(&log, 1..=1, at(0, 0)), (once, true));
    }

    #[test]
    fn the_oldest_are_forgotten_beyond_the_bounds() {
        let log = RecentLog::default();
        let most = i64::try_from(EVENTS_MAX).unwrap();
        commit(&log, 1, 1..=most / 2);
        assert!(known(&log, 1..=1, at(0, 0)).1);
        commit(&log, 2, most..=most + most / 2);
        assert!(!known(&log, 1..=1, at(0, 0)).1);
        assert!(known(&log, 2..=2, at(0, 0)).1);
        commit_sized(&log, 3, 1..=1, BYTES_MAX);
        assert!(!known(&log, 2..=2, at(0, 0)).1);
        assert!(known(&log, 3..=3, at(0, 0)).1);
    }

    #[test]
    fn nothing_is_kept_where_nobody_asks() {
        let log = RecentLog::default();
        let most = i64::try_from(EVENTS_MAX).unwrap();
        commit(&log, 1, 1..=most);
        commit(&log, 2, 1..=1);
        assert_eq!(log.kept().events, 0);
        assert!(!known(&log, 2..=2, at(0, 0)).1);
        commit(&log, 3, 1..=1);
        assert!(known(&log, 3..=3, at(0, 0)).1);
    }

    #[test]
    fn a_batch_of_messages_alone_takes_no_room() {
        let log = RecentLog::default();
        log.committed(batch(10), Vec::new());
        assert!(log.kept().order.is_empty());
    }
}
