//! What the language has but cannot run yet: one table, from which lines are removed.

use super::{
    draft::Draft,
    fault::{Faults, Spot},
    report::DiagnosticCode as Code,
    tree::{Content, Node},
};

/// When an entry of the table applies.
enum When {
    /// Whenever the key is there.
    Present,
    /// When its value is one of these.
    Is(&'static [&'static str]),
}
use When::{Is, Present};

/// Below `workflow`; `*` is every entry of a list or mapping.
const WORKFLOW: &[(&str, When)] = &[("steps.*.hooks", Present)];

/// Below every goal.
const GOAL: &[(&str, When)] = &[("on_complete.*", Is(&["archive"]))];

/// Refuses what the tables list.
pub(super) fn check(draft: &Draft<'_>, goals: Option<&Node>, faults: &mut Faults) {
    for (pattern, when) in WORKFLOW {
        refuse(matching(draft.body, pattern).into_iter(), when, faults);
    }
    for goal in goals.and_then(Node::list).unwrap_or_default() {
        for (pattern, when) in GOAL {
            refuse(matching(goal, pattern).into_iter(), when, faults);
        }
    }
}

fn refuse<'a>(nodes: impl Iterator<Item = &'a Node>, when: &When, faults: &mut Faults) {
    for node in nodes {
        let text = match &node.content {
            Content::Scalar(value) => value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
            Content::Map(_) | Content::List(_) => String::new(),
        };
        let (what, spot) = match when {
            Present => (key_of(node), Spot::Key),
            Is(values) if values.contains(&text.as_str()) => (
                format!("`{}: {text}`", key_of(node).trim_matches('`')),
                Spot::Value,
            ),
            Is(_) => continue,
        };
        faults
            .add(
                Code::NotSupported,
                &node.origin,
                format!("{what} is known but cannot run yet"),
            )
            .at(spot)
            .value_of(node);
    }
}

/// The key under which a node was written; what a template brings has another.
fn key_of(node: &Node) -> String {
    let path = node.origin.to_string();
    let key = path.rsplit('.').next().unwrap_or_default();
    format!("`{}`", key.split('[').next().unwrap_or(key))
}

fn matching<'a>(node: &'a Node, pattern: &str) -> Vec<&'a Node> {
    let mut found = vec![node];
    for segment in pattern.split('.') {
        found = found
            .into_iter()
            .flat_map(|node| -> Vec<&Node> {
                match (&node.content, segment) {
                    (Content::List(items), "*") => items.iter().collect(),
                    (Content::Map(entries), "*") => entries.values().collect(),
                    (_, key) => node.get(key).into_iter().collect(),
                }
            })
            .collect();
    }
    found.retain(|node| !node.broken);
    found
}
