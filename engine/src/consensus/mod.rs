//! The pure mathematics of agreement: how far annotators agree.
//!
//! Nothing here reads a clock, a file or a random source; equal arguments give equal results on
//! every machine. Nothing here panics either: bad arguments are a [`ConsensusError`], and a
//! coefficient that has no value for sound data is [`ConsensusError::Undefined`] with its reason,
//! never a made-up 0 or 1.
//!
//! Which measure for which data:
//!
//! | data | measure |
//! | --- | --- |
//! | categories, no correction for chance | [`percent_agreement`] |
//! | categories, two annotators, no gaps | [`cohens_kappa`], ordered: [`cohens_kappa_weighted`] |
//! | categories, many annotators in pairs | [`mean_cohens_kappa`] |
//! | categories, equally often rated | [`fleiss_kappa`], gaps: [`fleiss_kappa_ratings`] |
//! | categories, one of them dominant | [`gwet_ac1`], [`gwet_ac1_with_categories`] |
//! | any number of annotators, gaps, categories | [`krippendorffs_alpha_nominal`] |
//! | the same, ordered categories | [`krippendorffs_alpha_ordinal`] |
//! | the same, numbers | [`krippendorffs_alpha_interval`] |
//! | the same, numbers with a true zero | [`krippendorffs_alpha_ratio`] |
//! | spans of text | [`iou_span`], [`mean_span_iou`], [`span_f1`], [`compare_spans`] |
//! | boxes | [`iou_box`], [`mean_box_iou`], [`box_f1`], [`compare_boxes`] |
//! | free text | [`token_f1`], [`text_token_f1`] |
//! | categories, over a moving window | [`StreamingAlpha`], of two annotators [`StreamingKappa`] |
//! | categories over many small items, with an interval | [`Pooled`] |
//! | a share, with an interval or a test | [`wilson_interval`], [`binomial_at_most`] |
//! | uncertainty of any of these | [`bootstrap_interval`], [`bootstrap_ratings`] |
//! | true classes and error rates | [`dawid_skene`] |
//!
//! Ratings are `ratings[annotator][item]`, `None` where an annotator gave none. Category codes are
//! positions in the ordered list of categories; they may have gaps and be as large as `u32` allows,
//! since no code is ever used as the size of a table. The functions ending in `_detailed` return
//! [`Agreement`], the value together with the number of items and pairs it rests on.
//!
//! Each function states its formula, its domain and where it has no value. The published examples
//! that pin the numbers are in `tests/fixtures/agreement`.

mod agreement;
mod alpha;
mod bootstrap;
mod dawid_skene;
mod error;
mod fleiss;
mod gwet;
mod kappa;
mod matching;
mod overlap;
mod percent;
mod pooled;
mod proportion;
mod regions;
#[cfg(test)]
mod samples;
mod streaming;
mod tokens;
mod units;

pub use agreement::Agreement;
pub use alpha::{
    krippendorffs_alpha_interval, krippendorffs_alpha_interval_detailed,
    krippendorffs_alpha_nominal, krippendorffs_alpha_nominal_detailed, krippendorffs_alpha_ordinal,
    krippendorffs_alpha_ordinal_detailed, krippendorffs_alpha_ratio,
    krippendorffs_alpha_ratio_detailed,
};
pub use bootstrap::{BOOTSTRAP_RESAMPLES_DEFAULT, Interval, bootstrap_interval, bootstrap_ratings};
pub use dawid_skene::{DAWID_SKENE_CELLS_MAX, DawidSkene, Stopping, dawid_skene};
pub use error::{ConsensusError, UndefinedReason};
pub use fleiss::{
    fleiss_kappa, fleiss_kappa_detailed, fleiss_kappa_ratings, fleiss_kappa_ratings_detailed,
};
pub use gwet::{gwet_ac1, gwet_ac1_detailed, gwet_ac1_with_categories};
pub use kappa::{
    Weighting, cohens_kappa, cohens_kappa_detailed, cohens_kappa_weighted,
    cohens_kappa_weighted_detailed, cohens_kappa_with_weights, mean_cohens_kappa,
};
pub(crate) use matching::{Limits, pair_counting};
pub use matching::{MATCH_PAIRS_MAX, MATCH_STEPS_MAX};
pub use overlap::{
    BoundingBox, RegionMode, Span, box_f1, iou_box, iou_span, match_boxes, match_spans,
    mean_box_iou, mean_span_iou, span_f1,
};
pub use percent::{percent_agreement, percent_agreement_detailed};
pub use pooled::{Estimate, Pooled, PooledCoefficient, PooledScale, PooledUnit};
pub use proportion::{Bounds, CONFIDENCE_DEFAULT, binomial_at_most, wilson_interval};
pub use regions::{RegionComparison, TaggedBox, TaggedSpan, compare_boxes, compare_spans};
pub use streaming::{StreamingAlpha, StreamingKappa};
pub use tokens::{text_token_f1, token_f1, tokens};
