//! Mermaid flowcharts: text that GitHub, GitLab and many editors render.

use std::fmt::Write as _;

use glyph_workflow_engine::WorkflowConfig;

use super::graph::{EdgeKind, Graph, NodeKind};

/// The workflow as a Mermaid flowchart.
pub fn mermaid(config: &WorkflowConfig) -> String {
    let graph = Graph::of(config);
    let mut text = format!(
        "---\ntitle: \"{}\"\n---\nflowchart TD\n",
        quoted(&graph.title)
    );
    for (at, node) in graph.nodes.iter().enumerate() {
        let (open, close) = match node.kind {
            NodeKind::Start => ("((", "))"),
            NodeKind::People => ("(", ")"),
            NodeKind::Machine => ("[[", "]]"),
            NodeKind::Question => ("{", "}"),
            NodeKind::Complete | NodeKind::Failed => ("([", "])"),
        };
        let label = quoted(&node.lines.join("\n"));
        let _ = writeln!(text, "    n{at}{open}\"{label}\"{close}");
    }
    for edge in &graph.edges {
        let arrow = match edge.kind {
            EdgeKind::Onward => "-->",
            EdgeKind::Back | EdgeKind::Exhausted => "-.->",
        };
        let label = if edge.label.is_empty() {
            String::new()
        } else {
            format!("|\"{}\"|", quoted(&edge.label))
        };
        let _ = writeln!(text, "    n{} {arrow}{label} n{}", edge.from, edge.to);
    }
    text
}

/// Text between quotes; Mermaid entities start with `#` instead of `&`.
fn quoted(text: &str) -> String {
    text.replace('#', "#35;")
        .replace('&', "#amp;")
        .replace('"', "#quot;")
        .replace('<', "#lt;")
        .replace('>', "#gt;")
        .replace('\n', "<br/>")
}
