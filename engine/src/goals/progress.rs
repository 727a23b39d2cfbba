//! The progress of a goal.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Forecast, GoalCompletion, GoalDefinition, QualityWindow, Recent, Window,
    definition::target_count,
};
use crate::{
    config::{GoalConfig, GoalOperator, GoalType},
    ids::{Slug, StepId, WorkflowId},
    quality::{History, millionths, whole},
};

/// Goals by workflow and id.
pub type Goals = BTreeMap<(WorkflowId, Slug), GoalProgress>;

/// The progress of a goal: the projection's row, with the definition it follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoalProgress {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal as the newest revision that declares it defines it.
    pub config: GoalConfig,
    /// The number of that revision.
    pub revision: u32,
    /// Counts targets, from 1: a changed target starts the next epoch.
    pub epoch: u32,
    /// When the epoch began; a goal cannot be reached earlier.
    pub since: DateTime<Utc>,
    /// The count, for goals that count by themselves.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u64,
    /// Contributions by step: accepted annotations, or completed visits if the goal counts tasks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<StepId, u64>,
    /// Recent counts, for goals that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent: Option<Recent>,
    /// Recent durations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Recent measurements of quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityWindow>,
    /// How its value went in this epoch, in whole millionths; `None` in rows of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History<i64>>,
    /// The progress share of each goal it waits for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<Slug, f64>,
    /// When it was reached; a reached goal stays reached in this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<DateTime<Utc>>,
    /// The person who completed it, for completion by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_by: Option<GoalCompletion>,
    /// When it became certain that it will not be reached in this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_at: Option<DateTime<Utc>>,
    /// Alerts raised in this epoch, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<String, AlertState>,
}

/// An alert of a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertState {
    /// How often it was raised in this epoch.
    pub times: u32,
    /// When it was last raised.
    pub raised_at: DateTime<Utc>,
    /// Whether its condition still holds.
    pub active: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl GoalProgress {
    /// A goal of which only the definition is known.
    pub fn new(definition: GoalDefinition) -> Self {
        let GoalDefinition {
            workflow,
            revision,
            since,
            config,
        } = definition;
        Self {
            workflow,
            revision,
            epoch: 1,
            since,
            count: 0,
            steps: BTreeMap::new(),
            recent: config.counts().then(Recent::default),
            window: (config.kind == GoalType::Duration).then(Window::default),
            quality: (config.kind == GoalType::Quality).then(QualityWindow::default),
            history: Some(History::default()),
            parts: BTreeMap::new(),
            completed_at: None,
            completed_by: None,
            missed_at: None,
            alerts: BTreeMap::new(),
            config,
        }
    }

    /// The goal's id.
    pub fn goal(&self) -> &Slug {
        &self.config.id
    }

    /// The target: a count, a ratio, seconds (`duration`), or a number of goals.
    #[expect(clippy::cast_precision_loss, reason = "few goals wait for others")]
    pub fn target(&self) -> f64 {
        let parts = self.config.goals.len() as f64;
        match self.config.kind {
            GoalType::Volume | GoalType::Quality => self.config.target.unwrap_or(1.0),
            GoalType::Deadline => self.config.target.unwrap_or(parts),
            GoalType::Duration => self.config.within.map_or(0.0, |w| w.get().as_secs_f64()),
            GoalType::Composite => match self.config.operator.unwrap_or_default() {
                GoalOperator::And => parts,
                GoalOperator::Or => 1.0,
            },
            GoalType::Manual => 1.0,
        }
    }

    /// The current value, in the unit of the target; `None` if nothing was measured.
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn current(&self) -> Option<f64> {
        match self.config.kind {
            _ if self.config.counts() => Some(self.count as f64),
            GoalType::Quality | GoalType::Duration => self.measured(),
            GoalType::Manual => Some(f64::from(u8::from(self.completed_at.is_some()))),
            GoalType::Volume | GoalType::Deadline | GoalType::Composite => {
                let done = self.parts.values().filter(|share| **share >= 1.0);
                Some(done.count() as f64)
            }
        }
    }

    /// Notes the value for the history.
    pub(super) fn note(&mut self, at: DateTime<Utc>) {
        let is_due = |history: &History<i64>| history.is_due(at);
        if !self.history.as_ref().is_some_and(is_due) {
            return;
        }
        if let (Some(value), Some(history)) = (self.current(), &mut self.history) {
            history.note(at, millionths(value));
        }
    }

    /// How the value went in this epoch, oldest first, in the unit of the target.
    pub fn course(&self) -> impl Iterator<Item = (DateTime<Utc>, f64)> {
        let points = self.history.iter().flat_map(History::points);
        points.map(|(at, value)| (at, whole(*value)))
    }

    /// Progress as a share from 0 to 1.
    ///
    /// - Volume goals: the counted part of the target.
    /// - Quality goals: how near the lower end of the interval is to the target.
    /// - Goals that wait for others: the mean of their shares (for `or` the highest).
    ///
    /// A reached goal has a share of 1.
    #[expect(clippy::cast_precision_loss, reason = "few goals wait for others")]
    pub fn ratio(&self) -> f64 {
        if self.completed_at.is_some() {
            return 1.0;
        }
        let (current, target) = (self.current().unwrap_or(0.0), self.target());
        let ratio = match self.config.kind {
            GoalType::Duration if current > 0.0 => target / current,
            GoalType::Quality => {
                let interval = self.quality.as_ref().and_then(QualityWindow::interval);
                interval.map_or(0.0, |interval| interval.lower / target)
            }
            GoalType::Composite | GoalType::Deadline if !self.config.goals.is_empty() => {
                let shares = self.parts.values().copied();
                if self.config.operator == Some(GoalOperator::Or) {
                    shares.fold(0.0, f64::max)
                } else {
                    shares.sum::<f64>() / self.parts.len().max(1) as f64
                }
            }
            GoalType::Volume
            | GoalType::Deadline
            | GoalType::Duration
            | GoalType::Composite
            | GoalType::Manual => {
                if target > 0.0 {
                    current / target
                } else {
                    0.0
                }
            }
        };
        ratio.clamp(0.0, 1.0)
    }

    /// The verdict at `now`.
    pub fn verdict(&self, now: DateTime<Utc>) -> GoalVerdict {
        GoalEvaluator::new(now).evaluate(self)
    }

    fn remaining(&self) -> u64 {
        target_count(&self.config).saturating_sub(self.count)
    }

    /// The forecast as of the last count, for display: it does not change until something happens.
    /// Once the predicted time has passed, it says so instead.
    pub fn outlook(&self, goals: &Goals, now: DateTime<Utc>) -> Forecast {
        let Some(last) = self.last_counted(goals) else {
            return self.forecast(goals, now);
        };
        let forecast = self.forecast(goals, last);
        if self.completed_at.is_none() && forecast.eta.is_some_and(|eta| eta < now) {
            let reason = "at the last rate it should have been reached by now";
            return Forecast {
                eta: None,
                reason: Some(reason.to_owned()),
                ..forecast
            };
        }
        forecast
    }

    fn last_counted(&self, goals: &Goals) -> Option<DateTime<Utc>> {
        let parts = self.config.goals.iter().filter_map(|id| {
            let part = goals.get(&(self.workflow.clone(), id.clone()))?;
            part.last_counted(goals)
        });
        let own = self.recent.as_ref().and_then(Recent::last);
        parts.chain(own).max()
    }

    /// The forecast at `now` of when the goal will be reached; `goals` contains the goals it may
    /// wait for.
    pub fn forecast(&self, goals: &Goals, now: DateTime<Utc>) -> Forecast {
        if let Some(at) = self.completed_at {
            return Forecast {
                eta: Some(at),
                ..Forecast::unknown("it is reached")
            };
        }
        if let Some(recent) = &self.recent {
            return recent.forecast(self.remaining(), now);
        }
        if self.config.goals.is_empty() {
            let kind = self.config.kind.as_str();
            return Forecast::unknown(format!("a goal of type `{kind}` cannot be forecast"));
        }
        let parts = self.config.goals.iter().filter_map(|id| {
            let part = goals.get(&(self.workflow.clone(), id.clone()))?;
            Some((id, part))
        });
        let open = parts.filter(|(_, part)| part.completed_at.is_none());
        let mut last: Option<Forecast> = None;
        for (id, part) in open {
            let forecast = part.forecast(goals, now);
            let is_or = self.config.operator == Some(GoalOperator::Or);
            if forecast.eta.is_none() {
                if is_or {
                    continue;
                }
                let reason = forecast.reason.as_deref().unwrap_or_default();
                return Forecast {
                    reason: Some(format!("`{id}`: {reason}")),
                    ..forecast
                };
            }
            let is_next = last
                .as_ref()
                .is_none_or(|last| (forecast.eta > last.eta) != is_or);
            if is_next {
                last = Some(forecast);
            }
        }
        last.unwrap_or_else(|| Forecast::unknown("none of its goals can be foretold"))
    }
}

/// Evaluates goals at one instant.
#[derive(Clone, Copy, Debug)]
pub struct GoalEvaluator {
    now: DateTime<Utc>,
}

/// The verdict on a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoalVerdict {
    /// Reached; a met goal stays met.
    Met,
    /// Its time is over and it was not reached.
    Missed,
    /// Not reached yet, but it still can be.
    Pending,
}

impl GoalVerdict {
    /// The name in API responses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Pending => "pending",
        }
    }
}

impl GoalEvaluator {
    /// Evaluates as of `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { now }
    }

    /// The verdict on a goal. A goal reached in time is met, even if nothing evaluated it in time.
    pub fn evaluate(&self, goal: &GoalProgress) -> GoalVerdict {
        let is_over = goal.config.deadline.is_some_and(|at| at < self.now);
        match (goal.completed_at, goal.missed_at) {
            (Some(_), _) => GoalVerdict::Met,
            (None, Some(_)) => GoalVerdict::Missed,
            (None, None) if is_over => GoalVerdict::Missed,
            (None, None) => GoalVerdict::Pending,
        }
    }
}
