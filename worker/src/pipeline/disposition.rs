//! How a delivery is treated once its command has an outcome. Pure.

use glyph_workflow_engine::command::{Dead, Outcome, Undecided};

use crate::{
    broker::RetryDelay,
    wire::{DeadReason, RetryReason},
};

/// How to treat a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The outcome is recorded: acknowledge.
    Settle,
    /// Publish a copy to a rung of the retry ladder; acknowledge once it is confirmed.
    Retry {
        /// The rung.
        delay: RetryDelay,
        /// Attempts made, this one included.
        attempts: u32,
        /// Why.
        reason: RetryReason,
        /// What was wrong, for people.
        error: String,
    },
    /// Publish a copy to the dead queue; acknowledge once it is confirmed.
    Dead {
        /// Attempts made, this one included.
        attempts: u32,
        /// Why.
        reason: DeadReason,
        /// What was wrong, for people.
        error: String,
    },
}

/// The disposition of a delivery that had failed `attempts_before` times.
pub fn dispose(outcome: &Outcome, attempts_before: u32) -> Disposition {
    let attempts = attempts_before.saturating_add(1);
    match outcome {
        Outcome::Applied(_) | Outcome::Duplicate(_) | Outcome::Rejected(_) => Disposition::Settle,
        // Its own attempts are not used up: what is wrong lies outside it.
        Outcome::Undecided(Undecided::SetAside { reason, error }) => Disposition::Retry {
            delay: RetryDelay::S60,
            attempts: attempts_before,
            reason: RetryReason::SetAside(*reason),
            error: error.clone(),
        },
        Outcome::Undecided(undecided) => {
            let error = undecided.to_string();
            let (reason, dead) = match undecided {
                Undecided::TaskNotFound => (RetryReason::TaskNotFound, DeadReason::TaskNotFound),
                // Timers do not come from a queue; what there was no time for, or what was locked, is run
                // again.
                Undecided::Panicked(_)
                | Undecided::NotPerformed
                | Undecided::Paused
                | Undecided::OutOfTime
                | Undecided::Locked
                | Undecided::SetAside { .. } => {
                    (RetryReason::Panicked, DeadReason::RetriesExhausted)
                }
            };
            match RetryDelay::after(attempts_before) {
                Some(delay) => Disposition::Retry {
                    delay,
                    attempts,
                    reason,
                    error,
                },
                None => Disposition::Dead {
                    attempts,
                    reason: dead,
                    error,
                },
            }
        }
        Outcome::Dead(dead) => Disposition::Dead {
            attempts,
            reason: dead_reason(dead),
            error: dead.to_string(),
        },
    }
}

/// The name of the reason for which a command can never be decided.
pub fn dead_reason(dead: &Dead) -> DeadReason {
    match dead {
        Dead::WorkflowNotFound(_) => DeadReason::WorkflowNotFound,
        Dead::CommandIdReused => DeadReason::CommandIdReused,
        Dead::Malformed(_) => DeadReason::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use glyph_workflow_engine::{
        command::{ProcessResult, Rejection, RejectionCode},
        store::{RecordedOutcome, SplitReason},
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn a_recorded_outcome_is_settled() {
        let recorded = [
            Outcome::Applied(ProcessResult::Completed { output: json!({}) }),
            Outcome::Duplicate(RecordedOutcome::Applied { result: json!({}) }),
            Outcome::Rejected(Rejection {
                code: RejectionCode::Surplus,
                detail: String::new(),
            }),
        ];
        for outcome in recorded {
            assert_eq!(dispose(&outcome, 3), Disposition::Settle);
        }
    }

    #[test]
    fn an_undecided_command_climbs_the_ladder_and_dies_with_its_own_reason() {
        let cases = [
            (Undecided::TaskNotFound, DeadReason::TaskNotFound),
            (
                Undecided::Panicked("boom".into()),
                DeadReason::RetriesExhausted,
            ),
        ];
        for (undecided, dead) in cases {
            let outcome = Outcome::Undecided(undecided);
            for (before, rung) in (0..).zip(RetryDelay::ALL) {
                let Disposition::Retry {
                    delay, attempts, ..
                } = dispose(&outcome, before)
                else {
                    panic!("not retried after {before}");
                };
                assert_eq!((delay, attempts), (rung, before + 1));
            }
            let Disposition::Dead {
                attempts, reason, ..
            } = dispose(&outcome, 4)
            else {
                panic!("not dead");
            };
            assert_eq!((attempts, reason), (5, dead));
        }
    }

    #[test]
    fn a_command_that_was_set_aside_stays_at_the_last_rung_for_ever() {
        for before in [0, 2, 1_000] {
            let outcome = Outcome::Undecided(Undecided::SetAside {
                reason: SplitReason::Blocked,
                error: "a lock".into(),
            });
            let expected = Disposition::Retry {
                delay: RetryDelay::S60,
                attempts: before,
                reason: RetryReason::SetAside(SplitReason::Blocked),
                error: "a lock".into(),
            };
            assert_eq!(dispose(&outcome, before), expected);
        }
    }

    #[test]
    fn what_can_never_be_decided_is_dead_at_once() {
        let cases = [
            (
                Dead::WorkflowNotFound("w".into()),
                DeadReason::WorkflowNotFound,
            ),
            (Dead::CommandIdReused, DeadReason::CommandIdReused),
            (Dead::Malformed("m".into()), DeadReason::Malformed),
        ];
        for (dead, expected) in cases {
            let Disposition::Dead {
                attempts, reason, ..
            } = dispose(&Outcome::Dead(dead), 0)
            else {
                panic!("not dead");
            };
            assert_eq!((attempts, reason), (1, expected));
        }
    }
}
