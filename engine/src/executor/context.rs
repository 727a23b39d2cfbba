//! Everything that a step may look at.

use serde_json::Value;

use super::HandlerRegistry;
use crate::{
    config::{StepConfig, WorkflowConfig},
    expression::Expression,
    state::{Visit, WorkflowSnapshot},
};

/// Everything that a step may look at.
#[derive(Clone, Copy)]
pub struct ExecutionContext<'a> {
    /// The workflow.
    pub workflow: &'a WorkflowConfig,
    /// The step.
    pub step: &'a StepConfig,
    /// The task.
    pub state: &'a WorkflowSnapshot,
    /// The visit at work.
    pub visit: &'a Visit,
    /// Handlers by name.
    pub handlers: &'a HandlerRegistry,
    /// The step's compiled expression, where it has one.
    pub expression: Option<&'a Expression>,
    /// Whether the visit is to end now, with what there is.
    pub closing: Option<Closing<'a>>,
}

/// Why a visit is to end now.
#[derive(Clone, Copy, Debug)]
pub enum Closing<'a> {
    /// An `advance`, with the outcome of an external step where there is one.
    Advance(Option<&'a Value>),
    /// Inactivity, where the step says `proceed`.
    Timeout,
}

impl ExecutionContext<'_> {
    /// The step whose annotations the visit judges.
    pub fn judged_step(&self) -> Option<&StepConfig> {
        self.workflow.step(&self.visit.judges.as_ref()?.step_id)
    }

    /// The visit whose annotations this one judges.
    pub fn judged_visit(&self) -> Option<&Visit> {
        let judged = self.visit.judges.as_ref()?;
        self.state.visit(&judged.step_id, judged.visit)
    }

    /// Path in `annotation.data` of the value: the step's own, else that of the judged step.
    pub fn field(&self) -> Option<&str> {
        value_field(self.workflow, self.step, self.visit)
    }
}

/// Path in `annotation.data` of a step's value: the step's own, else that of the step it judges.
pub(crate) fn value_field<'w>(
    workflow: &'w WorkflowConfig,
    step: &'w StepConfig,
    visit: &Visit,
) -> Option<&'w str> {
    let of_consensus = |step: &'w StepConfig| step.consensus.as_ref()?.field.as_deref();
    step.field
        .as_deref()
        .or_else(|| of_consensus(step))
        .or_else(|| {
            let judged = workflow.step(&visit.judges.as_ref()?.step_id)?;
            judged.field.as_deref().or_else(|| of_consensus(judged))
        })
}
