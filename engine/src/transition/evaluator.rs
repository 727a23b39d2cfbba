//! The first matching transition, and why it matches.

use super::{
    CompiledWorkflow,
    scope::{Scope, variables},
};
use crate::{
    config::{ConditionConfig, ConditionType, Performer, StepConfig, Target, TransitionConfig},
    expression::ExpressionError,
    state::{StepResult, Visit, WorkflowSnapshot},
};

/// A condition cannot be evaluated; the task gets an incident with this as its reason.
#[derive(Debug, thiserror::Error)]
pub enum ConditionError {
    /// The expression failed on these values.
    #[error("the condition `{expression}` of the transition to `{to}` could not be evaluated")]
    Expression {
        /// Its source.
        expression: String,
        /// Where it would have led.
        to: Target,
        /// Why.
        #[source]
        source: ExpressionError,
    },
}

/// Where a task goes from a step that has ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// Along a transition.
    Go {
        /// Where to.
        to: Target,
        /// The condition that fired: its type, or the source for an `expression`.
        condition_met: String,
        /// Index of the transition in the file; `None` for a branch of a conditional step.
        transition: Option<usize>,
        /// Whether it counts towards the bound of its loop.
        looped: bool,
    },
    /// The step has no outgoing transition: the task completes.
    End,
    /// The step has outgoing transitions, and none matches.
    Stuck,
    /// The matching transition has reached its loop bound and has no `on_exhausted`.
    Exhausted {
        /// Index of the transition in the file.
        transition: usize,
        /// The bound.
        max_iterations: u32,
    },
}

/// Chooses among the transitions of a workflow.
#[derive(Clone, Copy)]
pub struct TransitionEvaluator<'w> {
    workflow: &'w CompiledWorkflow,
}

impl<'w> TransitionEvaluator<'w> {
    /// An evaluator for the transitions of `workflow`.
    pub fn new(workflow: &'w CompiledWorkflow) -> Self {
        Self { workflow }
    }

    /// Chooses among the transitions out of `step`, whose visit has ended: by descending
    /// `priority`, then in file order. The first match fires; where steps may run side by side, all
    /// matches fire. The result is never empty.
    pub fn choose(
        self,
        state: &WorkflowSnapshot,
        step: &StepConfig,
        visit: &Visit,
    ) -> Result<Vec<Choice>, ConditionError> {
        if let Some(choice) = branch(step, visit.result.as_ref()) {
            return Ok(vec![choice]);
        }
        let config = self.workflow.config();
        let leaving = config.transitions_from(&step.id);
        if leaving.is_empty() {
            return Ok(vec![Choice::End]);
        }
        let scope = variables(config, state, step, visit);
        let mut choices = Vec::new();
        for (index, transition) in leaving {
            if self.matches(transition, visit.result.as_ref(), &scope)? {
                choices.push(bounded(state, index, transition));
                if !config.settings.allow_parallel_steps {
                    break;
                }
            }
        }
        if choices.is_empty() {
            choices.push(Choice::Stuck);
        }
        Ok(choices)
    }

    fn matches(
        self,
        transition: &TransitionConfig,
        result: Option<&StepResult>,
        scope: &Scope<'_>,
    ) -> Result<bool, ConditionError> {
        let Some(condition) = &transition.condition else {
            return Ok(true);
        };
        Ok(match condition.kind {
            ConditionType::Always | ConditionType::OnComplete => true,
            ConditionType::OnAgreement => agreed(condition, result),
            ConditionType::OnDisagreement => !agreed(condition, result),
            ConditionType::Expression => {
                let source = condition.expression.as_deref().unwrap_or_default();
                // All expressions were compiled with the revision; a missing one could not have
                // been stored.
                let Some(expression) = self.workflow.expression(source) else {
                    return Ok(false);
                };
                expression
                    .evaluate_bool(scope)
                    .map_err(|error| ConditionError::Expression {
                        expression: source.to_owned(),
                        to: transition.to.clone(),
                        source: error,
                    })?
            }
        })
    }
}

/// A step has agreed when it ends with a value. With a threshold on the condition, only the
/// agreement counts; an undefined agreement counts as agreement.
fn agreed(condition: &ConditionConfig, result: Option<&StepResult>) -> bool {
    match condition.threshold {
        Some(threshold) => result
            .and_then(|r| r.agreement)
            .is_none_or(|a| a >= threshold),
        None => result.is_some_and(|r| r.value.is_some()),
    }
}

/// The branch of a conditional step, if it names one for the verdict.
fn branch(step: &StepConfig, result: Option<&StepResult>) -> Option<Choice> {
    if step.kind.spec().performer != Performer::Expression {
        return None;
    }
    let verdict = result?.decision.as_deref()? == "true";
    let target = if verdict {
        &step.true_branch
    } else {
        &step.false_branch
    };
    Some(Choice::Go {
        to: target.clone()?,
        condition_met: if verdict {
            "true_branch"
        } else {
            "false_branch"
        }
        .to_owned(),
        transition: None,
        looped: false,
    })
}

fn bounded(state: &WorkflowSnapshot, index: usize, transition: &TransitionConfig) -> Choice {
    let condition_met = match &transition.condition {
        None => ConditionType::Always.as_str().to_owned(),
        Some(ConditionConfig {
            kind: ConditionType::Expression,
            expression: Some(source),
            ..
        }) => source.clone(),
        Some(condition) => condition.kind.as_str().to_owned(),
    };
    let fired = state.loops.get(&index).copied().unwrap_or(0);
    match &transition.loop_bound {
        Some(bound) if fired >= bound.max_iterations => match &bound.on_exhausted {
            Some(to) => Choice::Go {
                to: to.clone(),
                condition_met,
                transition: Some(index),
                looped: false,
            },
            None => Choice::Exhausted {
                transition: index,
                max_iterations: bound.max_iterations,
            },
        },
        bound => Choice::Go {
            to: transition.to.clone(),
            condition_met,
            transition: Some(index),
            looped: bound.is_some(),
        },
    }
}
