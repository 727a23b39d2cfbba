//! What the language has but cannot run yet: one table, from which lines are removed.

use super::{
    draft::Draft,
    fault::{Faults, Spot},
    report::DiagnosticCode as Code,
    tree::{Content, Node},
};

/// Keys below `workflow`; `*` is every entry of a list or mapping.
const WORKFLOW: &[&str] = &["steps.*.hooks"];

/// Refuses what the table lists.
pub(super) fn check(draft: &Draft<'_>, faults: &mut Faults) {
    for pattern in WORKFLOW {
        for node in matching(draft.body, pattern) {
            let message = format!("{} is known but cannot run yet", key_of(node));
            faults
                .add(Code::NotSupported, &node.origin, message)
                .at(Spot::Key)
                .value_of(node);
        }
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
