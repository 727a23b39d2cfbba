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
//! In the order in which work goes through them:
//!
//! 1. A workflow is text that [`parser`] reads and checks; [`config`] is what it becomes, and
//!    [`expression`] the language of its conditions.
//! 2. What is asked of a task, and what may become of that, is a [`command`].
//! 3. [`WorkflowOrchestrator`] (`orchestrator`) takes a batch of commands, opens their tasks in the
//!    [`store`], lets each command be decided, and commits what follows. It also finds the next
//!    piece of work for a person.
//! 4. [`decide()`] (`decide`) makes of one state and one command events and an outcome; it is pure.
//!    It asks [`executor`] what a step makes of its submissions, with the mathematics of agreement
//!    in [`consensus`] and what is known of annotators in [`reliability`]; [`transition`] which way
//!    next; [`assignment`] who may do what.
//! 5. [`events`] are what happened, and the only thing that changes a [`state`], live and replayed.
//! 6. What a state waits for is derived from it by [`derive_timers`] (`timers`), and comes back as a
//!    command when its time has come.
//! 7. [`goals`] and [`quality`] follow the log, and say when enough is enough and how good it is.
//!
//! [`simulation`] plays a workflow through without store, clock or broker. [`ids`] and [`limits`]
//! lie below all of it. Each module imports only modules of lower layers; ARCHITECTURE.md has the
//! table.

// A new metric, kind of step or event must be thought of wherever one is told from another.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod assignment;
mod canonical;
pub mod command;
pub mod config;
pub mod consensus;
mod decide;
pub mod events;
pub mod executor;
pub mod expression;
pub mod goals;
pub mod ids;
pub mod limits;
mod orchestrator;
pub mod parser;
pub mod quality;
pub mod reliability;
pub mod simulation;
pub mod state;
pub mod store;
mod timers;
pub mod transition;

pub use command::{
    Outcome, ProcessResult,
    operator::{completions_of, pauses_of},
};
pub use config::{StepConfig, StepLibrary, TransitionConfig, WorkflowConfig};
pub use consensus::{ConsensusError, cohens_kappa, iou_span, krippendorffs_alpha_nominal};
pub use decide::{DecideContext, Decision, decide};
#[cfg(feature = "postgres")]
pub use events::PgEventStore;
pub use events::{EventStore, StateRebuilder, WorkflowEvent};
pub use executor::{
    AnnotationData, ExecutionContext, ExecutionResult, HandlerRegistry, StepExecutor,
    create_executor,
};
pub use goals::{CompletionAction, GoalEvaluator, GoalTracker};
pub use orchestrator::{
    BatchReport, BatchStats, CreatedWorkflow, FactSource, MessageBuilder, NoMessages,
    OrchestrationError, Preview, SystemFacts, WorkflowOrchestrator, plan_operator_command,
};
pub use parser::{ParseError, ValidationError, parse_workflow, parse_workflow_with_library};
pub use state::{StepResult, StepState, WorkflowSnapshot, WorkflowStateManager};
pub use store::WorkflowConfigStore;
pub use timers::{Effect, HandlerCall, derive_timers, effect_of, timer_command_id};
pub use transition::{ConditionError, TransitionEvaluator};
