//! How many commands make a batch. Pure.

use std::{collections::VecDeque, time::Duration};

/// Each failed delivery divides the batch by this: a command that kills the process is alone after
/// a few crashes, long before the delivery limit, and its neighbours survive.
const DIVISOR: usize = 8;

/// After this many earlier deliveries, what is run is written down before: a batch of any allowed
/// size is down to a few commands.
const SUSPECT_AFTER: u32 = 2;

/// After so many batches of such commands that the process has outlived, they travel in larger ones: a lost
/// link brings back thousands of commands, none of which has killed anything.
const OUTLIVED: u32 = 4;

/// What a process has learned of redelivered commands.
#[derive(Debug, Default)]
pub(super) struct Redelivered {
    outlived: u32,
}

impl Redelivered {
    /// A batch of commands that may have been the cause was run, and the process lives.
    pub(super) fn outlived(&mut self) {
        self.outlived = self.outlived.saturating_add(1);
    }

    /// How many of the earlier deliveries of a command divide its batch. Never none: what kills the
    /// process may be yet to come.
    pub(super) fn divide(&self, deliveries_before: u32) -> u32 {
        let most = if self.outlived < OUTLIVED {
            SUSPECT_AFTER
        } else {
            1
        };
        deliveries_before.min(most)
    }
}

/// Bytes of commands in a batch of a worker. What is written for a command is about ten times its
/// size, and each lane has a batch at work.
const BATCH_BYTES_MAX: usize = 2 << 20;
/// A full batch that took no longer than this lets the next one be larger.
const QUICK: Duration = Duration::from_secs(1);

/// The most that a batch may hold.
#[derive(Clone, Copy, Debug)]
pub struct BatchMax {
    /// Commands; at least one.
    pub commands: usize,
    /// Bytes of commands. A batch ends before the command that passes it, and a larger command travels
    /// alone.
    pub bytes: usize,
}

impl BatchMax {
    /// As many commands, of the bytes that suit a worker.
    pub fn of_commands(commands: usize) -> Self {
        Self {
            commands,
            bytes: BATCH_BYTES_MAX,
        }
    }
}

/// How many commands the batches of a lane may have now: fewer after a batch that was too slow or
/// too big, more again once they are quick.
#[derive(Debug)]
pub(super) struct BatchLimit {
    max: usize,
    now: usize,
}

impl BatchLimit {
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { max, now: max }
    }

    pub(super) fn commands(&self) -> usize {
        self.now
    }

    /// A batch of `len` commands was too slow or too big.
    pub(super) fn failed(&mut self, len: usize) {
        self.now = self.now.min(len / 2).max(1);
    }

    /// A batch of `len` commands was committed.
    pub(super) fn succeeded(&mut self, len: usize, took: Duration) {
        if len >= self.now && took <= QUICK {
            self.now = (self.now * 2).min(self.max);
        }
    }
}

/// The largest batch that a command may join after `deliveries_before` earlier deliveries.
fn size_max(batch_max: usize, deliveries_before: u32) -> usize {
    let divisor = DIVISOR.checked_pow(deliveries_before).unwrap_or(usize::MAX);
    (batch_max / divisor).max(1)
}

/// Whether a command has been in so many failed batches that it may be the cause.
pub(super) fn may_be_poison(deliveries_before: u32) -> bool {
    deliveries_before >= SUSPECT_AFTER
}

/// How many commands from the front make the next batch: the longest run that is within the limit
/// of each of its members, and within `max`.
pub(super) fn batch_len<T>(
    waiting: &VecDeque<T>,
    max: BatchMax,
    deliveries_before: impl Fn(&T) -> u32,
    bytes: impl Fn(&T) -> usize,
) -> usize {
    let mut allowed = max.commands.max(1);
    let mut taken = 0;
    let mut room = max.bytes;
    for job in waiting {
        let with_it = allowed.min(size_max(max.commands, deliveries_before(job)));
        if taken + 1 > with_it || (taken > 0 && bytes(job) > room) {
            break;
        }
        allowed = with_it;
        room = room.saturating_sub(bytes(job));
        taken += 1;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: BatchMax = BatchMax {
        commands: 64,
        bytes: 1_000,
    };

    #[test]
    fn every_redelivery_takes_an_eighth() {
        let sizes: Vec<_> = (0..5).map(|before| size_max(512, before)).collect();
        assert_eq!(sizes, [512, 64, 8, 1, 1]);
        assert_eq!(size_max(512, u32::MAX), 1);
        assert_eq!(size_max(1, 0), 1);
        assert_eq!(size_max(0, 0), 1);
    }

    #[test]
    fn what_a_process_outlives_makes_its_batches_larger() {
        let mut redelivered = Redelivered::default();
        let divided = |redelivered: &Redelivered| [0, 1, 2, 9].map(|n| redelivered.divide(n));
        (1..OUTLIVED).for_each(|_| redelivered.outlived());
        assert_eq!(divided(&redelivered), [0, 1, 2, 2]);
        redelivered.outlived();
        assert_eq!(divided(&redelivered), [0, 1, 1, 1]);
    }

    #[test]
    fn the_worst_member_decides_the_size() {
        let len = |jobs: &[u32]| {
            let jobs = jobs.iter().copied().collect();
            batch_len(&jobs, MAX, |before| *before, |_| 1)
        };
        assert_eq!(len(&[0; 100]), 64);
        assert_eq!(len(&[1; 100]), 8);
        assert_eq!(len(&[2; 100]), 1);
        assert_eq!(len(&[]), 0);
        // A redelivered command joins if the batch is small enough, and otherwise waits for the
        // next one.
        assert_eq!(len(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), 8);
        assert_eq!(len(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), 8);
        assert_eq!(len(&[0, 2, 0]), 1);
        assert_eq!(len(&[2, 0, 0]), 1);
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_one_command_always_fits() {
        let len = |sizes: &[usize]| {
            let sizes = sizes.iter().copied().collect();
            batch_len(&sizes, MAX, |_| 0, |bytes| *bytes)
        };
        assert_eq!(len(&[MAX.bytes / 4; 10]), 4);
        assert_eq!(len(&[MAX.bytes + 1, 1]), 1);
        assert_eq!(len(&[1, MAX.bytes]), 1);
        let alone = |commands| {
            let waiting = [1, 1].into();
            batch_len(&waiting, BatchMax { commands, ..MAX }, |_| 0, |_| 1)
        };
        assert_eq!([0, 1].map(alone), [1, 1]);
    }

    #[test]
    fn batches_shrink_when_they_fail_and_grow_while_they_are_quick() {
        assert_eq!([0, 1].map(|max| BatchLimit::new(max).commands()), [1, 1]);
        let mut limit = BatchLimit::new(256);
        limit.failed(200);
        assert_eq!(limit.commands(), 100);
        // Slow, or not full: nothing is known about a larger one.
        limit.succeeded(100, QUICK * 2);
        limit.succeeded(99, Duration::ZERO);
        assert_eq!(limit.commands(), 100);
        limit.succeeded(100, QUICK);
        limit.succeeded(200, QUICK);
        assert_eq!(limit.commands(), 256);
        (0..9).for_each(|_| limit.failed(limit.commands()));
        assert_eq!(limit.commands(), 1);
    }
}
