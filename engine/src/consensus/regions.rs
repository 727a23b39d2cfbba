//! Tagged regions as annotation data hold them, and what two annotators agree on about them: that
//! something is there, what it is, and where exactly.

use serde::{Deserialize, Serialize};

use super::{BoundingBox, ConsensusError, Span};
use super::{
    matching::{Limits, Match},
    overlap::{check, f1, pair_boxes, pair_spans},
};

/// A span in annotation data: `{"start", "end", "tag"?}`, half open, in Unicode code points.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TaggedSpan {
    /// Code points before the span.
    pub start: usize,
    /// Code points up to the end of the span.
    pub end: usize,
    /// What the span is, when the task asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

impl TryFrom<&TaggedSpan> for Span {
    type Error = ConsensusError;

    /// The span without its tag; an error when it ends before it starts.
    fn try_from(tagged: &TaggedSpan) -> Result<Self, ConsensusError> {
        if tagged.start <= tagged.end {
            Ok(Self {
                start: tagged.start,
                end: tagged.end,
            })
        } else {
            Err(ConsensusError::MalformedRegion)
        }
    }
}

/// A box in annotation data: `{"x1", "y1", "x2", "y2", "tag"?}`, two opposite corners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TaggedBox {
    /// Smallest horizontal coordinate.
    pub x1: f64,
    /// Smallest vertical coordinate.
    pub y1: f64,
    /// Largest horizontal coordinate.
    pub x2: f64,
    /// Largest vertical coordinate.
    pub y2: f64,
    /// What the box holds, when the task asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

impl TryFrom<&TaggedBox> for BoundingBox {
    type Error = ConsensusError;

    /// The box without its tag; an error when a corner is out of order or not finite, or the extent
    /// overflows.
    fn try_from(tagged: &TaggedBox) -> Result<Self, ConsensusError> {
        let (width, height) = (tagged.x2 - tagged.x1, tagged.y2 - tagged.y1);
        // A corner that is not finite leaves an extent that is not, so two checks cover six
        // numbers.
        if (0.0..=f64::MAX).contains(&width) && (0.0..=f64::MAX).contains(&height) {
            Ok(Self {
                x: tagged.x1,
                y: tagged.y1,
                width,
                height,
            })
        } else {
            Err(ConsensusError::MalformedRegion)
        }
    }
}

/// How the tagged regions of two annotators compare, as counts that add up over items.
///
/// Three questions that a single number would blur:
///
/// - detection: is there something? Regions matched whatever their tags.
/// - classification: what is it? Same tag among the matched.
/// - localisation: where exactly? IoU of the matched.
///
/// Add the comparisons of several items with `+` and ask the sum for pooled values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RegionComparison {
    /// Regions of the first annotator.
    pub first: usize,
    /// Regions of the second annotator.
    pub second: usize,
    /// Matched pairs.
    pub matched: usize,
    /// Matched pairs with equal tags; two regions without a tag count as equal.
    pub same_tag: usize,
    /// Sum of the IoU of the matched pairs.
    pub iou_sum: f64,
}

impl RegionComparison {
    /// F1 of finding the same regions, whatever their tags.
    ///
    /// Undefined when neither side has a region.
    pub fn detection_f1(&self) -> Result<f64, ConsensusError> {
        f1(self.matched, self.first, self.second)
    }

    /// Share of the matched pairs that have the same tag.
    ///
    /// Undefined when nothing matched.
    pub fn classification(&self) -> Result<f64, ConsensusError> {
        self.per_match(self.same_tag as f64)
    }

    /// Mean IoU of the matched pairs.
    ///
    /// Undefined when nothing matched.
    pub fn localisation(&self) -> Result<f64, ConsensusError> {
        self.per_match(self.iou_sum)
    }

    /// F1 of finding the same regions with the same tags.
    ///
    /// Undefined when neither side has a region.
    pub fn labelled_f1(&self) -> Result<f64, ConsensusError> {
        f1(self.same_tag, self.first, self.second)
    }

    fn per_match(&self, sum: f64) -> Result<f64, ConsensusError> {
        if self.matched == 0 {
            return Err(ConsensusError::NO_PAIR);
        }
        Ok(sum / self.matched as f64)
    }

    fn new(
        first: usize,
        second: usize,
        matches: &[Match],
        same: impl Fn(usize, usize) -> bool,
    ) -> Self {
        Self {
            first,
            second,
            matched: matches.len(),
            same_tag: matches.iter().filter(|&&(i, j, _)| same(i, j)).count(),
            iou_sum: matches.iter().map(|&(_, _, iou)| iou).sum(),
        }
    }
}

impl std::ops::Add for RegionComparison {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            first: self.first + other.first,
            second: self.second + other.second,
            matched: self.matched + other.matched,
            same_tag: self.same_tag + other.same_tag,
            iou_sum: self.iou_sum + other.iou_sum,
        }
    }
}

impl std::iter::Sum for RegionComparison {
    fn sum<I: Iterator<Item = Self>>(comparisons: I) -> Self {
        comparisons.fold(Self::default(), std::ops::Add::add)
    }
}

/// Compares the tagged spans that two annotators gave one item.
///
/// Spans are matched as by [`match_spans`](super::match_spans), tags ignored; where several
/// matchings have the same total IoU (the same span marked twice with different tags), one with the
/// most equal tags is taken.
///
/// # Errors
///
/// - [`MalformedRegion`](ConsensusError::MalformedRegion) when a span ends before it starts.
/// - [`OutOfDomain`](ConsensusError::OutOfDomain) when `min_iou` is not from 0 to 1.
/// - [`TooLarge`](ConsensusError::TooLarge) beyond [`MATCH_PAIRS_MAX`](super::MATCH_PAIRS_MAX) or
///   [`MATCH_STEPS_MAX`](super::MATCH_STEPS_MAX).
///
/// # Citation
///
/// `labelled_f1` at `min_iou` 1 is the F1 of entity recognition: Nadeau, D. and Sekine, S. (2007).
/// A survey of named entity recognition and classification. *Lingvisticae Investigationes* 30(1),
/// 3-26.
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::{TaggedSpan, compare_spans};
///
/// let span = |start, end, tag: &str| TaggedSpan { start, end, tag: Some(tag.to_owned()) };
/// let a = [span(0, 4, "person"), span(10, 20, "place")];
/// let b = [span(0, 4, "person"), span(12, 20, "company")];
/// let comparison = compare_spans(&a, &b, 0.5)?;
/// assert_eq!(comparison.detection_f1()?, 1.0);
/// assert_eq!(comparison.classification()?, 0.5);
/// assert_eq!(comparison.localisation()?, 0.9);
/// assert_eq!(comparison.labelled_f1()?, 0.5);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn compare_spans(
    a: &[TaggedSpan],
    b: &[TaggedSpan],
    min_iou: f64,
) -> Result<RegionComparison, ConsensusError> {
    check(min_iou)?;
    let plain = |spans: &[TaggedSpan]| {
        spans
            .iter()
            .map(Span::try_from)
            .collect::<Result<Vec<_>, _>>()
    };
    let same = |i: usize, j: usize| a[i].tag == b[j].tag;
    let matches = pair_spans(&plain(a)?, &plain(b)?, min_iou, same, Limits::DEFAULT)?;
    Ok(RegionComparison::new(a.len(), b.len(), &matches, same))
}

/// Compares the tagged boxes that two annotators gave one item; otherwise as [`compare_spans`].
///
/// # Errors
///
/// - [`MalformedRegion`](ConsensusError::MalformedRegion) when corners are out of order or not
///   finite.
/// - [`OutOfDomain`](ConsensusError::OutOfDomain) when `min_iou` is not from 0 to 1.
/// - [`TooLarge`](ConsensusError::TooLarge) beyond [`MATCH_PAIRS_MAX`](super::MATCH_PAIRS_MAX) or
///   [`MATCH_STEPS_MAX`](super::MATCH_STEPS_MAX).
pub fn compare_boxes(
    a: &[TaggedBox],
    b: &[TaggedBox],
    min_iou: f64,
) -> Result<RegionComparison, ConsensusError> {
    check(min_iou)?;
    let plain = |boxes: &[TaggedBox]| {
        boxes
            .iter()
            .map(BoundingBox::try_from)
            .collect::<Result<Vec<_>, _>>()
    };
    let same = |i: usize, j: usize| a[i].tag == b[j].tag;
    let matches = pair_boxes(&plain(a)?, &plain(b)?, min_iou, same, Limits::DEFAULT)?;
    Ok(RegionComparison::new(a.len(), b.len(), &matches, same))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(json: &str) -> Vec<TaggedSpan> {
        serde_json::from_str(json).unwrap()
    }

    fn boxes(json: &str) -> Vec<TaggedBox> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn data_are_read_and_written_with_and_without_tag() {
        let json = r#"[{"start":3,"end":7},{"start":0,"end":1,"tag":"x"}]"#;
        assert_eq!(serde_json::to_string(&spans(json)).unwrap(), json);
        let json = r#"[{"x1":0.0,"y1":1.0,"x2":2.5,"y2":3.0,"tag":"x"}]"#;
        assert_eq!(serde_json::to_string(&boxes(json)).unwrap(), json);
        assert_eq!(
            BoundingBox::try_from(&boxes(json)[0]),
            Ok(BoundingBox {
                x: 0.0,
                y: 1.0,
                width: 2.5,
                height: 2.0
            })
        );
    }

    #[test]
    fn malformed_regions_are_refused() {
        let backwards = spans(r#"[{"start":3,"end":2}]"#);
        assert_eq!(
            compare_spans(&backwards, &[], 0.5),
            Err(ConsensusError::MalformedRegion)
        );
        let good = TaggedBox {
            x1: 0.0,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
            tag: None,
        };
        for x2 in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            let bad = TaggedBox { x2, ..good.clone() };
            assert_eq!(
                compare_boxes(&[bad], &[], 0.5),
                Err(ConsensusError::MalformedRegion)
            );
        }
        let wide = TaggedBox {
            x1: -f64::MAX,
            x2: f64::MAX,
            ..good.clone()
        };
        assert_eq!(
            BoundingBox::try_from(&wide),
            Err(ConsensusError::MalformedRegion)
        );
        assert!(compare_boxes(&[good], &[], 2.0).is_err());
    }

    #[test]
    fn the_same_span_with_two_tags_matches_tag_to_tag() {
        let a = spans(r#"[{"start":0,"end":9,"tag":"x"},{"start":0,"end":9,"tag":"y"}]"#);
        for order in [[0, 1], [1, 0]] {
            let b = order.map(|k| a[k].clone());
            assert_eq!(
                compare_spans(&a, &b, 0.0).unwrap().classification(),
                Ok(1.0)
            );
        }
    }

    #[test]
    fn tags_do_not_go_before_overlap() {
        let a = spans(r#"[{"start":0,"end":10,"tag":"x"}]"#);
        let b = spans(r#"[{"start":0,"end":10,"tag":"y"},{"start":0,"end":9,"tag":"x"}]"#);
        let comparison = compare_spans(&a, &b, 0.0).unwrap();
        assert_eq!(
            (comparison.localisation(), comparison.classification()),
            (Ok(1.0), Ok(0.0))
        );
    }

    #[test]
    fn items_are_pooled_by_adding() {
        let a = boxes(r#"[{"x1":0,"y1":0,"x2":2,"y2":2,"tag":"cat"}]"#);
        let b = boxes(r#"[{"x1":0,"y1":0,"x2":2,"y2":1,"tag":"cat"}]"#);
        let total: RegionComparison = [compare_boxes(&a, &b, 0.5), compare_boxes(&a, &[], 0.5)]
            .into_iter()
            .flatten()
            .sum();
        assert_eq!(total.detection_f1(), Ok(2.0 / 3.0));
        assert_eq!(total.localisation(), Ok(0.5));
        let nothing = compare_boxes(&[], &[], 0.5).unwrap();
        assert_eq!(nothing.detection_f1(), Err(ConsensusError::BOTH_EMPTY));
        assert_eq!(nothing.classification(), Err(ConsensusError::NO_PAIR));
    }
}
