//! Checks how reliability is learned.

use std::collections::HashMap;

use super::validator::Validator;
use crate::{
    config::{CompletionType, StepConfig},
    limits::ANNOTATOR_GROUPS_MAX,
    parser::{fault::Spot, report::DiagnosticCode as Code, tree::Node},
};

impl Validator<'_, '_> {
    pub(super) fn reliability(&mut self, node: &Node) {
        self.groups(node);
        let mut steps = self.draft.steps.iter();
        let is_confident =
            |config: &StepConfig| config.completion_type() == CompletionType::Confidence;
        if steps.any(|step| step.config.as_ref().is_none_or(is_confident)) {
            return;
        }
        for key in ["learn", "audit"] {
            if let Some(node) = node.get(key) {
                let message = format!("`{key}` does nothing: no step completes by `confidence`");
                self.faults
                    .add(Code::NoEffect, &node.origin, message)
                    .at(Spot::Key)
                    .suggest("remove it");
            }
        }
    }

    /// Each group needs members, and nobody is a member of two.
    fn groups(&mut self, node: &Node) {
        let groups = node.get("groups").filter(|groups| {
            groups
                .map()
                .is_some_and(|groups| groups.len() > ANNOTATOR_GROUPS_MAX)
        });
        if let Some(groups) = groups {
            let message = format!("a workflow may name {ANNOTATOR_GROUPS_MAX} groups at most");
            self.faults.add(Code::OutOfRange, &groups.origin, message);
        }
        let mut known: HashMap<(&str, String), &str> = HashMap::new();
        for (name, group) in node.get("groups").and_then(Node::map).into_iter().flatten() {
            let mut is_empty = true;
            for key in ["roles", "users"] {
                let members = group.get(key).and_then(Node::list).unwrap_or_default();
                for member in members {
                    is_empty = false;
                    let Some(text) = member.as_str() else {
                        continue;
                    };
                    let id = text.to_lowercase();
                    let id = if key == "users" { id } else { text.to_owned() };
                    let Some(other) = known.insert((key, id), name.as_str()) else {
                        continue;
                    };
                    let message = if other == name.as_str() {
                        format!("`{text}` is listed twice")
                    } else {
                        format!("`{text}` belongs to the group `{other}` already")
                    };
                    self.faults
                        .add(Code::ConflictingKeys, &member.origin, message)
                        .value(text)
                        .suggest("name it once, in the group whose errors it shares most");
                }
            }
            if is_empty && !group.broken {
                self.faults
                    .add(Code::MissingKey, &group.origin, "a group without members")
                    .suggest("add `roles` or `users`");
            }
        }
    }
}
