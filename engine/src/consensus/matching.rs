//! Optimal matching: regions paired one to one with the largest total IoU.
//!
//! Regions that cannot overlap are never compared, and separate clusters are solved separately, so
//! the cost depends on how much overlaps, not on how much there is.

use pathfinding::{kuhn_munkres::kuhn_munkres, matrix::Matrix};

use super::ConsensusError;

/// Overlapping pairs of regions that the measures look at; more are [`ConsensusError::TooLarge`].
///
/// 2^22 pairs take about 100 MB. Text and images marked by people have a few per region.
pub const MATCH_PAIRS_MAX: u128 = 1 << 22;

/// Steps of optimal assignment that the measures take; more are [`ConsensusError::TooLarge`].
///
/// A cluster of n regions on each side takes n cubed: 2^28, about a second, is a cluster of 645.
pub const MATCH_STEPS_MAX: u128 = 1 << 28;

/// Bounds of one matching, so that hostile data cannot block the thread or exhaust the memory.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Overlapping pairs that may be looked at.
    pub(crate) pairs: u128,
    /// Steps of the assignment, over all clusters.
    pub(crate) steps: u128,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self {
        pairs: MATCH_PAIRS_MAX,
        steps: MATCH_STEPS_MAX,
    };
    pub(super) const NONE: Self = Self {
        pairs: u128::MAX,
        steps: u128::MAX,
    };
}

/// A matched pair: position in `a`, position in `b`, their IoU.
pub(crate) type Match = (usize, usize, f64);

/// The optimal pairing; `a` and `b` are extents along one axis, `None` for empty regions.
///
/// Among pairings of equal total IoU, one with the most pairs that `prefers` accepts.
pub(super) fn pair<T: PartialOrd + Copy>(
    a: &[Option<(T, T)>],
    b: &[Option<(T, T)>],
    min_iou: f64,
    iou: impl Fn(usize, usize) -> f64,
    prefers: impl Fn(usize, usize) -> bool,
    limits: Limits,
) -> Result<Vec<Match>, ConsensusError> {
    pair_counting(a, b, min_iou, iou, prefers, limits).map(|(matches, _)| matches)
}

/// As [`pair`], with the steps that it took: pairs looked at, and the assignment.
pub(crate) fn pair_counting<T: PartialOrd + Copy>(
    a: &[Option<(T, T)>],
    b: &[Option<(T, T)>],
    min_iou: f64,
    iou: impl Fn(usize, usize) -> f64,
    prefers: impl Fn(usize, usize) -> bool,
    limits: Limits,
) -> Result<(Vec<Match>, u128), ConsensusError> {
    let candidates = candidates(a, b, limits.pairs)?;
    let looked_at = candidates.len() as u128;
    let edges: Vec<Match> = candidates
        .into_iter()
        .map(|(i, j)| (i, j, iou(i, j)))
        .filter(|&(_, _, iou)| iou > 0.0 && iou >= min_iou)
        .collect();
    let clusters = clusters(a.len(), b.len(), edges);
    let needed: u128 = clusters.iter().map(|edges| steps(edges)).sum();
    if needed > limits.steps {
        return Err(ConsensusError::TooLarge {
            needed,
            limit: limits.steps,
        });
    }
    let mut matches: Vec<Match> = clusters
        .iter()
        .flat_map(|edges| assign(edges, &prefers))
        .collect();
    matches.sort_unstable_by_key(|&(i, j, _)| (i, j));
    Ok((matches, looked_at + needed))
}

/// Pairs whose extents overlap, without looking at the others.
///
/// `b` is sorted by start. For each extent of `a`, those of `b` that start before its end form a
/// prefix; the prefix is walked backwards until the largest end so far says that nothing further
/// can reach it.
fn candidates<T: PartialOrd + Copy>(
    a: &[Option<(T, T)>],
    b: &[Option<(T, T)>],
    limit: u128,
) -> Result<Vec<(usize, usize)>, ConsensusError> {
    let mut sorted: Vec<(T, T, usize)> = b
        .iter()
        .enumerate()
        .filter_map(|(j, e)| e.map(|(start, end)| (start, end, j)))
        .collect();
    // Starts are finite, hence comparable.
    sorted.sort_by(|x, y| x.0.partial_cmp(&y.0).unwrap_or(std::cmp::Ordering::Equal));
    let mut furthest: Vec<T> = Vec::with_capacity(sorted.len());
    for &(_, end, _) in &sorted {
        let previous = furthest.last().copied().unwrap_or(end);
        furthest.push(if previous > end { previous } else { end });
    }
    let mut found = Vec::new();
    for (i, extent) in a.iter().enumerate() {
        let Some((start, end)) = *extent else {
            continue;
        };
        let prefix = sorted.partition_point(|other| other.0 < end);
        for k in (0..prefix).rev() {
            if furthest[k] <= start {
                break;
            }
            if sorted[k].1 > start {
                found.push((i, sorted[k].2));
            }
        }
        let needed = found.len() as u128;
        if needed > limit {
            return Err(ConsensusError::TooLarge { needed, limit });
        }
    }
    Ok(found)
}

/// Splits the allowed pairs into groups that share no region, which can be solved one by one.
fn clusters(a: usize, b: usize, edges: Vec<Match>) -> Vec<Vec<Match>> {
    let mut parents: Vec<usize> = (0..a + b).collect();
    for &(i, j, _) in &edges {
        let (x, y) = (root(&mut parents, i), root(&mut parents, a + j));
        parents[x.max(y)] = x.min(y);
    }
    let mut keyed: Vec<(usize, Match)> = edges
        .into_iter()
        .map(|edge| (root(&mut parents, edge.0), edge))
        .collect();
    keyed.sort_unstable_by_key(|&(key, (i, j, _))| (key, i, j));
    keyed
        .chunk_by(|x, y| x.0 == y.0)
        .map(|cluster| cluster.iter().map(|&(_, edge)| edge).collect())
        .collect()
}

fn root(parents: &mut [usize], mut node: usize) -> usize {
    while parents[node] != node {
        parents[node] = parents[parents[node]];
        node = parents[node];
    }
    node
}

/// What the assignment costs in one cluster: its shorter side squared times its longer one.
fn steps(edges: &[Match]) -> u128 {
    if edges.len() == 1 {
        return 1;
    }
    let (left, right) = sides(edges);
    let (short, long) = (
        left.len().min(right.len()) as u128,
        left.len().max(right.len()) as u128,
    );
    short * short * long
}

/// The regions of `a` and of `b` in one cluster, each in order; `edges` is sorted.
fn sides(edges: &[Match]) -> (Vec<usize>, Vec<usize>) {
    let mut left: Vec<usize> = edges.iter().map(|edge| edge.0).collect();
    left.dedup();
    let mut right: Vec<usize> = edges.iter().map(|edge| edge.1).collect();
    right.sort_unstable();
    right.dedup();
    (left, right)
}

/// The pairing of one cluster with the largest total IoU; `edges` is sorted.
fn assign(edges: &[Match], prefers: impl Fn(usize, usize) -> bool) -> Vec<Match> {
    if edges.len() == 1 {
        return edges.to_vec();
    }
    let (left, right) = sides(edges);
    // The algorithm wants no more rows than columns.
    let flipped = left.len() > right.len();
    let (rows, columns) = if flipped {
        (&right, &left)
    } else {
        (&left, &right)
    };
    let cell = |&(i, j, _): &Match| {
        let (row, column) = if flipped { (j, i) } else { (i, j) };
        Some((
            rows.binary_search(&row).ok()?,
            columns.binary_search(&column).ok()?,
        ))
    };
    // Pairs that are not allowed weigh nothing: the optimum over complete pairings, less those, is
    // the optimum over the allowed ones.
    let mut weights = Matrix::new(rows.len(), columns.len(), 0_i128);
    for edge in edges {
        if let Some(cell) = cell(edge) {
            // The preference sits below the last digit of the IoU and, with fewer than 2^32 pairs,
            // cannot carry into it.
            weights[cell] = (fixed_point(edge.2) << 32) + i128::from(prefers(edge.0, edge.1));
        }
    }
    let (_, chosen) = kuhn_munkres(&weights);
    edges
        .iter()
        .filter(|edge| cell(edge).is_some_and(|(row, column)| chosen[row] == column))
        .copied()
        .collect()
}

/// An IoU in steps of 2^-52, exact for sums and comparisons, as the algorithm needs whole numbers.
///
/// Between 1 and 2 the bits of neighbouring floats differ by one, so the bits of 1 + IoU count the
/// steps. An IoU below half a step would count as not allowed; it is one step instead.
fn fixed_point(iou: f64) -> i128 {
    i128::from((1.0 + iou).to_bits() - 1.0_f64.to_bits()).max(1)
}
