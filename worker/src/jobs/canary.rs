//! How much of a job may be tried at a time, and when it stops by itself.

use std::collections::VecDeque;

/// Items without an outcome at a time.
const AT_ONCE: u64 = 200;
/// The newest outcomes whose share of failures counts by itself.
const NEWEST: usize = 1_000;

/// Lets one item go first, then ten, then a hundredth, then the rest: a stage begins once every item
/// of the one before has an outcome. Stops once the share of failures is beyond a bound, among all
/// outcomes or among the newest thousand. At most [`AT_ONCE`] items are under way then.
#[derive(Clone, Debug)]
pub struct Canary {
    total: u64,
    succeeded: u64,
    failed: u64,
    stop_at: f64,
    newest: VecDeque<bool>,
}

impl Canary {
    /// Over `total` items, of which some have an outcome already. Stops beyond the share `stop_at`.
    pub fn new(total: u64, succeeded: u64, failed: u64, stop_at: f64) -> Self {
        Self {
            total,
            succeeded,
            failed,
            stop_at,
            newest: VecDeque::with_capacity(NEWEST),
        }
    }

    /// How many more items may be tried while `under_way` have no outcome.
    pub fn room(&self, under_way: u64) -> u64 {
        let stage = self.stage_end().saturating_sub(self.settled() + under_way);
        stage.min(AT_ONCE.saturating_sub(under_way))
    }

    /// Counts an outcome.
    pub fn count(&mut self, failed: bool) {
        if failed {
            self.failed += 1;
        } else {
            self.succeeded += 1;
        }
        if self.newest.len() == NEWEST {
            self.newest.pop_front();
        }
        self.newest.push_back(failed);
    }

    /// Why the job stops, if it does.
    pub fn verdict(&self) -> Option<String> {
        let bound = format!("{:.4}", self.stop_at * 100.0);
        let bound = bound.trim_end_matches('0').trim_end_matches('.');
        let beyond = |failed: u64, of: u64| of > 0 && ratio(failed, of) > self.stop_at;
        if beyond(self.failed, self.settled()) {
            let (failed, of) = (self.failed, self.settled());
            return Some(format!("{failed} of {of} failed, more than {bound} %"));
        }
        let newest = self.newest.iter().filter(|failed| **failed).count() as u64;
        if self.newest.len() == NEWEST && beyond(newest, NEWEST as u64) {
            return Some(format!(
                "{newest} of the newest {NEWEST} failed, more than {bound} %"
            ));
        }
        None
    }

    fn settled(&self) -> u64 {
        self.succeeded + self.failed
    }

    fn stage_end(&self) -> u64 {
        let third = 11 + self.total.div_ceil(100).max(10);
        let stages = [1, 11, third, self.total];
        let settled = self.settled();
        let end = stages.into_iter().find(|end| *end > settled);
        end.unwrap_or(self.total).min(self.total)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of items are far below 2^53"
)]
fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a job whose items fail as `fails` says; returns tried and failed ones, at the most
    /// unlucky: outcomes come in as late as they may.
    fn run(total: u64, stop_at: f64, fails: impl Fn(u64) -> bool) -> (u64, u64) {
        let mut canary = Canary::new(total, 0, 0, stop_at);
        let (mut tried, mut under_way) = (0, VecDeque::new());
        loop {
            while canary.verdict().is_none() && canary.room(under_way.len() as u64) > 0 {
                under_way.push_back(tried);
                tried += 1;
            }
            let Some(item) = under_way.pop_front() else {
                return (tried, canary.failed);
            };
            canary.count(fails(item));
        }
    }

    #[test]
    fn stages_are_one_ten_a_hundredth_and_the_rest() {
        let mut canary = Canary::new(100_000, 0, 0, 0.01);
        for (stage, expected) in [(1, 1), (10, 10), (1_000, 200)] {
            assert_eq!(canary.room(0), expected);
            for _ in 0..stage {
                canary.count(false);
            }
        }
        assert_eq!((canary.room(0), canary.room(200)), (200, 0));
        // A stage is not left while one of it is under way.
        let canary = Canary::new(100_000, 10, 0, 0.01);
        assert_eq!((canary.room(0), canary.room(1)), (1, 0));
        assert_eq!(Canary::new(5, 1, 0, 0.01).room(0), 4);
        assert_eq!(Canary::new(0, 0, 0, 0.01).room(0), 0);
    }

    #[test]
    fn it_stops_beyond_the_bound_and_few_failures_later() {
        assert_eq!(run(1_000, 0.01, |_| true), (1, 1));
        assert_eq!(run(1_000, 1.0, |_| true), (1_000, 1_000));
        assert_eq!(run(1_000, 0.01, |_| false), (1_000, 0));
        // Sound at first, and broken from some item on: few of the many are tried.
        let (tried, failed) = run(100_000, 0.01, |item| item >= 50_000);
        assert!(failed <= 211 && tried < 50_300, "{tried} {failed}");
        // Three in a hundred.
        let (tried, failed) = run(100_000, 0.01, |item| item % 100 % 33 == 32);
        assert!(failed <= 200 && tried < 300, "{tried} {failed}");
        // Exactly at the bound is not beyond it.
        assert_eq!(run(1_000, 0.01, |item| item % 100 == 99).0, 1_000);
    }
}
