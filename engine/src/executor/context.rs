//! The inputs of steps and of handlers.
//!
//! A handler sees its step's context, and a step sees the handlers, so these types are in one file.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde_json::Value;

use super::{HandlerError, annotators::Annotators, check_bounds};
use crate::{
    answer::{Question, Questions},
    config::{EndsWith, StepConfig, WorkflowConfig},
    events::ConsensusCalculated,
    expression::Expression,
    state::{ResolvedBy, ResultKind, Visit, WorkflowSnapshot},
};

/// Everything a step may read.
#[derive(Clone, Copy)]
pub struct ExecutionContext<'a> {
    /// The workflow.
    pub workflow: &'a WorkflowConfig,
    /// What each of its steps asks for.
    pub questions: &'a Questions,
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
    /// The subject: the visit whose annotations this one reviews or adjudicates.
    pub fn reviewed_visit(&self) -> Option<&Visit> {
        let judged = self.visit.reviewed.as_ref()?;
        self.state.visit(&judged.step_id, judged.visit)
    }

    /// The value under review: the one that `approve` keeps.
    pub fn subject_value(&self) -> Option<&Value> {
        subject_value(self.state, self.visit)
    }

    /// The agreement of the annotations under review.
    pub fn reviewed_agreement(&self) -> Option<f64> {
        self.reviewed_visit()?.result.as_ref()?.agreement
    }

    /// What the visit asks for: see [`asked`].
    pub fn question(&self) -> Cow<'_, Question> {
        asked(self.questions, self.step, self.visit)
    }

    /// The item to label; null if the producer has given none.
    pub fn input(&self) -> &Value {
        self.state.input.as_ref().unwrap_or(&Value::Null)
    }

    /// The reason for waiting, for a visit that one person does.
    pub(super) fn waiting_for_person(&self, what: &str) -> String {
        match self.visit.assignments.first() {
            Some(assignment) => format!("{what}, claimed by {}", assignment.user_id),
            None => what.to_owned(),
        }
    }
}

/// What a visit asks for: what its step says, else what the step under review asks. An adjudicator
/// who decides only what is disputed may leave out the rest.
pub(crate) fn asked<'q>(
    questions: &'q Questions,
    step: &StepConfig,
    visit: &Visit,
) -> Cow<'q, Question> {
    let reviewed = visit.reviewed.as_ref();
    let reviewed = reviewed.filter(|_| step.kind.spec().has_subject());
    let question = questions.asked(step, reviewed.map(|reviewed| &reviewed.step_id));
    match settled(step, visit).and_then(|(_, disputed)| disputed.as_array()) {
        Some(disputed) if question.mode().is_some() => {
            let paths: Vec<&str> = disputed.iter().filter_map(Value::as_str).collect();
            Cow::Owned(question.for_disputed(&paths))
        }
        Some(_) | None => question,
    }
}

/// What annotators agree on and what they do not, for an adjudicator who is asked for the rest
/// only. A reviewer who fixes gives the whole value, and so does a step with a question of its own.
pub(crate) fn settled<'v>(step: &StepConfig, visit: &'v Visit) -> Option<(&'v Value, &'v Value)> {
    if step.answer.is_some() || step.kind.spec().ends_with == EndsWith::Decision {
        return None;
    }
    let subject = visit.subject.as_ref()?;
    subject.agreed.as_ref().zip(subject.disputed.as_ref())
}

/// The value that `approve` keeps. Visits from before subjects were settled on entry have that of
/// the step under review.
pub(crate) fn subject_value<'s>(
    state: &'s WorkflowSnapshot,
    visit: &'s Visit,
) -> Option<&'s Value> {
    if let Some(subject) = &visit.subject {
        return subject.value.as_ref();
    }
    let reviewed = visit.reviewed.as_ref()?;
    let reviewed = state.visit(&reviewed.step_id, reviewed.visit)?;
    reviewed.result.as_ref()?.value.as_ref()
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
    /// What annotators agree on, if an adjudicator is asked for the rest only.
    pub agreed: Option<Value>,
    /// What they do not agree on.
    pub disputed: Option<Value>,
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
            agreed: None,
            disputed: None,
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
