//! Events that this process has committed and has not yet read in the log.

use std::collections::{BTreeMap, HashMap};

use crate::{events::StoredEvent, ids::TaskId};

/// Events kept; beyond it the oldest are dropped. A copy that has learned from them keeps that
/// until the log moves on, and then misses them until they are read.
const EVENTS_MAX: usize = 10_000;

/// Events between their commit and the log. Only one batch at a time commits to a task.
#[derive(Default)]
pub(super) struct PendingEvents {
    /// The last version of each task being committed. Noted before the commit, because the log may
    /// be read between the commit and its return.
    committing: HashMap<TaskId, u64>,
    /// Committed events, numbered in the order in which their commits returned.
    committed: BTreeMap<u64, StoredEvent>,
    numbers: HashMap<TaskId, Vec<u64>>,
    next: u64,
}

impl PendingEvents {
    /// A batch is about to commit up to version `last` of a task.
    pub(super) fn committing(&mut self, task: TaskId, last: u64) {
        self.committing.insert(task, last);
    }

    /// The commit returned: `is_committed`, or unknown. After an unknown commit only the log
    /// counts.
    pub(super) fn returned(&mut self, events: Vec<StoredEvent>, is_committed: bool) {
        let Some(last) = events.last() else { return };
        let is_unread = self.committing.get(&last.task_id) == Some(&last.version);
        if !is_unread {
            return;
        }
        self.committing.remove(&last.task_id);
        for event in events.into_iter().filter(|_| is_committed) {
            let of_task = self.numbers.entry(event.task_id).or_default();
            of_task.push(self.next);
            self.committed.insert(self.next, event);
            self.next += 1;
        }
        while self.committed.len() > EVENTS_MAX
            && let Some((number, event)) = self.committed.pop_first()
        {
            self.retain_numbers(event.task_id, |of_task| of_task != number);
        }
    }

    /// An event was read in the log, after all earlier events of its task.
    pub(super) fn read(&mut self, event: &StoredEvent) {
        let task = event.task_id;
        if self
            .committing
            .get(&task)
            .is_some_and(|last| *last <= event.version)
        {
            self.committing.remove(&task);
        }
        let Some(of_task) = self.numbers.get(&task) else {
            return;
        };
        let is_read = |number: &u64| {
            let committed = self.committed.get(number);
            committed.is_none_or(|committed| committed.version <= event.version)
        };
        for number in of_task.iter().copied().filter(is_read).collect::<Vec<_>>() {
            self.committed.remove(&number);
            self.retain_numbers(task, |of_task| of_task != number);
        }
    }

    fn retain_numbers(&mut self, task: TaskId, keep: impl Fn(u64) -> bool) {
        if let Some(numbers) = self.numbers.get_mut(&task) {
            numbers.retain(|number| keep(*number));
            if numbers.is_empty() {
                self.numbers.remove(&task);
            }
        }
    }

    /// Whether all committed events have been read.
    pub(super) fn is_empty(&self) -> bool {
        self.committed.is_empty()
    }

    /// Committed and unread events from a number on, and the number to continue from.
    pub(super) fn since(&self, number: u64) -> (Vec<StoredEvent>, u64) {
        let events = self.committed.range(number..);
        (events.map(|(_, event)| event.clone()).collect(), self.next)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::{
        events::{EventMetadata, WorkflowEvent},
        ids::CommandId,
    };

    fn task(number: u128) -> TaskId {
        TaskId(Uuid::from_u128(number))
    }

    fn event(task_id: TaskId, version: u64) -> StoredEvent {
        let error = String::new();
        StoredEvent {
            event_id: Uuid::nil(),
            task_id,
            version,
            occurred_at: DateTime::default(),
            metadata: EventMetadata {
                command_id: CommandId(Uuid::nil()),
                correlation_id: String::new(),
                traceparent: None,
                actor: None,
                schema_version: 1,
                gold: false,
            },
            event: WorkflowEvent::WorkflowFailed { error },
        }
    }

    fn commit(pending: &mut PendingEvents, task: TaskId, versions: &[u64]) {
        pending.committing(task, *versions.last().unwrap());
        let events = versions.iter().map(|version| event(task, *version));
        pending.returned(events.collect(), true);
    }

    fn versions(pending: &PendingEvents, from: u64) -> (Vec<(TaskId, u64)>, u64) {
        let (events, next) = pending.since(from);
        let versions = events.iter().map(|event| (event.task_id, event.version));
        (versions.collect(), next)
    }

    #[test]
    fn what_is_committed_is_told_in_order_until_it_is_read() {
        let (a, b) = (task(1), task(2));
        let mut pending = PendingEvents::default();
        commit(&mut pending, a, &[1, 3]);
        commit(&mut pending, b, &[2]);
        commit(&mut pending, a, &[5]);
        assert_eq!(
            versions(&pending, 0),
            (vec![(a, 1), (a, 3), (b, 2), (a, 5)], 4)
        );
        assert_eq!(versions(&pending, 3), (vec![(a, 5)], 4));
        pending.read(&event(a, 4));
        assert_eq!(versions(&pending, 0), (vec![(b, 2), (a, 5)], 4));
        pending.read(&event(b, 2));
        pending.read(&event(a, 5));
        assert!(pending.is_empty() && pending.numbers.is_empty());
    }

    #[test]
    fn what_was_not_committed_or_is_read_already_is_not_told() {
        let (a, b) = (task(1), task(2));
        let mut pending = PendingEvents::default();
        pending.committing(a, 2);
        pending.returned(vec![event(a, 2)], false);
        // Read by another lane before the commit returned.
        pending.committing(b, 2);
        pending.read(&event(b, 1));
        pending.read(&event(b, 2));
        pending.returned(vec![event(b, 1), event(b, 2)], true);
        assert!(pending.is_empty() && pending.committing.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten_beyond_the_bound() {
        let mut pending = PendingEvents::default();
        let count = EVENTS_MAX as u64 + 2;
        for number in 0..count {
            commit(&mut pending, task(u128::from(number / 3)), &[number + 1]);
        }
        let (events, next) = versions(&pending, 0);
        assert_eq!((events.len(), next), (EVENTS_MAX, count));
        assert_eq!(events.first(), Some(&(task(0), 3)));
        for (task_id, version) in events {
            pending.read(&event(task_id, version));
        }
        assert!(pending.is_empty() && pending.numbers.is_empty());
    }
}
