//! What a step asks people for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::{Level, Metric};

/// What a step asks people for: where the answer is, what it may be, and what makes two alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerConfig {
    /// Path in `annotation.data`, dots between keys; all of data when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What kind of answer it is; when left out it follows from the metric, else `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<AnswerKind>,
    /// The possible answers (`category`, `ordinal` from low to high), members (`set`), tags
    /// (regions), or what is ranked (`ranking`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = crate::limits::ANSWER_VALUES_MAX))]
    pub values: Option<Vec<Value>>,
    /// The least number (`number`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub min: Option<Number>,
    /// The greatest number (`number`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub max: Option<Number>,
    /// How far two numbers may be apart and still be alike (`number`); 0 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub tolerance: Option<f64>,
    /// A member is in the united set where more than this share of the votes hold it (`set`); 0.5
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: Option<f64>,
    /// Key that holds the class of a region; `tag` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Path of the text that spans must stay inside, as `input.text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Further keys of regions that must be equal for two regions to be the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<String>,
    /// How boxes are written; `xyxy` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<BoxFormat>,
    /// Overlap (intersection over union) from which two regions are the same one, for F1 and for
    /// merging; 0.5 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_iou: Option<f64>,
    /// The fields of a `record`, by their paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, AnswerField>>,
}

/// One field of a record: what it may be, and how it is compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerField {
    /// What kind of answer it is; when left out it follows from the metric, else `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<AnswerKind>,
    /// The possible answers (`category`, `ordinal` from low to high), members (`set`), tags
    /// (regions), or what is ranked (`ranking`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = crate::limits::ANSWER_VALUES_MAX))]
    pub values: Option<Vec<Value>>,
    /// The least number (`number`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub min: Option<Number>,
    /// The greatest number (`number`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub max: Option<Number>,
    /// How far two numbers may be apart and still be alike (`number`); 0 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub tolerance: Option<f64>,
    /// A member is in the united set where more than this share of the votes hold it (`set`); 0.5
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: Option<f64>,
    /// Key that holds the class of a region; `tag` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Path of the text that spans must stay inside, as `input.text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Further keys of regions that must be equal for two regions to be the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<String>,
    /// How boxes are written; `xyxy` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<BoxFormat>,
    /// Overlap (intersection over union) from which two regions are the same one, for F1 and for
    /// merging; 0.5 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_iou: Option<f64>,
    /// What measures agreement on this field; the kind's own measure when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<AnswerMetric>,
    /// Level of measurement (`krippendorff_alpha`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What disagreement weighs by its distance on the scale (`cohen_kappa`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<DistanceWeights>,
    /// Agreement at which annotators agree on this field; the step's `threshold` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub threshold: Option<f64>,
    /// Weight of the field in agreement and similarity, above 0; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight: Option<f64>,
    /// Expression over `annotation` and `input`: the field is asked for only where it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What becomes of an answer that lacks the field; `refuse` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<MissingField>,
}

/// The kinds of answer.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// Any JSON: objects are compared by field, lists by position.
    Any,
    /// One of several values without order.
    Category,
    /// One of several values from low to high.
    Ordinal,
    /// A number.
    Number,
    /// A list of distinct values whose order is nothing.
    Set,
    /// All values in the order of preference.
    Ranking,
    /// Free text.
    Text,
    /// Stretches of a text, in Unicode code points.
    Spans,
    /// Stretches of a recording, in seconds.
    Segments,
    /// Upright rectangles in an image.
    Boxes,
    /// Polygons in an image.
    Polygons,
    /// Several answers by field.
    Record,
}

impl AnswerKind {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Category => "category",
            Self::Ordinal => "ordinal",
            Self::Number => "number",
            Self::Set => "set",
            Self::Ranking => "ranking",
            Self::Text => "text",
            Self::Spans => "spans",
            Self::Segments => "segments",
            Self::Boxes => "boxes",
            Self::Polygons => "polygons",
            Self::Record => "record",
        }
    }

    /// Whether it is a list of regions.
    pub fn is_regions(self) -> bool {
        matches!(
            self,
            Self::Spans | Self::Segments | Self::Boxes | Self::Polygons
        )
    }
}

/// Measures of agreement, over all kinds of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMetric {
    /// Share of agreeing pairs.
    PercentAgreement,
    /// Cohen's kappa, mean over pairs of annotators.
    CohenKappa,
    /// Fleiss' kappa.
    FleissKappa,
    /// Krippendorff's alpha at `level`.
    KrippendorffAlpha,
    /// Gwet's AC1.
    GwetAc1,
    /// One less the distance on the scale.
    OrdinalAgreement,
    /// Share of pairs of numbers within the tolerance.
    Within,
    /// Members in common over members of either.
    Jaccard,
    /// Jaccard, weighed by how the sets lie to each other.
    Masi,
    /// Share of pairs ranked alike.
    KendallTau,
    /// One less the edit distance over the longer length.
    EditSimilarity,
    /// F1 over words.
    TokenF1,
    /// F1 over the longest common sequence of words.
    RougeL,
    /// Mean intersection over union of matched spans.
    SpanIou,
    /// F1 of matched spans.
    SpanF1,
    /// Mean intersection over union of matched segments.
    SegmentIou,
    /// F1 of matched segments.
    SegmentF1,
    /// Mean intersection over union of matched boxes.
    BoxIou,
    /// Mean intersection over union of matched polygons.
    PolygonIou,
}

impl AnswerMetric {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PercentAgreement => "percent_agreement",
            Self::CohenKappa => "cohen_kappa",
            Self::FleissKappa => "fleiss_kappa",
            Self::KrippendorffAlpha => "krippendorff_alpha",
            Self::GwetAc1 => "gwet_ac1",
            Self::OrdinalAgreement => "ordinal_agreement",
            Self::Within => "within",
            Self::Jaccard => "jaccard",
            Self::Masi => "masi",
            Self::KendallTau => "kendall_tau",
            Self::EditSimilarity => "edit_similarity",
            Self::TokenF1 => "token_f1",
            Self::RougeL => "rouge_l",
            Self::SpanIou => "span_iou",
            Self::SpanF1 => "span_f1",
            Self::SegmentIou => "segment_iou",
            Self::SegmentF1 => "segment_f1",
            Self::BoxIou => "box_iou",
            Self::PolygonIou => "polygon_iou",
        }
    }

    /// Whether it corrects for chance; else it is the mean similarity over pairs.
    pub fn corrects_for_chance(self) -> bool {
        matches!(
            self,
            Self::CohenKappa | Self::FleissKappa | Self::KrippendorffAlpha | Self::GwetAc1
        )
    }
}

impl From<Metric> for AnswerMetric {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::PercentAgreement => Self::PercentAgreement,
            Metric::CohenKappa => Self::CohenKappa,
            Metric::FleissKappa => Self::FleissKappa,
            Metric::KrippendorffAlpha => Self::KrippendorffAlpha,
            Metric::GwetAc1 => Self::GwetAc1,
            Metric::SpanIou => Self::SpanIou,
            Metric::SpanF1 => Self::SpanF1,
            Metric::BoxIou => Self::BoxIou,
            Metric::TokenF1 => Self::TokenF1,
        }
    }
}

/// Methods that unite several answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMethod {
    /// What most people hold, by the rule of the kind of answer.
    #[default]
    MajorityVote,
    /// As `majority_vote`, with the weight of those who gave an answer.
    WeightedVote,
    /// The value that all gave.
    Unanimous,
    /// The value most people gave as a whole.
    MostVotes,
    /// The middle one.
    Median,
    /// The mean of the numbers.
    Mean,
    /// The answer most like all the others.
    Medoid,
    /// The order by the sum of ranks.
    Borda,
}

impl AnswerMethod {
    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MajorityVote => "majority_vote",
            Self::WeightedVote => "weighted_vote",
            Self::Unanimous => "unanimous",
            Self::MostVotes => "most_votes",
            Self::Median => "median",
            Self::Mean => "mean",
            Self::Medoid => "medoid",
            Self::Borda => "borda",
        }
    }
}

/// What disagreement weighs by its distance on the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DistanceWeights {
    /// The distance.
    Linear,
    /// The square of the distance.
    Quadratic,
}

/// How boxes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoxFormat {
    /// Two opposite corners: `x1`, `y1`, `x2`, `y2`.
    #[default]
    Xyxy,
    /// A corner and the extent: `x`, `y`, `width`, `height`.
    Xywh,
}

/// What becomes of an answer that lacks a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingField {
    /// It is refused.
    #[default]
    Refuse,
    /// It counts for the other fields and not for this one.
    LeaveOut,
    /// That the field is missing counts as an answer of its own.
    OwnAnswer,
}
