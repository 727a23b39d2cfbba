//! What a workflow is: plain data as written in YAML, with defaults filled in and no behaviour.
//!
//! The structs are the single source of the language: [`crate::parser`] checks a file against the
//! JSON Schema generated from them, and editors complete from the same schema.

mod consensus;
mod duration;
mod goal;
mod handler;
mod library;
mod script;
mod step;
mod transition;
mod workflow;

pub use consensus::{
    AgreementMethod, ConsensusConfig, DisagreementStrategy, Fallback, FieldConsensus, FieldMode,
    FieldRule, Level, Metric, OnAgreement, OnDisagreement, TieBreaker,
};
pub use duration::ConfigDuration;
pub use goal::{
    AlertsConfig, CompletionActionConfig, GoalConfig, GoalOperator, GoalType, QualityMetric,
    VolumeUnit,
};
pub use handler::{OutsideHandler, WebhookConfig};
pub use library::{StepLibrary, Template};
pub use script::{
    AdvanceMove, ControlMove, Decision, ExpectedEnd, ExpectedOutcome, ExpectedStatus,
    HandlerAnswer, Move, PauseMove, Person, PersonMove, Script, SubmitMove,
};
pub use step::{
    AssignmentConfig, Completion, CompletionType, ExpressionConfig, Hook, HookId, HookStage, Hooks,
    JoinMode, LoadBalancing, OnError, StepConfig, StepType, TimeoutAction,
};
pub use transition::{ConditionConfig, ConditionType, LoopConfig, Target, TransitionConfig};
pub use workflow::{GoldConfig, OnFall, Settings, WorkflowConfig};
