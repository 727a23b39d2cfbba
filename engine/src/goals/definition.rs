//! A goal as a revision of its workflow defines it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    config::{ConfigDuration, GoalConfig, GoalType},
    consensus::CONFIDENCE_DEFAULT,
    ids::WorkflowId,
};

/// A goal as one revision of its workflow defines it. Goals span revisions: the newest revision
/// that declares a goal defines it.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalDefinition {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The number of the revision.
    pub revision: u32,
    /// When the revision was stored; it does not apply to anything earlier.
    pub since: DateTime<Utc>,
    /// The goal's configuration.
    pub config: GoalConfig,
}

/// The default length of a rolling window.
const WINDOW_DEFAULT: Duration = Duration::from_hours(7 * 24);
/// The default minimum of measurements in a window.
const MIN_SAMPLES_DEFAULT: u32 = 20;

impl GoalConfig {
    /// The length of the rolling window.
    pub fn window(&self) -> Duration {
        self.window.map_or(WINDOW_DEFAULT, ConfigDuration::get)
    }

    /// The minimum of measurements in the window for a result.
    pub fn min_samples(&self) -> usize {
        self.min_samples.unwrap_or(MIN_SAMPLES_DEFAULT) as usize
    }

    /// The confidence with which a quality goal is reached.
    pub fn confidence(&self) -> f64 {
        self.confidence.unwrap_or(CONFIDENCE_DEFAULT)
    }

    /// Whether `other` has the same target; if not, a new epoch starts.
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

    /// Whether `other` measures the same, so that existing measurements stay valid.
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
