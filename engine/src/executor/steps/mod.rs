//! One file for each kind of step.

mod annotation;
mod automatic;
mod conditional;
mod judgement;
mod output;

pub(crate) use output::task_output;

pub(super) use annotation::resolve;
pub(crate) use judgement::decision_of;

use super::StepExecutor;
use crate::config::StepType;

/// The executor of a kind of step; none for `sub_workflow`, whose work is a child task's.
pub fn create_executor(kind: StepType) -> Option<&'static dyn StepExecutor> {
    match kind {
        StepType::Annotation => Some(&annotation::AnnotationExecutor),
        StepType::Review => Some(&judgement::ReviewExecutor),
        StepType::Adjudication => Some(&judgement::AdjudicationExecutor),
        StepType::AutoProcess => Some(&automatic::AutoProcessExecutor),
        StepType::Conditional => Some(&conditional::ConditionalExecutor),
        StepType::SubWorkflow => None,
    }
}
