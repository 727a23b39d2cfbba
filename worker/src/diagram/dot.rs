//! DOT, the language of Graphviz.

use std::fmt::Write as _;

use glyph_workflow_engine::WorkflowConfig;

use super::graph::{EdgeKind, Graph, NodeKind};

/// The workflow in DOT.
pub fn dot(config: &WorkflowConfig) -> String {
    let graph = Graph::of(config);
    let mut text = format!(
        "digraph workflow {{\n    label={};\n    labelloc=t;\n    node [fontname=\"sans-serif\", \
         fontsize=11];\n    edge [fontname=\"sans-serif\", fontsize=10];\n",
        quoted(&graph.title)
    );
    for (at, node) in graph.nodes.iter().enumerate() {
        let shape = match node.kind {
            NodeKind::Start => "circle",
            NodeKind::People => "box, style=rounded",
            NodeKind::Machine => "box",
            NodeKind::Question => "diamond",
            NodeKind::Complete | NodeKind::Failed => "oval, peripheries=2",
        };
        let label = quoted(&node.lines.join("\n"));
        let _ = writeln!(text, "    n{at} [label={label}, shape={shape}];");
    }
    for edge in &graph.edges {
        let style = match edge.kind {
            EdgeKind::Onward => "solid",
            EdgeKind::Back => "dashed",
            EdgeKind::Exhausted => "dotted",
        };
        let (from, to, label) = (edge.from, edge.to, quoted(&edge.label));
        let _ = writeln!(text, "    n{from} -> n{to} [label={label}, style={style}];");
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    let text = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{text}\"")
}
