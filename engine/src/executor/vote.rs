//! Votes over whole values, and the merge of regions.

use serde_json::Value;

use super::{
    agreement::{bounding_box, span},
    value::{order, same},
};
use crate::{
    consensus::{TaggedBox, TaggedSpan, iou_box, iou_span},
    events::{Vote, WeightsUsed},
    ids::UserId,
};

/// The overlap (intersection over union) from which two annotators are considered to mean the same
/// region.
const SAME_REGION_IOU: f64 = 0.5;

/// Counts equal values, one per annotator in order of acceptance. Sorted by votes, most first, then
/// by the order of values. Null is a missing value and gets no vote.
pub(crate) fn tally(values: &[&Value]) -> Vec<Vote> {
    let mut votes: Vec<Vote> = Vec::new();
    for (place, value) in (0..).zip(values) {
        if value.is_null() {
            continue;
        }
        match votes.iter_mut().find(|vote| same(&vote.value, value)) {
            Some(vote) => {
                vote.count += 1;
                vote.by.push(place);
            }
            None => votes.push(Vote {
                value: (*value).clone(),
                count: 1,
                by: vec![place],
                weight: 0.0,
            }),
        }
    }
    for vote in &mut votes {
        vote.weight = f64::from(vote.count);
    }
    votes.sort_by(|a, b| {
        b.count
            .cmp(&a.count)
            .then_with(|| order(&a.value, &b.value))
    });
    if votes
        .iter()
        .flat_map(|vote| &vote.by)
        .copied()
        .eq(0..places(values.len()))
    {
        for vote in &mut votes {
            vote.by.clear();
        }
    }
    votes
}

fn places(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Gives each candidate the total weight of the annotators who gave it.
pub(crate) fn weigh<'v>(
    votes: &mut [Vote],
    given: impl Iterator<Item = (UserId, &'v Value)>,
    weights: &WeightsUsed,
) {
    for vote in &mut *votes {
        vote.weight = 0.0;
    }
    for (user, value) in given {
        let known = weights.annotators.iter().find(|one| one.user_id == user);
        if let Some(vote) = votes.iter_mut().find(|vote| same(&vote.value, value)) {
            vote.weight += known.map_or(0.0, |one| one.weight);
        }
    }
}

/// The candidate with the most weight; `None` if two share it. Weights are sums of logarithms, so
/// differences by rounding alone count as equal.
pub(crate) fn heaviest(votes: &[Vote]) -> Option<&Vote> {
    const EQUAL: f64 = 1e-9;
    let best = votes.iter().max_by(|a, b| a.weight.total_cmp(&b.weight))?;
    let rivals = votes
        .iter()
        .filter(|vote| best.weight - vote.weight <= EQUAL)
        .count();
    (rivals == 1).then_some(best)
}

/// Whether the first place is shared. `votes` are sorted as by [`tally`].
pub(crate) fn tied(votes: &[Vote]) -> bool {
    matches!(votes, [first, second, ..] if first.count == second.count)
}

/// Regions that more than half of the annotators marked.
///
/// Regions of one tag are the same if they overlap the first region of their group by
/// [`SAME_REGION_IOU`] or more. Each annotator contributes at most one region to a group, best
/// overlap first. A group found by more than half of the annotators becomes one region, whose edges
/// are the medians of its members' edges (the lower one of two).
pub(crate) fn merge_spans(annotators: &[Vec<TaggedSpan>]) -> Vec<TaggedSpan> {
    let overlap = |a: &TaggedSpan, b: &TaggedSpan| {
        if a.tag == b.tag {
            iou_span(&span(a), &span(b))
        } else {
            0.0
        }
    };
    let mut merged: Vec<TaggedSpan> = groups(annotators, overlap)
        .into_iter()
        .map(|group| TaggedSpan {
            start: lower_median(group.iter().map(|s| s.start), Ord::cmp),
            end: lower_median(group.iter().map(|s| s.end), Ord::cmp),
            tag: group[0].tag.clone(),
        })
        .collect();
    merged.sort_by(|a, b| (a.start, a.end, &a.tag).cmp(&(b.start, b.end, &b.tag)));
    merged
}

/// Like [`merge_spans`], for boxes.
pub(crate) fn merge_boxes(annotators: &[Vec<TaggedBox>]) -> Vec<TaggedBox> {
    let overlap = |a: &TaggedBox, b: &TaggedBox| {
        if a.tag == b.tag {
            iou_box(&bounding_box(a), &bounding_box(b))
        } else {
            0.0
        }
    };
    groups(annotators, overlap)
        .into_iter()
        .map(|group| TaggedBox {
            x1: lower_median(group.iter().map(|b| b.x1), f64::total_cmp),
            y1: lower_median(group.iter().map(|b| b.y1), f64::total_cmp),
            x2: lower_median(group.iter().map(|b| b.x2), f64::total_cmp),
            y2: lower_median(group.iter().map(|b| b.y2), f64::total_cmp),
            tag: group[0].tag.clone(),
        })
        .collect()
}

/// Groups of the same region shared by more than half of the annotators, in order of first
/// occurrence.
fn groups<R>(annotators: &[Vec<R>], overlap: impl Fn(&R, &R) -> f64) -> Vec<Vec<&R>> {
    let mut groups: Vec<Vec<&R>> = Vec::new();
    for regions in annotators {
        let mut open: Vec<bool> = vec![true; groups.len()];
        for region in regions {
            let best = groups
                .iter()
                .enumerate()
                .filter(|(index, _)| open.get(*index).copied().unwrap_or(false))
                .map(|(index, group)| (index, overlap(group[0], region)))
                .filter(|(_, iou)| *iou >= SAME_REGION_IOU)
                .max_by(|a, b| a.1.total_cmp(&b.1));
            match best {
                Some((index, _)) => {
                    groups[index].push(region);
                    open[index] = false;
                }
                None => groups.push(vec![region]),
            }
        }
    }
    groups.retain(|group| group.len() * 2 > annotators.len());
    groups
}

fn lower_median<T>(
    values: impl Iterator<Item = T>,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) -> T
where
    T: Copy,
{
    let mut sorted: Vec<T> = values.collect();
    sorted.sort_by(order);
    sorted[(sorted.len() - 1) / 2]
}
