//! Commands and what becomes of them.
//!
//! What is asked of a task, what an operator asks of something that is no task, and what a person
//! who wants work asks for, each with the outcome that it may have.

mod claim;
pub(crate) mod operator;
mod outcome;
mod task;

pub use claim::{Claim, ClaimRequest, ShownAnnotation};
pub use operator::{OperatorCommand, OperatorEnvelope};
pub use outcome::{Dead, Outcome, ProcessResult, Rejection, RejectionCode, Undecided};
pub use task::{
    Activity, Advance, AnnotationInput, Assign, ChildCommand, ChildReport, ChildStart, Command,
    CommandEnvelope, Control, EffectOutcome, FireTimer, Migrate, Pause, Release, Start, Submission,
};

pub(crate) use outcome::{failed_by_transition, next_step};
