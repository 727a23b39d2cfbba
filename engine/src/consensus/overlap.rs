//! Agreement on where something is: spans of text and boxes in images.
//!
//! Regions are compared by intersection over union (IoU) and paired one to one so that the total
//! IoU is the largest possible. A greedy pairing (best pair first) can lose a match that a
//! different choice keeps, and depends on the order of the input; see the tests.

use serde::{Deserialize, Serialize};

use super::{
    ConsensusError,
    matching::{Limits, Match, pair},
};

/// A half-open stretch of text, in Unicode code points: `start` is in it, `end` is not.
///
/// A span with `end <= start` is empty.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub struct Span {
    /// Code points before the span.
    pub start: usize,
    /// Code points up to the end of the span.
    pub end: usize,
}

impl Span {
    /// Code points in the span; 0 when it ends before it starts.
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether no code point is in the span.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An upright rectangle: its corner of smallest coordinates and its extent.
///
/// A box whose width or height is not positive, or with a number that is not finite, is empty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BoundingBox {
    /// Smallest horizontal coordinate.
    pub x: f64,
    /// Smallest vertical coordinate.
    pub y: f64,
    /// Horizontal extent.
    pub width: f64,
    /// Vertical extent.
    pub height: f64,
}

impl BoundingBox {
    /// Whether the box has no area.
    pub fn is_empty(&self) -> bool {
        let finite = [self.x, self.y, self.width, self.height]
            .iter()
            .all(|v| v.is_finite());
        !(finite && self.width > 0.0 && self.height > 0.0)
    }
}

/// Intersection over union of two spans, 0 to 1.
///
/// ```text
/// IoU(A, B) = |A and B| / |A or B|
/// ```
///
/// 1 for the same span, 0 without a common code point; an empty span has IoU 0 with everything,
/// including itself.
///
/// # Citation
///
/// Jaccard, P. (1912). The distribution of the flora in the alpine zone. *New Phytologist* 11(2),
/// 37-50.
///
/// # Examples
///
/// Two spans of five sharing three (by hand: 3 / 7).
///
/// ```
/// use glyph_workflow_engine::consensus::{Span, iou_span};
///
/// let iou = iou_span(&Span { start: 0, end: 5 }, &Span { start: 2, end: 7 });
/// assert!((iou - 3.0 / 7.0).abs() < 1e-15);
/// ```
pub fn iou_span(a: &Span, b: &Span) -> f64 {
    let inside = a.end.min(b.end).saturating_sub(a.start.max(b.start));
    if inside == 0 || a.is_empty() || b.is_empty() {
        return 0.0;
    }
    // Overlapping spans cover one stretch without a gap, so the union is its length: no sum to
    // overflow.
    let covered = a.end.max(b.end) - a.start.min(b.start);
    inside as f64 / covered as f64
}

/// Intersection over union of two boxes, 0 to 1.
///
/// ```text
/// IoU(A, B) = area(A and B) / area(A or B)
/// ```
///
/// 1 for the same box, 0 for boxes that are apart or only touch; an empty box (see [`BoundingBox`])
/// has IoU 0 with everything, including itself.
///
/// # Citation
///
/// Everingham, M., Van Gool, L., Williams, C. K. I., Winn, J. and Zisserman, A. (2010). The Pascal
/// Visual Object Classes (VOC) challenge. *International Journal of Computer Vision* 88(2),
/// 303-338.
///
/// # Examples
///
/// Two 10 x 10 boxes, one shifted by 5 both ways (by hand: 25 / 175).
///
/// ```
/// use glyph_workflow_engine::consensus::{BoundingBox, iou_box};
///
/// let a = BoundingBox { x: 0.0, y: 0.0, width: 10.0, height: 10.0 };
/// let b = BoundingBox { x: 5.0, y: 5.0, ..a };
/// assert!((iou_box(&a, &b) - 1.0 / 7.0).abs() < 1e-15);
/// ```
pub fn iou_box(a: &BoundingBox, b: &BoundingBox) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    // IoU does not change with the unit of either axis; in units of the larger extent no area
    // overflows.
    let (unit_x, unit_y) = (a.width.max(b.width), a.height.max(b.height));
    let inside = (common_extent((a.x, a.width), (b.x, b.width)) / unit_x)
        * (common_extent((a.y, a.height), (b.y, b.height)) / unit_y);
    let area_a = (a.width / unit_x) * (a.height / unit_y);
    let area_b = (b.width / unit_x) * (b.height / unit_y);
    let union = area_a + area_b - inside;
    if inside > 0.0 && union > 0.0 {
        (inside / union).min(1.0)
    } else {
        0.0
    }
}

/// Length of the common part of two intervals given by start and extent.
///
/// By the distance of the starts, not the ends: far from the origin `start + extent` loses digits,
/// and in the worst case equals `start`.
fn common_extent(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (first, second) = if a.0 <= b.0 { (a, b) } else { (b, a) };
    let apart = second.0 - first.0;
    (first.1 - apart).min(second.1).max(0.0)
}

/// Pairs spans of `a` and `b` one to one with the largest total IoU.
///
/// Only pairs with IoU above 0 and at least `min_iou` are allowed. Returns positions in `a` and
/// `b`, in the order of `a`. With `min_iou` 1 only identical spans match; with 0 any common code
/// point is enough; NaN or more than 1 allows nothing. Among pairings of equal total, the order of
/// the input decides.
///
/// Cost: that of sorting, plus the cube of the size of each cluster of spans chained by allowed
/// pairs. Spans that do not crowd together match in near linear time. There is no bound here:
/// thousands of spans at one position take minutes. For untrusted data use [`span_f1`],
/// [`mean_span_iou`] or [`compare_spans`](super::compare_spans), which stop beyond
/// [`MATCH_PAIRS_MAX`] and [`MATCH_STEPS_MAX`].
///
/// # Citation
///
/// Kuhn, H. W. (1955). The Hungarian method for the assignment problem. *Naval Research Logistics
/// Quarterly* 2(1-2), 83-97. Munkres, J. (1957). Algorithms for the assignment and transportation
/// problems. *Journal of the Society for Industrial and Applied Mathematics* 5(1), 32-38.
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::{Span, match_spans};
///
/// let span = |start, end| Span { start, end };
/// // Greedy pairing would take (0, 0) at 0.8 and leave the rest without a partner.
/// let a = [span(0, 10), span(8, 12)];
/// let b = [span(2, 10), span(0, 7)];
/// assert_eq!(match_spans(&a, &b, 0.0), [(0, 1), (1, 0)]);
/// ```
pub fn match_spans(a: &[Span], b: &[Span], min_iou: f64) -> Vec<(usize, usize)> {
    // Without limits nothing can fail.
    pairs(&pair_spans(a, b, min_iou, alike, Limits::NONE).unwrap_or_default())
}

/// Pairs boxes of `a` and `b` one to one with the largest total IoU; otherwise as [`match_spans`].
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::{BoundingBox, match_boxes};
///
/// let square = |x| BoundingBox { x, y: 0.0, width: 10.0, height: 10.0 };
/// assert_eq!(match_boxes(&[square(0.0), square(50.0)], &[square(52.0)], 0.5), [(1, 0)]);
/// ```
pub fn match_boxes(a: &[BoundingBox], b: &[BoundingBox], min_iou: f64) -> Vec<(usize, usize)> {
    // Without limits nothing can fail.
    pairs(&pair_boxes(a, b, min_iou, alike, Limits::NONE).unwrap_or_default())
}

/// How close two regions must be to count as the same one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegionMode {
    /// The same boundaries.
    Exact,
    /// Anything in common.
    Overlap,
    /// At least this IoU, 0 to 1.
    MinIou(f64),
}

impl RegionMode {
    /// The threshold to give to [`match_spans`], [`span_f1`] and their like.
    pub fn min_iou(self) -> f64 {
        match self {
            Self::Exact => 1.0,
            Self::Overlap => 0.0,
            Self::MinIou(value) => value,
        }
    }
}

/// F1 of two sets of spans: how far two annotators found the same spans.
///
/// With *M* the pairs of [`match_spans`],
///
/// ```text
/// F1 = 2 |M| / (|a| + |b|)
/// ```
///
/// This is the harmonic mean of precision and recall with either side as the truth. 1 when every
/// span has a partner, 0 when none has. `min_iou` from 0 (any overlap) to 1 (exact), see
/// [`RegionMode`]. Spans that overlap within one side count separately; empty ones count and match
/// nothing.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) when both sides have no span: whether two annotators
///   who mark nothing agree is for the caller to say.
/// - [`OutOfDomain`](ConsensusError::OutOfDomain) when `min_iou` is not from 0 to 1.
/// - [`TooLarge`](ConsensusError::TooLarge) beyond [`MATCH_PAIRS_MAX`] or [`MATCH_STEPS_MAX`].
///
/// # Citation
///
/// Hripcsak, G. and Rothschild, A. S. (2005). Agreement, the F-measure, and reliability in
/// information retrieval. *Journal of the American Medical Informatics Association* 12(3), 296-298.
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::{RegionMode, Span, span_f1};
///
/// let a = [Span { start: 0, end: 4 }, Span { start: 10, end: 20 }];
/// let b = [Span { start: 0, end: 4 }, Span { start: 12, end: 20 }, Span { start: 30, end: 31 }];
/// assert_eq!(span_f1(&a, &b, RegionMode::Exact.min_iou())?, 0.4);
/// assert_eq!(span_f1(&a, &b, RegionMode::Overlap.min_iou())?, 0.8);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn span_f1(a: &[Span], b: &[Span], min_iou: f64) -> Result<f64, ConsensusError> {
    check(min_iou)?;
    let matches = pair_spans(a, b, min_iou, alike, Limits::DEFAULT)?;
    f1(matches.len(), a.len(), b.len())
}

/// F1 of two sets of boxes; otherwise as [`span_f1`].
pub fn box_f1(a: &[BoundingBox], b: &[BoundingBox], min_iou: f64) -> Result<f64, ConsensusError> {
    check(min_iou)?;
    let matches = pair_boxes(a, b, min_iou, alike, Limits::DEFAULT)?;
    f1(matches.len(), a.len(), b.len())
}

/// Mean IoU of two sets of spans, a span without a partner counting as 0.
///
/// With *M* the pairs of [`match_spans`] at any overlap,
///
/// ```text
/// mean IoU = (sum over M of IoU) / (|a| + |b| - |M|)
/// ```
///
/// For one span on each side it is [`iou_span`]. Needs no threshold, and falls smoothly as
/// boundaries drift apart.
///
/// # Errors
///
/// - [`Undefined`](ConsensusError::Undefined) when both sides have no span.
/// - [`TooLarge`](ConsensusError::TooLarge) beyond [`MATCH_PAIRS_MAX`] or [`MATCH_STEPS_MAX`].
///
/// # Examples
///
/// ```
/// use glyph_workflow_engine::consensus::{Span, mean_span_iou};
///
/// let a = [Span { start: 0, end: 5 }, Span { start: 8, end: 9 }];
/// let b = [Span { start: 2, end: 7 }];
/// assert!((mean_span_iou(&a, &b)? - 3.0 / 14.0).abs() < 1e-15);
/// # Ok::<(), glyph_workflow_engine::consensus::ConsensusError>(())
/// ```
pub fn mean_span_iou(a: &[Span], b: &[Span]) -> Result<f64, ConsensusError> {
    let matches = pair_spans(a, b, 0.0, alike, Limits::DEFAULT)?;
    mean_iou(&matches, a.len(), b.len())
}

/// Mean IoU of two sets of boxes; otherwise as [`mean_span_iou`].
pub fn mean_box_iou(a: &[BoundingBox], b: &[BoundingBox]) -> Result<f64, ConsensusError> {
    let matches = pair_boxes(a, b, 0.0, alike, Limits::DEFAULT)?;
    mean_iou(&matches, a.len(), b.len())
}

/// Without tags no pair is preferred over another of the same IoU.
fn alike(_: usize, _: usize) -> bool {
    false
}

pub(super) fn pair_spans(
    a: &[Span],
    b: &[Span],
    min_iou: f64,
    prefers: impl Fn(usize, usize) -> bool,
    limits: Limits,
) -> Result<Vec<Match>, ConsensusError> {
    let ends = |spans: &[Span]| -> Vec<_> {
        spans
            .iter()
            .map(|s| (!s.is_empty()).then_some((s.start, s.end)))
            .collect()
    };
    pair(
        &ends(a),
        &ends(b),
        min_iou,
        |i, j| iou_span(&a[i], &b[j]),
        prefers,
        limits,
    )
}

pub(super) fn pair_boxes(
    a: &[BoundingBox],
    b: &[BoundingBox],
    min_iou: f64,
    prefers: impl Fn(usize, usize) -> bool,
    limits: Limits,
) -> Result<Vec<Match>, ConsensusError> {
    // The sum is rounded, so it is moved one step outwards: an extra candidate costs one IoU, a
    // missing one would be a wrong result.
    let ends = |boxes: &[BoundingBox]| -> Vec<_> {
        boxes
            .iter()
            .map(|b| (!b.is_empty()).then(|| (b.x, (b.x + b.width).next_up())))
            .collect()
    };
    pair(
        &ends(a),
        &ends(b),
        min_iou,
        |i, j| iou_box(&a[i], &b[j]),
        prefers,
        limits,
    )
}

pub(super) fn check(min_iou: f64) -> Result<(), ConsensusError> {
    if (0.0..=1.0).contains(&min_iou) {
        Ok(())
    } else {
        Err(ConsensusError::OutOfDomain {
            name: "min_iou",
            value: min_iou,
        })
    }
}

pub(super) fn f1(matched: usize, a: usize, b: usize) -> Result<f64, ConsensusError> {
    if a == 0 && b == 0 {
        return Err(ConsensusError::BOTH_EMPTY);
    }
    Ok(2.0 * matched as f64 / (a as f64 + b as f64))
}

fn mean_iou(matches: &[Match], a: usize, b: usize) -> Result<f64, ConsensusError> {
    if a == 0 && b == 0 {
        return Err(ConsensusError::BOTH_EMPTY);
    }
    let total: f64 = matches.iter().map(|&(_, _, iou)| iou).sum();
    Ok(total / (a as f64 + b as f64 - matches.len() as f64))
}

fn pairs(matches: &[Match]) -> Vec<(usize, usize)> {
    matches.iter().map(|&(i, j, _)| (i, j)).collect()
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    reason = "0 and 1 are exact by definition, and that is the point"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    fn square(x: f64, y: f64, side: f64) -> BoundingBox {
        BoundingBox {
            x,
            y,
            width: side,
            height: side,
        }
    }

    /// The largest total over all pairings, tried one after the other.
    fn best_total(iou: &[Vec<f64>], min_iou: f64, row: usize, free: &mut [bool]) -> f64 {
        let Some(values) = iou.get(row) else {
            return 0.0;
        };
        let mut best = best_total(iou, min_iou, row + 1, free);
        for (column, &value) in values.iter().enumerate() {
            if free[column] && value > 0.0 && value >= min_iou {
                free[column] = false;
                best = best.max(value + best_total(iou, min_iou, row + 1, free));
                free[column] = true;
            }
        }
        best
    }

    fn is_optimal(
        matches: &[(usize, usize)],
        iou: &[Vec<f64>],
        columns: usize,
        min_iou: f64,
    ) -> Result<(), TestCaseError> {
        let mut free = vec![true; columns];
        let total: f64 = matches.iter().map(|&(i, j)| iou[i][j]).sum();
        prop_assert!((total - best_total(iou, min_iou, 0, &mut free)).abs() < 1e-9);
        for &(i, j) in matches {
            prop_assert!(iou[i][j] > 0.0 && iou[i][j] >= min_iou);
            prop_assert!(
                std::mem::replace(&mut free[j], false),
                "column {} taken twice",
                j
            );
        }
        prop_assert!(matches.windows(2).all(|w| w[0].0 < w[1].0));
        Ok(())
    }

    #[test]
    fn empty_regions_overlap_nothing() {
        assert_eq!(iou_span(&span(3, 3), &span(3, 3)), 0.0);
        assert_eq!(iou_span(&span(5, 2), &span(0, 9)), 0.0);
        assert_eq!(iou_span(&span(0, usize::MAX), &span(0, usize::MAX)), 1.0);
        let whole = square(0.0, 0.0, 1.0);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0] {
            let empty = BoundingBox {
                width: bad,
                ..whole
            };
            assert_eq!(iou_box(&empty, &empty), 0.0);
            assert_eq!(iou_box(&empty, &whole), 0.0);
            assert!(match_boxes(&[empty, whole], &[whole, empty], 0.0) == [(1, 0)]);
        }
        assert_eq!(
            iou_box(
                &whole,
                &BoundingBox {
                    x: f64::NAN,
                    ..whole
                }
            ),
            0.0
        );
    }

    #[test]
    fn extreme_boxes_are_exact() {
        for unit in [1e-300, 1.0, 1e300] {
            let a = square(0.0, 0.0, 10.0 * unit);
            let b = square(5.0 * unit, 5.0 * unit, 10.0 * unit);
            assert!((iou_box(&a, &b) - 1.0 / 7.0).abs() < 1e-12);
        }
        let far = square(1e300, -1e300, 1.0);
        assert_eq!(iou_box(&far, &far), 1.0);
        assert_eq!(match_boxes(&[far], &[far], 1.0), [(0, 0)]);
        let wide = BoundingBox {
            x: 0.0,
            y: 0.0,
            width: 1e300,
            height: 1e-300,
        };
        let tall = BoundingBox {
            x: 0.0,
            y: 0.0,
            width: 1e-300,
            height: 1e300,
        };
        assert_eq!(iou_box(&wide, &tall), 0.0);
        assert_eq!(
            iou_box(&square(-1.7e308, 0.0, 1.0), &square(1.7e308, 0.0, 1.0)),
            0.0
        );
    }

    #[test]
    fn a_threshold_out_of_domain_is_refused_or_allows_nothing() {
        let one = [span(0, 5)];
        for bad in [f64::NAN, -0.1, 1.1] {
            assert!(matches!(
                span_f1(&one, &one, bad),
                Err(ConsensusError::OutOfDomain { .. })
            ));
        }
        assert!(match_spans(&one, &one, f64::NAN).is_empty());
        assert!(match_spans(&one, &one, 1.1).is_empty());
        assert_eq!(span_f1(&[], &[], 0.5), Err(ConsensusError::BOTH_EMPTY));
        assert_eq!(span_f1(&one, &[], 0.5), Ok(0.0));
        assert_eq!(box_f1(&[], &[], 0.5), Err(ConsensusError::BOTH_EMPTY));
        assert_eq!(mean_span_iou(&[], &[]), Err(ConsensusError::BOTH_EMPTY));
        assert_eq!(mean_box_iou(&[], &[square(0.0, 0.0, 1.0)]), Ok(0.0));
    }

    #[test]
    fn a_sliver_still_matches_at_any_overlap() {
        let whole = [span(0, usize::MAX)];
        assert_eq!(
            match_spans(&whole, &[span(7, 8), span(9, 10)], 0.0).len(),
            1
        );
    }

    #[test]
    fn a_crowd_on_one_spot_is_refused_by_the_measures() {
        for count in [700, 3_000] {
            let crowd = vec![span(0, 5); count];
            assert!(matches!(
                span_f1(&crowd, &crowd, 0.0),
                Err(ConsensusError::TooLarge { .. })
            ));
            let crowd = vec![square(0.0, 0.0, 5.0); count];
            assert!(matches!(
                mean_box_iou(&crowd, &crowd),
                Err(ConsensusError::TooLarge { .. })
            ));
        }
    }

    #[test]
    fn ten_thousand_scattered_spans_match_at_once() {
        let a: Vec<Span> = (0..10_000).map(|k| span(10 * k, 10 * k + 6)).collect();
        let b: Vec<Span> = (0..10_000).map(|k| span(10 * k + 1, 10 * k + 7)).collect();
        assert_eq!(span_f1(&a, &b, 0.5), Ok(1.0));
    }

    proptest! {
        #[test]
        fn spans_are_paired_as_well_as_can_be(
            a in prop::collection::vec((0_usize..12, 0_usize..12), 0..6),
            b in prop::collection::vec((0_usize..12, 0_usize..12), 0..6),
            min_iou in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        ) {
            let spans = |v: &[(usize, usize)]| v.iter().map(|&(s, e)| span(s, e)).collect::<Vec<_>>();
            let (a, b) = (spans(&a), spans(&b));
            // IoU by counting code points.
            let covers = |s: &Span, p: usize| s.start <= p && p < s.end;
            let iou: Vec<Vec<f64>> = a
                .iter()
                .map(|x| {
                    b.iter()
                        .map(|y| {
                            let both = (0..12).filter(|&p| covers(x, p) && covers(y, p)).count();
                            let any = (0..12).filter(|&p| covers(x, p) || covers(y, p)).count();
                            if any == 0 { 0.0 } else { both as f64 / any as f64 }
                        })
                        .collect()
                })
                .collect();
            for (i, x) in a.iter().enumerate() {
                for (j, y) in b.iter().enumerate() {
                    prop_assert!((iou_span(x, y) - iou[i][j]).abs() < 1e-12);
                }
            }
            is_optimal(&match_spans(&a, &b, min_iou), &iou, b.len(), min_iou)?;
        }

        #[test]
        fn boxes_are_paired_as_well_as_can_be(
            a in prop::collection::vec((0_i32..6, 0_i32..6, 1_i32..5, 1_i32..5), 0..6),
            b in prop::collection::vec((0_i32..6, 0_i32..6, 1_i32..5, 1_i32..5), 0..6),
            min_iou in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        ) {
            let boxes = |v: &[(i32, i32, i32, i32)]| -> Vec<BoundingBox> {
                v.iter()
                    .map(|&(x, y, w, h)| BoundingBox {
                        x: x.into(), y: y.into(), width: w.into(), height: h.into(),
                    })
                    .collect()
            };
            // IoU by counting unit squares.
            let covers = |b: &(i32, i32, i32, i32), x: i32, y: i32| {
                b.0 <= x && x < b.0 + b.2 && b.1 <= y && y < b.1 + b.3
            };
            let cells: Vec<(i32, i32)> = (0..12).flat_map(|x| (0..12).map(move |y| (x, y))).collect();
            let iou: Vec<Vec<f64>> = a
                .iter()
                .map(|p| {
                    b.iter()
                        .map(|q| {
                            let both = cells.iter().filter(|c| covers(p, c.0, c.1) && covers(q, c.0, c.1));
                            let any = cells.iter().filter(|c| covers(p, c.0, c.1) || covers(q, c.0, c.1));
                            both.count() as f64 / any.count() as f64
                        })
                        .collect()
                })
                .collect();
            let (a, b) = (boxes(&a), boxes(&b));
            for (i, x) in a.iter().enumerate() {
                for (j, y) in b.iter().enumerate() {
                    prop_assert!((iou_box(x, y) - iou[i][j]).abs() < 1e-12);
                    prop_assert!(iou_box(x, y).to_bits() == iou_box(y, x).to_bits());
                }
            }
            // The counted IoU may differ from the computed one in the last digit, at the threshold
            // too.
            let computed: Vec<Vec<f64>> =
                a.iter().map(|x| b.iter().map(|y| iou_box(x, y)).collect()).collect();
            is_optimal(&match_boxes(&a, &b, min_iou), &computed, b.len(), min_iou)?;
        }

        #[test]
        fn no_box_makes_it_panic(
            numbers in prop::collection::vec((any::<f64>(), any::<f64>(), any::<f64>(), any::<f64>()), 0..6)
        ) {
            let boxes: Vec<BoundingBox> = numbers
                .iter()
                .map(|&(x, y, width, height)| BoundingBox { x, y, width, height })
                .collect();
            for a in &boxes {
                for b in &boxes {
                    prop_assert!((0.0..=1.0).contains(&iou_box(a, b)));
                }
            }
            let whole = boxes.iter().filter(|b| !b.is_empty()).count();
            prop_assert!(match_boxes(&boxes, &boxes, 0.0).len() <= whole);
        }
    }
}
