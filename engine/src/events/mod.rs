//! What happened to a task, and the fold that turns it into a state.

mod event;
mod evolve;
mod metadata;
mod position;
mod rebuild;

pub use event::{
    AnnotatorWeight, ChildEnded, ChildRequested, ConsensusCalculated, ConsensusMethod,
    FieldCalculated, HandlerRequested, HookEnded, Job, Judgement, KnownAnswers, OfferBasis,
    PosteriorCalculated, PosteriorMethod, ReleaseReason, StepActivated, StepOpened,
    TransitionOccurred, Vote, WeightsUsed, WorkflowEvent, WorkflowMigrated, WorkflowStarted,
};
pub use evolve::evolve;
pub use metadata::{EVENT_SCHEMA_VERSION, EventMetadata, StoredEvent, UpcastError, upcast};
pub use position::LogPosition;
pub use rebuild::StateRebuilder;

pub use crate::store::EventStore;
#[cfg(feature = "postgres")]
pub use crate::store::PgEventStore;
#[cfg(feature = "sqlite")]
pub use crate::store::SqliteEventStore;
