//! A goal as a revision of its workflow defines it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    config::{ConfigDuration, GoalConfig, GoalType},
    ids::WorkflowId,
};

/// A goal as one revision of its workflow defines it. Goals span revisions: a goal is as the newest
/// revision that has it says.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalDefinition {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The number of the revision.
    pub revision: u32,
    /// When the revision was stored: it says nothing about what was before.
    pub since: DateTime<Utc>,
    /// What the file says.
    pub config: GoalConfig,
}

/// How far back a rolling window looks when the file says nothing.
const WINDOW_DEFAULT: Duration = Duration::from_secs(7 * 86_400);
/// Measurements that a window must hold when the file says nothing.
const MIN_SAMPLES_DEFAULT: u32 = 20;

impl GoalConfig {
    /// How far back it looks.
    pub fn window(&self) -> Duration {
        self.window.map_or(WINDOW_DEFAULT, ConfigDuration::get)
    }

    /// Measurements that the window must hold before they say anything.
    pub fn min_samples(&self) -> usize {
        self.min_samples.unwrap_or(MIN_SAMPLES_DEFAULT) as usize
    }

    /// Whether `other` is reached by the same: if not, it is another target and a new epoch.
    pub(super) fn has_target_of(&self, other: &Self) -> bool {
        let plain = |config: &Self| Self {
            description: None,
            allow_override: false,
            required_roles: Vec::new(),
            checklist: Vec::new(),
            require_reason: false,
            alerts: None,
            on_complete: Vec::new(),
            ..config.clone()
        };
        plain(self) == plain(other)
    }

    /// Whether `other` measures the same, so that what was measured so far stays good.
    pub(super) fn measures_like(&self, other: &Self) -> bool {
        let measure = |config: &Self| {
            (
                config.kind,
                config.metric,
                config.step.clone(),
                config.unit.unwrap_or_default(),
                config.dedupe,
                config.window(),
            )
        };
        measure(self) == measure(other)
    }

    /// Whether it counts tasks or annotations by itself.
    pub(super) fn counts(&self) -> bool {
        match self.kind {
            GoalType::Volume => true,
            GoalType::Deadline => self.goals.is_empty(),
            GoalType::Quality | GoalType::Duration | GoalType::Composite | GoalType::Manual => {
                false
            }
        }
    }
}

/// The target of a goal that counts; it is a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole and above 0, as was checked when the workflow was created"
)]
pub(super) fn target_count(config: &GoalConfig) -> u64 {
    config.target.unwrap_or(1.0) as u64
}
