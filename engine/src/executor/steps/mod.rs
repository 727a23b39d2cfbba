//! One file for each kind of step, and what several of them share: `comparison` and `confidence`
//! are the two ways in which annotations become a value; `output` builds the output of a task.

mod adjudication;
mod annotation;
mod automatic;
mod comparison;
mod conditional;
mod confidence;
mod output;
mod review;
mod sub_workflow;

pub(crate) use output::task_output;

pub(super) use comparison::{ComparedVisit, Comparison, compare};
pub(crate) use confidence::admit;
pub(crate) use review::corrected;

use super::StepExecutor;
use crate::config::StepType;

/// The executor of a kind of step.
pub fn create_executor(kind: StepType) -> &'static dyn StepExecutor {
    match kind {
        StepType::Annotation => &annotation::AnnotationExecutor,
        StepType::Review => &review::ReviewExecutor,
        StepType::Adjudication => &adjudication::AdjudicationExecutor,
        StepType::AutoProcess => &automatic::AutoProcessExecutor,
        StepType::Conditional => &conditional::ConditionalExecutor,
        StepType::SubWorkflow => &sub_workflow::SubWorkflowExecutor,
    }
}
