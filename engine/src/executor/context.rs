//! Everything that a step may look at, and everything that a handler may.
//!
//! A handler sees what its step sees, and a step sees the handlers: so these types stand together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde_json::Value;

use super::{HandlerError, Selection, annotators::Annotators, check_bounds};
use crate::{
    config::{InternalHandler, StepConfig, WorkflowConfig},
    events::ConsensusCalculated,
    expression::Expression,
    state::{ResolvedBy, ResultKind, Visit, WorkflowSnapshot},
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
    pub fn reviewed_step(&self) -> Option<&StepConfig> {
        self.workflow.step(&self.visit.reviewed.as_ref()?.step_id)
    }

    /// The visit whose annotations this one judges.
    pub fn reviewed_visit(&self) -> Option<&Visit> {
        let judged = self.visit.reviewed.as_ref()?;
        self.state.visit(&judged.step_id, judged.visit)
    }

    /// The value that the visit judges: that of the judged visit, unless an adjudication, another
    /// review or a merge of branches on the way from there has made another of it.
    pub fn reviewed_value(&self) -> Option<&Value> {
        let judged = self.visit.reviewed.as_ref().map(|judged| &judged.step_id);
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
            let remakes =
                step.kind.spec().has_subject() || step.calls(InternalHandler::ResultMerger);
            let value = visit
                .result
                .as_ref()
                .and_then(|result| result.value.as_ref());
            if remakes && value.is_some() {
                return value;
            }
            from = visit.entered_from.as_ref();
        }
        self.reviewed_visit()?.result.as_ref()?.value.as_ref()
    }

    /// What the step takes of annotation data as its value: by its own keys, else by those of the
    /// judged step.
    pub fn selection(&self) -> Selection<'_> {
        selection(self.workflow, self.step, self.visit)
    }

    /// What a visit waits for whose work one person does.
    pub(super) fn waiting_for_person(&self, what: &str) -> String {
        match self.visit.assignments.first() {
            Some(assignment) => format!("{what}, claimed by {}", assignment.user_id),
            None => what.to_owned(),
        }
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
    let of_judged = || {
        let judged = visit
            .reviewed
            .as_ref()
            .filter(|_| step.kind.spec().has_subject());
        of_step(workflow.step(&judged?.step_id)?)
    };
    of_step(step).or_else(of_judged).unwrap_or(Selection::All)
}

/// What a handler works on.
pub struct HandlerInput<'a> {
    /// The step's `config`; null where there is none.
    pub config: &'a Value,
    /// Everything that the step may look at.
    pub context: &'a ExecutionContext<'a>,
}

/// What a handler finds.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerOutput {
    /// What kind of result it is.
    pub kind: ResultKind,
    /// The value.
    pub value: Option<Value>,
    /// Agreement, where annotations were compared.
    pub agreement: Option<f64>,
    /// What found the value.
    pub resolved_by: Option<ResolvedBy>,
    /// How annotations were compared, where they were.
    pub consensus: Option<Box<ConsensusCalculated>>,
}

impl HandlerOutput {
    /// A value that the handler made.
    pub fn value(value: Value) -> Self {
        Self {
            kind: ResultKind::Auto,
            value: (!value.is_null()).then_some(value),
            agreement: None,
            resolved_by: Some(ResolvedBy::Handler),
            consensus: None,
        }
    }
}

/// Work without a person, done inside the decision: it must be pure, quick and deterministic.
pub trait Handler: Send + Sync {
    /// Does the work.
    fn run(&self, input: &HandlerInput<'_>) -> Result<HandlerOutput, HandlerError>;
}

impl<F> Handler for F
where
    F: Fn(&HandlerInput<'_>) -> Result<HandlerOutput, HandlerError> + Send + Sync,
{
    fn run(&self, input: &HandlerInput<'_>) -> Result<HandlerOutput, HandlerError> {
        self(input)
    }
}

/// Handlers by name.
#[derive(Clone)]
pub struct HandlerRegistry {
    handlers: BTreeMap<String, Arc<dyn Handler>>,
    /// Names of those that the program brings, also where it has replaced a built-in one.
    own: BTreeSet<String>,
}

impl fmt::Debug for HandlerRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl HandlerRegistry {
    /// One with the handlers that the engine brings.
    pub(super) fn of(built_in: impl IntoIterator<Item = (String, Arc<dyn Handler>)>) -> Self {
        Self {
            handlers: built_in.into_iter().collect(),
            own: BTreeSet::new(),
        }
    }

    /// Adds or replaces a handler.
    pub fn register(&mut self, name: &str, handler: Arc<dyn Handler>) {
        self.handlers.insert(name.to_owned(), handler);
        self.own.insert(name.to_owned());
    }

    /// The handler of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Handler>> {
        self.handlers.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
    }

    /// Names of the handlers that the program brings, sorted. One that has replaced a built-in
    /// handler is among them: its settings are its own.
    pub fn own_names(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(String::as_str)
    }
}

/// Runs a handler; what it makes stays within bounds.
pub(crate) fn run_handler(
    handler: &dyn Handler,
    input: &HandlerInput<'_>,
) -> Result<HandlerOutput, HandlerError> {
    let output = handler.run(input)?;
    let made = output.value.as_ref().map_or(Ok(()), check_bounds);
    made.map_err(|reason| HandlerError::Output { reason })?;
    Ok(output)
}
