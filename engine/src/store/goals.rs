//! External actions that reached goals trigger.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::error::EventStoreError;
use crate::ids::{Slug, WorkflowId};

/// An external action that a reached goal triggers.
#[derive(Clone, Debug, PartialEq)]
pub struct NewGoalAction {
    /// Derived from the goal, the epoch and the action.
    pub id: Uuid,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal.
    pub goal: Slug,
    /// The epoch in which the goal was reached.
    pub epoch: u32,
    /// The action to run.
    pub action: String,
    /// Everything needed to run the action.
    pub payload: Value,
}

/// The status of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalActionStatus {
    /// Waiting for its next attempt.
    Waiting,
    /// Done.
    Done,
    /// Given up.
    Failed,
}

impl GoalActionStatus {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// The status with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Done, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}

/// An action with its progress.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalActionRow {
    /// The action.
    pub action: NewGoalAction,
    /// Its status.
    pub status: GoalActionStatus,
    /// Failed attempts so far.
    pub attempts: u32,
    /// The error of the last failed attempt.
    pub last_error: Option<String>,
    /// When its status last changed.
    pub changed_at: DateTime<Utc>,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoalActionOutcome {
    /// It succeeded.
    Done,
    /// It failed and will be tried again.
    Retry {
        /// The error.
        error: String,
        /// The delay before the next attempt.
        after: Duration,
    },
    /// It failed and is given up.
    Failed {
        /// The error.
        error: String,
    },
}

/// What an attempt writes to the columns of its action.
pub(super) struct Settlement {
    pub(super) status: GoalActionStatus,
    /// The error, if the attempt failed.
    pub(super) error: Option<String>,
    /// The delay before the next attempt.
    pub(super) after: Duration,
}

impl From<GoalActionOutcome> for Settlement {
    fn from(outcome: GoalActionOutcome) -> Self {
        let (status, error, after) = match outcome {
            GoalActionOutcome::Done => (GoalActionStatus::Done, None, Duration::ZERO),
            GoalActionOutcome::Retry { error, after } => {
                (GoalActionStatus::Waiting, Some(error), after)
            }
            GoalActionOutcome::Failed { error } => {
                (GoalActionStatus::Failed, Some(error), Duration::ZERO)
            }
        };
        Self {
            status,
            error,
            after,
        }
    }
}

/// External actions of reached goals: kept permanently, each run once.
#[async_trait]
pub trait GoalStore: Send + Sync {
    /// Leases actions that are due by the store's clock; an expired lease frees them.
    async fn claim_goal_actions(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<GoalActionRow>, EventStoreError>;

    /// Records the outcome of an attempt and frees the action.
    async fn settle_goal_action(
        &self,
        id: Uuid,
        outcome: GoalActionOutcome,
    ) -> Result<(), EventStoreError>;

    /// All actions, ordered by workflow, goal, epoch and action.
    async fn goal_actions(&self) -> Result<Vec<GoalActionRow>, EventStoreError>;
}
