//! How many commands make a batch. Pure.

use std::collections::VecDeque;

/// Each failed delivery divides the batch by this: a command that kills the process is alone after
/// a few crashes, long before the delivery limit, and its neighbours survive.
const DIVISOR: usize = 8;

/// After this many earlier deliveries, a batch of any allowed size is down to one or a few
/// commands.
const SUSPECT_AFTER: u32 = 3;

/// The largest batch that a command may join after `deliveries_before` earlier deliveries.
pub fn size_max(batch_max: usize, deliveries_before: u32) -> usize {
    let divisor = DIVISOR.checked_pow(deliveries_before).unwrap_or(usize::MAX);
    (batch_max / divisor).max(1)
}

/// Whether a command has been in so many failed batches that it may be the cause.
pub(super) fn may_be_poison(deliveries_before: u32) -> bool {
    deliveries_before >= SUSPECT_AFTER
}

/// How many commands from the front make the next batch: the longest run that is within the limit
/// of each of its members.
pub fn batch_len<T>(
    waiting: &VecDeque<T>,
    batch_max: usize,
    deliveries_before: impl Fn(&T) -> u32,
) -> usize {
    let mut allowed = batch_max.max(1);
    let mut taken = 0;
    for job in waiting {
        let with_it = allowed.min(size_max(batch_max, deliveries_before(job)));
        if taken + 1 > with_it {
            break;
        }
        allowed = with_it;
        taken += 1;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_redelivery_takes_an_eighth() {
        let sizes: Vec<_> = (0..5).map(|before| size_max(512, before)).collect();
        assert_eq!(sizes, [512, 64, 8, 1, 1]);
        assert_eq!(size_max(512, u32::MAX), 1);
        assert_eq!(size_max(1, 0), 1);
        assert_eq!(size_max(0, 0), 1);
    }

    #[test]
    fn the_worst_member_decides_the_size() {
        let len = |jobs: &[u32]| batch_len(&jobs.iter().copied().collect(), 64, |before| *before);
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
}
