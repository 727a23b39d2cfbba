//! What the engine asks of the system: the one file that may read a clock or draw an id.

use std::fmt::Debug;

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

/// What cannot be derived: fresh ids for calls that come without one.
///
/// Time is not here: every decision takes the clock of the store that locked its batch.
pub trait FactSource: Send + Sync + Debug {
    /// An id that was never used.
    fn new_id(&self) -> Uuid;
}

/// The system's own facts: v7 ids.
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
