//! What measures agreement, and what unites answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Measures of agreement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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

impl Metric {
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

    /// The coefficient that it is; `None` if it is the mean similarity over pairs.
    pub fn coefficient(self) -> Option<Coefficient> {
        match self {
            Self::CohenKappa => Some(Coefficient::CohenKappa),
            Self::FleissKappa => Some(Coefficient::FleissKappa),
            Self::KrippendorffAlpha => Some(Coefficient::KrippendorffAlpha),
            Self::GwetAc1 => Some(Coefficient::GwetAc1),
            Self::PercentAgreement
            | Self::OrdinalAgreement
            | Self::Within
            | Self::Jaccard
            | Self::Masi
            | Self::KendallTau
            | Self::EditSimilarity
            | Self::TokenF1
            | Self::RougeL
            | Self::SpanIou
            | Self::SpanF1
            | Self::SegmentIou
            | Self::SegmentF1
            | Self::BoxIou
            | Self::PolygonIou => None,
        }
    }

    /// Whether it corrects for chance; else it is the mean similarity over pairs.
    pub fn corrects_for_chance(self) -> bool {
        self.coefficient().is_some()
    }
}

/// Measures of agreement that correct for chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coefficient {
    /// Cohen's kappa, the mean over pairs of people.
    CohenKappa,
    /// Fleiss' kappa.
    FleissKappa,
    /// Krippendorff's alpha.
    KrippendorffAlpha,
    /// Gwet's AC1.
    GwetAc1,
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

/// What disagreement weighs by its distance on the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DistanceWeights {
    /// The distance.
    Linear,
    /// The square of the distance.
    Quadratic,
}

/// Methods that unite several answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgreementMethod {
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

impl AgreementMethod {
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
