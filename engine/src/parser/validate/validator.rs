//! State shared by the checks of single parts.

use std::{collections::HashSet, time::Duration};

use crate::{
    config::ConfigDuration,
    limits::INACTIVITY_MAX,
    parser::{
        draft::Draft,
        fault::{Faults, Spot},
        outcomes::Expressions,
        path::Path,
        report::DiagnosticCode as Code,
        suggest::Suggester,
        tree::Node,
    },
};

/// State shared by the checks of single parts.
pub(super) struct Validator<'d, 'a> {
    pub(super) draft: &'d Draft<'a>,
    /// The program's own handlers, besides the built-in ones.
    pub(super) handlers: &'d [&'d str],
    pub(super) suggester: &'d Suggester,
    pub(super) faults: &'d mut Faults,
    /// The expressions compiled so far, and their errors.
    pub(super) expressions: Expressions,
    /// Bytes left for further expressions; `None` once they are used up.
    pub(super) expressions_left: Option<usize>,
}

/// What to report of a key that does not go with another: the one that was written over a template
/// or library step, where only one of the two was.
pub(super) fn blamed<'n>(key: &'n Node, with: Option<&'n Node>) -> &'n Path {
    match with {
        Some(with) if key.is_borrowed() && !with.is_borrowed() => &with.origin,
        Some(_) | None => &key.origin,
    }
}

impl Validator<'_, '_> {
    pub(super) fn duplicate_ids<'n>(&mut self, nodes: impl Iterator<Item = &'n Node>, what: &str) {
        let mut seen = HashSet::new();
        for id in nodes.filter_map(|node| node.get("id")) {
            let Some(text) = id.as_str() else { continue };
            if !seen.insert(text) {
                self.faults
                    .add(
                        Code::DuplicateId,
                        &id.origin,
                        format!("another {what} has the id `{text}`"),
                    )
                    .value(text)
                    .suggest("give one of the two another id");
            }
        }
    }

    pub(super) fn conflict(&mut self, node: &Node, message: &str, suggestion: &str) {
        self.faults
            .add(Code::ConflictingKeys, &node.origin, message)
            .value_of(node)
            .suggest(suggestion);
    }

    pub(super) fn timeout(&mut self, node: &Node) {
        self.duration(node, INACTIVITY_MAX, "inactivity may last");
    }

    /// Checks a duration: from one second to `max`.
    pub(super) fn duration(&mut self, node: &Node, max: Duration, what: &str) {
        let Some(duration) = node
            .as_str()
            .and_then(|text| text.parse::<ConfigDuration>().ok())
        else {
            return;
        };
        if duration.get().is_zero() || duration.get() > max {
            let max = ConfigDuration::from(max);
            self.faults
                .add(
                    Code::OutOfRange,
                    &node.origin,
                    format!("`{duration}` is out of bounds: {what} from 1s to {max}"),
                )
                .value_of(node);
        }
    }

    /// Checks a path of keys. Returns whether it is one.
    pub(super) fn field(&mut self, node: &Node) -> bool {
        node.as_str()
            .is_none_or(|text| self.path_of_keys(text, node, Spot::Value))
    }

    /// Checks a path of keys. Returns whether it is one.
    pub(super) fn path_of_keys(&mut self, text: &str, node: &Node, spot: Spot) -> bool {
        let is_faulty = |key: &str| key.trim() != key || key.is_empty();
        let why = if text.split('.').any(is_faulty) {
            "write keys with dots between them, as `label` or `answer.label`"
        } else if text.split('.').any(is_index) {
            "a path cannot lead into a list: name the list"
        } else {
            return true;
        };
        self.faults
            .add(
                Code::InvalidValue,
                &node.origin,
                format!("`{text}` is no path of keys"),
            )
            .at(spot)
            .value(text)
            .suggest(why);
        false
    }
}

/// Whether the key has an index behind it: `labels[0]`.
fn is_index(key: &str) -> bool {
    key.split_once('[')
        .is_some_and(|(_, index)| index.ends_with(']'))
}
