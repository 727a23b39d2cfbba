//! Who may do a step, and how work is shared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::StepId;

/// Who may do a step, and how work is shared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignmentConfig {
    /// Roles, of which an annotator needs at least one; when empty, no role is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_roles: Vec<String>,
    /// Skills that an annotator must all have to be offered a slot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_skills: Vec<String>,
    /// Whether the authors of the subject are excluded from this step: everyone who submitted, in
    /// any visit, to a step whose work is in it. True on review and adjudication when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prevent_reassignment: Option<bool>,
    /// Steps whose submitters, in any visit, are excluded from this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = crate::limits::STEPS_MAX))]
    pub not_who_did: Vec<StepId>,
    /// Steps whose annotations are shown to whoever claims this one. Without it, an annotation step
    /// shows nothing that others said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = crate::limits::STEPS_MAX))]
    pub show: Vec<StepId>,
    /// Most slots that one person may have claimed at a time, over all tasks; at this number, no
    /// more are offered. The limit does not apply to a claim that names its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent: Option<u32>,
    /// Which free slot is offered to a person who asks for work; `round_robin` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
    /// Whether a child task inherits who was assigned here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_assignment: Option<bool>,
}

/// How work is shared: which free slot is offered to a person who asks for work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// Tasks in turn: first those that the fewest people have done or claimed, then those that have
    /// waited longest.
    #[default]
    RoundRobin,
    /// Tasks with the fewest claims now, however many submissions they have.
    LeastLoaded,
    /// Reliable annotators get contested tasks. An annotator known to be right more often than an
    /// unknown one is offered the task that others have begun and whose best answer is least sure.
    /// Everyone else is offered a fresh task, as by `round_robin`. One claim in ten, drawn by its
    /// id, gets the task that has waited longest.
    QualityWeighted,
}
