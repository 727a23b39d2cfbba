//! The workflow as a whole.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigDuration, GoalConfig, OnError, StepConfig, TransitionConfig};
use crate::ids::{RevisionId, StepId, WorkflowId};

/// A checked workflow: templates expanded, library steps resolved, defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowConfig {
    /// The stored revision's UUID; nil until it is stored.
    #[serde(skip, default = "nil_revision")]
    pub revision_id: RevisionId,
    /// The stored revision's number, from 1; 0 until it is stored.
    #[serde(skip)]
    pub revision: u32,
    /// What commands name.
    pub id: WorkflowId,
    /// What people read; the id when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where a task begins.
    pub entry_step: StepId,
    /// Settings that hold for every step.
    #[serde(default)]
    pub settings: Settings,
    /// The steps, in file order.
    pub steps: Vec<StepConfig>,
    /// The transitions, in file order.
    #[serde(default)]
    pub transitions: Vec<TransitionConfig>,
    /// Share of tasks with a known answer among claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<GoldConfig>,
    /// When enough is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub goals: Vec<GoalConfig>,
}

fn nil_revision() -> RevisionId {
    RevisionId(uuid::Uuid::nil())
}

impl WorkflowConfig {
    /// The step of that id.
    pub fn step(&self, id: &str) -> Option<&StepConfig> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// The transitions that leave `from`, with their positions in the file: by priority, then file order.
    pub fn transitions_from(&self, from: &str) -> Vec<(usize, &TransitionConfig)> {
        let mut leaving: Vec<_> = self
            .transitions
            .iter()
            .enumerate()
            .filter(|(_, t)| t.from == *from)
            .collect();
        leaving.sort_by_key(|(_, t)| std::cmp::Reverse(t.priority));
        leaving
    }
}

/// Settings of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Attempts of a handler after the first.
    #[serde(default = "default_max_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub max_retries: u32,
    /// Inactivity after which a claimed slot is freed, where the step says nothing; at most `8h`.
    #[serde(default = "default_timeout")]
    pub default_timeout: ConfigDuration,
    /// What becomes of a task whose step fails.
    #[serde(default)]
    pub on_error: OnError,
    /// Whether every matching transition fires (a fork) instead of the first.
    #[serde(default)]
    pub allow_parallel_steps: bool,
    /// How deep sub-workflows may nest.
    #[serde(default = "default_depth")]
    #[schemars(range(min = 1, max = 20))]
    pub max_sub_workflow_depth: u32,
    /// Values that expressions read as `context`, and that the output carries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, serde_json::Value>,
}

fn default_max_retries() -> u32 {
    3
}

fn default_timeout() -> ConfigDuration {
    crate::limits::INACTIVITY_DEFAULT.into()
}

fn default_depth() -> u32 {
    crate::limits::SUB_WORKFLOW_DEPTH_DEFAULT
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_retries: default_max_retries(),
            default_timeout: default_timeout(),
            on_error: OnError::default(),
            allow_parallel_steps: false,
            max_sub_workflow_depth: default_depth(),
            context: BTreeMap::new(),
        }
    }
}

/// Tasks with a known answer, mixed among the others to measure annotators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoldConfig {
    /// Their share among claims of people who ask for work (not among tasks, and not where a claim
    /// names its task), 0 to 1. While nothing else is free, no more of them are offered.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// Share of right answers below which an annotator is flagged, by a message
    /// `annotator.flagged`: once at the fall, and again only after having recovered. Nobody is
    /// flagged with fewer than five answers, or where this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_accuracy: Option<f64>,
    /// Newest answers of an annotator that count for it; 20 when left out.
    #[serde(default = "default_gold_window")]
    #[schemars(range(min = 5, max = 1000))]
    pub window: u32,
    /// What becomes of an annotator who falls below `min_accuracy`.
    #[serde(default, skip_serializing_if = "OnFall::is_default")]
    pub on_fall: OnFall,
}

/// What becomes of an annotator who falls short on gold tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFall {
    /// A message tells of it.
    #[default]
    Flag,
    /// A message tells of it, and no more slots are offered to the person in this workflow, until
    /// an operator lets them go on or the fall is made good. Nothing that is begun is lost.
    Pause,
}

impl OnFall {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn default_gold_window() -> u32 {
    20
}
