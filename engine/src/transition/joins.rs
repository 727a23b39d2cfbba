//! Where branches meet.
//!
//! A join waits for every branch that can still arrive: the active steps from which it can be
//! reached. Bounded transitions (`loop`) are not counted. Every cycle has one, so the remaining
//! edges form an acyclic graph. A join therefore waits only for steps before it, and two joins
//! never wait for each other. So no reachable state is a deadlock, however branches race or end
//! elsewhere.

use crate::config::{JoinMode, StepConfig};

/// How a join waits for the branches that lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// The number of branches; `None` means all that can still arrive.
    pub needed: Option<u32>,
}

impl Join {
    /// How a step that is a join waits.
    pub(super) fn of(step: &StepConfig) -> Self {
        let needed = match step.join_mode {
            None | Some(JoinMode::All) => None,
            Some(JoinMode::Any) => Some(1),
            Some(JoinMode::NOfM) => Some(step.join_count.unwrap_or(1)),
        };
        Self { needed }
    }
}
