//! Where a task is: its state at one version of its stream.

mod child;
mod error;
mod incident;
mod manager;
mod places;
mod result;
mod snapshot;
mod step;

pub use child::{ChildOrder, ChildOutcome, ChildTask, ParentTask, PendingOrder, PlaceHolder};
pub use error::StateTransitionError;
pub use incident::{Incident, IncidentCode};
pub use manager::WorkflowStateManager;
pub use places::{HeldPlace, OpenPlace, Places, PlacesChange};
pub use result::{ResolvedBy, ResultKind, ReviewDecision, SoftLabels, StepResult};
pub use snapshot::{Pause, PendingJoin, TaskStatus, WorkflowRef, WorkflowSnapshot};
pub use step::{
    AnnotationData, Assignment, FailedHook, FoundResult, PendingCall, StepState, StepVisit, Visit,
    VisitStatus,
};
