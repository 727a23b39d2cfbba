//! What a workflow is: plain data as written in YAML, with defaults filled in and no behaviour.
//!
//! The structs are the single definition of the language: [`crate::parser`] checks a file against
//! the JSON Schema generated from them, and editors complete from the same schema.

mod answer;
mod assignment;
mod completion;
mod consensus;
mod duration;
mod ending;
mod flow;
mod goal;
mod handler;
mod hook;
mod library;
mod measure;
mod reliability;
mod script;
mod step;
mod step_type;
mod transition;
mod workflow;

pub use answer::{AnswerConfig, AnswerField, AnswerKind, BoxFormat, MissingField};
pub use assignment::{AssignmentConfig, LoadBalancing};
pub use completion::{Completion, CompletionType, OnUnsure, TimeoutAction};
pub use consensus::{
    ConsensusConfig, DisagreementScope, DisagreementStrategy, Fallback, FieldConsensus, FieldMode,
    OnAgreement, OnDisagreement, TieBreaker,
};
pub use duration::ConfigDuration;
pub use ending::{Ending, EndingAgreement, EndingValue};
pub use flow::{FlowGraph, StepSet};
pub use goal::{
    AlertsConfig, CompletionActionConfig, GoalConfig, GoalOperator, GoalType, QualityMetric,
    VolumeUnit,
};
pub use handler::{
    BUILT_IN_HANDLERS, ExternalHandler, HeaderText, InternalHandler, SecretName, WebhookConfig,
};
pub use hook::{Hook, HookId, HookStage, Hooks};
pub use library::{StepLibrary, Template};
pub use measure::{AgreementMethod, Coefficient, DistanceWeights, Level, Metric};
pub use reliability::{
    AnnotatorGroup, AnnotatorKind, AskedOn, AuditConfig, LearnConfig, ReliabilityConfig, Sampling,
};
pub use script::{
    AdvanceMove, ControlMove, Decision, ExpectedEnd, ExpectedOutcome, ExpectedStatus,
    HandlerAnswer, MigrateMove, Move, PauseMove, Person, PersonMove, ReleaseMove, Script,
    SubmitMove, WorkflowMove, WorkflowPauseMove,
};
pub use step::{ExpressionConfig, JoinMode, OnError, StepConfig};
pub use step_type::{AdvanceNeeds, EndsWith, Performer, StepSpec, StepType, SubjectRole};
pub use transition::{ConditionConfig, ConditionType, LoopConfig, Target, TransitionConfig};
pub use workflow::{GoldConfig, OnFall, Settings, WorkflowConfig};
