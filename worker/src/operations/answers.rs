//! What clients send: a JSON Schema of `annotation.data` for each step that people submit to.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use glyph_workflow_engine::{
    StepConfig, WorkflowConfig,
    answer::{Question, Questions, UnclearQuestion},
    config::{AnswerKind, ConsensusConfig, EndsWith},
    ids::{StepId, WorkflowId},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What each step of a revision asks people for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnswersDocument {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The revision's number.
    pub revision: u32,
    /// The workflow's name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The steps that people submit to.
    pub steps: BTreeMap<StepId, AskedAnswer>,
}

/// What one step asks people for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AskedAnswer {
    /// The step's name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the workflow's author tells those who do the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Which submissions need the answer.
    pub needed: AnswerNeeded,
    /// The kind of answer; null if that depends on the step under review.
    pub kind: Option<AnswerKind>,
    /// Path of the answer in `annotation.data`; null if the answer is all of it.
    pub field: Option<String>,
    /// JSON Schema (2020-12) of `annotation.data`. It says what a schema can; a submission is
    /// checked further, for example whether spans lie inside their text.
    pub schema: Value,
}

/// Which submissions need the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerNeeded {
    /// All of them.
    Always,
    /// A review with the decision `fix`; any other needs a `decision` only.
    ToFix,
}

impl AnswersDocument {
    /// What the steps of a revision ask for.
    ///
    /// # Errors
    ///
    /// A step that does not say clearly what it asks for; a stored revision has none.
    pub fn of(config: &WorkflowConfig) -> Result<Self, UnclearQuestion> {
        let questions = Questions::of(config)?;
        let asking = config.steps.iter().filter(|s| s.kind.takes_submissions());
        let asked = asking.map(|step| (step.id.clone(), asked(config, &questions, step)));
        Ok(Self {
            workflow: config.id.clone(),
            revision: config.revision,
            name: config.name.clone(),
            steps: asked.collect(),
        })
    }
}

fn asked(config: &WorkflowConfig, questions: &Questions, step: &StepConfig) -> AskedAnswer {
    let subjects = if step.kind.spec().has_subject() {
        subjects(config, &step.id)
    } else {
        BTreeSet::new()
    };
    let mut possible: Vec<_> = if subjects.is_empty() {
        vec![questions.asked(step, None)]
    } else {
        let subjects = subjects.into_iter();
        subjects
            .map(|subject| {
                let question = questions.asked(step, Some(subject));
                if is_asked_for_the_rest(config, step, subject) {
                    Cow::Owned(question.for_disputed(&[]))
                } else {
                    question
                }
            })
            .collect()
    };
    possible.dedup_by_key(|question| question.data_schema());
    let needed = match step.kind.spec().ends_with {
        EndsWith::Decision => AnswerNeeded::ToFix,
        EndsWith::Annotations | EndsWith::Value | EndsWith::ValueOrNone | EndsWith::Verdict => {
            AnswerNeeded::Always
        }
    };
    let common = |of: fn(&Question) -> Option<String>| {
        let first = possible.first().map(|question| of(question));
        let same = |first: &Option<String>| possible.iter().all(|q| of(q) == *first);
        first.filter(same).flatten()
    };
    let kind = possible.first().map(|question| question.kind());
    let schemas: Vec<Value> = possible.iter().map(|q| q.data_schema()).collect();
    AskedAnswer {
        name: step.name.clone(),
        description: step.description.clone(),
        needed,
        kind: kind.filter(|kind| possible.iter().all(|question| question.kind() == *kind)),
        field: common(|question| question.field().map(str::to_owned)),
        schema: match <[Value; 1]>::try_from(schemas) {
            Ok([only]) => only,
            Err(several) => json!({"anyOf": several}),
        },
    }
}

/// Whether what people agree on is settled for an adjudicator, who may leave it out.
fn is_asked_for_the_rest(config: &WorkflowConfig, step: &StepConfig, subject: &StepId) -> bool {
    let same = step.answer.is_none() && step.kind.spec().ends_with != EndsWith::Decision;
    let consensus = config
        .step(subject)
        .and_then(|step| step.consensus.as_ref());
    same && consensus.is_some_and(ConsensusConfig::asks_disputed_only)
}

/// The steps whose answers a review or adjudication can be about: those that make answers and lead
/// to it through none that does.
fn subjects<'c>(config: &'c WorkflowConfig, step: &'c StepId) -> BTreeSet<&'c StepId> {
    let leads = |to: &StepId| {
        let transitions = config.transitions.iter().filter(move |t| {
            let exhausted = t.loop_bound.as_ref().and_then(|b| b.on_exhausted.as_ref());
            let targets = [Some(&t.to), exhausted].into_iter().flatten();
            targets.into_iter().any(|target| target.step() == Some(to))
        });
        let branches = config.steps.iter().filter(move |s| {
            let mut branches = s.true_branch.iter().chain(&s.false_branch);
            branches.any(|target| target.step() == Some(to))
        });
        let from = transitions.map(|t| &t.from).chain(branches.map(|s| &s.id));
        from.collect::<Vec<_>>()
    };
    let (mut found, mut seen, mut waiting) = (BTreeSet::new(), BTreeSet::new(), leads(step));
    while let Some(before) = waiting.pop() {
        if !seen.insert(before) {
            continue;
        }
        let makes = |step: &StepConfig| step.kind.spec().makes_subject();
        if config.step(before).is_some_and(makes) {
            found.insert(before);
        } else {
            waiting.extend(leads(before));
        }
    }
    found
}
