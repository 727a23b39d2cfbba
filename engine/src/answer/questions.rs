//! What each step of a revision asks for.

use std::{borrow::Cow, collections::HashMap};

use super::{Asked, Question, QuestionFault};
use crate::{
    config::{Performer, StepConfig, WorkflowConfig},
    ids::StepId,
};

/// What each step of a revision asks for, resolved once.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// Of every annotation step, and of the others that say something themselves.
    own: HashMap<StepId, Question>,
}

/// A step that does not say clearly what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step `{step_id}`: {}", self.faults.first().map_or_else(String::new, ToString::to_string))]
pub struct UnclearQuestion {
    /// The step.
    pub step_id: StepId,
    /// Everything that is wrong.
    pub faults: Vec<QuestionFault>,
}

impl Questions {
    /// The questions of all steps.
    ///
    /// # Errors
    ///
    /// The first step that does not say clearly what it asks for.
    pub fn of(config: &WorkflowConfig) -> Result<Self, UnclearQuestion> {
        let asks = |step: &&StepConfig| {
            step.kind.spec().performer == Performer::Annotators || step.answer.is_some()
        };
        let asking = config.steps.iter().filter(asks);
        let resolved = asking.map(|step| match step.question() {
            Ok(question) => Ok((step.id.clone(), question)),
            Err(faults) => Err(UnclearQuestion {
                step_id: step.id.clone(),
                faults,
            }),
        });
        Ok(Self {
            own: resolved.collect::<Result<_, _>>()?,
        })
    }

    /// What a step says itself that it asks for.
    pub fn own(&self, step: &str) -> Option<&Question> {
        self.own.get(step)
    }

    /// What a step asks for: its own question, else that of the step whose work it is about, where
    /// `field` names another place for the answer.
    pub fn asked(&self, step: &StepConfig, subject: Option<&StepId>) -> Cow<'_, Question> {
        if let Some(own) = self.own(&step.id) {
            return Cow::Borrowed(own);
        }
        match (subject.and_then(|subject| self.own(subject)), &step.field) {
            (Some(question), None) => Cow::Borrowed(question),
            (Some(question), Some(field)) => Cow::Owned(question.at(field)),
            (None, field) => Cow::Owned(anything(field.as_deref())),
        }
    }
}

/// Any answer, at a place.
fn anything(field: Option<&str>) -> Question {
    let asked = Asked {
        field,
        ..Asked::default()
    };
    Question::resolve(&asked)
        .or_else(|_| Question::resolve(&Asked::default()))
        .expect("a step that says nothing asks for anything")
}
