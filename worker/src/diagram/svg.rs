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
/// Points of each part of an edge at which its label may be.
const PLACES: u32 = 16;
/// Half lines by which a label moves at most above or below its edge.
const LABEL_MOVES_MAX: usize = 12;
/// How far a label rather moves along its edge, in pixels, than off it.
const OFF_EDGE: f64 = 20.0;
/// How far a label rather moves, in pixels, than to cover another edge.
const COVERS_EDGE: f64 = 60.0;
/// How far it rather moves along its edge than to lie beside it.
const BESIDE_EDGE: f64 = 6.0;
/// Room at the right for edges that are drawn beside their steps.
const LOOP: f64 = 46.0;
/// Half the side of what others may draw on an edge (see [`Course::beside`]).
const BESIDE: f64 = 12.0;

/// The workflow as a drawing.
pub fn svg(config: &WorkflowConfig) -> String {
    let graph = Graph::of(config);
    let drawing = Drawing::of(&graph);
    let labels = Labels::of(&graph, &drawing);
    let Drawing {
        layout,
        sizes,
        courses,
    } = drawing;
    let title = 40.0;
    let title_width = text_width(&graph.title) * 1.3;
    let width =
        (labels.right.max(layout.width) - labels.left).max(title_width) + 2.0 * MARGIN + LOOP;
    let height = layout.height + 2.0 * MARGIN + title;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n<title>{0}</title>\n<style>\n{STYLE}</style>\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text class=\"title\" x=\"{MARGIN}\" y=\"28\">{0}</text>\n\
         <g transform=\"translate({1:.1} {2})\">\n",
        escaped(&graph.title),
        MARGIN - labels.left,
        MARGIN + title,
    );
    for (edge, course) in graph.edges.iter().zip(&courses) {
        edge_path(&mut svg, &graph, edge, course);
    }
    for (node, (centre, size)) in graph.nodes.iter().zip(layout.centres.iter().zip(&sizes)) {
        node_shape(&mut svg, node, *centre, *size);
    }
    for (point, text) in labels.placed {
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

/// True for an edge that leaves and enters its steps at the right: one that begins and ends at the
/// same step, or goes back from the next layer against an edge that goes down.
fn is_at_the_side(graph: &Graph, edge: &Edge, bends: &[Point]) -> bool {
    edge.from == edge.to || (bends.is_empty() && goes_against_another(graph, edge))
}

fn goes_against_another(graph: &Graph, edge: &Edge) -> bool {
    let mut others = graph.edges.iter();
    edge.kind == EdgeKind::Back && others.any(|o| (o.from, o.to) == (edge.to, edge.from))
}

/// The space that a node needs at its right for edges that are drawn there.
fn room_beside(graph: &Graph, node: usize) -> f64 {
    let at_node = |edge: &&Edge| edge.from == node || edge.to == node;
    let own = graph.edges.iter().filter(at_node);
    let own = own.filter(|edge| edge.from == edge.to || goes_against_another(graph, edge));
    own.map(|edge| LOOP + edge.label.lines().map(text_width).fold(0.0, f64::max))
        .fold(0.0, f64::max)
}

/// Where the labels of the edges are.
struct Labels<'g> {
    /// Each by its centre.
    placed: Vec<(Point, &'g str)>,
    /// How far they reach to the left and the right.
    left: f64,
    right: f64,
}

impl<'g> Labels<'g> {
    /// Each label lies on its edge, or touches it. It covers neither a node nor another label, and as
    /// few other edges as can be.
    fn of(graph: &'g Graph, drawing: &Drawing) -> Self {
        let edges = graph.edges.iter().zip(&drawing.courses);
        let curves: Vec<_> = edges.map(|(edge, course)| course.curve(edge)).collect();
        let mut labels = Self {
            placed: Vec::new(),
            left: 0.0,
            right: 0.0,
        };
        let mut taken: Vec<Area> = drawing.taken(graph).collect();
        for (at, edge) in graph.edges.iter().enumerate() {
            if edge.label.is_empty() {
                continue;
            }
            let size = half_size(&edge.label);
            let cost = |far: f64, centre: Point| {
                let area = (centre, size);
                if taken.iter().any(|other| overlap(area, *other)) {
                    return f64::INFINITY;
                }
                let others = curves.iter().enumerate().filter(|(other, _)| *other != at);
                let is_covered = |curve: &[Point]| {
                    let mut points = curve.iter();
                    points.any(|point| overlap(area, (*point, (1.0, 1.0))))
                };
                let covered = others.filter(|(_, curve)| is_covered(curve));
                far + covered.map(|_| COVERS_EDGE).sum::<f64>()
            };
            let places = drawing.courses[at].places(&curves[at], size.0);
            let judged = places
                .into_iter()
                .map(|(far, centre)| (cost(far, centre), centre));
            // The first of the best: where nothing is free, where it is looked for first.
            let Some((_, centre)) = judged.min_by(|(a, _), (b, _)| a.total_cmp(b)) else {
                continue;
            };
            taken.push((centre, size));
            labels.left = labels.left.min(centre.x - size.0);
            labels.right = labels.right.max(centre.x + size.0);
            labels.placed.push((centre, &edge.label));
        }
        labels
    }
}

/// Half the width and height of a label.
fn half_size(text: &str) -> (f64, f64) {
    let width = text.lines().map(text_width).fold(0.0, f64::max);
    (width / 2.0 + 4.0, lines_height(text.lines().count()) / 2.0)
}

/// A rectangle by its centre and half its width and height.
type Area = (Point, (f64, f64));

fn overlap((a, (width, height)): Area, (b, (w, h)): Area) -> bool {
    (a.x - b.x).abs() < width + w && (a.y - b.y).abs() < height + h
}

/// Where everything is.
struct Drawing {
    layout: Layout,
    /// Widths and heights of the nodes.
    sizes: Vec<(f64, f64)>,
    /// Of the edges.
    courses: Vec<Course>,
}

impl Drawing {
    fn of(graph: &Graph) -> Self {
        let sizes: Vec<(f64, f64)> = graph.nodes.iter().map(size_of).collect();
        let beside: Vec<f64> = (0..sizes.len()).map(|at| room_beside(graph, at)).collect();
        let layout = layout(graph, &sizes, &beside);
        let edges = graph.edges.iter().zip(&layout.bends);
        let courses = edges
            .map(|(edge, bends)| Course::of(graph, edge, bends, &layout, &sizes))
            .collect();
        Self {
            layout,
            sizes,
            courses,
        }
    }

    /// What no label may cover: nodes, and what others draw on edges.
    fn taken(&self, graph: &Graph) -> impl Iterator<Item = Area> {
        let nodes = self.layout.centres.iter().zip(&self.sizes);
        let nodes = nodes.map(|(centre, (w, h))| (*centre, (w / 2.0, h / 2.0)));
        let edges = graph.edges.iter().zip(&self.courses);
        nodes.chain(edges.map(|(edge, course)| (course.beside(edge), (BESIDE, BESIDE))))
    }
}

/// Where an edge runs.
struct Course {
    /// From border to border.
    points: Vec<Point>,
    /// How far it goes to the right, where it runs at the side of its steps.
    out: Option<f64>,
}

impl Course {
    fn of(
        graph: &Graph,
        edge: &Edge,
        bends: &[Point],
        layout: &Layout,
        sizes: &[(f64, f64)],
    ) -> Self {
        let (from, to) = (layout.centres[edge.from], layout.centres[edge.to]);
        if is_at_the_side(graph, edge, bends) {
            let side = |node: usize, centre: Point, by: f64| Point {
                x: centre.x + sizes[node].0 / 2.0,
                y: centre.y + by * sizes[node].1 / 5.0,
            };
            // Up, except round the step itself.
            let by = if edge.from == edge.to { -1.0 } else { 0.0 };
            let points = vec![side(edge.from, from, by), side(edge.to, to, -by)];
            let out = points[0].x.max(points[1].x) + LOOP;
            return Self {
                points,
                out: Some(out),
            };
        }
        let border = |node: usize, centre: Point, downward: bool| {
            let half = sizes[node].1 / 2.0;
            let y = if downward {
                centre.y + half
            } else {
                centre.y - half
            };
            Point { x: centre.x, y }
        };
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
        Self { points, out: None }
    }

    /// The parts of the edge as cubic Bézier curves: a point, two control points, the next point.
    fn parts(&self, edge: &Edge) -> impl Iterator<Item = [Point; 4]> {
        let rise = if edge.from == edge.to { 14.0 } else { 0.0 };
        self.points.windows(2).map(move |pair| {
            let (a, b) = (pair[0], pair[1]);
            let middle = f64::midpoint(a.y, b.y);
            let of = |x: f64, y: f64| Point { x, y };
            match self.out {
                Some(out) => [a, of(out, a.y - rise), of(out, b.y + rise), b],
                None => [a, of(a.x, middle), of(b.x, middle), b],
            }
        })
    }

    /// As the data of a path.
    fn path(&self, edge: &Edge) -> String {
        let first = self.points[0];
        let mut path = format!("M{:.1} {:.1}", first.x, first.y);
        for [_, one, other, last] in self.parts(edge) {
            let _ = write!(
                path,
                "C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}",
                one.x, one.y, other.x, other.y, last.x, last.y
            );
        }
        path
    }

    /// Points on the edge, in their order.
    fn curve(&self, edge: &Edge) -> Vec<Point> {
        let steps = || (1..PLACES).map(|step| f64::from(step) / f64::from(PLACES));
        let parts = self.parts(edge);
        parts
            .flat_map(|part| steps().map(move |at| bezier(part, at)))
            .collect()
    }

    /// Where a label of this half width may have its centre, with what speaks against it: how far it is
    /// from the middle of the edge's first part, and whether it lies beside the edge, or above or below it.
    /// The first is the best.
    fn places(&self, curve: &[Point], half_width: f64) -> Vec<(f64, Point)> {
        let (a, b) = (self.points[0], self.points[1]);
        let middle = Point {
            x: self.out.unwrap_or(f64::midpoint(a.x, b.x)),
            y: f64::midpoint(a.y, b.y),
        };
        let moves = (1..=LABEL_MOVES_MAX).flat_map(|moved| {
            let by = lines_height(moved) / 2.0;
            [middle.y - by, middle.y + by].map(|y| (OFF_EDGE, Point { y, ..middle }))
        });
        let mut points = vec![(0.0, middle)];
        let sides: &[f64] = if self.out.is_some() {
            &[half_width]
        } else {
            points.extend(curve.iter().map(|point| (0.0, *point)));
            &[0.0, half_width, -half_width]
        };
        points.extend(moves);
        let around = points.into_iter().flat_map(|(off, point)| {
            let far = off + (point.y - middle.y).abs();
            sides.iter().map(move |by| {
                let beside = if *by == 0.0 { 0.0 } else { BESIDE_EDGE };
                let x = point.x + by;
                (far + beside, Point { x, ..point })
            })
        });
        around.collect()
    }

    /// A point on the edge, away from its label, for what others draw there.
    fn beside(&self, edge: &Edge) -> Point {
        let points = &self.points;
        let (a, b) = (points[points.len() - 2], points[points.len() - 1]);
        let middle = Point {
            x: f64::midpoint(a.x, b.x),
            y: f64::midpoint(a.y, b.y),
        };
        if let Some(out) = self.out {
            return Point {
                x: middle.x * 0.25 + out * 0.75,
                ..middle
            };
        }
        if edge.label.is_empty() || points.len() > 2 {
            return middle;
        }
        // The label is in the middle; this is the curve at 0.85.
        Point {
            x: a.x * 0.061 + b.x * 0.939,
            y: a.y * 0.195 + b.y * 0.805,
        }
    }
}

/// A point of a cubic Bézier curve: <https://en.wikipedia.org/wiki/B%C3%A9zier_curve>.
fn bezier(points: [Point; 4], at: f64) -> Point {
    let left = 1.0 - at;
    let weights = [
        left.powi(3),
        3.0 * left.powi(2) * at,
        3.0 * left * at.powi(2),
        at.powi(3),
    ];
    let sum = |of: fn(Point) -> f64| {
        let weighed = points.into_iter().zip(weights);
        weighed.map(|(point, weight)| of(point) * weight).sum()
    };
    Point {
        x: sum(|point| point.x),
        y: sum(|point| point.y),
    }
}

fn edge_path(svg: &mut String, graph: &Graph, edge: &Edge, course: &Course) {
    let path = course.path(edge);
    let class = match edge.kind {
        EdgeKind::Onward => "edge",
        EdgeKind::Back => "edge back",
        EdgeKind::Exhausted => "edge exhausted",
    };
    let (from, to) = (graph.nodes[edge.from].name(), graph.nodes[edge.to].name());
    let beside = course.beside(edge);
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use glyph_workflow_engine::parser::parse_workflow;

    use super::*;

    #[test]
    fn labels_of_the_examples_cover_nothing() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut seen = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            // Some need a library, which is drawn the same way.
            let Ok(config) = parse_workflow(&fs::read_to_string(&path).unwrap()) else {
                continue;
            };
            let graph = Graph::of(&config);
            let drawing = Drawing::of(&graph);
            let placed = Labels::of(&graph, &drawing).placed.into_iter();
            let labels: Vec<(&str, Area)> = placed
                .map(|(centre, text)| (text, (centre, half_size(text))))
                .collect();
            let things: Vec<_> = drawing.taken(&graph).collect();
            for (at, (text, label)) in labels.iter().enumerate() {
                let others = labels[at + 1..].iter().map(|(_, other)| other);
                let mut under = things.iter().chain(others);
                assert!(
                    !under.any(|other| overlap(*label, *other)),
                    "{}: `{text}` covers something",
                    path.display()
                );
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen} labels");
    }
}
