//! Rules that the types cannot express, about single parts and references between them; one file
//! for each topic.

mod completion;
mod conditions;
mod consensus;
mod goals;
mod handlers;
mod question;
mod reliability;
mod steps;
mod validator;

use std::collections::HashMap;

use self::validator::Validator;
pub(super) use self::{
    conditions::always_fails,
    steps::{CHILD_ASSIGNMENT, OUTPUT_KEYS},
};
use super::{draft::Draft, fault::Faults, outcomes::Expressions, suggest::Suggester, tree::Node};
use crate::limits::EXPRESSIONS_BYTES_MAX;

/// Reports every fault of single parts and of references between them. Returns the expressions.
pub(super) fn check(
    draft: &Draft<'_>,
    goals: Option<&Node>,
    handlers: &[&str],
    suggester: &Suggester,
    faults: &mut Faults,
) -> Expressions {
    let mut validator = Validator {
        draft,
        handlers,
        suggester,
        faults,
        expressions: HashMap::new(),
        expressions_left: Some(EXPRESSIONS_BYTES_MAX),
    };
    validator.duplicate_ids(draft.steps.iter().map(|step| step.node), "step");
    if let Some(timeout) = draft.body.below(&["settings", "default_timeout"]) {
        validator.timeout(timeout);
    }
    if let Some(gold) = draft.body.get("gold") {
        validator.gold(gold);
    }
    if let Some(reliability) = draft.body.get("reliability") {
        validator.reliability(reliability);
    }
    for step in &draft.steps {
        validator.step(step);
    }
    for transition in &draft.transitions {
        validator.transition(transition);
    }
    let goals = goals.and_then(Node::list).unwrap_or_default();
    validator.goals(goals);
    validator.expressions
}
