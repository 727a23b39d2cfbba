//! Handlers by name.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;

use super::{ExecutionContext, HandlerError, check_bounds, handlers};
use crate::{
    events::ConsensusCalculated,
    state::{ResolvedBy, ResultKind},
};

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
}

impl Default for HandlerRegistry {
    fn default() -> Self {
        Self::built_in()
    }
}

impl fmt::Debug for HandlerRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl HandlerRegistry {
    /// `consensus_calculator`, `result_merger` and `finalize`.
    pub fn built_in() -> Self {
        let mut registry = Self {
            handlers: BTreeMap::new(),
        };
        registry.register(
            "consensus_calculator",
            Arc::new(handlers::consensus_calculator),
        );
        registry.register("result_merger", Arc::new(handlers::result_merger));
        registry.register("finalize", Arc::new(handlers::finalize));
        registry
    }

    /// Adds or replaces a handler.
    pub fn register(&mut self, name: &str, handler: Arc<dyn Handler>) {
        self.handlers.insert(name.to_owned(), handler);
    }

    /// The handler of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Handler>> {
        self.handlers.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
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
