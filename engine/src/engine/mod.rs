//! Puts the parts together: commands, the pure decision, and the orchestrator that loads, decides
//! and commits.

mod act;
mod children;
pub(crate) mod command;
mod decide;
mod due;
pub(crate) mod effect;
mod error;
mod facts;
mod orchestrator;
pub(crate) mod outcome;
mod workflows;

pub use act::{Act, ActEnvelope, completions_of, pauses_of};
pub use decide::{DecideContext, Decision, decide};
pub use due::{due_command_id, due_work};
pub use effect::{Effect, HandlerCall, effect_of};
pub use error::OrchestrationError;
pub(crate) use error::error_chain;
pub use facts::{FactSource, SystemFacts};
pub use orchestrator::{
    BatchReport, BatchStats, ClaimRequest, ClaimedPlace, JudgedAnnotation, MessageBuilder,
    NoMessages, Preview, WorkflowOrchestrator, plan_act,
};
