//! A fully resolved workflow, with the origin of each value.

use serde::Serialize;
use serde_json::Value;

use super::{
    fault::Faults,
    parse::{checked, nodes, read_nodes},
    path::{Path, Segment},
    report::ValidationError,
    source_map::SourceMap,
    tree::{Content, Node},
};
use crate::config::{StepLibrary, WorkflowConfig};

/// A workflow file with everything resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Expanded {
    /// The workflow.
    pub config: WorkflowConfig,
    /// Every single value of the workflow, in the order of the keys.
    pub values: Vec<ExpandedValue>,
}

/// A value: a text, a number, true or false, or an empty list or mapping.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpandedValue {
    /// Path in the resolved workflow: `steps[0].completion.count`.
    pub path: String,
    /// The value.
    pub value: Value,
    /// The origin of the value.
    pub origin: ValueOrigin,
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum ValueOrigin {
    /// The file sets the value.
    File {
        /// Line, from 1.
        line: usize,
    },
    /// A template sets the value.
    Template {
        /// Its name.
        name: String,
    },
    /// A library step sets the value.
    Library {
        /// The name of the step.
        name: String,
        /// Line in the file's own `step_library`; none for a built-in step.
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<usize>,
    },
    /// The value is the default.
    Default,
}

/// Resolves a workflow file. Returns it with the origin of every value, and all faults of the file.
pub fn expand_workflow(
    source: &[u8],
    library: &StepLibrary,
    handlers: &[&str],
) -> (Option<Expanded>, Vec<ValidationError>) {
    checked(source, |text, positions, faults| {
        let Some((config, root)) = read_nodes(text, library, handlers, positions, faults)? else {
            return Ok(None);
        };
        // The unresolved nodes: they still have the names of the templates and library steps in
        // use.
        let written = nodes(
            text,
            &mut SourceMap::nowhere(text),
            &mut Faults::default(),
            "",
        )?;
        let mut values = Vec::new();
        let effective = serde_json::to_value(&config).unwrap_or_default();
        let mut collector = Collector {
            written: &written,
            positions,
            values: &mut values,
        };
        for (key, value) in effective.as_object().into_iter().flatten() {
            let body = root.get("workflow").and_then(|body| body.get(key));
            let node = body.or_else(|| root.get(key));
            collector.collect(value, node, key.clone());
        }
        Ok(Some(Expanded { config, values }))
    })
}

struct Collector<'c, 'a> {
    written: &'c Node,
    positions: &'c SourceMap<'a>,
    values: &'c mut Vec<ExpandedValue>,
}

impl Collector<'_, '_> {
    /// Walks the resolved workflow in parallel with the nodes from which it was read.
    fn collect(&mut self, value: &Value, node: Option<&Node>, path: String) {
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    let node = node.and_then(|node| node.get(key));
                    self.collect(value, node, format!("{path}.{key}"));
                }
            }
            Value::Array(items) if !items.is_empty() => {
                let nodes = node.and_then(Node::list);
                for (at, item) in items.iter().enumerate() {
                    let node = nodes.and_then(|nodes| nodes.get(at));
                    self.collect(item, node, format!("{path}[{at}]"));
                }
            }
            single @ (Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)) => {
                let said = node.filter(|node| !node.is_null());
                let origin = said.map_or(ValueOrigin::Default, |node| self.origin(node, &path));
                self.values.push(ExpandedValue {
                    path,
                    value: single.clone(),
                    origin,
                });
            }
        }
    }

    fn origin(&self, node: &Node, path: &str) -> ValueOrigin {
        let line = self
            .positions
            .locate(&node.origin, &super::fault::Spot::Value)
            .line;
        let segments = node.origin.segments();
        let name = || {
            let found = self.at(&node.origin).and_then(Node::as_str);
            found.unwrap_or_default().to_owned()
        };
        match segments.as_slice() {
            [Segment::Key(library), Segment::Key(name), ..] if **library == *"step_library" => {
                ValueOrigin::Library {
                    name: name.to_string(),
                    line: Some(line),
                }
            }
            [Segment::Key(_), Segment::Key(key)] if **key == *"template" => {
                ValueOrigin::Template { name: name() }
            }
            [.., Segment::Key(key)] if **key == *"ref" => ValueOrigin::Library {
                name: name(),
                line: None,
            },
            // When the file names no entry step, the parser uses the node of the first step's id.
            [.., Segment::Key(key)] if path == "entry_step" && **key == *"id" => {
                ValueOrigin::Default
            }
            _ => ValueOrigin::File { line },
        }
    }

    /// The node as written.
    fn at(&self, path: &Path) -> Option<&Node> {
        path.segments()
            .into_iter()
            .try_fold(self.written, |node, segment| {
                match (segment, &node.content) {
                    (Segment::Key(key), Content::Map(entries)) => entries.get(&**key),
                    (Segment::Index(index), Content::List(items)) => items.get(*index),
                    _ => None,
                }
            })
    }
}
