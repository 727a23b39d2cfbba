//! Commands and their outcomes.
//!
//! There are three kinds: task commands, operator commands (for workflows, annotators and goals),
//! and requests for work.

mod claim;
pub(crate) mod operator;
mod outcome;
mod sender;
mod task;

pub use claim::{Claim, ClaimRequest};
pub use operator::{OperatorCommand, OperatorEnvelope};
pub use outcome::{Dead, Outcome, ProcessResult, Rejection, RejectionCode, Undecided};
pub use sender::{Authority, Sender};
pub use task::{
    Activity, Advance, AnnotationInput, Assign, ChildCommand, ChildReport, ChildStart, Command,
    CommandEnvelope, Control, EffectOutcome, FireTimer, Migrate, Pause, Release, Start, Submission,
};

pub(crate) use outcome::{failed_by_transition, next_step};
