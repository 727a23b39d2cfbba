//! The state of a task at one version of its stream.

mod authors;
mod child;
mod draft;
mod error;
mod incident;
mod lineage;
mod manager;
mod pause;
mod result;
mod shown;
mod slots;
mod snapshot;
mod status;
mod step;
mod subject;

pub use child::{ChildOrder, ChildOutcome, ChildTask, ParentTask, PendingOrder, SlotHolder};
pub use draft::Draft;
pub use error::StateTransitionError;
pub use incident::{Incident, IncidentCode};
pub use manager::WorkflowStateManager;
pub use pause::{Pause, WorkflowPause};
pub use result::{
    AuditResult, AuditVote, AuditedAnswer, ResolvedBy, ResultKind, ReviewDecision, SoftLabels,
    StepResult,
};
pub use shown::{PreviousRound, ShownAnnotation, ShownStep, ShownSubject, ShownWork};
pub use slots::{ClaimedSlot, OpenSlot, Slots, SlotsChange};
pub use snapshot::{Archived, JoinHold, PendingJoin, WorkflowSnapshot};
pub use status::{TaskStatus, WorkflowRef};
pub use step::{
    AnnotationData, Assignment, FailedHook, FoundResult, PendingCall, StepState, StepVisit, Visit,
    VisitStatus,
};
pub use subject::Subject;
