//! How several annotations become one value.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AgreementMethod, DistanceWeights, Level, Metric};

/// How several annotations become one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsensusConfig {
    /// The measure of agreement; that of the kind of answer when left out, `percent_agreement` for
    /// most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Level of measurement. Without `answer.kind`, it is the kind of each unit: the answer itself,
    /// every field of an object, every element of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What disagreement weighs by its distance on the scale (`cohen_kappa`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<DistanceWeights>,
    /// Path in `annotation.data`, dots between keys; all of data when left out. Short for
    /// `answer.field`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Agreement at which annotators agree.
    #[serde(default = "one")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub threshold: f64,
    /// Metric, threshold and weight of single fields, by their paths in `annotation.data`. Every
    /// annotation must have all of these fields, and the step's value is an object with these keys.
    /// A field that names no `metric`, `level` or `threshold` uses that of this block. Short for an
    /// `answer` of kind `record`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_field: Option<BTreeMap<String, FieldConsensus>>,
    /// How the fields of a record are combined into one verdict; `all_or_nothing` when left out. In
    /// every mode the step's agreement is the weighted mean over the fields whose agreement is
    /// defined. Fields without a winner are null in the value, and listed in `result.disputed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FieldMode>,
    /// How the value is found when annotators agree.
    #[serde(default)]
    pub on_agreement: OnAgreement,
    /// What happens when annotators disagree.
    #[serde(default)]
    pub on_disagreement: OnDisagreement,
    /// What happens when a vote is tied.
    #[serde(default)]
    pub tie_breaker: TieBreaker,
}

fn one() -> f64 {
    1.0
}

impl ConsensusConfig {
    /// The `config` of a `consensus_calculator`: the step that it names, and the rest.
    ///
    /// # Errors
    ///
    /// What of the rest is no `consensus` block.
    pub fn of_calculator(config: &Value) -> Result<(Option<String>, Self), serde_json::Error> {
        let mut block = config.clone();
        let step = block.as_object_mut().and_then(|keys| keys.remove("step"));
        let step = step.and_then(|step| step.as_str().map(str::to_owned));
        if block.is_null() {
            return Ok((step, Self::default()));
        }
        Ok((step, serde_json::from_value(block)?))
    }

    /// Whether an adjudicator is asked only what annotators disagree on.
    pub fn asks_disputed_only(&self) -> bool {
        self.on_disagreement.scope == Some(DisagreementScope::Disputed)
    }
}

impl Default for ConsensusConfig {
    fn default() -> Self {
        Self {
            metric: None,
            level: None,
            weights: None,
            field: None,
            threshold: 1.0,
            per_field: None,
            mode: None,
            on_agreement: OnAgreement::default(),
            on_disagreement: OnDisagreement::default(),
            tie_breaker: TieBreaker::default(),
        }
    }
}

/// Metric, threshold and weight of one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldConsensus {
    /// The measure of agreement; the block's `metric` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Level of measurement; the block's `level` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What disagreement weighs by its distance on the scale (`cohen_kappa`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<DistanceWeights>,
    /// Agreement at which annotators agree on this field; the block's `threshold` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub threshold: Option<f64>,
    /// Weight of the field in the step's agreement, above 0.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight: f64,
}

/// How fields are combined into one verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldMode {
    /// Every field must reach its threshold; otherwise `on_disagreement` applies to all fields.
    #[default]
    AllOrNothing,
    /// `on_agreement` applies to each field that reaches its threshold, `on_disagreement` to each
    /// field that does not.
    FieldByField,
    /// The weighted mean must reach the block's `threshold`; single fields may fall below theirs.
    Weighted,
}

/// How the value is found when annotators agree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnAgreement {
    /// The method.
    #[serde(default)]
    pub method: AgreementMethod,
}

/// What happens when annotators disagree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnDisagreement {
    /// The strategy.
    #[serde(default)]
    pub strategy: DisagreementStrategy,
    /// Maximum number of further annotators (`additional_annotators`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = crate::limits::ANNOTATORS_MAX))]
    pub max_additional: Option<u32>,
    /// How the step ends when further annotators do not settle it (`additional_annotators`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// What an adjudicator is asked (records, sets and regions); `all` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<DisagreementScope>,
}

/// What an adjudicator is asked where annotators disagree on a part of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisagreementScope {
    /// The whole answer.
    #[default]
    All,
    /// What is disputed only: the adjudicator's answer is laid over what is agreed.
    Disputed,
}

/// Strategies on disagreement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisagreementStrategy {
    /// The value that most people gave.
    MajorityVote,
    /// The value whose annotators have the most weight together.
    WeightedVote,
    /// The step ends without a value; an adjudicator is expected to follow.
    #[default]
    Adjudication,
    /// More people are asked.
    AdditionalAnnotators,
    /// The step ends without a value and operators are notified.
    Escalate,
}

/// How the step ends when further annotators do not settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// The value that most people gave.
    MajorityVote,
    /// The value whose annotators have the most weight together.
    WeightedVote,
    /// The step ends without a value.
    Adjudication,
    /// The step ends without a value and operators are notified.
    Escalate,
}

/// What happens when a vote is tied; never random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TieBreaker {
    /// The step ends without a value.
    #[default]
    Adjudication,
    /// The side with the more reliable annotators wins.
    QualityWeighted,
    /// One more person is asked.
    AdditionalAnnotator,
}
