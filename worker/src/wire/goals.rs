//! The progress of goals, as messages, the HTTP API and the command line show it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    config::GoalType,
    consensus::Bounds,
    goals::{Forecast, GoalCompletion, GoalProgress, GoalVerdict, Goals, QualityWindow},
    ids::{Slug, StepId, WorkflowId},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The progress of a goal, with its forecast and alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoalReport {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal.
    pub goal: Slug,
    /// The kind of goal.
    #[serde(rename = "type")]
    pub kind: GoalType,
    /// The description, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The epoch: every change of the target starts a new one.
    pub epoch: u32,
    /// When the epoch began.
    pub since: DateTime<Utc>,
    /// The unit of `target` and `current`: `tasks`, `annotations`, `agreement`, `gold_accuracy`,
    /// `approval_rate`, `seconds`, `goals`, or `confirmations` of a manual goal.
    pub unit: String,
    /// The value to reach.
    pub target: f64,
    /// The value so far; null if nothing was measured yet.
    pub current: Option<f64>,
    /// The progress, from 0 to 1.
    pub ratio: f64,
    /// The status of the goal.
    pub status: GoalVerdict,
    /// Whether it is reached.
    pub completed: bool,
    /// When it was reached.
    pub completed_at: Option<DateTime<Utc>>,
    /// The person who completed it, if it was completed by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_by: Option<GoalCompletion>,
    /// When it became certain that it will not be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_at: Option<DateTime<Utc>>,
    /// The deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// Contributions by step: accepted annotations, or completed visits if the goal counts tasks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<StepId, u64>,
    /// The interval of `current`, at the goal's `confidence`; only for goals that measure quality.
    /// The goal is reached when its lower end is at the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Bounds>,
    /// The confidence of the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Why nothing was measured although there is something to measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
    /// Measurements in the window; only for goals that measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Since when the target has been met; only for goals that measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds_since: Option<DateTime<Utc>>,
    /// The progress of each goal that it depends on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<Slug, f64>,
    /// When it will be reached, and the basis of that forecast.
    pub forecast: Forecast,
    /// Alerts that were raised in this epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<RaisedAlert>,
}

/// An alert that was raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RaisedAlert {
    /// The alert: `progress/0.5`, `below`, `above`, `late` or `missed`.
    pub alert: String,
    /// How often it was raised in this epoch.
    pub times: u32,
    /// When it was last raised.
    pub raised_at: DateTime<Utc>,
    /// Whether the condition of the alert still holds.
    pub active: bool,
}

/// An alert of a goal, with the goal's progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertReport {
    /// The alert: `progress/0.5`, `below`, `above`, `late` or `missed`.
    pub alert: String,
    /// How often it was raised in this epoch, from 1.
    pub n: u32,
    /// When it was raised.
    pub raised_at: DateTime<Utc>,
    /// The goal at that time.
    #[serde(flatten)]
    pub goal: GoalReport,
}

impl GoalReport {
    /// The report of a goal at `now`; `goals` must contain the goals that it depends on.
    pub fn of(goal: &GoalProgress, goals: &Goals, now: DateTime<Utc>) -> Self {
        let config = &goal.config;
        let quality = goal.quality.as_ref();
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
            interval: quality.and_then(QualityWindow::interval),
            confidence: quality.map(|_| config.confidence()),
            undefined: quality
                .and_then(QualityWindow::undefined)
                .map(str::to_owned),
            samples: goal.samples(),
            holds_since: goal.holds_since(),
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
