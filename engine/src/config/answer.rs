//! What a step asks people for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::{DistanceWeights, Level, Metric};

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
    pub metric: Option<Metric>,
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
