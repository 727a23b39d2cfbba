//! Polygons in an image.

use i_overlay::{
    core::{fill_rule::FillRule, overlay_rule::OverlayRule},
    float::single::SingleFloatOverlay,
};
use serde_json::{Map, Value, json};

use super::regions::{Place, coordinate};
use crate::{
    answer::{
        error::{AnswerError, Problem, kind_of, shown},
        form::Exact,
        reader::Reader,
    },
    limits::POLYGON_POINTS_MAX,
};

type Point = [f64; 2];

/// A simple polygon: its corners in order, the ring not closed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Polygon {
    corners: Vec<Point>,
    area: f64,
    /// Least and greatest coordinates.
    low: Point,
    high: Point,
}

impl Polygon {
    fn new(corners: Vec<Point>) -> Self {
        let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for corner in &corners {
            for axis in 0..2 {
                low[axis] = low[axis].min(corner[axis]);
                high[axis] = high[axis].max(corner[axis]);
            }
        }
        Self {
            area: area(&corners).abs(),
            corners,
            low,
            high,
        }
    }

    pub(super) fn extent(&self) -> (f64, f64) {
        (self.low[0], self.high[0])
    }

    /// Steps that an overlap takes: sorting, and edges that may cross.
    pub(super) fn cost(&self, other: &Self) -> u64 {
        let (a, b) = (self.corners.len() as u64, other.corners.len() as u64);
        128 * (a + b) + a * b
    }
}

/// Signed area, by the sum of trapezoids under the edges.
fn area(corners: &[Point]) -> f64 {
    // From the first corner, so that far from the origin no digits are lost.
    let Some(&[x, y]) = corners.first() else {
        return 0.0;
    };
    let twice: f64 = edges(corners)
        .map(|([ax, ay], [bx, by])| (ax - x) * (by - y) - (bx - x) * (ay - y))
        .sum();
    twice / 2.0
}

/// Edges of a ring.
fn edges(corners: &[Point]) -> impl Iterator<Item = (Point, Point)> {
    let next = corners.iter().cycle().skip(1);
    corners.iter().copied().zip(next.copied())
}

/// `{"points": [[x, y], …]}`: three corners or more, the ring closed or not, edges that do not cross.
pub(super) fn read(
    region: &Map<String, Value>,
    reader: &mut Reader<'_>,
) -> Result<(Place, Vec<Exact>), AnswerError> {
    let Some(points) = region.get("points").filter(|points| !points.is_null()) else {
        return Err(reader.wrong(Problem::NoKey {
            region: "polygon",
            key: "points",
            hint: Some("give its corners, [[x, y], …]".to_owned()),
        }));
    };
    reader.at_key("points", |reader| {
        let Value::Array(points) = points else {
            return Err(reader.wrong(Problem::Unfit {
                found: kind_of(points).to_owned(),
                expected: "list of corners",
                hint: Some("give [[x, y], …]".to_owned()),
            }));
        };
        if points.len() > POLYGON_POINTS_MAX {
            return Err(reader.wrong(Problem::ManyCorners {
                count: points.len(),
            }));
        }
        let mut ring: Vec<(Exact, Exact)> = Vec::with_capacity(points.len());
        for (index, point) in points.iter().enumerate() {
            let point = reader.at_index(index, |reader| read_point(point, reader))?;
            // The same corner again is no edge.
            if ring.last() != Some(&point) {
                ring.push(point);
            }
        }
        while ring.len() > 1 && ring.first() == ring.last() {
            ring.pop();
        }
        if ring.len() < 3 {
            return Err(reader.wrong(Problem::FewCorners { count: ring.len() }));
        }
        let corners: Vec<Point> = ring.iter().map(|(x, y)| [x.to_f64(), y.to_f64()]).collect();
        let size = corners.len() as u64;
        reader.spend(size * size / 2)?;
        if let Some((first, second)) = crossing(&corners) {
            return Err(reader.wrong(Problem::Crossing { first, second }));
        }
        if area(&corners) == 0.0 {
            return Err(reader.wrong(Problem::NoArea { region: "polygon" }));
        }
        // One ring has many ways of writing it: from the least corner, counterclockwise.
        if area(&corners) < 0.0 {
            ring.reverse();
        }
        let least = (0..ring.len()).min_by_key(|index| ring[*index]);
        ring.rotate_left(least.unwrap_or(0));
        let corners = ring.iter().map(|(x, y)| [x.to_f64(), y.to_f64()]).collect();
        let coordinates = ring.iter().flat_map(|(x, y)| [*x, *y]).collect();
        Ok((Place::Polygon(Polygon::new(corners)), coordinates))
    })
}

fn read_point(value: &Value, reader: &mut Reader<'_>) -> Result<(Exact, Exact), AnswerError> {
    let numbers = value.as_array().and_then(|pair| match pair.as_slice() {
        [Value::Number(x), Value::Number(y)] => Some((x, y)),
        _ => None,
    });
    let Some((x, y)) = numbers else {
        return Err(reader.wrong(Problem::Unfit {
            found: shown(value),
            expected: "corner",
            hint: Some("give two numbers, [x, y]".to_owned()),
        }));
    };
    let far = |number: &serde_json::Number| Problem::TooFar {
        given: number.to_string(),
    };
    let x = coordinate(Exact::of(x)).ok_or_else(|| reader.wrong(far(x)))?;
    let y = coordinate(Exact::of(y)).ok_or_else(|| reader.wrong(far(y)))?;
    Ok((x, y))
}

/// Two edges that meet elsewhere than at a common corner.
fn crossing(corners: &[Point]) -> Option<(usize, usize)> {
    let count = corners.len();
    let edge = |index: usize| (corners[index], corners[(index + 1) % count]);
    let reach = |index: usize| {
        let (a, b) = edge(index);
        (a[0].min(b[0]), a[0].max(b[0]))
    };
    // By where they begin along one axis: an edge meets only those that begin before it ends.
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| reach(*a).0.total_cmp(&reach(*b).0));
    for (place, &one) in order.iter().enumerate() {
        let end = reach(one).1;
        for &other in order[place + 1..]
            .iter()
            .take_while(|o| reach(**o).0 <= end)
        {
            let (first, second) = (one.min(other), one.max(other));
            let adjacent = second == first + 1 || (first == 0 && second == count - 1);
            let meets = if adjacent {
                // In the order in which they follow each other.
                let (before, after) = if second == first + 1 {
                    (first, second)
                } else {
                    (second, first)
                };
                folds_back(edge(before).0, edge(before).1, edge(after).1)
            } else {
                meet(edge(first), edge(second))
            };
            if meets {
                return Some((first, second));
            }
        }
    }
    None
}

/// On which side of the line from `a` to `b` a point lies.
fn side(a: Point, b: Point, point: Point) -> f64 {
    (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
}

/// Whether the edge after a corner runs back over the one before it.
fn folds_back(before: Point, corner: Point, after: Point) -> bool {
    let along = (before[0] - corner[0]) * (after[0] - corner[0])
        + (before[1] - corner[1]) * (after[1] - corner[1]);
    side(before, corner, after) == 0.0 && along > 0.0
}

/// Whether two edges without a common corner have a point in common.
fn meet((a, b): (Point, Point), (c, d): (Point, Point)) -> bool {
    let (c_side, d_side) = (side(a, b, c), side(a, b, d));
    let (a_side, b_side) = (side(c, d, a), side(c, d, b));
    let apart = |x: f64, y: f64| (x > 0.0 && y > 0.0) || (x < 0.0 && y < 0.0);
    if apart(c_side, d_side) || apart(a_side, b_side) {
        return false;
    }
    // On one line they meet where their reaches do on both axes; else they do in any case.
    (0..2).all(|axis| {
        let (low, high) = (a[axis].min(b[axis]), a[axis].max(b[axis]));
        let (least, most) = (c[axis].min(d[axis]), c[axis].max(d[axis]));
        low <= most && least <= high
    })
}

/// Common area over the area that either covers.
pub(super) fn iou(a: &Polygon, b: &Polygon) -> f64 {
    if a.corners == b.corners {
        return 1.0;
    }
    if (0..2).any(|axis| a.high[axis] <= b.low[axis] || b.high[axis] <= a.low[axis]) {
        return 0.0;
    }
    // The overlay works on a grid, which may round differently from the other side.
    let (a, b) = if order(a, b).is_le() { (a, b) } else { (b, a) };
    // Moved and scaled into the unit square, so that every size is as exact as any other.
    let low = [a.low[0].min(b.low[0]), a.low[1].min(b.low[1])];
    let high = [a.high[0].max(b.high[0]), a.high[1].max(b.high[1])];
    let scale = (high[0] - low[0]).max(high[1] - low[1]);
    let unit = |polygon: &Polygon| -> Vec<Point> {
        let corners = polygon.corners.iter();
        corners
            .map(|corner| [(corner[0] - low[0]) / scale, (corner[1] - low[1]) / scale])
            .collect()
    };
    let shapes = unit(a).overlay_as::<i64>(&unit(b), OverlayRule::Intersect, FillRule::EvenOdd);
    let common: f64 = shapes
        .iter()
        .flatten()
        .map(|contour| area(contour))
        .sum::<f64>()
        .abs();
    let scaled = |polygon: &Polygon| polygon.area / scale / scale;
    let covered = scaled(a) + scaled(b) - common;
    if covered > 0.0 {
        (common / covered).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

fn order(a: &Polygon, b: &Polygon) -> std::cmp::Ordering {
    let numbers = |polygon: &Polygon| polygon.corners.concat();
    let (a, b) = (numbers(a), numbers(b));
    a.iter()
        .zip(&b)
        .map(|(a, b)| a.total_cmp(b))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.len().cmp(&b.len()))
}

pub(super) fn schema() -> Map<String, Value> {
    let point = json!({
        "type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2,
    });
    let points = json!({
        "type": "array", "items": point, "minItems": 3, "maxItems": POLYGON_POINTS_MAX,
    });
    Map::from_iter([("points".to_owned(), points)])
}
