//! A goal that can be tracked: checked, with its workflow.

use chrono::{DateTime, Utc};

use crate::{
    config::{CompletionActionConfig, GoalConfig, GoalType},
    events::WorkflowEvent,
    ids::{Slug, WorkflowId},
};

/// A volume goal of a workflow; it spans the workflow's revisions.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalDefinition {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal.
    pub goal: Slug,
    /// What counts.
    pub unit: VolumeUnit,
    /// How many are asked for.
    pub target: f64,
    /// When it must be met; never, where there is none.
    pub deadline: Option<DateTime<Utc>>,
    /// What happens once it is met.
    pub on_complete: Vec<CompletionActionConfig>,
}

/// What a volume goal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VolumeUnit {
    /// Tasks that have completed.
    Tasks,
    /// Annotations that were accepted.
    Annotations,
}

impl VolumeUnit {
    /// What an event adds one of.
    pub fn counted_by(event: &WorkflowEvent) -> Option<Self> {
        match event {
            WorkflowEvent::WorkflowCompleted { .. } => Some(Self::Tasks),
            WorkflowEvent::AnnotationSubmitted { .. } => Some(Self::Annotations),
            WorkflowEvent::WorkflowStarted(_)
            | WorkflowEvent::TaskDetailsSupplied { .. }
            | WorkflowEvent::StepActivated(_)
            | WorkflowEvent::TaskAssigned { .. }
            | WorkflowEvent::ActivityRecorded { .. }
            | WorkflowEvent::TaskReleased { .. }
            | WorkflowEvent::TaskStalled { .. }
            | WorkflowEvent::ConsensusCalculated(_)
            | WorkflowEvent::StepCompleted { .. }
            | WorkflowEvent::StepFailed { .. }
            | WorkflowEvent::StepSkipped { .. }
            | WorkflowEvent::StepWithdrawn { .. }
            | WorkflowEvent::TransitionOccurred(_)
            | WorkflowEvent::IncidentOpened { .. }
            | WorkflowEvent::IncidentResolved { .. }
            | WorkflowEvent::WorkflowPaused { .. }
            | WorkflowEvent::WorkflowResumed { .. }
            | WorkflowEvent::WorkflowFailed { .. }
            | WorkflowEvent::WorkflowCancelled { .. } => None,
        }
    }
}

impl GoalDefinition {
    /// The goal as configured; `None` for kinds that count nothing, and for a goal without target.
    pub fn of(workflow: &WorkflowId, config: &GoalConfig) -> Option<Self> {
        match config.kind {
            GoalType::Volume => Some(Self {
                workflow: workflow.clone(),
                goal: config.id.clone(),
                unit: match config.unit.as_deref() {
                    Some("annotations") => VolumeUnit::Annotations,
                    _ => VolumeUnit::Tasks,
                },
                target: config.target?,
                deadline: config.deadline,
                on_complete: config.on_complete.clone(),
            }),
            GoalType::Quality
            | GoalType::Deadline
            | GoalType::Duration
            | GoalType::Composite
            | GoalType::Manual => None,
        }
    }
}
