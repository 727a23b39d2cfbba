//! Results of steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::reliability::{Posterior, value_of};

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepResult {
    /// The kind of step that produced it.
    pub kind: ResultKind,
    /// The value; null when the step ends without one.
    pub value: Option<Value>,
    /// Agreement of the annotators; null if it is undefined or the step does not calculate it.
    pub agreement: Option<f64>,
    /// What determined the value; null when the step ends without one and no person decided.
    pub resolved_by: Option<ResolvedBy>,
    /// The verdict: a review's decision, or `true`/`false` of a conditional step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The annotations that it is based on.
    #[serde(default)]
    pub annotations: Vec<Uuid>,
    /// The probability of each answer, if the step completes by confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posterior: Option<Box<SoftLabels>>,
    /// Whether the answer became sure enough, if the step completes by confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
    /// What annotators agree on, if an adjudicator is asked for the rest only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Value>,
    /// What they do not agree on: paths of a record's fields without a winner, and, if an
    /// adjudicator is asked for those only, members of a set or regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disputed: Option<Value>,
    /// What people answered after the answer was sure, if the task is audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Box<AuditResult>>,
}

impl StepResult {
    /// A result with nothing but its kind.
    pub fn new(kind: ResultKind) -> Self {
        Self {
            kind,
            value: None,
            agreement: None,
            resolved_by: None,
            decision: None,
            annotations: Vec::new(),
            posterior: None,
            reached: None,
            agreed: None,
            disputed: None,
            audit: None,
        }
    }

    /// Whether a review has refused the value before it, which is then no output.
    pub fn is_refusal(&self) -> bool {
        let decision = self.decision.as_deref().and_then(ReviewDecision::from_name);
        self.kind == ResultKind::Review && decision.is_some_and(ReviewDecision::refuses)
    }
}

/// The probability of each answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SoftLabels {
    /// Probability of the best answer.
    pub confidence: f64,
    /// The possible answers: those declared, else those given so far.
    pub classes: Vec<Value>,
    /// Probability of each of `classes`.
    pub probabilities: Vec<f64>,
    /// Probability of an answer that no one has given yet; 0 if the answers are declared.
    pub unseen: f64,
}

impl From<&Posterior> for SoftLabels {
    fn from(posterior: &Posterior) -> Self {
        Self {
            confidence: posterior.confidence,
            classes: posterior.classes.iter().map(|c| value_of(c)).collect(),
            probabilities: posterior.probabilities.clone(),
            unseen: posterior.unseen,
        }
    }
}

/// An answer that was sure, of a visit that asks on because its task is audited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditedAnswer {
    /// The answer.
    pub value: Value,
    /// Agreement of the annotators who gave it.
    pub agreement: Option<f64>,
    /// The probability of each answer then.
    pub posterior: SoftLabels,
    /// How many submissions had led to it.
    pub submissions: usize,
}

/// What people answered after the answer was sure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditResult {
    /// The later answers, most frequent first.
    pub votes: Vec<AuditVote>,
    /// The most probable answer by all submissions, earlier and later ones; null if two are equally
    /// probable.
    pub value: Option<Value>,
    /// The probability of each answer by all of them.
    pub posterior: SoftLabels,
}

/// One of the later answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditVote {
    /// The answer.
    pub value: Value,
    /// How many people gave it.
    pub count: u32,
}

/// Kinds of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResultKind {
    /// Annotations without a consensus rule.
    Annotation,
    /// Annotations under a consensus rule.
    Consensus,
    /// A reviewer's decision.
    Review,
    /// An adjudicator's value.
    Adjudication,
    /// A handler's output.
    Auto,
    /// An expression's verdict.
    Conditional,
    /// A child task's output.
    SubWorkflow,
}

/// What determined a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedBy {
    /// One person's annotation, or the list of several, unchanged.
    Annotation,
    /// The value most people gave.
    MajorityVote,
    /// The value with the most weight.
    WeightedVote,
    /// The value that all annotators gave.
    Unanimous,
    /// The whole value that most people gave.
    MostVotes,
    /// The middle one.
    Median,
    /// The mean of the numbers.
    Mean,
    /// The answer most like all the others.
    Medoid,
    /// The order by the sum of ranks.
    Borda,
    /// The posterior's best answer.
    Posterior,
    /// An adjudicator.
    Adjudication,
    /// A reviewer.
    Review,
    /// An `advance` that closed the step early: its own output, or the best answer so far.
    Exhausted,
    /// A handler.
    Handler,
    /// A child task.
    SubWorkflow,
}

impl ResolvedBy {
    /// The name in results and outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Annotation => "annotation",
            Self::MajorityVote => "majority_vote",
            Self::WeightedVote => "weighted_vote",
            Self::Unanimous => "unanimous",
            Self::MostVotes => "most_votes",
            Self::Median => "median",
            Self::Mean => "mean",
            Self::Medoid => "medoid",
            Self::Borda => "borda",
            Self::Posterior => "posterior",
            Self::Adjudication => "adjudication",
            Self::Review => "review",
            Self::Exhausted => "exhausted",
            Self::Handler => "handler",
            Self::SubWorkflow => "sub_workflow",
        }
    }
}

/// A reviewer's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewDecision {
    /// The subject's value is accepted.
    Approve,
    /// The subject's value is rejected.
    Reject,
    /// The subject's value needs more work.
    RequestChanges,
    /// The reviewer's own value replaces the subject's.
    Fix,
}

impl ReviewDecision {
    /// Every decision.
    pub const ALL: [Self; 4] = [Self::Approve, Self::Reject, Self::RequestChanges, Self::Fix];

    /// The name in annotations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::RequestChanges => "request_changes",
            Self::Fix => "fix",
        }
    }

    /// Whether the subject's value is no output after it.
    pub fn refuses(self) -> bool {
        match self {
            Self::Reject | Self::RequestChanges => true,
            Self::Approve | Self::Fix => false,
        }
    }

    /// The decision of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.as_str() == name)
    }
}
