//! The workflow as a whole.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigDuration, GoalConfig, OnError, ReliabilityConfig, StepConfig, TransitionConfig};
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
    /// The name in commands.
    pub id: WorkflowId,
    /// A name for people; the id when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The purpose of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The step at which a task begins.
    pub entry_step: StepId,
    /// Settings that apply to every step.
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
    /// How the reliability of annotators is learned.
    #[serde(default, skip_serializing_if = "ReliabilityConfig::is_default")]
    pub reliability: ReliabilityConfig,
    /// Goals of the workflow.
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

    /// The transitions that leave `from`, with their indexes in the file: by descending priority,
    /// then in file order.
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
    /// Attempts of a handler after the first one has failed.
    #[serde(default = "default_max_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub max_retries: u32,
    /// Inactivity after which a claimed slot is freed, for steps without a `timeout`; at most `8h`.
    #[serde(default = "default_timeout")]
    pub default_timeout: ConfigDuration,
    /// What happens to a task whose step fails.
    #[serde(default)]
    pub on_error: OnError,
    /// Whether every matching transition fires (a fork) instead of the first.
    #[serde(default)]
    pub allow_parallel_steps: bool,
    /// How deep sub-workflows may nest.
    #[serde(default = "default_depth")]
    #[schemars(range(min = 1, max = 20))]
    pub max_sub_workflow_depth: u32,
    /// Values that expressions read as `context`; they are part of the output.
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
    /// The share of gold tasks among claims of people who ask for work, 0 to 1. It is neither a
    /// share of tasks, nor does it cover claims that name their task. While nothing else is free,
    /// no more gold tasks are offered.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// Share of right answers below which an annotator is flagged by an `annotator.flagged`
    /// message. The message is sent once, and again only after the annotator has recovered. Nobody
    /// is flagged with fewer than five answers, or where this key is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_accuracy: Option<f64>,
    /// How many of an annotator's newest answers count; 20 when left out.
    #[serde(default = "default_gold_window")]
    #[schemars(range(min = 5, max = 1000))]
    pub window: u32,
    /// How like the known answer an answer must be to count as right. When left out: the step's
    /// threshold where its metric is a similarity, else 1, which is equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub similarity: Option<f64>,
    /// What happens when an annotator falls below `min_accuracy`.
    #[serde(default, skip_serializing_if = "OnFall::is_default")]
    pub on_fall: OnFall,
}

/// What happens when an annotator falls below the limit on gold tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFall {
    /// A message is sent.
    #[default]
    Flag,
    /// A message is sent, and the person is offered no more slots in this workflow until an
    /// operator resumes them or their share recovers. Work already begun is not lost.
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
