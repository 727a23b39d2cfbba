//! Layered layout from top to bottom: the position of each node and edge of a drawing.
//!
//! The layered method of Sugiyama, Tagawa and Toda (1981) in its plain form. Edges that go back are
//! reversed, and each node is placed below all that lead to it. Long edges get a position in every
//! layer that they cross. The order within the layers is improved by barycentres, down and up
//! again.

use super::graph::Graph;

/// Passes over the layers that improve their order.
const SWEEPS: usize = 8;
/// Space between neighbours of a layer.
const GAP_X: f64 = 36.0;
/// Space between layers: room for two lines of an edge's label, and for what others draw on the edge.
const GAP_Y: f64 = 84.0;
/// Width of the position that a long edge takes in a layer.
const BEND_WIDTH: f64 = 10.0;

/// A point, in pixels from the top left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// The finished layout.
pub(super) struct Layout {
    /// Centres of the nodes.
    pub(super) centres: Vec<Point>,
    /// For each edge, the points between its ends, from `from` to `to`.
    pub(super) bends: Vec<Vec<Point>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A node or the bend of a long edge.
struct LayoutNode {
    layer: usize,
    width: f64,
    height: f64,
    /// Space at its right that nothing else of its layer takes.
    beside: f64,
    x: f64,
    /// Connected nodes in the neighbouring layers.
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays out nodes of the given widths and heights, with the space that each needs at its right.
pub(super) fn layout(graph: &Graph, sizes: &[(f64, f64)], beside: &[f64]) -> Layout {
    let turned = edges_that_go_back(graph);
    let downward: Vec<(usize, usize)> = graph
        .edges
        .iter()
        .zip(&turned)
        .map(|(edge, turned)| {
            if *turned {
                (edge.to, edge.from)
            } else {
                (edge.from, edge.to)
            }
        })
        .collect();
    let layers = layers_of(sizes.len(), &downward);
    let mut nodes: Vec<LayoutNode> = sizes
        .iter()
        .zip(&layers)
        .zip(beside)
        .map(|(((width, height), layer), beside)| LayoutNode {
            layer: *layer,
            width: *width,
            height: *height,
            beside: *beside,
            x: 0.0,
            above: Vec::new(),
            below: Vec::new(),
        })
        .collect();
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for (from, to) in &downward {
        chains.push(chain(&mut nodes, *from, *to));
    }
    let mut rows = rows_of(&nodes);
    for sweep in 0..SWEEPS {
        order(&mut rows, &nodes, sweep % 2 == 0);
    }
    let width = set_rows(&rows, &mut nodes);
    let (tops, heights, height) = tops_of(&rows, &nodes);
    let point = |at: usize| Point {
        x: nodes[at].x,
        y: tops[nodes[at].layer] + heights[nodes[at].layer] / 2.0,
    };
    let bends = chains
        .iter()
        .zip(&turned)
        .map(|(chain, turned)| {
            let mut points: Vec<Point> = chain.iter().map(|at| point(*at)).collect();
            if *turned {
                points.reverse();
            }
            points
        })
        .collect();
    Layout {
        centres: (0..sizes.len()).map(point).collect(),
        bends,
        width,
        height,
    }
}

/// Finds the edges that close a cycle, by depth-first search in the order of the file.
fn edges_that_go_back(graph: &Graph) -> Vec<bool> {
    let count = graph.nodes.len();
    let mut turned = vec![false; graph.edges.len()];
    let mut leaving = vec![Vec::new(); count];
    for (at, edge) in graph.edges.iter().enumerate() {
        leaving[edge.from].push(at);
    }
    // 0 new, 1 open, 2 done.
    let mut marks = vec![0_u8; count];
    for start in 0..count {
        if marks[start] != 0 {
            continue;
        }
        marks[start] = 1;
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.pop() {
            let Some(edge) = leaving[node].get(next).copied() else {
                marks[node] = 2;
                continue;
            };
            stack.push((node, next + 1));
            let to = graph.edges[edge].to;
            match marks[to] {
                0 => {
                    marks[to] = 1;
                    stack.push((to, 0));
                }
                1 => turned[edge] = true,
                _ => {}
            }
        }
    }
    turned
}

/// Puts each node into the highest layer that is below all nodes that lead to it.
fn layers_of(count: usize, downward: &[(usize, usize)]) -> Vec<usize> {
    let mut layers = vec![0; count];
    // Without cycles, no chain is longer than there are nodes.
    for _ in 0..count {
        let mut changed = false;
        for (from, to) in downward.iter().filter(|(from, to)| from != to) {
            if layers[*to] <= layers[*from] {
                layers[*to] = layers[*from] + 1;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    layers
}

/// Connects two nodes, with a bend in each layer between; returns the bends from top to bottom.
fn chain(nodes: &mut Vec<LayoutNode>, from: usize, to: usize) -> Vec<usize> {
    let mut bends = Vec::new();
    let mut above = from;
    for layer in nodes[from].layer + 1..nodes[to].layer {
        let bend = nodes.len();
        nodes.push(LayoutNode {
            layer,
            width: BEND_WIDTH,
            height: 0.0,
            beside: 0.0,
            x: 0.0,
            above: vec![above],
            below: Vec::new(),
        });
        nodes[above].below.push(bend);
        bends.push(bend);
        above = bend;
    }
    if from != to {
        nodes[above].below.push(to);
        nodes[to].above.push(above);
    }
    bends
}

fn rows_of(nodes: &[LayoutNode]) -> Vec<Vec<usize>> {
    let layers = nodes.iter().map(|node| node.layer + 1).max().unwrap_or(0);
    let mut rows = vec![Vec::new(); layers];
    for (at, node) in nodes.iter().enumerate() {
        rows[node.layer].push(at);
    }
    rows
}

/// Orders each row by the mean position of its neighbours in the row before.
fn order(rows: &mut [Vec<usize>], nodes: &[LayoutNode], down: bool) {
    let mut positions = vec![0.0; nodes.len()];
    let mut remember = |row: &[usize]| {
        for (position, at) in row.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
            let position = position as f64 - row.len() as f64 / 2.0;
            positions[*at] = position;
        }
    };
    for row in rows.iter() {
        remember(row);
    }
    let count = rows.len();
    for index in 0..count {
        let row = &mut rows[if down { index } else { count - 1 - index }];
        let mean = |at: &usize| {
            let node = &nodes[*at];
            let tied = if down { &node.above } else { &node.below };
            if tied.is_empty() {
                return positions[*at];
            }
            #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
            let count = tied.len() as f64;
            tied.iter().map(|other| positions[*other]).sum::<f64>() / count
        };
        let mut keyed: Vec<(f64, usize)> = row.iter().map(|at| (mean(at), *at)).collect();
        // Stable sort: equal positions keep the order of the file.
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        *row = keyed.into_iter().map(|(_, at)| at).collect();
        for (position, at) in row.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
            let position = position as f64 - row.len() as f64 / 2.0;
            positions[*at] = position;
        }
    }
}

/// Sets the positions of each row side by side, near the connected nodes. Returns the width.
fn set_rows(rows: &[Vec<usize>], nodes: &mut [LayoutNode]) -> f64 {
    for row in rows {
        let mut x = 0.0;
        for at in row {
            nodes[*at].x = x + nodes[*at].width / 2.0;
            x += nodes[*at].width + nodes[*at].beside + GAP_X;
        }
    }
    for sweep in 0..2 * SWEEPS {
        let down = sweep % 2 == 0;
        for index in 0..rows.len() {
            let row = &rows[if down { index } else { rows.len() - 1 - index }];
            draw_near(row, nodes, down);
        }
    }
    let left = nodes
        .iter()
        .map(|p| p.x - p.width / 2.0)
        .fold(f64::INFINITY, f64::min);
    let left = if left.is_finite() { left } else { 0.0 };
    for node in nodes.iter_mut() {
        node.x -= left;
    }
    nodes
        .iter()
        .map(|p| p.x + p.width / 2.0 + p.beside)
        .fold(0.0, f64::max)
}

/// Moves the nodes of a row to the mean position of their connected nodes, and apart if they
/// overlap.
fn draw_near(row: &[usize], nodes: &mut [LayoutNode], down: bool) {
    for at in row {
        let node = &nodes[*at];
        let tied = if down { &node.above } else { &node.below };
        if !tied.is_empty() {
            #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
            let count = tied.len() as f64;
            let mean = tied.iter().map(|other| nodes[*other].x).sum::<f64>() / count;
            nodes[*at].x = mean;
        }
    }
    let apart = |nodes: &[LayoutNode], a: usize, b: usize| {
        let between = f64::midpoint(nodes[a].width, nodes[b].width) + nodes[a].beside + GAP_X;
        between - (nodes[b].x - nodes[a].x)
    };
    // From the middle outwards, so that crowded nodes spread to both sides.
    let middle = row.len() / 2;
    for index in middle + 1..row.len() {
        let overlap = apart(nodes, row[index - 1], row[index]);
        nodes[row[index]].x += overlap.max(0.0);
    }
    for index in (0..middle).rev() {
        let overlap = apart(nodes, row[index], row[index + 1]);
        nodes[row[index]].x -= overlap.max(0.0);
    }
}

fn tops_of(rows: &[Vec<usize>], nodes: &[LayoutNode]) -> (Vec<f64>, Vec<f64>, f64) {
    let heights: Vec<f64> = rows
        .iter()
        .map(|row| row.iter().map(|at| nodes[*at].height).fold(0.0, f64::max))
        .collect();
    let mut top = 0.0;
    let mut tops = Vec::new();
    for height in &heights {
        tops.push(top);
        top += height + GAP_Y;
    }
    (tops, heights, (top - GAP_Y).max(0.0))
}
