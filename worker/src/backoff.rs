//! Growing, jittered waits between attempts. Only this module uses the crate `backoff`: it is no
//! longer developed, so replacing it must touch this file alone.

use std::time::Duration;

use ::backoff::{SystemClock, backoff::Backoff as _, exponential::ExponentialBackoff};

/// Waits that double from the first to the longest. Each is spread by half its length in either
/// direction, so that many processes that lost the same service do not return in step. There is
/// always a next wait: retries never give up.
#[derive(Debug)]
pub struct Backoff {
    intervals: ExponentialBackoff<SystemClock>,
}

impl Backoff {
    /// The first wait is about `first`, none is longer than one and a half times `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let mut intervals = ExponentialBackoff {
            initial_interval: first,
            max_interval: longest,
            multiplier: 2.0,
            randomization_factor: 0.5,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        intervals.reset();
        Self { intervals }
    }

    /// How long to wait before the next attempt.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator may end, and its adapters invite collecting; this one never ends"
    )]
    pub fn next(&mut self) -> Duration {
        // `None` needs a longest elapsed time, and there is none.
        self.intervals
            .next_backoff()
            .unwrap_or(self.intervals.max_interval)
    }

    /// Starts again from the first wait: the last attempt succeeded.
    pub fn reset(&mut self) {
        self.intervals.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_again_after_a_reset() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(first, longest);
        let waits: Vec<_> = (0..200).map(|_| backoff.next()).collect();
        assert!(waits[0] >= first / 2 && waits[0] <= first * 3 / 2 + Duration::from_nanos(1));
        assert!(
            waits
                .iter()
                .all(|wait| *wait <= longest * 3 / 2 + Duration::from_nanos(1))
        );
        assert!(waits[100..].iter().all(|wait| *wait >= longest / 2));
        backoff.reset();
        assert!(backoff.next() <= first * 3 / 2 + Duration::from_nanos(1));
    }

    #[test]
    fn two_of_them_do_not_keep_step() {
        let mut one = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        let mut other = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        let differ = (0..10).any(|_| one.next() != other.next());
        assert!(differ);
    }
}
