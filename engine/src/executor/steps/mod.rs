//! One file for each kind of step.

mod annotation;
mod automatic;
mod conditional;
mod confidence;
mod judgement;
mod output;
mod sub_workflow;

pub(crate) use output::task_output;

pub(super) use annotation::{Judged, resolve};
pub(crate) use confidence::admit;
pub(crate) use judgement::{corrected, decision_of};

use super::StepExecutor;
use crate::config::StepType;

/// The executor of a kind of step.
pub fn create_executor(kind: StepType) -> &'static dyn StepExecutor {
    match kind {
        StepType::Annotation => &annotation::AnnotationExecutor,
        StepType::Review => &judgement::ReviewExecutor,
        StepType::Adjudication => &judgement::AdjudicationExecutor,
        StepType::AutoProcess => &automatic::AutoProcessExecutor,
        StepType::Conditional => &conditional::ConditionalExecutor,
        StepType::SubWorkflow => &sub_workflow::SubWorkflowExecutor,
    }
}
