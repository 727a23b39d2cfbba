//! Event-sourced workflows for data annotation.
//!
//! A *task* (one item to label) moves through a *workflow* that people write as YAML: annotation by
//! several people, agreement checks, adjudication, review, automatic steps and conditions. A pure
//! function decides commands into events. The events are the source of truth; everything else can
//! be rebuilt from them. The engine depends on no broker and no HTTP server.
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
//! # Code map
//!
//! In the order in which a command passes through the modules:
//!
//! 1. [`parser`] reads and checks a workflow file and produces a [`config`]; [`expression`] is the
//!    language of its conditions.
//! 2. [`command`] defines what a task can be asked to do, and the possible outcomes.
//! 3. [`WorkflowOrchestrator`] (`orchestrator`) takes a batch of commands, opens their tasks in the
//!    [`store`], decides each command, and commits the results. It also finds the next slot for a
//!    person who asks for work.
//! 4. [`decide()`] (`decide`) turns one state and one command into events and an outcome; it is
//!    pure. [`executor`] evaluates a step's submissions, using the agreement metrics of
//!    [`consensus`] and the annotator models of [`reliability`]. [`transition`] chooses the next
//!    step, and [`assignment`] checks who may work on what.
//! 5. [`events`] record what happened. Only they change a [`state`], both live and on replay.
//! 6. [`derive_timers`] (`timers`) derives from a state what it waits for. Each timer becomes a
//!    command when it is due.
//! 7. [`goals`] and [`quality`] follow the log. They report when a goal is reached and how good the
//!    work is.
//!
//! [`simulation`] runs a workflow without store, clock or broker. [`backtest`] decides recorded tasks
//! again under other settings. [`ids`] and [`limits`] lie below
//! everything else. Each module imports only modules of lower layers; ARCHITECTURE.md has the
//! table.

// Matches name every variant, so the compiler points out each place that a new metric, step type or
// event concerns.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod answer;
pub mod assignment;
pub mod backtest;
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
pub use decide::{DecideContext, Decision, OfferedVerb, decide, offered_verbs};
#[cfg(feature = "postgres")]
pub use events::PgEventStore;
pub use events::{EventStore, StateRebuilder, WorkflowEvent};
pub use executor::{
    AnnotationData, ExecutionContext, ExecutionResult, HandlerRegistry, StepExecutor,
    create_executor,
};
pub use goals::{CompletionAction, GoalEvaluator, GoalTracker};
pub use orchestrator::{
    BatchReport, BatchStats, CreatedWorkflow, FactSource, KnownAnnotators, MessageBuilder,
    NoMessages, OrchestrationError, Preview, RebuildMessagesError, SystemFacts,
    WorkflowOrchestrator, messages_of, plan_operator_command,
};
pub use parser::{ParseError, ValidationError, parse_workflow, parse_workflow_with_library};
pub use state::{StepResult, StepState, WorkflowSnapshot, WorkflowStateManager};
pub use store::WorkflowConfigStore;
pub use timers::{Effect, HandlerCall, derive_timers, effect_of, timer_command_id};
pub use transition::{ConditionError, TransitionEvaluator};
