//! Facts from the system: the only file that may read a clock or draw an id.

use std::{fmt::Debug, time::Instant};

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

/// Facts that cannot be derived: fresh ids for calls without one.
///
/// The time of day is not among them: every decision uses the clock of the store that locked its
/// batch.
pub trait FactSource: Send + Sync + Debug {
    /// An id that was never used.
    fn new_id(&self) -> Uuid;

    /// A clock that measures how long work takes. It never enters a decision.
    #[expect(clippy::disallowed_methods, reason = "measures work, decides nothing")]
    fn stopwatch(&self) -> Instant {
        Instant::now()
    }
}

/// The system's own facts: UUIDv7 ids.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFacts;

impl FactSource for SystemFacts {
    #[expect(clippy::disallowed_methods, reason = "the one source of fresh ids")]
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

impl SystemFacts {
    /// The system's clock in whole microseconds, for stores without a clock of their own.
    #[expect(clippy::disallowed_methods, reason = "the one reader of the clock")]
    pub fn now() -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}
