//! Event-sourced workflows for data annotation.
//!
//! A *task* (one item to label) moves through a *workflow* that people write as YAML: annotation by
//! several people, agreement checks, adjudication, review, automatic steps and conditions. Commands
//! are decided into events by a pure function; the events are the truth, and everything else is
//! rebuilt from them. The engine knows no broker and no HTTP.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use glyph_workflow_engine::{
//!     ProcessResult, WorkflowOrchestrator, executor::AnnotationData, store::MemoryStore,
//! };
//! use serde_json::json;
//! use uuid::Uuid;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(MemoryStore::new());
//! let orchestrator = WorkflowOrchestrator::new(store.clone(), store);
//! let workflow = orchestrator
//!     .create_workflow("workflow: { id: sentiment, template: multi_adjudication }")
//!     .await?;
//!
//! let task = Uuid::from_u128(1);
//! orchestrator.start_task(task, workflow.revision_id.0).await?;
//! for (person, label) in [(1, "positive"), (2, "negative")] {
//!     let annotation = AnnotationData::new(
//!         Uuid::from_u128(100 + person),
//!         Uuid::from_u128(person),
//!         json!({"label": label}),
//!     );
//!     orchestrator.process_submission(task, "annotate", annotation).await?;
//! }
//!
//! // The two disagree, so a third person decides.
//! let decision = AnnotationData::new(Uuid::from_u128(103), Uuid::from_u128(3), json!({"label": "positive"}));
//! let end = orchestrator.process_submission(task, "adjudicate", decision).await?;
//! let ProcessResult::Completed { output } = end else { panic!("not completed: {end:?}") };
//! assert_eq!(output["result"], json!({"label": "positive"}));
//! assert_eq!(output["resolved_by"], "adjudication");
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! [`config`] is the language, [`parser`] reads it, [`consensus`] is the mathematics of agreement,
//! [`events`] and [`state`] are what happened and where that leads, [`executor`], [`transition`] and
//! [`assignment`] are the rules, [`store`] keeps it all, and [`WorkflowOrchestrator`] runs commands. [`simulation`] plays a workflow
//! through without any of it.

pub mod assignment;
mod canonical;
pub mod config;
pub mod consensus;
mod engine;
pub mod events;
pub mod executor;
pub mod expression;
pub mod goals;
pub mod ids;
pub mod limits;
pub mod parser;
pub mod reliability;
pub mod simulation;
pub mod state;
pub mod store;
pub mod transition;

/// Commands and what becomes of them.
pub mod command {
    pub use crate::engine::command::{
        Activity, Advance, AnnotationInput, Assign, ChildCommand, ChildReport, ChildStart, Command,
        CommandEnvelope, Control, Due, EffectOutcome, Migrate, Pause, Release, Start, Submission,
    };
    pub use crate::engine::outcome::{
        Dead, Outcome, ProcessResult, Rejection, RejectionCode, Undecided,
    };
    pub use crate::engine::{Act, ActEnvelope, ClaimRequest, ClaimedPlace, JudgedAnnotation};
}

pub use command::{Outcome, ProcessResult};
pub use config::{StepConfig, StepLibrary, TransitionConfig, WorkflowConfig};
pub use consensus::{ConsensusError, cohens_kappa, iou_span, krippendorffs_alpha_nominal};
pub use engine::{
    BatchReport, BatchStats, DecideContext, Decision, Effect, FactSource, HandlerCall,
    MessageBuilder, NoMessages, OrchestrationError, Preview, SystemFacts, WorkflowOrchestrator,
    completions_of, decide, due_command_id, due_work, effect_of, pauses_of, plan_act,
};
#[cfg(feature = "postgres")]
pub use events::PgEventStore;
pub use events::{EventStore, StateRebuilder, WorkflowEvent};
pub use executor::{
    AnnotationData, ExecutionContext, ExecutionResult, HandlerRegistry, StepExecutor,
    create_executor,
};
pub use goals::{CompletionAction, GoalEvaluator, GoalTracker};
pub use parser::{ParseError, ValidationError, parse_workflow, parse_workflow_with_library};
pub use state::{StepResult, StepState, WorkflowSnapshot, WorkflowStateManager};
pub use store::WorkflowConfigStore;
pub use transition::{ConditionError, TransitionEvaluator};
