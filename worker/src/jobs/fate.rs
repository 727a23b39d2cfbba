//! What an outcome means for an item.

use glyph_workflow_engine::{
    command::{Outcome, Undecided},
    store::RecordedOutcome,
};

use crate::{
    pipeline::{Disposition, dispose},
    wire::Unreadable,
};

/// What became of an item that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was applied, now or before.
    Succeeded,
    /// It was rejected, and the inbox keeps it.
    Rejected(String),
    /// It is dead again.
    Dead { reason: &'static str, error: String },
    /// What was wrong lies outside it: it is tried again.
    Later(String),
    /// The pipeline takes nothing more.
    Stopped,
}

impl Fate {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let rejected = |code: &str, detail: &str| Self::Rejected(format!("{code}: {detail}"));
        match outcome {
            Outcome::Applied(_) | Outcome::Duplicate(RecordedOutcome::Applied { .. }) => {
                Self::Succeeded
            }
            Outcome::Rejected(rejection) => rejected(rejection.code.as_str(), &rejection.detail),
            Outcome::Duplicate(RecordedOutcome::Rejected { reason, detail }) => {
                rejected(reason, detail)
            }
            Outcome::Undecided(
                undecided @ (Undecided::SetAside { .. }
                | Undecided::OutOfTime
                | Undecided::Locked
                | Undecided::Paused
                | Undecided::NotPerformed),
            ) => Self::Later(undecided.to_string()),
            Outcome::Undecided(Undecided::TaskNotFound | Undecided::Panicked(_))
            | Outcome::Dead(_) => match dispose(outcome, u32::MAX) {
                Disposition::Dead { reason, error, .. } => Self::Dead {
                    reason: reason.as_str(),
                    error,
                },
                Disposition::Settle | Disposition::Retry { .. } => {
                    Self::Later("not decided".to_owned())
                }
            },
        }
    }

    pub(super) fn of_unreadable(unreadable: &Unreadable) -> Self {
        Self::Dead {
            reason: unreadable.code.as_str(),
            error: unreadable.error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use glyph_workflow_engine::{
        command::{Dead, ProcessResult},
        store::SplitReason,
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn dead_or_rejected_again_is_failed_and_what_lies_outside_is_tried_again() {
        let applied = Outcome::Applied(ProcessResult::Completed { output: json!({}) });
        assert_eq!(Fate::of(&applied), Fate::Succeeded);
        let rejected = Outcome::Duplicate(RecordedOutcome::Rejected {
            reason: "surplus".into(),
            detail: "closed".into(),
        });
        assert_eq!(
            Fate::of(&rejected),
            Fate::Rejected("surplus: closed".into())
        );
        let missing = Fate::of(&Outcome::Undecided(Undecided::TaskNotFound));
        assert!(matches!(
            missing,
            Fate::Dead {
                reason: "task_not_found",
                ..
            }
        ));
        let reused = Fate::of(&Outcome::Dead(Dead::CommandIdReused));
        assert!(matches!(
            reused,
            Fate::Dead {
                reason: "command_id_reused",
                ..
            }
        ));
        let blocked = Outcome::Undecided(Undecided::SetAside {
            reason: SplitReason::Blocked,
            error: "a lock".into(),
        });
        assert!(matches!(Fate::of(&blocked), Fate::Later(_)));
    }
}
