//! A workflow with its expressions compiled, ready for decisions.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::joins::Join;
use crate::{
    answer::{Questions, UnclearQuestion},
    config::{FlowGraph, StepConfig, WorkflowConfig},
    expression::{Expression, ExpressionError},
    ids::StepId,
    state::WorkflowRef,
};

/// A stored revision with its expressions compiled. It is compiled once for each revision and
/// cached.
#[derive(Clone)]
pub struct CompiledWorkflow {
    config: Arc<WorkflowConfig>,
    content_hash: String,
    expressions: HashMap<String, Expression>,
    questions: Questions,
    graph: FlowGraph,
    /// The index of each step in the graph.
    indexes: HashMap<StepId, usize>,
}

/// A revision that no decision can be made with.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// An expression does not compile.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// A step does not say clearly what it asks for.
    #[error(transparent)]
    Question(#[from] UnclearQuestion),
}

impl CompiledWorkflow {
    /// Compiles every expression of `config`, and resolves what each step asks for.
    ///
    /// # Errors
    ///
    /// [`CompileError`] for a configuration that the parser has not checked.
    pub fn new(config: Arc<WorkflowConfig>, content_hash: String) -> Result<Self, CompileError> {
        let of_steps = config
            .steps
            .iter()
            .filter_map(|s| Some(&s.condition.as_ref()?.expression));
        let of_children = config
            .steps
            .iter()
            .flat_map(|s| s.input_mapping.iter().flat_map(BTreeMap::values));
        let of_transitions = config
            .transitions
            .iter()
            .filter_map(|t| t.condition.as_ref()?.expression.as_ref());
        let expressions = of_steps
            .chain(of_children)
            .chain(of_transitions)
            .map(|source| Ok((source.clone(), Expression::compile(source)?)))
            .collect::<Result<_, ExpressionError>>()?;
        let questions = Questions::of(&config)?;
        let graph = FlowGraph::of(&config);
        let steps = config.steps.iter().enumerate();
        let indexes = steps.map(|(at, step)| (step.id.clone(), at)).collect();
        Ok(Self {
            config,
            content_hash,
            expressions,
            questions,
            graph,
            indexes,
        })
    }

    /// The workflow.
    pub fn config(&self) -> &Arc<WorkflowConfig> {
        &self.config
    }

    /// Hash of its content.
    pub fn content_hash(&self) -> &str {
        &self.content_hash
    }

    /// The reference that tasks and messages carry.
    pub fn reference(&self) -> WorkflowRef {
        WorkflowRef {
            revision_id: self.config.revision_id,
            workflow: self.config.id.clone(),
            revision: self.config.revision,
        }
    }

    /// The compiled form of an expression of the workflow.
    pub fn expression(&self, source: &str) -> Option<&Expression> {
        self.expressions.get(source)
    }

    /// What each step asks for.
    pub fn questions(&self) -> &Questions {
        &self.questions
    }

    /// How a step waits for the branches that lead to it; `None` where it does not wait.
    pub fn join(&self, step: &StepConfig) -> Option<Join> {
        let at = *self.indexes.get(&step.id)?;
        let parallel = self.config.settings.allow_parallel_steps;
        (parallel && self.graph.joins(at, step.join_mode)).then(|| Join::of(step))
    }

    /// Whether a task at `from` can still reach `to` (not counting bounded transitions).
    pub fn leads(&self, from: &StepId, to: &StepId) -> bool {
        let index = |id| self.indexes.get(id).copied();
        let ends = index(from).zip(index(to));
        ends.is_some_and(|(from, to)| self.graph.leads(from, to))
    }
}
