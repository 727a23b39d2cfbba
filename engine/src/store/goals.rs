//! What reached goals set off outside.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::error::EventStoreError;
use crate::ids::{Slug, WorkflowId};

/// What a reached goal sets off outside.
#[derive(Clone, Debug, PartialEq)]
pub struct NewGoalAction {
    /// Derived from goal, epoch and action.
    pub id: Uuid,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal.
    pub goal: Slug,
    /// The epoch in which it was reached.
    pub epoch: u32,
    /// What is to be done.
    pub action: String,
    /// All that is needed to do it.
    pub payload: Value,
}

/// Where an action is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalActionStatus {
    /// It waits for its next attempt.
    Waiting,
    /// It is done.
    Done,
    /// It was given up.
    Failed,
}

impl GoalActionStatus {
    /// The name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Done, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}

/// An action with what has become of it.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalActionRow {
    /// What is to be done.
    pub action: NewGoalAction,
    /// Where it is.
    pub status: GoalActionStatus,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// When its status last changed.
    pub changed_at: DateTime<Utc>,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoalActionOutcome {
    /// It is done.
    Done,
    /// It failed and is tried again.
    Retry {
        /// Why.
        error: String,
        /// After how long.
        after: Duration,
    },
    /// It failed and is given up.
    Failed {
        /// Why.
        error: String,
    },
}

/// What an attempt leaves in the columns of its action.
pub(super) struct Settlement {
    pub(super) status: GoalActionStatus,
    /// Why it failed; none where it did not.
    pub(super) error: Option<String>,
    /// After how long it is tried again.
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

/// What reached goals set off outside: kept for good, each done once.
#[async_trait]
pub trait GoalStore: Send + Sync {
    /// Leases actions whose time has come by the store's clock; a lease that runs out frees them.
    async fn claim_goal_actions(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<GoalActionRow>, EventStoreError>;

    /// Notes what became of an attempt, and frees the action.
    async fn settle_goal_action(
        &self,
        id: Uuid,
        outcome: GoalActionOutcome,
    ) -> Result<(), EventStoreError>;

    /// All actions, by workflow, goal, epoch and action.
    async fn goal_actions(&self) -> Result<Vec<GoalActionRow>, EventStoreError>;
}
