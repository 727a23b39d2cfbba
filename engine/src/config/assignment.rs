//! Who may do a step, and how work is shared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may do a step, and how work is shared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignmentConfig {
    /// Roles of which an annotator needs at least one; none needed when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_roles: Vec<String>,
    /// Skills that an annotator needs, all of them, to be offered a slot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_skills: Vec<String>,
    /// Whether those who submitted to the judged step are kept from this one; true on review and
    /// adjudication when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prevent_reassignment: Option<bool>,
    /// Slots that one person may hold at a time over all tasks: beyond it nothing is offered. Who is
    /// assigned a task by name gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent: Option<u32>,
    /// Which free slot is offered to who asks for one; `round_robin` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
    /// Whether a child task inherits who was assigned here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_assignment: Option<bool>,
}

/// How work is shared: which free slot is offered to who asks for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// Tasks in turn: those that the fewest people have done or are at, then those that have
    /// waited longest.
    #[default]
    RoundRobin,
    /// Tasks that the fewest people are at now, whatever was submitted before.
    LeastLoaded,
    /// The more reliable the person, the more is known of the task already: who is known to be
    /// more often right than somebody unknown gets the task that others have begun and are least
    /// sure of, everybody else a fresh one, as by `round_robin`. One claim in ten, drawn by its id,
    /// gets the task that has waited longest.
    QualityWeighted,
}
