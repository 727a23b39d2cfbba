//! How far a goal has come, as messages, the HTTP API and the command line tell it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    config::GoalType,
    goals::{Forecast, GoalCompletion, GoalProgress, GoalVerdict, Goals, Window},
    ids::{Slug, StepId, WorkflowId},
};
use schemars::JsonSchema;
use serde::Serialize;

/// How far a goal has come, and what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GoalReport {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal.
    pub goal: Slug,
    /// The kind of goal.
    #[serde(rename = "type")]
    pub kind: GoalType,
    /// What people read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Counts targets: a changed target opens the next.
    pub epoch: u32,
    /// When the epoch began.
    pub since: DateTime<Utc>,
    /// What `target` and `current` are: `tasks`, `annotations`, `agreement`, `gold_accuracy`,
    /// `approval_rate`, `seconds`, `goals`, or `confirmations` of a manual goal.
    pub unit: String,
    /// What is to be reached.
    pub target: f64,
    /// What has been reached; null where nothing was measured yet.
    pub current: Option<f64>,
    /// Share of the way that is behind, 0 to 1.
    pub ratio: f64,
    /// How it stands.
    pub status: GoalVerdict,
    /// Whether it is reached.
    pub completed: bool,
    /// When it was reached.
    pub completed_at: Option<DateTime<Utc>>,
    /// Who completed it, where that was done by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_by: Option<GoalCompletion>,
    /// When it became clear that it will not be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_at: Option<DateTime<Utc>>,
    /// By when it must be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// Contributions by step: accepted annotations, or completed visits where tasks are counted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<StepId, u64>,
    /// Measurements in the window, of a goal that measures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Since when its target has been held, of a goal that measures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds_since: Option<DateTime<Utc>>,
    /// The share of each goal that it waits for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<Slug, f64>,
    /// When it will be reached, and what that rests on.
    pub forecast: Forecast,
    /// Alerts that were raised in this epoch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<RaisedAlert>,
}

/// An alert that was raised.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RaisedAlert {
    /// Which: `progress/0.5`, `below`, `above`, `late` or `missed`.
    pub alert: String,
    /// How often it was raised in this epoch.
    pub times: u32,
    /// When it was raised last.
    pub raised_at: DateTime<Utc>,
    /// Whether what it warns of is still so.
    pub active: bool,
}

/// An alert of a goal, with how far the goal had come.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AlertReport {
    /// Which: `progress/0.5`, `below`, `above`, `late` or `missed`.
    pub alert: String,
    /// Counts how often it was raised in the epoch, from 1.
    pub n: u32,
    /// When it was raised.
    pub raised_at: DateTime<Utc>,
    /// The goal at that time.
    #[serde(flatten)]
    pub goal: GoalReport,
}

impl GoalReport {
    /// The report of a goal, seen at `now`; `goals` are those that it may wait for.
    pub fn of(goal: &GoalProgress, goals: &Goals, now: DateTime<Utc>) -> Self {
        let config = &goal.config;
        let alerts = goal.alerts.iter().map(|(alert, state)| RaisedAlert {
            alert: alert.clone(),
            times: state.times,
            raised_at: state.raised_at,
            active: state.active,
        });
        Self {
            workflow: goal.workflow.clone(),
            goal: goal.goal().clone(),
            kind: config.kind,
            description: config.description.clone(),
            epoch: goal.epoch,
            since: goal.since,
            unit: unit(goal).to_owned(),
            target: goal.target(),
            current: goal.current(),
            ratio: goal.ratio(),
            status: goal.verdict(now),
            completed: goal.completed_at.is_some(),
            completed_at: goal.completed_at,
            completed_by: goal.completed_by.clone(),
            missed_at: goal.missed_at,
            deadline: config.deadline,
            steps: goal.steps.clone(),
            samples: goal.window.as_ref().map(Window::samples),
            holds_since: goal.window.as_ref().and_then(Window::holds_since),
            parts: goal.parts.clone(),
            forecast: goal.outlook(goals, now),
            alerts: alerts.collect(),
        }
    }
}

fn unit(goal: &GoalProgress) -> &'static str {
    let config = &goal.config;
    match config.kind {
        GoalType::Deadline | GoalType::Composite if !config.goals.is_empty() => "goals",
        GoalType::Volume | GoalType::Deadline => config.unit.unwrap_or_default().as_str(),
        GoalType::Quality => config.metric.map_or("ratio", |metric| metric.as_str()),
        GoalType::Duration => "seconds",
        GoalType::Composite => "goals",
        GoalType::Manual => "confirmations",
    }
}
