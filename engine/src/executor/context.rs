//! Everything that a step may look at.

use serde_json::Value;

use super::{HandlerRegistry, Selection, annotators::Annotators};
use crate::{
    config::{StepConfig, StepType, WorkflowConfig},
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
    /// What is known of the annotators.
    pub annotators: Annotators<'a>,
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

    /// The value that the visit judges: that of the judged visit, unless an adjudication, another
    /// review or a merge of branches on the way from there has made another of it.
    pub fn judged_value(&self) -> Option<&Value> {
        let judged = self.visit.judges.as_ref().map(|judged| &judged.step_id);
        let mut from = self.visit.entered_from.as_ref();
        // No way here is longer than the workflow, short of going round in it.
        for _ in 0..self.workflow.steps.len() {
            let Some(step_id) = from.filter(|from| Some(*from) != judged) else {
                break;
            };
            let step = self.workflow.step(step_id);
            let visit = self
                .state
                .steps
                .get(step_id)
                .and_then(|s| s.last_completed());
            let Some((step, visit)) = step.zip(visit) else {
                break;
            };
            let remakes = matches!(step.kind, StepType::Review | StepType::Adjudication)
                || step.handler.as_deref() == Some("result_merger");
            let value = visit
                .result
                .as_ref()
                .and_then(|result| result.value.as_ref());
            if remakes && value.is_some() {
                return value;
            }
            from = visit.entered_from.as_ref();
        }
        self.judged_visit()?.result.as_ref()?.value.as_ref()
    }

    /// What the step takes of annotation data as its value: by its own keys, else by those of the
    /// judged step.
    pub fn selection(&self) -> Selection<'_> {
        selection(self.workflow, self.step, self.visit)
    }
}

/// What a step takes of annotation data as its value: by its own keys, else, where it judges
/// others, by those of the step it judges.
pub(crate) fn selection<'w>(
    workflow: &'w WorkflowConfig,
    step: &'w StepConfig,
    visit: &Visit,
) -> Selection<'w> {
    let of_step = |step: &'w StepConfig| match (&step.field, &step.consensus) {
        (Some(field), _) => Some(Selection::Field(field)),
        (None, Some(consensus)) => Some(Selection::of(consensus)),
        (None, None) => None,
    };
    let of_judged = || match step.kind {
        StepType::Review | StepType::Adjudication => {
            of_step(workflow.step(&visit.judges.as_ref()?.step_id)?)
        }
        StepType::Annotation
        | StepType::AutoProcess
        | StepType::Conditional
        | StepType::SubWorkflow => None,
    };
    of_step(step).or_else(of_judged).unwrap_or(Selection::All)
}
