//! The kinds of step, and one table of their properties.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CompletionType;

/// The kinds of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepType {
    /// Several people label the item.
    Annotation,
    /// One person approves, rejects, asks for changes or fixes.
    Review,
    /// One person decides where annotators disagree.
    Adjudication,
    /// A handler works without a person.
    AutoProcess,
    /// An expression chooses the next step.
    Conditional,
    /// Another workflow runs as a child task.
    SubWorkflow,
}

/// Properties of a kind of step that more than one part of the engine needs. To add a kind, fill in
/// one row here and write its executor.
#[derive(Debug)]
pub struct StepSpec {
    /// The name in YAML.
    pub name: &'static str,
    /// Who does the work.
    pub performer: Performer,
    /// Keys allowed for this kind only, besides those that every step may have.
    pub keys: &'static [&'static str],
    /// The one of these keys that is required.
    pub required_key: Option<&'static str>,
    /// How a step of the kind completes by default.
    pub default_completion: CompletionType,
    /// How a step of the kind can complete.
    pub completions: &'static [CompletionType],
    /// Whether handlers can be called around the work.
    pub takes_hooks: bool,
    /// How the kind relates to the subject of reviews and adjudications.
    pub subject: SubjectRole,
    /// Whether people submit answers, which can be right or wrong. A review decides on an answer
    /// instead.
    pub takes_answers: bool,
    /// How a visit can end.
    pub ends_with: EndsWith,
    /// What an `advance` needs to end a visit.
    pub advance: AdvanceNeeds,
}

impl StepSpec {
    /// Whether the step's value is a subject for the steps after it.
    pub fn makes_subject(&self) -> bool {
        self.subject == SubjectRole::Makes
    }

    /// Whether the step works on a subject.
    pub fn has_subject(&self) -> bool {
        self.subject == SubjectRole::WorksOn
    }
}

/// Who does the work of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Performer {
    /// As many people as the step asks for; their annotations become one value.
    Annotators,
    /// One person.
    Person,
    /// A handler.
    Handler,
    /// An expression, which chooses the next step.
    Expression,
    /// A child task.
    ChildTask,
}

/// How a kind of step relates to the subject, the value that reviews and adjudications look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectRole {
    /// The step's value is a subject for the steps after it.
    Makes,
    /// The step works on the incoming subject, can replace its value, and passes it on.
    WorksOn,
    /// The step passes on the incoming subject.
    PassesOn,
}

/// How a visit of a step can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndsWith {
    /// The outcome of the annotations: a value or none, by completion and consensus rules.
    Annotations,
    /// A value.
    Value,
    /// A value or none.
    ValueOrNone,
    /// A reviewer's decision, and depending on it a value or none.
    Decision,
    /// A verdict, true or false, and no value.
    Verdict,
}

/// What an `advance` needs to end a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdvanceNeeds {
    /// Nothing.
    Nothing,
    /// The step's minimum number of submissions; none where it completes by `manual`.
    Submissions,
    /// An `output`, which replaces the step's own.
    Output,
    /// An `advance` never ends the visit: the person has to submit.
    Person,
}

impl StepType {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Annotation,
        Self::Review,
        Self::Adjudication,
        Self::AutoProcess,
        Self::Conditional,
        Self::SubWorkflow,
    ];

    /// The properties of the kind.
    pub fn spec(self) -> &'static StepSpec {
        match self {
            Self::Annotation => &StepSpec {
                name: "annotation",
                performer: Performer::Annotators,
                keys: &["answer", "consensus", "assignment", "field"],
                required_key: None,
                default_completion: CompletionType::AnnotationCount,
                completions: &[
                    CompletionType::AnnotationCount,
                    CompletionType::Confidence,
                    CompletionType::Manual,
                ],
                takes_hooks: true,
                subject: SubjectRole::Makes,
                takes_answers: true,
                ends_with: EndsWith::Annotations,
                advance: AdvanceNeeds::Submissions,
            },
            Self::Review => &StepSpec {
                name: "review",
                performer: Performer::Person,
                keys: &["assignment", "field"],
                required_key: None,
                default_completion: CompletionType::ReviewDecision,
                completions: &[CompletionType::ReviewDecision],
                takes_hooks: true,
                subject: SubjectRole::WorksOn,
                takes_answers: false,
                ends_with: EndsWith::Decision,
                advance: AdvanceNeeds::Person,
            },
            Self::Adjudication => &StepSpec {
                name: "adjudication",
                performer: Performer::Person,
                keys: &["answer", "assignment", "field"],
                required_key: None,
                default_completion: CompletionType::ReviewDecision,
                completions: &[CompletionType::ReviewDecision],
                takes_hooks: true,
                subject: SubjectRole::WorksOn,
                takes_answers: true,
                ends_with: EndsWith::Value,
                advance: AdvanceNeeds::Person,
            },
            Self::AutoProcess => &StepSpec {
                name: "auto_process",
                performer: Performer::Handler,
                keys: &["handler", "config"],
                required_key: Some("handler"),
                default_completion: CompletionType::Auto,
                completions: &[CompletionType::Auto],
                takes_hooks: true,
                subject: SubjectRole::PassesOn,
                takes_answers: false,
                ends_with: EndsWith::ValueOrNone,
                advance: AdvanceNeeds::Nothing,
            },
            Self::Conditional => &StepSpec {
                name: "conditional",
                performer: Performer::Expression,
                keys: &["condition", "true_branch", "false_branch"],
                required_key: Some("condition"),
                default_completion: CompletionType::Auto,
                completions: &[CompletionType::Auto],
                takes_hooks: false,
                subject: SubjectRole::PassesOn,
                takes_answers: false,
                ends_with: EndsWith::Verdict,
                advance: AdvanceNeeds::Nothing,
            },
            Self::SubWorkflow => &StepSpec {
                name: "sub_workflow",
                performer: Performer::ChildTask,
                keys: &["workflow", "input_mapping", "output_mapping", "assignment"],
                required_key: Some("workflow"),
                default_completion: CompletionType::Auto,
                completions: &[CompletionType::Auto],
                takes_hooks: true,
                subject: SubjectRole::Makes,
                takes_answers: false,
                ends_with: EndsWith::ValueOrNone,
                advance: AdvanceNeeds::Output,
            },
        }
    }

    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        self.spec().name
    }

    /// Whether people submit to it.
    pub fn takes_submissions(self) -> bool {
        match self.spec().performer {
            Performer::Annotators | Performer::Person => true,
            Performer::Handler | Performer::Expression | Performer::ChildTask => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_kind_as_files_do() {
        let schema = schemars::schema_for!(StepType).to_value();
        let names: Vec<&str> = schema["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| kind["const"].as_str().unwrap())
            .collect();
        assert_eq!(StepType::ALL.map(StepType::as_str).as_slice(), names);
    }

    #[test]
    fn every_kind_has_the_key_that_it_needs_and_a_completion_of_its_own() {
        for kind in StepType::ALL {
            let spec = kind.spec();
            let has = |key: &&str| spec.keys.contains(key);
            assert!(spec.required_key.as_ref().is_none_or(has), "{spec:?}");
            assert!(
                spec.completions.contains(&spec.default_completion),
                "{spec:?}"
            );
        }
    }
}
