//! SVG: a picture that needs no other program or file.

use std::fmt::Write as _;

use glyph_workflow_engine::WorkflowConfig;

use super::{
    graph::{Edge, EdgeKind, Graph, Node, NodeKind},
    layout::{Layout, Point, layout},
};

/// Width of a character of the monospaced font, in pixels.
const CHARACTER: f64 = 7.3;
/// Height of a line.
const LINE: f64 = 16.0;
/// Space between a node's text and its border.
const PADDING: f64 = 12.0;
/// Space around the drawing.
const MARGIN: f64 = 24.0;
/// Half lines by which a label moves at most, to be clear of what it would cover.
const LABEL_MOVES_MAX: usize = 12;
/// Room at the right for edges that begin and end at the same step.
const LOOP: f64 = 46.0;

/// The workflow as a drawing.
pub fn svg(config: &WorkflowConfig) -> String {
    let graph = Graph::of(config);
    let sizes: Vec<(f64, f64)> = graph.nodes.iter().map(size_of).collect();
    let beside: Vec<f64> = (0..sizes.len()).map(|at| room_beside(&graph, at)).collect();
    let reserved: Vec<(f64, f64)> = sizes
        .iter()
        .zip(&beside)
        .map(|((width, height), beside)| (width + beside, *height))
        .collect();
    let mut layout = layout(&graph, &reserved);
    for (centre, beside) in layout.centres.iter_mut().zip(&beside) {
        centre.x -= beside / 2.0;
    }
    let (labels, right) = labels_of(&graph, &layout, &sizes);
    let title = 40.0;
    let title_width = text_width(&graph.title) * 1.3;
    let width = right.max(layout.width).max(title_width) + 2.0 * MARGIN + LOOP;
    let height = layout.height + 2.0 * MARGIN + title;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n<title>{0}</title>\n<style>\n{STYLE}</style>\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text class=\"title\" x=\"{MARGIN}\" y=\"28\">{0}</text>\n\
         <g transform=\"translate({MARGIN} {1})\">\n",
        escaped(&graph.title),
        MARGIN + title,
    );
    for (at, edge) in graph.edges.iter().enumerate() {
        edge_path(&mut svg, &graph, edge, &layout.bends[at], &layout, &sizes);
    }
    for (node, (centre, size)) in graph.nodes.iter().zip(layout.centres.iter().zip(&sizes)) {
        node_shape(&mut svg, node, *centre, *size);
    }
    for (point, text) in labels {
        label(&mut svg, point, text);
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

const STYLE: &str = "text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #222; }
.title { font-size: 16px; font-weight: bold; }
.id { font-weight: bold; }
.label { fill: #333; }
.behind { fill: #fff; fill-opacity: 0.85; }
.edge { fill: none; stroke: #555; stroke-width: 1.3; }
.back { stroke-dasharray: 6 3; }
.exhausted { stroke-dasharray: 2 3; }
.node { stroke: #444; stroke-width: 1.3; }
.people { fill: #e3f0fb; }
.machine { fill: #eee8f7; }
.question { fill: #fdf3d7; }
.complete { fill: #e0f3e2; }
.failed { fill: #fbe3e1; }
.start { fill: #444; }
";

fn text_width(text: &str) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a line")]
    let characters = text.chars().count() as f64;
    characters * CHARACTER
}

#[expect(clippy::cast_precision_loss, reason = "a few lines")]
fn lines_height(lines: usize) -> f64 {
    lines as f64 * LINE
}

fn size_of(node: &Node) -> (f64, f64) {
    if node.kind == NodeKind::Start {
        return (20.0, 20.0);
    }
    let text = node
        .lines
        .iter()
        .map(|line| text_width(line))
        .fold(0.0, f64::max);
    let wide = if node.kind == NodeKind::Question {
        2.0 * PADDING
    } else {
        0.0
    };
    (
        text + 2.0 * PADDING + wide,
        lines_height(node.lines.len()) + PADDING,
    )
}

/// The space that a node needs at its right for edges that begin and end there.
fn room_beside(graph: &Graph, node: usize) -> f64 {
    let own = graph
        .edges
        .iter()
        .filter(|edge| edge.from == node && edge.to == node);
    own.map(|edge| LOOP + edge.label.lines().map(text_width).fold(0.0, f64::max))
        .fold(0.0, f64::max)
}

/// Positions the labels of the edges without overlap, and finds how far to the right they reach.
fn labels_of<'g>(
    graph: &'g Graph,
    layout: &Layout,
    sizes: &[(f64, f64)],
) -> (Vec<(Point, &'g str)>, f64) {
    let mut labels: Vec<(Point, &str)> = Vec::new();
    let mut right = 0.0_f64;
    for (edge, bends) in graph.edges.iter().zip(&layout.bends) {
        if edge.label.is_empty() {
            continue;
        }
        let points = points_of(edge, bends, layout, sizes);
        let (a, b) = (points[0], points[1]);
        let mut point = if edge.from == edge.to {
            Point {
                x: a.x + LOOP,
                y: f64::midpoint(a.y, b.y),
            }
        } else {
            Point {
                x: f64::midpoint(a.x, b.x),
                y: f64::midpoint(a.y, b.y),
            }
        };
        let half = |text: &str| {
            let width = text.lines().map(text_width).fold(0.0, f64::max);
            (width / 2.0 + 4.0, lines_height(text.lines().count()) / 2.0)
        };
        let (width, height) = half(&edge.label);
        if edge.from == edge.to {
            point.x += width;
        }
        let overlaps = |at: Point, other: Point, (w, h): (f64, f64)| {
            (other.x - at.x).abs() < w + width && (other.y - at.y).abs() < h + height
        };
        let is_free = |at: Point| {
            let nodes = layout.centres.iter().zip(sizes);
            let mut nodes = nodes.map(|(centre, (w, h))| (*centre, (w / 2.0, h / 2.0)));
            let mut others = labels.iter().map(|(other, text)| (*other, half(text)));
            !nodes.any(|(other, size)| overlaps(at, other, size))
                && !others.any(|(other, size)| overlaps(at, other, size))
        };
        // A label that would cover a node or another label moves to the nearest free place above or
        // below; without one it stays.
        let mut moved = (0..LABEL_MOVES_MAX).flat_map(move |lines| {
            let by = lines_height(lines) / 2.0;
            [point.y - by, point.y + by].map(|y| Point { y, ..point })
        });
        point = moved.find(|at| is_free(*at)).unwrap_or(point);
        right = right.max(point.x + width);
        labels.push((point, &edge.label));
    }
    (labels, right)
}

/// The points of an edge, from border to border.
fn points_of(edge: &Edge, bends: &[Point], layout: &Layout, sizes: &[(f64, f64)]) -> Vec<Point> {
    let (from, to) = (layout.centres[edge.from], layout.centres[edge.to]);
    let border = |node: usize, centre: Point, downward: bool| {
        let half = sizes[node].1 / 2.0;
        let y = if downward {
            centre.y + half
        } else {
            centre.y - half
        };
        Point { x: centre.x, y }
    };
    if edge.from == edge.to {
        let (width, height) = sizes[edge.from];
        let x = from.x + width / 2.0;
        return vec![
            Point {
                x,
                y: from.y - height / 5.0,
            },
            Point {
                x,
                y: from.y + height / 5.0,
            },
        ];
    }
    let downward = from.y < to.y;
    let mut points = vec![border(edge.from, from, downward)];
    points.extend(bends);
    points.push(border(edge.to, to, !downward));
    // Edges that go back leave and enter slightly beside the forward ones.
    if !downward {
        let last = points.len() - 1;
        points[0].x += 10.0;
        points[last].x += 10.0;
    }
    points
}

fn edge_path(
    svg: &mut String,
    graph: &Graph,
    edge: &Edge,
    bends: &[Point],
    layout: &Layout,
    sizes: &[(f64, f64)],
) {
    let points = points_of(edge, bends, layout, sizes);
    let first = points[0];
    let mut path = format!("M{:.1} {:.1}", first.x, first.y);
    if edge.from == edge.to {
        let last = points[1];
        let out = first.x + LOOP;
        let _ = write!(
            path,
            "C{out:.1} {:.1} {out:.1} {:.1} {:.1} {:.1}",
            first.y - 14.0,
            last.y + 14.0,
            last.x,
            last.y
        );
    } else {
        for pair in points.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let middle = f64::midpoint(a.y, b.y);
            let _ = write!(
                path,
                "C{:.1} {middle:.1} {:.1} {middle:.1} {:.1} {:.1}",
                a.x, b.x, b.x, b.y
            );
        }
    }
    let class = match edge.kind {
        EdgeKind::Onward => "edge",
        EdgeKind::Back => "edge back",
        EdgeKind::Exhausted => "edge exhausted",
    };
    let (from, to) = (graph.nodes[edge.from].name(), graph.nodes[edge.to].name());
    let beside = beside(edge, &points);
    let _ = writeln!(
        svg,
        "<path class=\"{class}\" data-from=\"{}\" data-to=\"{}\" data-x=\"{:.1}\" data-y=\"{:.1}\" d=\"{path}\" \
         marker-end=\"url(#arrow)\"/>",
        escaped(from),
        escaped(to),
        beside.x,
        beside.y
    );
}

/// A point on an edge, away from its label, for what others draw there.
fn beside(edge: &Edge, points: &[Point]) -> Point {
    let (a, b) = (points[points.len() - 2], points[points.len() - 1]);
    if edge.from == edge.to {
        return Point {
            x: a.x + LOOP * 0.75,
            y: f64::midpoint(a.y, b.y),
        };
    }
    if edge.label.is_empty() || points.len() > 2 {
        return Point {
            x: f64::midpoint(a.x, b.x),
            y: f64::midpoint(a.y, b.y),
        };
    }
    // The label is in the middle; the curve at three quarters.
    Point {
        x: a.x * 0.156 + b.x * 0.844,
        y: a.y * 0.297 + b.y * 0.703,
    }
}

fn node_shape(svg: &mut String, node: &Node, centre: Point, (width, height): (f64, f64)) {
    let (x, y) = (centre.x - width / 2.0, centre.y - height / 2.0);
    let class = match node.kind {
        NodeKind::Start => "start",
        NodeKind::People => "people",
        NodeKind::Machine => "machine",
        NodeKind::Question => "question",
        NodeKind::Complete => "complete",
        NodeKind::Failed => "failed",
    };
    let _ = match node.kind {
        NodeKind::Start => write!(
            svg,
            "<circle class=\"node {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"9\"><title>start</title></circle>",
            centre.x, centre.y
        ),
        NodeKind::Question => {
            let cut = PADDING;
            write!(
                svg,
                "<path class=\"node {class}\" d=\"M{x:.1} {0:.1}L{1:.1} {y:.1}H{2:.1}L{3:.1} {0:.1}L{2:.1} {4:.1}H{1:.1}z\"/>",
                centre.y,
                x + cut,
                x + width - cut,
                x + width,
                y + height
            )
        }
        NodeKind::People | NodeKind::Machine | NodeKind::Complete | NodeKind::Failed => {
            let radius = match node.kind {
                NodeKind::People => 8.0,
                NodeKind::Complete | NodeKind::Failed => height / 2.0,
                NodeKind::Start | NodeKind::Machine | NodeKind::Question => 0.0,
            };
            write!(
                svg,
                "<rect class=\"node {class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius:.1}\"/>"
            )
        }
    };
    svg.push('\n');
    if node.kind != NodeKind::Start {
        lines(svg, centre, &node.lines, true);
    }
}

fn label(svg: &mut String, at: Point, text: &str) {
    let rows: Vec<String> = text.lines().map(str::to_owned).collect();
    let width = rows.iter().map(|row| text_width(row)).fold(0.0, f64::max) + 4.0;
    let height = lines_height(rows.len());
    let _ = writeln!(
        svg,
        "<rect class=\"behind\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
        at.x - width / 2.0,
        at.y - height / 2.0
    );
    lines(svg, at, &rows, false);
}

fn lines(svg: &mut String, centre: Point, rows: &[String], first_is_id: bool) {
    let top = centre.y - lines_height(rows.len()) / 2.0;
    for (at, row) in rows.iter().enumerate() {
        let y = top + lines_height(at) + LINE * 0.76;
        let class = if first_is_id && at == 0 {
            "id"
        } else {
            "label"
        };
        let _ = writeln!(
            svg,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
            centre.x,
            escaped(row)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
