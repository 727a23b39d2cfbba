//! The agreement of the annotations of one visit.

use serde_json::Value;

use super::{units::Units, value::value_at};
use crate::{
    config::{ConsensusConfig, Level, Metric},
    consensus::{
        self, Agreement, BoundingBox, ConsensusError, RegionComparison, Span, TaggedBox, TaggedSpan,
    },
};

/// The overlap from which two regions count as found by both, in `span_f1`.
const SPAN_F1_MIN_IOU: f64 = 0.5;

/// The agreement of a visit's annotations, with the amount of data behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct AgreementReport {
    /// The agreement; `None` if it is not defined.
    pub agreement: Option<f64>,
    /// Why it is not defined, or why another measure replaces it.
    pub note: Option<String>,
    /// Whether the metric can read the values. Undefined agreement on readable values is not a
    /// disagreement; values that cannot be compared at all are not an agreement.
    pub readable: bool,
    /// Units compared.
    pub units: usize,
    /// Pairs of values compared.
    pub pairs: u64,
}

/// Measures how far `values` (one per annotator) agree.
///
/// Units are the fields of an object, the elements of a list, or the value itself. A
/// chance-corrected coefficient needs at least two units with values; with fewer, the observed
/// (percent) agreement replaces it and the report says so. One value, or values for which the
/// measure is undefined, give no agreement, and the report says why. If one list ends before
/// another, nominal measures count its end as an answer of its own.
pub fn measure_agreement(metric: Metric, level: Level, values: &[&Value]) -> AgreementReport {
    if values.len() < 2 {
        return undefined("one annotation has nothing to agree with".to_owned());
    }
    let of_units = |measure| coefficient(metric, measure, &Units::new(values));
    match metric {
        Metric::SpanIou => pairwise(&spans(values), |a, b| span_iou(a, b)),
        Metric::SpanF1 => pairwise(&spans(values), |a, b| span_f1(a, b)),
        Metric::BoxIou => pairwise(&boxes(values), |a, b| box_iou(a, b)),
        Metric::TokenF1 => pairwise(&tokens(values), |a, b| token_f1(a, b)),
        Metric::PercentAgreement => of_units(Coefficient::Percent),
        Metric::CohenKappa => of_units(Coefficient::CohenKappa),
        Metric::FleissKappa => of_units(Coefficient::FleissKappa),
        Metric::KrippendorffAlpha => of_units(Coefficient::KrippendorffAlpha(level)),
        Metric::GwetAc1 => of_units(Coefficient::GwetAc1),
    }
}

/// The measures that compare units.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coefficient {
    Percent,
    CohenKappa,
    FleissKappa,
    KrippendorffAlpha(Level),
    GwetAc1,
}

impl Coefficient {
    /// Whether the end of a list, where another list continues, is an answer of its own.
    fn counts_ends(self) -> bool {
        match self {
            Self::KrippendorffAlpha(level) => level == Level::Nominal,
            Self::Percent | Self::CohenKappa | Self::FleissKappa | Self::GwetAc1 => true,
        }
    }
}

fn coefficient(metric: Metric, measure: Coefficient, units: &Units<'_>) -> AgreementReport {
    let codes = units.codes();
    if measure != Coefficient::Percent && units.comparable(measure.counts_ends()) < 2 {
        let mut report = report(consensus::percent_agreement_detailed(&codes));
        report.note.get_or_insert_with(|| {
            format!(
                "observed agreement stands in: {} needs at least two units with values",
                metric.as_str()
            )
        });
        return report;
    }
    report(match measure {
        Coefficient::Percent => consensus::percent_agreement_detailed(&codes),
        Coefficient::CohenKappa => consensus::mean_cohens_kappa(&codes, None),
        Coefficient::FleissKappa => consensus::fleiss_kappa_ratings_detailed(&codes),
        Coefficient::GwetAc1 => consensus::gwet_ac1_detailed(&codes),
        Coefficient::KrippendorffAlpha(level) => match level {
            Level::Nominal => consensus::krippendorffs_alpha_nominal_detailed(&codes),
            Level::Ordinal => consensus::krippendorffs_alpha_ordinal_detailed(&units.ranks()),
            Level::Interval => match numbers(level, units) {
                Ok(numbers) => consensus::krippendorffs_alpha_interval_detailed(&numbers),
                Err(reason) => return unreadable(reason),
            },
            Level::Ratio => match numbers(level, units) {
                Ok(numbers) => consensus::krippendorffs_alpha_ratio_detailed(&numbers),
                Err(reason) => return unreadable(reason),
            },
        },
    })
}

/// Checks that the rules of `consensus` can read one person's submission.
///
/// # Errors
///
/// What the data are instead, and what they should be.
pub(crate) fn check_readable(consensus: &ConsensusConfig, data: &Value) -> Result<(), String> {
    let check = |metric, level, field: Option<&str>| {
        let Some(value) = value_at(data, field) else {
            return Ok(());
        };
        readable(metric, level, value).map_err(|reason| match field {
            Some(field) => format!("`{field}`: {reason}"),
            None => format!("`annotation.data`: {reason}"),
        })
    };
    if consensus.per_field.is_none() {
        return check(
            consensus.metric,
            consensus.level,
            consensus.field.as_deref(),
        );
    }
    consensus
        .field_rules()
        .try_for_each(|rule| check(rule.metric, rule.level, Some(rule.field)))
}

fn readable(metric: Metric, level: Level, value: &Value) -> Result<(), String> {
    let values = [value];
    match metric {
        Metric::SpanIou | Metric::SpanF1 => spans(&values).map(drop),
        Metric::BoxIou => boxes(&values).map(drop),
        Metric::TokenF1 => tokens(&values).map(drop),
        Metric::KrippendorffAlpha => match level {
            Level::Interval | Level::Ratio => numbers(level, &Units::new(&values)).map(drop),
            Level::Nominal | Level::Ordinal => Ok(()),
        },
        Metric::PercentAgreement | Metric::CohenKappa | Metric::FleissKappa | Metric::GwetAc1 => {
            Ok(())
        }
    }
}

/// The values, for levels that calculate with numbers.
fn numbers(level: Level, units: &Units<'_>) -> Result<Vec<Vec<Option<f64>>>, String> {
    let name = if level == Level::Ratio {
        "ratio"
    } else {
        "interval"
    };
    let numbers = units.numbers();
    let numbers = numbers.ok_or_else(|| format!("{name} agreement needs numbers"))?;
    let below_zero = |value: &Option<f64>| value.is_some_and(|value| value < 0.0);
    if level == Level::Ratio && numbers.iter().flatten().any(below_zero) {
        return Err("ratio agreement needs numbers that are not negative".to_owned());
    }
    Ok(numbers)
}

fn report(agreement: Result<Agreement, ConsensusError>) -> AgreementReport {
    match agreement {
        Ok(Agreement {
            value,
            units,
            pairs,
        }) => AgreementReport {
            agreement: Some(value),
            note: None,
            readable: true,
            units,
            pairs,
        },
        Err(error) if error.is_undefined() => undefined(error.to_string()),
        Err(error) => unreadable(error.to_string()),
    }
}

fn undefined(reason: String) -> AgreementReport {
    AgreementReport {
        agreement: None,
        note: Some(reason),
        readable: true,
        units: 0,
        pairs: 0,
    }
}

fn unreadable(reason: String) -> AgreementReport {
    AgreementReport {
        readable: false,
        ..undefined(reason)
    }
}

/// The mean of a score over all pairs of annotators for which it is defined.
fn pairwise<T>(
    items: &Result<Vec<T>, String>,
    score: impl Fn(&T, &T) -> Result<f64, ConsensusError>,
) -> AgreementReport {
    let items = match items {
        Ok(items) => items,
        Err(reason) => return unreadable(reason.clone()),
    };
    let (mut sum, mut pairs, mut trouble) = (0.0, 0_u64, None);
    for (index, one) in items.iter().enumerate() {
        for other in &items[..index] {
            match score(one, other) {
                Ok(value) => {
                    sum += value;
                    pairs += 1;
                }
                Err(error) if error.is_undefined() => trouble = Some(error.to_string()),
                Err(error) => return unreadable(error.to_string()),
            }
        }
    }
    if pairs == 0 {
        return undefined(trouble.unwrap_or_else(|| "no two annotations to compare".to_owned()));
    }
    AgreementReport {
        agreement: Some(sum / pairs as f64),
        note: None,
        readable: true,
        units: 1,
        pairs,
    }
}

/// Reads lists of spans `{"start", "end", "tag"?}`.
pub(crate) fn spans(values: &[&Value]) -> Result<Vec<Vec<TaggedSpan>>, String> {
    read(values, "spans `{\"start\", \"end\", \"tag\"?}`", |tagged| {
        Span::try_from(tagged).map(drop)
    })
}

/// Reads lists of boxes `{"x1", "y1", "x2", "y2", "tag"?}`.
pub(crate) fn boxes(values: &[&Value]) -> Result<Vec<Vec<TaggedBox>>, String> {
    read(
        values,
        "boxes `{\"x1\", \"y1\", \"x2\", \"y2\", \"tag\"?}`",
        |tagged| BoundingBox::try_from(tagged).map(drop),
    )
}

/// A span without its tag; [`spans`] rejects spans that end before they start.
pub(crate) fn span(tagged: &TaggedSpan) -> Span {
    Span {
        start: tagged.start,
        end: tagged.end,
    }
}

/// A box without its tag; [`boxes`] rejects boxes whose corners are out of order.
pub(crate) fn bounding_box(tagged: &TaggedBox) -> BoundingBox {
    let (width, height) = (tagged.x2 - tagged.x1, tagged.y2 - tagged.y1);
    BoundingBox {
        x: tagged.x1,
        y: tagged.y1,
        width,
        height,
    }
}

fn read<T: serde::de::DeserializeOwned>(
    values: &[&Value],
    what: &str,
    check: impl Fn(&T) -> Result<(), ConsensusError>,
) -> Result<Vec<Vec<T>>, String> {
    let refused =
        |error: &dyn std::fmt::Display| format!("the values are not lists of {what}: {error}");
    values
        .iter()
        .map(|value| {
            // A single region needs no list around it.
            let regions: Result<Vec<T>, _> = if value.is_object() {
                serde_json::from_value((*value).clone()).map(|one| vec![one])
            } else {
                serde_json::from_value((*value).clone())
            };
            let regions = regions.map_err(|error| refused(&error))?;
            regions
                .iter()
                .try_for_each(&check)
                .map_err(|error| refused(&error))?;
            Ok(regions)
        })
        .collect()
}

/// The words of each text, or the tokens of a list.
fn tokens<'v>(values: &[&'v Value]) -> Result<Vec<Vec<&'v str>>, String> {
    let tokens = |value: &&'v Value| match value.as_array() {
        Some(tokens) => tokens.iter().map(Value::as_str).collect(),
        None => Some(value.as_str()?.split_whitespace().collect()),
    };
    let all: Option<_> = values.iter().map(tokens).collect();
    all.ok_or_else(|| "the values are neither texts nor lists of tokens".to_owned())
}

/// Two empty texts agree.
fn token_f1(a: &[&str], b: &[&str]) -> Result<f64, ConsensusError> {
    if a.is_empty() && b.is_empty() {
        Ok(1.0)
    } else {
        consensus::token_f1(a, b)
    }
}

/// Agreement of two lists of spans; spans of different tags never match, and two empty lists agree.
fn span_iou(a: &[TaggedSpan], b: &[TaggedSpan]) -> Result<f64, ConsensusError> {
    let compare = |a: &[TaggedSpan], b: &[TaggedSpan]| consensus::compare_spans(a, b, 0.0);
    region_score(false, a, b, |span| &span.tag, compare)
}

fn span_f1(a: &[TaggedSpan], b: &[TaggedSpan]) -> Result<f64, ConsensusError> {
    let compare =
        |a: &[TaggedSpan], b: &[TaggedSpan]| consensus::compare_spans(a, b, SPAN_F1_MIN_IOU);
    region_score(true, a, b, |span| &span.tag, compare)
}

fn box_iou(a: &[TaggedBox], b: &[TaggedBox]) -> Result<f64, ConsensusError> {
    let compare = |a: &[TaggedBox], b: &[TaggedBox]| consensus::compare_boxes(a, b, 0.0);
    region_score(false, a, b, |region| &region.tag, compare)
}

/// Joins the best matching of each tag into one score.
///
/// As F1: `2m / (|a| + |b|)` with `m` matched pairs. As intersection over union: the sum of the
/// pairs' overlaps over pairs and unmatched regions together, `sum / (|a| + |b| - m)`.
fn region_score<R: Clone>(
    f1: bool,
    a: &[R],
    b: &[R],
    tag: impl Fn(&R) -> &Option<String>,
    compare: impl Fn(&[R], &[R]) -> Result<RegionComparison, ConsensusError>,
) -> Result<f64, ConsensusError> {
    if a.is_empty() && b.is_empty() {
        return Ok(1.0);
    }
    let mut tags: Vec<&Option<String>> = a.iter().map(&tag).collect();
    tags.sort();
    tags.dedup();
    let of = |regions: &[R], wanted: &Option<String>| -> Vec<R> {
        regions
            .iter()
            .filter(|region| tag(region) == wanted)
            .cloned()
            .collect()
    };
    let (mut pairs, mut overlap) = (0.0, 0.0);
    for tag in tags {
        let comparison = compare(&of(a, tag), &of(b, tag))?;
        pairs += comparison.matched as f64;
        overlap += comparison.iou_sum;
    }
    let total = (a.len() + b.len()) as f64;
    Ok(if f1 {
        2.0 * pairs / total
    } else {
        overlap / (total - pairs)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agreement(metric: Metric, values: &[Value]) -> AgreementReport {
        measure_agreement(metric, Level::Nominal, &values.iter().collect::<Vec<_>>())
    }

    #[test]
    fn one_annotation_has_no_agreement() {
        assert_eq!(
            agreement(Metric::PercentAgreement, &[json!("a")]).agreement,
            None
        );
    }

    #[test]
    fn percent_agreement_is_over_pairs() {
        let values = [json!("a"), json!("a"), json!("b")];
        let report = agreement(Metric::PercentAgreement, &values);
        assert_eq!(report.agreement, Some(1.0 / 3.0));
        assert_eq!((report.units, report.pairs), (1, 3));
    }

    #[test]
    fn fields_of_objects_are_units() {
        let values = [json!({"x": 1, "y": 2}), json!({"x": 1, "y": 3})];
        assert_eq!(
            agreement(Metric::PercentAgreement, &values).agreement,
            Some(0.5)
        );
    }

    #[test]
    fn chance_correction_of_one_unit_falls_back_and_says_so() {
        let report = agreement(Metric::KrippendorffAlpha, &[json!("a"), json!("b")]);
        assert_eq!(report.agreement, Some(0.0));
        assert!(report.note.unwrap().contains("observed agreement"));
    }

    #[test]
    fn no_variation_is_undefined_with_its_reason() {
        let values = [json!({"x": 1, "y": 1}), json!({"x": 1, "y": 1})];
        let report = agreement(Metric::KrippendorffAlpha, &values);
        assert_eq!(report.agreement, None);
        assert!(report.note.unwrap().contains("no variation"));
    }

    #[test]
    fn spans_match_within_their_tag_only() {
        let one = json!([{"start": 0, "end": 10, "tag": "A"}]);
        let other = json!([{"start": 0, "end": 10, "tag": "B"}]);
        let half = json!([{"start": 0, "end": 5, "tag": "A"}]);
        assert_eq!(
            agreement(Metric::SpanIou, &[one.clone(), other]).agreement,
            Some(0.0)
        );
        assert_eq!(
            agreement(Metric::SpanIou, &[one.clone(), half.clone()]).agreement,
            Some(0.5)
        );
        assert_eq!(agreement(Metric::SpanF1, &[one, half]).agreement, Some(1.0));
        assert_eq!(
            agreement(Metric::SpanIou, &[json!([]), json!([])]).agreement,
            Some(1.0)
        );
    }

    #[test]
    fn what_is_no_span_is_said() {
        let report = agreement(Metric::SpanIou, &[json!("x"), json!([])]);
        assert!(report.note.unwrap().contains("not lists of spans"));
        assert!(!report.readable);
    }

    #[test]
    fn one_region_needs_no_list_and_texts_may_be_cut_into_tokens() {
        let (one, list) = (
            json!({"start": 0, "end": 4}),
            json!([{"start": 0, "end": 2}]),
        );
        let report = agreement(Metric::SpanIou, &[one, list]);
        assert_eq!(report.agreement, Some(0.5));
        let (text, tokens) = (json!("a cat"), json!(["a", "cat"]));
        let report = agreement(Metric::TokenF1, &[text, tokens]);
        assert_eq!(report.agreement, Some(1.0));
    }

    #[test]
    fn a_longer_list_is_another_answer() {
        let values = [json!(["a"]), json!(["a", "b"])];
        let report = agreement(Metric::PercentAgreement, &values);
        assert_eq!((report.agreement, report.units), (Some(0.5), 2));
        // Null stays a missing answer.
        let values = [json!(["a", null]), json!(["a", "b"])];
        assert_eq!(
            agreement(Metric::PercentAgreement, &values).agreement,
            Some(1.0)
        );
    }

    #[test]
    fn numbers_are_asked_for_where_they_are_calculated_with() {
        let read = |level, value: Value| readable(Metric::KrippendorffAlpha, level, &value);
        assert_eq!(read(Level::Interval, json!([-1, 2.5, null])), Ok(()));
        assert!(read(Level::Interval, json!("much")).is_err());
        assert!(read(Level::Ratio, json!({"size": -1})).is_err());
        assert_eq!(read(Level::Ordinal, json!("much")), Ok(()));
    }
}
