//! How the people of a workflow are judged beyond their single answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ids::UserId, limits::LEARN_FIRST_DEFAULT};

/// How reliability is learned: whose errors go together, and which tasks ask everybody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReliabilityConfig {
    /// Groups of annotators whose errors go together, as those of models of one family or pupils of
    /// one teacher, by name. In a posterior, the labels of a group on a task are worth fewer votes
    /// than they are labels; how many is learned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, AnnotatorGroup>,
    /// The first tasks, which steps that complete by confidence learn from.
    #[serde(default, skip_serializing_if = "LearnConfig::is_default")]
    pub learn: LearnConfig,
    /// A random share of tasks that steps which complete by confidence ask everybody about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditConfig>,
}

/// Annotators whose errors go together: those with one of `roles`, and `users`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnotatorGroup {
    /// Roles of its members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Its members by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// Whether its members are people or models; `human` when left out.
    #[serde(default, skip_serializing_if = "AnnotatorKind::is_default")]
    pub kind: AnnotatorKind,
    /// The price of one label, in any unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub price: Option<f64>,
    /// What its members have in common, for reports, such as the family of the models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
}

/// What an annotator is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnnotatorKind {
    /// A person.
    #[default]
    Human,
    /// A program, such as a language model.
    Model,
}

/// The first tasks of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LearnConfig {
    /// How many tasks, counted as they start on the workflow, over all revisions: in them a step
    /// that completes by confidence asks on to its `max`, whatever it knows. What is learned of the
    /// annotators there is not selected by what they answer. 0 switches it off.
    #[schemars(range(min = 0, max = crate::limits::LEARN_FIRST_MAX))]
    pub first: u32,
}

/// A random share of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// The share of tasks, 0 to 1, in which a step that completes by confidence asks on to its
    /// `max` after its answer is sure. The step then ends with the answer that was sure; the later
    /// ones stand beside it in `result.audit`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
}

impl ReliabilityConfig {
    /// Whether every key has its default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The name of the group that a person with these roles belongs to. Membership by id goes
    /// before membership by role; groups of one workflow share neither.
    pub fn group_of(&self, user: UserId, roles: &[String]) -> Option<&str> {
        let by_id = |group: &AnnotatorGroup| group.users.contains(&user);
        let by_role = |group: &AnnotatorGroup| group.roles.iter().any(|role| roles.contains(role));
        let named = self.groups.iter().find(|(_, group)| by_id(group));
        let named = named.or_else(|| self.groups.iter().find(|(_, group)| by_role(group)));
        named.map(|(name, _)| name.as_str())
    }

    /// The share of tasks to audit; 0 when left out.
    pub fn audit_share(&self) -> f64 {
        self.audit.map_or(0.0, |audit| audit.share)
    }
}

impl Default for LearnConfig {
    fn default() -> Self {
        Self {
            first: LEARN_FIRST_DEFAULT,
        }
    }
}

impl LearnConfig {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl AnnotatorKind {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which samples a task belongs to, settled when it starts. In them, steps that complete by
/// confidence ask on although their answer is sure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Its number among the tasks of the workflow in the order of their start, from 1, over all
    /// revisions. Only the first tasks have one, where the workflow learns from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u32>,
    /// Whether it belongs to the random share that is audited.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audited: bool,
}

impl Sampling {
    /// Whether it belongs to no sample.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Why everybody is asked: the first tasks before the random share.
    pub fn asks_on(&self, config: &ReliabilityConfig) -> Option<AskedOn> {
        if self.ordinal.is_some_and(|n| n <= config.learn.first) {
            Some(AskedOn::Learn)
        } else if self.audited && config.audit_share() > 0.0 {
            Some(AskedOn::Audit)
        } else {
            None
        }
    }
}

/// Why more people are asked although the answer is sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskedOn {
    /// The task is one of the first of its workflow, which is learned from.
    Learn,
    /// The task belongs to the random share that is audited.
    Audit,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn who_is_named_by_id_belongs_to_that_group_whatever_roles_say() {
        let (ann, bob) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let group = |roles: &[&str], users: &[UserId]| AnnotatorGroup {
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            users: users.to_vec(),
            ..AnnotatorGroup::default()
        };
        let config = ReliabilityConfig {
            groups: BTreeMap::from([
                ("a_models".to_owned(), group(&["model"], &[])),
                ("pupils".to_owned(), group(&[], &[ann])),
            ]),
            ..ReliabilityConfig::default()
        };
        let roles = ["model".to_owned()];
        assert_eq!(config.group_of(ann, &roles), Some("pupils"));
        assert_eq!(config.group_of(bob, &roles), Some("a_models"));
        assert_eq!(config.group_of(bob, &[]), None);
    }
}
