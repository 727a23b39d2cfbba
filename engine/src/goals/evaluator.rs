//! Whether a goal is met.

use chrono::{DateTime, Utc};

use super::GoalDefinition;
use crate::store::GoalProgressRow;

/// Judges goals at one instant.
#[derive(Clone, Copy, Debug)]
pub struct GoalEvaluator {
    now: DateTime<Utc>,
}

/// How a goal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoalVerdict {
    /// It was reached; what is met stays met.
    Met,
    /// Its time is over, and it was not reached.
    Missed,
    /// It can still be reached.
    Pending,
}

impl GoalVerdict {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Pending => "pending",
        }
    }
}

impl GoalEvaluator {
    /// Judges as of `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { now }
    }

    /// How `goal` stands at `progress`. Reached in time is met, even if nobody looked in time.
    pub fn judge(&self, goal: &GoalDefinition, progress: &GoalProgressRow) -> GoalVerdict {
        let reached_at = progress.completed_at;
        let in_time = |at: DateTime<Utc>| goal.deadline.is_none_or(|deadline| at <= deadline);
        match reached_at {
            Some(at) if in_time(at) => GoalVerdict::Met,
            None if in_time(self.now) => GoalVerdict::Pending,
            Some(_) | None => GoalVerdict::Missed,
        }
    }
}

impl GoalProgressRow {
    /// Share of the target that has been reached, from 0 to 1; a target of 0 is reached.
    pub fn ratio(&self) -> f64 {
        if self.target > 0.0 {
            (self.current / self.target).clamp(0.0, 1.0)
        } else {
            1.0
        }
    }
}
