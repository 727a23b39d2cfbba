//! How much comparing is allowed.

use crate::limits::{ANSWER_READ_STEPS_MAX, ANSWER_STEPS_MAX};

/// Steps left for one decision. What compares pays before it works, so that no answers, however many
/// or large, hold up the thread.
///
/// A step is some nanoseconds: one comparison of two values, or one cell of a table.
#[derive(Clone, Debug)]
pub struct Work {
    left: u64,
    limit: u64,
}

/// Comparing would take more steps than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("comparing these answers takes more than the {limit} steps that one decision may take")]
pub struct TooMuch {
    /// Steps allowed.
    pub limit: u64,
}

impl Default for Work {
    fn default() -> Self {
        Self::of_decision()
    }
}

impl Work {
    /// What comparing and uniting may take in one decision.
    pub fn of_decision() -> Self {
        Self::bounded(ANSWER_STEPS_MAX)
    }

    /// What reading one answer may take.
    pub(crate) fn of_reading() -> Self {
        Self::bounded(ANSWER_READ_STEPS_MAX)
    }

    /// So many steps.
    pub fn bounded(limit: u64) -> Self {
        Self { left: limit, limit }
    }

    /// Steps left.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Takes steps; once there are too few, nothing is left for anything else either.
    pub(crate) fn spend(&mut self, steps: u64) -> Result<(), TooMuch> {
        if let Some(left) = self.left.checked_sub(steps) {
            self.left = left;
            return Ok(());
        }
        self.left = 0;
        Err(self.too_much())
    }

    pub(crate) fn too_much(&self) -> TooMuch {
        TooMuch { limit: self.limit }
    }
}
