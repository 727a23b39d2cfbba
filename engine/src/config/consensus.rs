//! How several annotations become one value.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How several annotations become one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsensusConfig {
    /// The measure of agreement.
    #[serde(default)]
    pub metric: Metric,
    /// Level of measurement (`krippendorff_alpha`).
    #[serde(default)]
    pub level: Level,
    /// Path in `annotation.data`, dots between keys; all of data when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Agreement at which annotators agree.
    #[serde(default = "one")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub threshold: f64,
    /// Metric, threshold and weight of single fields, by their paths in `annotation.data`. Every
    /// annotation must have all of these fields, and the step's value is an object with these keys.
    /// A field that names no `metric`, `level` or `threshold` uses that of this block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_field: Option<BTreeMap<String, FieldConsensus>>,
    /// How the fields of `per_field` are combined into one verdict; `all_or_nothing` when left out.
    /// In every mode the step's agreement is the weighted mean over the fields whose agreement is
    /// defined, and the step has a value only if every field has one.
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

impl Default for ConsensusConfig {
    fn default() -> Self {
        Self {
            metric: Metric::default(),
            level: Level::default(),
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

/// Measures of agreement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of agreeing pairs.
    #[default]
    PercentAgreement,
    /// Cohen's kappa, mean over pairs of annotators.
    CohenKappa,
    /// Fleiss' kappa.
    FleissKappa,
    /// Krippendorff's alpha at `level`.
    KrippendorffAlpha,
    /// Gwet's AC1.
    GwetAc1,
    /// Mean intersection over union of matched spans.
    SpanIou,
    /// F1 of matched spans.
    SpanF1,
    /// Mean intersection over union of matched boxes.
    BoxIou,
    /// F1 over tokens.
    TokenF1,
}

impl Metric {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PercentAgreement => "percent_agreement",
            Self::CohenKappa => "cohen_kappa",
            Self::FleissKappa => "fleiss_kappa",
            Self::KrippendorffAlpha => "krippendorff_alpha",
            Self::GwetAc1 => "gwet_ac1",
            Self::SpanIou => "span_iou",
            Self::SpanF1 => "span_f1",
            Self::BoxIou => "box_iou",
            Self::TokenF1 => "token_f1",
        }
    }

    /// Whether the metric compares answers as categories, so that an answer is right or wrong.
    /// Regions, texts and numbers can also be near each other.
    pub fn compares_categories(self, level: Level) -> bool {
        match self {
            Self::PercentAgreement | Self::CohenKappa | Self::FleissKappa | Self::GwetAc1 => true,
            Self::KrippendorffAlpha => matches!(level, Level::Nominal | Level::Ordinal),
            Self::SpanIou | Self::SpanF1 | Self::BoxIou | Self::TokenF1 => false,
        }
    }
}

/// Levels of measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Categories without order.
    #[default]
    Nominal,
    /// Ranks.
    Ordinal,
    /// Numbers whose differences mean something.
    Interval,
    /// Numbers with a true zero.
    Ratio,
}

/// Metric, threshold and weight of one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldConsensus {
    /// The measure of agreement; the block's `metric` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Level of measurement (`krippendorff_alpha`); the block's `level` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
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

/// How one field is compared: its own settings, with those of the block as defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FieldRule<'c> {
    /// Path in `annotation.data`.
    pub field: &'c str,
    /// The measure of agreement.
    pub metric: Metric,
    /// Level of measurement.
    pub level: Level,
    /// Agreement at which annotators agree on this field.
    pub threshold: f64,
    /// Weight of the field in the step's agreement.
    pub weight: f64,
}

impl ConsensusConfig {
    /// The rules of `per_field`, in the order of the field names; empty without `per_field`.
    pub fn field_rules(&self) -> impl Iterator<Item = FieldRule<'_>> {
        let fields = self.per_field.iter().flatten();
        fields.map(|(field, own)| FieldRule {
            field,
            metric: own.metric.unwrap_or(self.metric),
            level: own.level.unwrap_or(self.level),
            threshold: own.threshold.unwrap_or(self.threshold),
            weight: own.weight,
        })
    }
}

/// How the value is found when annotators agree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnAgreement {
    /// The method.
    #[serde(default)]
    pub method: AgreementMethod,
}

/// Methods that find a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgreementMethod {
    /// The value that most people gave.
    #[default]
    MajorityVote,
    /// The value whose annotators have the most weight together.
    WeightedVote,
    /// The value that all gave.
    Unanimous,
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
