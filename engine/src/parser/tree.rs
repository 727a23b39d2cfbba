//! Values with the source location where they were written.

use std::collections::BTreeMap;

use serde_json::Value;

use super::path::{Path, Segment};

/// A value and its origin.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where the node was written; for parts of a template or built-in library step, the key that
    /// refers to it.
    pub(super) origin: Path,
    pub(super) content: Content,
    /// Whether its template or library step is unknown, so that missing keys are not reported.
    pub(super) partial: bool,
    /// Whether the node has reported faults and is left out of typed values.
    pub(super) broken: bool,
}

/// The content of a node.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Null, a truth value, a number or a text.
    Scalar(Value),
    Map(BTreeMap<String, Node>),
    List(Vec<Node>),
}

impl Node {
    pub(super) fn new(origin: Path, content: Content) -> Self {
        Self {
            origin,
            content,
            partial: false,
            broken: false,
        }
    }

    pub(super) fn text(origin: Path, text: &str) -> Self {
        Self::new(origin, Content::Scalar(Value::String(text.to_owned())))
    }

    /// A node from the file: every part has its own path below `origin`.
    pub(super) fn written(value: Value, origin: Path) -> Self {
        let content = match value {
            Value::Object(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let origin = origin.key(&key);
                        (key, Self::written(value, origin))
                    })
                    .collect(),
            ),
            Value::Array(items) => Content::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(at, value)| Self::written(value, origin.index(at)))
                    .collect(),
            ),
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                Content::Scalar(scalar)
            }
        };
        Self::new(origin, content)
    }

    /// A node from a template or library: every part has the same origin, the key that refers to
    /// it.
    pub(super) fn taken(value: &Value, origin: &Path) -> Self {
        let content = match value {
            Value::Object(entries) => Content::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), Self::taken(value, origin)))
                    .collect(),
            ),
            Value::Array(items) => Content::List(
                items
                    .iter()
                    .map(|value| Self::taken(value, origin))
                    .collect(),
            ),
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                Content::Scalar(scalar.clone())
            }
        };
        Self::new(origin.clone(), content)
    }

    /// The memory cost of the node, for bounds: the number of nodes, and one more for every 64
    /// bytes of text.
    pub(super) fn weight(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(Value::String(text)) => text.len() / 64,
            Content::Scalar(_) => 0,
            Content::Map(entries) => entries
                .iter()
                .map(|(key, node)| key.len() / 64 + node.weight())
                .sum(),
            Content::List(items) => items.iter().map(Self::weight).sum(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.map().and_then(|entries| entries.get(key))
    }

    /// The node below, by keys; `None` where one is missing or broken.
    pub(super) fn below(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |node, key| {
            node.get(key).filter(|child| !child.broken)
        })
    }

    pub(super) fn map(&self) -> Option<&BTreeMap<String, Self>> {
        match &self.content {
            Content::Map(entries) => Some(entries),
            Content::Scalar(_) | Content::List(_) => None,
        }
    }

    pub(super) fn map_mut(&mut self) -> Option<&mut BTreeMap<String, Self>> {
        match &mut self.content {
            Content::Map(entries) => Some(entries),
            Content::Scalar(_) | Content::List(_) => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match &self.content {
            Content::List(items) => Some(items),
            Content::Scalar(_) | Content::Map(_) => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(value) => value.as_str(),
            Content::Map(_) | Content::List(_) => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// Whether a template or library step brought the node along, rather than what is written over
    /// it.
    pub(super) fn is_borrowed(&self) -> bool {
        let segments = self.origin.segments();
        let is = |segment: Option<&&Segment>, names: &[&str]| matches!(segment, Some(Segment::Key(key)) if names.contains(&&**key));
        is(segments.first(), &["step_library"]) || is(segments.last(), &["template", "ref"])
    }

    /// Whether no part of the node is broken.
    pub(super) fn is_whole(&self) -> bool {
        !self.broken
            && match &self.content {
                Content::Scalar(_) => true,
                Content::Map(entries) => entries.values().all(Self::is_whole),
                Content::List(items) => items.iter().all(Self::is_whole),
            }
    }

    /// The kind of the node, for messages.
    pub(super) fn what(&self) -> &'static str {
        match &self.content {
            Content::Scalar(Value::Null) => "nothing",
            Content::Scalar(Value::Bool(_)) => "true or false",
            Content::Scalar(Value::Number(_)) => "a number",
            Content::Scalar(_) => "a text",
            Content::Map(_) => "a mapping",
            Content::List(_) => "a list",
        }
    }

    /// The value without its broken parts.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::Map(entries) => Value::Object(
                entries
                    .iter()
                    .filter(|(_, node)| !node.broken)
                    .map(|(key, node)| (key.clone(), node.to_value()))
                    .collect(),
            ),
            Content::List(items) => Value::Array(
                items
                    .iter()
                    .filter(|n| !n.broken)
                    .map(Self::to_value)
                    .collect(),
            ),
        }
    }

    /// The value, if it weighs at most `max`.
    pub(super) fn small_value(&self, max: usize) -> Option<Value> {
        match &self.content {
            Content::Scalar(value) => Some(value.clone()),
            Content::Map(_) | Content::List(_) if self.weight() > max => None,
            Content::Map(entries) => entries
                .iter()
                .map(|(key, node)| Some((key.clone(), node.small_value(max)?)))
                .collect::<Option<_>>()
                .map(Value::Object),
            Content::List(items) => items
                .iter()
                .map(|node| node.small_value(max))
                .collect::<Option<_>>()
                .map(Value::Array),
        }
    }

    /// Merges `over` into this node: mappings are merged key by key, lists and scalars are
    /// replaced.
    pub(super) fn merge(&mut self, over: Self) {
        match (&mut self.content, over.content) {
            (Content::Map(below), Content::Map(above)) => {
                self.origin = over.origin;
                for (key, node) in above {
                    match below.get_mut(&key) {
                        Some(base) => base.merge(node),
                        None => {
                            below.insert(key, node);
                        }
                    }
                }
            }
            (_, content) => {
                *self = Self {
                    content,
                    origin: over.origin,
                    ..self.clone_flags()
                };
            }
        }
    }

    fn clone_flags(&self) -> Self {
        Self {
            origin: Path::root(),
            content: Content::Scalar(Value::Null),
            partial: self.partial,
            broken: self.broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merging_goes_deep_and_keeps_origins() {
        let mut base = Node::taken(
            &json!({"a": {"x": 1, "y": [1, 2]}, "b": 1}),
            &Path::root().key("ref"),
        );
        base.merge(Node::written(
            json!({"a": {"y": [3], "z": null}}),
            Path::root().key("over"),
        ));
        assert_eq!(
            base.to_value(),
            json!({"a": {"x": 1, "y": [3], "z": null}, "b": 1})
        );
        let origin = |keys: &[&str]| base.below(keys).unwrap().origin.to_string();
        assert_eq!(origin(&["a"]), "over.a");
        assert_eq!(origin(&["a", "x"]), "ref");
        assert_eq!(origin(&["a", "y"]), "over.a.y");
        assert_eq!(origin(&["b"]), "ref");
    }
}
