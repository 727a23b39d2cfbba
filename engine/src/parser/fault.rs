//! Faults during collection, before they get their line and column.

use serde_json::Value;

use super::{
    path::{Path, shown},
    report::{DiagnosticCode, Severity},
    suggest::did_you_mean,
    tree::Node,
};

/// Most faults that one check reports; this bounds the output for hostile files.
pub(super) const FAULTS_MAX: usize = 500;
/// Most characters of a text that a message or value shows.
const SHOWN_MAX: usize = 200;
/// Most nodes of a mapping or list that a value shows.
const VALUE_NODES_MAX: usize = 40;

/// The part of a path's entry to which a fault points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// Its key.
    Key,
    /// Its value.
    Value,
    /// A byte of its value, which is a text.
    Within { text: String, byte: usize },
    /// A known location: byte of the source, and length.
    Known { byte: usize, length: usize },
}

/// One fault.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) code: DiagnosticCode,
    pub(super) message: String,
    pub(super) path: Path,
    pub(super) spot: Spot,
    pub(super) value: Option<Value>,
    pub(super) suggestion: Option<String>,
}

impl Fault {
    pub(super) fn at(&mut self, spot: Spot) -> &mut Self {
        self.spot = spot;
        self
    }

    pub(super) fn value(&mut self, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        let short = value.as_str().map(|text| shown(text, SHOWN_MAX).into());
        self.value = Some(short.unwrap_or(value));
        self
    }

    /// The value of `node`, left out where it is large.
    pub(super) fn value_of(&mut self, node: &Node) -> &mut Self {
        if let Some(value) = node.small_value(VALUE_NODES_MAX) {
            self.value(value);
        }
        self
    }

    pub(super) fn suggest(&mut self, suggestion: impl Into<String>) -> &mut Self {
        self.suggestion = Some(shown(&suggestion.into(), 2 * SHOWN_MAX));
        self
    }

    pub(super) fn did_you_mean(&mut self, name: Option<&str>) -> &mut Self {
        if let Some(name) = name {
            self.suggest(did_you_mean(name));
        }
        self
    }
}

/// The faults found so far.
#[derive(Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    /// Adds a fault that points at the value of `path`.
    pub(super) fn add(
        &mut self,
        code: DiagnosticCode,
        path: &Path,
        message: impl Into<String>,
    ) -> &mut Fault {
        // At the limit, the last fault is overwritten.
        self.list.truncate(FAULTS_MAX - 1);
        self.list.push(Fault {
            code,
            message: shown(&message.into(), 3 * SHOWN_MAX),
            path: path.clone(),
            spot: Spot::Value,
            value: None,
            suggestion: None,
        });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether one of the first faults is at a path or below it.
    pub(super) fn any_in(&self, path: &Path, first: usize) -> bool {
        let mut first = self.list.iter().take(first);
        first.any(|fault| fault.path.is_in(path))
    }

    /// Whether the limit is reached, so that no more faults are kept.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= FAULTS_MAX
    }

    /// Whether one of them makes the file unusable.
    pub(super) fn has_errors(&self) -> bool {
        self.list
            .iter()
            .any(|fault| fault.code.severity() == Severity::Error)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn into_vec(self) -> Vec<Fault> {
        self.list
    }
}
