//! Tasks whose commands were set aside lately: they failed alone although the store was there.
//!
//! The commands themselves are in a retry queue, or timers whose lease runs out. This memory keeps
//! them from spoiling the batches of others when they return, and lets operators see them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use glyph_workflow_engine::{ids::TaskId, store::SplitReason};
use tokio::time::Instant;

/// A task is forgotten after this time without a failure: its commands were settled by another
/// process. Longer than they wait in the retry queue.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(3);
/// Tasks remembered; beyond it the others are treated as if they had never failed.
const TASKS_MAX: usize = 10_000;

/// What was set aside for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AsideCount {
    /// Tasks.
    pub(super) tasks: usize,
    /// How long ago the first command of the oldest was set aside.
    pub(super) oldest: Duration,
}

#[derive(Debug)]
struct Entry {
    reason: SplitReason,
    since: Instant,
    last: Instant,
}

/// The tasks of all lanes.
#[derive(Debug, Default)]
pub(super) struct SetAside(Mutex<HashMap<TaskId, Entry>>);

impl SetAside {
    /// A command of the task was set aside.
    pub(super) fn note(&self, task: TaskId, reason: SplitReason) {
        self.note_at(task, reason, Instant::now());
    }

    fn note_at(&self, task: TaskId, reason: SplitReason, now: Instant) {
        let mut tasks = self.tasks();
        if tasks.len() < TASKS_MAX || tasks.contains_key(&task) {
            let since = tasks.get(&task).map_or(now, |entry| entry.since);
            let entry = Entry {
                reason,
                since,
                last: now,
            };
            tasks.insert(task, entry);
        }
    }

    /// Commands of these tasks have an outcome.
    pub(super) fn settled(&self, of: impl Iterator<Item = TaskId>) {
        let mut tasks = self.tasks();
        if !tasks.is_empty() {
            for task in of {
                tasks.remove(&task);
            }
        }
    }

    /// Whether a command of the task is likely to fail again.
    pub(super) fn is_suspect(&self, task: TaskId) -> bool {
        self.tasks().contains_key(&task)
    }

    /// What is set aside now, by reason.
    pub(super) fn counts(&self) -> BTreeMap<SplitReason, AsideCount> {
        self.counts_at(Instant::now())
    }

    fn counts_at(&self, now: Instant) -> BTreeMap<SplitReason, AsideCount> {
        let mut tasks = self.tasks();
        tasks.retain(|_, entry| now - entry.last < FORGOTTEN_AFTER);
        let none = |reason| (reason, AsideCount::default());
        let mut counts: BTreeMap<_, _> = SplitReason::ALL.into_iter().map(none).collect();
        for entry in tasks.values() {
            let count = counts.entry(entry.reason).or_default();
            count.tasks += 1;
            count.oldest = count.oldest.max(now - entry.since);
        }
        counts
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<TaskId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_a_suspect_until_it_succeeds_or_is_heard_of_no_more() {
        let aside = SetAside::default();
        let [one, two] = [1, 2].map(|n| TaskId(uuid::Uuid::from_u128(n)));
        let (start, later) = (Instant::now(), Instant::now() + Duration::from_mins(2));
        aside.note_at(one, SplitReason::Blocked, start);
        aside.note_at(one, SplitReason::TooSlow, later);
        aside.note_at(two, SplitReason::Blocked, later);
        let slow = aside.counts_at(later)[&SplitReason::TooSlow];
        assert_eq!((slow.tasks, slow.oldest), (1, later - start));
        aside.settled([one].into_iter());
        assert!(!aside.is_suspect(one) && aside.is_suspect(two));
        let counts = aside.counts_at(later + FORGOTTEN_AFTER);
        assert_eq!(counts[&SplitReason::Blocked], AsideCount::default());
        assert!(!aside.is_suspect(two));
    }
}
