//! Drawings of workflows: Mermaid and DOT as text for other tools, SVG as a complete picture.

mod dot;
mod graph;
mod layout;
mod mermaid;
mod svg;

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;
