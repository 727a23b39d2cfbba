//! The inputs of steps and of handlers.
//!
//! A handler sees its step's context, and a step sees the handlers, so these types are in one file.

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

/// Everything a step may read.
#[derive(Clone, Copy)]
pub struct ExecutionContext<'a> {
    /// The workflow.
    pub workflow: &'a WorkflowConfig,
    /// The step.
    pub step: &'a StepConfig,
    /// The task.
    pub state: &'a WorkflowSnapshot,
    /// The current visit.
    pub visit: &'a Visit,
    /// Handlers by name.
    pub handlers: &'a HandlerRegistry,
    /// What is known about the annotators.
    pub annotators: Annotators<'a>,
    /// The step's compiled expression, if it has one.
    pub expression: Option<&'a Expression>,
    /// Why the visit should end now with what it has, if it should.
    pub closing: Option<Closing<'a>>,
}

/// Why a visit should end now.
#[derive(Clone, Copy, Debug)]
pub enum Closing<'a> {
    /// An `advance`, with the outcome of an external step if there is one.
    Advance(Option<&'a Value>),
    /// Inactivity, if the step says `proceed`.
    Timeout,
}

impl ExecutionContext<'_> {
    /// The subject: the step whose annotations this visit reviews or adjudicates.
    pub fn reviewed_step(&self) -> Option<&StepConfig> {
        self.workflow.step(&self.visit.reviewed.as_ref()?.step_id)
    }

    /// The subject: the visit whose annotations this one reviews or adjudicates.
    pub fn reviewed_visit(&self) -> Option<&Visit> {
        let judged = self.visit.reviewed.as_ref()?;
        self.state.visit(&judged.step_id, judged.visit)
    }

    /// The value under review: that of the subject visit, unless an adjudication, another review or
    /// a merge of branches on the path from there has changed it.
    pub fn reviewed_value(&self) -> Option<&Value> {
        let judged = self.visit.reviewed.as_ref().map(|judged| &judged.step_id);
        let mut from = self.visit.entered_from.as_ref();
        // No path here is longer than the workflow, except by going around a loop.
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

    /// The part of annotation data that the step takes as its value: by its own keys, else by those
    /// of the subject step.
    pub fn selection(&self) -> Selection<'_> {
        selection(self.workflow, self.step, self.visit)
    }

    /// The reason for waiting, for a visit that one person does.
    pub(super) fn waiting_for_person(&self, what: &str) -> String {
        match self.visit.assignments.first() {
            Some(assignment) => format!("{what}, claimed by {}", assignment.user_id),
            None => what.to_owned(),
        }
    }
}

/// The part of annotation data that a step takes as its value: by its own keys, else, for a review
/// or adjudication, by those of the subject step.
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

/// The input of a handler.
pub struct HandlerInput<'a> {
    /// The step's `config`; null if absent.
    pub config: &'a Value,
    /// Everything the step may read.
    pub context: &'a ExecutionContext<'a>,
}

/// The output of a handler.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerOutput {
    /// The kind of result.
    pub kind: ResultKind,
    /// The value.
    pub value: Option<Value>,
    /// Agreement, if annotations were compared.
    pub agreement: Option<f64>,
    /// The method that found the value.
    pub resolved_by: Option<ResolvedBy>,
    /// How annotations were compared, if they were.
    pub consensus: Option<Box<ConsensusCalculated>>,
}

impl HandlerOutput {
    /// A value the handler produced.
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

/// Automatic work, done inside the decision: it must be pure, quick and deterministic.
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
    /// Names of the handlers the program registered, including replacements of built-in ones.
    own: BTreeSet<String>,
}

impl fmt::Debug for HandlerRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl HandlerRegistry {
    /// A registry with the engine's handlers.
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

    /// The handler with that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Handler>> {
        self.handlers.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
    }

    /// Names of the handlers the program registered, sorted. Includes replacements of built-in
    /// handlers, because their settings are their own.
    pub fn own_names(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(String::as_str)
    }
}

/// Runs a handler and checks that its result stays within bounds.
pub(crate) fn run_handler(
    handler: &dyn Handler,
    input: &HandlerInput<'_>,
) -> Result<HandlerOutput, HandlerError> {
    let output = handler.run(input)?;
    let made = output.value.as_ref().map_or(Ok(()), check_bounds);
    made.map_err(|reason| HandlerError::Output { reason })?;
    Ok(output)
}
