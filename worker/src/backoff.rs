//! Growing, jittered waits between attempts. Only this module uses the crate `backoff`: it is no
//! longer developed, so replacing it must touch this file alone.

use std::{
    cell::RefCell,
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use ::backoff::{SystemClock, backoff::Backoff as _, exponential::ExponentialBackoff};
use glyph_workflow_engine::reliability::simulation::Random;

/// Each wait is between so much of its length and as much more.
const SPREAD: f64 = 0.5;

thread_local! {
    /// Where the draws of a reproducible thread have come to.
    static DRAWN: RefCell<Option<Random>> = const { RefCell::new(None) };
}

/// Makes the waits of this thread follow from a seed. A simulation runs a whole world on one thread,
/// and the same seed must give the same world.
pub fn reproducible(seed: u64) {
    DRAWN.set(Some(Random::new(seed)));
}

/// A number from 0 up to 1.
fn draw() -> f64 {
    let drawn = DRAWN.with_borrow_mut(|random| random.as_mut().map(Random::unit));
    // The keys of hash tables are random.
    drawn.unwrap_or_else(|| Random::new(RandomState::new().build_hasher().finish()).unit())
}

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
            // The crate draws by itself; the waits are spread below.
            randomization_factor: 0.0,
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
        let interval = self.intervals.next_backoff();
        let interval = interval.unwrap_or(self.intervals.max_interval);
        interval.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * draw())
    }

    /// Starts again from the first wait: the last attempt succeeded.
    pub fn reset(&mut self) {
        self.intervals.reset();
    }
}

/// The first wait for the next connection.
const CONNECT_FIRST: Duration = Duration::from_millis(100);
/// The longest.
const CONNECT_LONGEST: Duration = Duration::from_secs(10);
/// A connection that lived this long counts as a success: the waits start small again.
const LIVED: Duration = Duration::from_secs(10);

/// Waits between the connections to a broker. They grow while connections break soon, for each that
/// breaks counts as a failed delivery of what was on its way: a link that breaks every second would
/// soon use up the broker's delivery limit.
#[derive(Debug)]
pub struct Reconnecting(Backoff);

impl Default for Reconnecting {
    fn default() -> Self {
        Self(Backoff::new(CONNECT_FIRST, CONNECT_LONGEST))
    }
}

impl Reconnecting {
    /// How long to wait after a connection that lived for so long.
    pub fn wait_after(&mut self, lived: Duration) -> Duration {
        if lived >= LIVED {
            self.0.reset();
        }
        self.0.next()
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
    fn a_seed_leads_to_the_same_waits_again() {
        let waits = |seed| {
            let drawn = std::thread::spawn(move || {
                reproducible(seed);
                let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
                (0..10).map(|_| backoff.next()).collect::<Vec<_>>()
            });
            drawn.join().unwrap()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn two_of_them_do_not_keep_step() {
        let mut one = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        let mut other = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        let differ = (0..10).any(|_| one.next() != other.next());
        assert!(differ);
    }
}
