//! Goals: their progress and their actions.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    goals::{CompletionAction, CompletionRefusal, GoalStatement, Goals},
    ids::{CommandId, Slug, WorkflowId},
    store::{EventStoreError, GoalActionRow, GoalActionStatus, Store},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    projections::{find_goal, read_goals},
    wire::GoalReport,
};

/// A goal with its actions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoalDocument {
    #[serde(flatten)]
    report: GoalReport,
    /// How `current` went in this epoch, oldest first: at most 96 points, the further apart the longer
    /// the goal goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    history: Vec<HistoryPoint>,
    /// What a person has to state to complete it; absent if no person can, or it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_hand: Option<ByHand>,
    /// The actions that run when the goal is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    actions: Vec<ActionDocument>,
}

/// All goals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoalList {
    /// The goals, by workflow and id.
    pub goals: Vec<GoalDocument>,
}

/// What a person has to state to complete a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByHand {
    /// The person has one of these roles; anybody if empty.
    pub roles: Vec<String>,
    /// Items that the person confirms, all of them.
    pub checklist: Vec<String>,
    /// Whether the person gives a reason.
    pub needs_reason: bool,
}

/// What a goal had come to at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryPoint {
    /// The time.
    pub at: DateTime<Utc>,
    /// The value then, in the unit of the target.
    pub value: f64,
}

/// An action of a goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActionDocument {
    /// The action.
    pub action: String,
    /// `pending` until the goal is reached, then `waiting`, `done` or `failed`.
    pub status: String,
    /// Failed attempts so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When its status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<DateTime<Utc>>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(attempts: &u32) -> bool {
    *attempts == 0
}

impl GoalDocument {
    /// All goals, by workflow and id.
    pub async fn all(store: &dyn Store, now: DateTime<Utc>) -> Result<Vec<Self>, EventStoreError> {
        let goals = read_goals(store).await?;
        let actions = store.goal_actions().await?;
        let documents = goals.keys().map(|key| Self::of(&goals, key, &actions, now));
        Ok(documents.flatten().collect())
    }

    /// One goal; none if there is no such goal, or no worker has counted towards it yet.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn find(
        store: &dyn Store,
        workflow: &str,
        goal: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, EventStoreError> {
        let mut goals = Self::all(store, now).await?.into_iter();
        Ok(goals.find(|document| {
            let report = document.report();
            *report.workflow == *workflow && *report.goal == *goal
        }))
    }

    fn of(
        goals: &Goals,
        key: &(WorkflowId, Slug),
        actions: &[GoalActionRow],
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let goal = goals.get(key)?;
        let configured = goal.config.on_complete.iter().map(|action| {
            let id = CompletionAction {
                action: action.clone(),
                progress: goal.clone(),
            }
            .id();
            match actions.iter().find(|row| row.action.id == id) {
                Some(row) => ActionDocument {
                    action: row.action.action.clone(),
                    status: row.status.as_str().to_owned(),
                    attempts: row.attempts,
                    last_error: row.last_error.clone(),
                    changed_at: Some(row.changed_at),
                },
                // A message is written in the same transaction as the progress that reached the
                // goal.
                None => ActionDocument {
                    action: action.as_str().to_owned(),
                    status: match goal.completed_at {
                        Some(_) => GoalActionStatus::Done.as_str().to_owned(),
                        None => "pending".to_owned(),
                    },
                    attempts: 0,
                    last_error: None,
                    changed_at: goal.completed_at,
                },
            }
        });
        Some(Self {
            report: GoalReport::of(goal, goals, now),
            by_hand: Some(&goal.config)
                .filter(|config| config.is_by_hand() && goal.completed_at.is_none())
                .map(|config| ByHand {
                    roles: config.required_roles.clone(),
                    checklist: config.checklist.clone(),
                    needs_reason: config.require_reason,
                }),
            history: goal
                .course()
                .map(|(at, value)| HistoryPoint { at, value })
                .collect(),
            actions: configured.collect(),
        })
    }

    /// The progress of the goal.
    pub fn report(&self) -> &GoalReport {
        &self.report
    }

    /// Its actions.
    pub fn actions(&self) -> &[ActionDocument] {
        &self.actions
    }
}

/// Whether a person's statement completes a goal now; none if there is no such goal. A known command
/// id gets its first outcome back, whatever the goal's state is now.
///
/// # Errors
///
/// The store cannot be read.
pub async fn check_completion(
    store: &dyn Store,
    workflow: &WorkflowId,
    goal: &Slug,
    command_id: CommandId,
    statement: &GoalStatement,
) -> Result<Option<Result<(), CompletionRefusal>>, EventStoreError> {
    if store.command(command_id).await?.is_some() {
        return Ok(Some(Ok(())));
    }
    let found = find_goal(store, workflow, goal).await?;
    Ok(found.map(|progress| progress.accepts(statement)))
}

/// The code of a refusal.
pub fn refusal_code(refusal: &CompletionRefusal) -> &'static str {
    match refusal {
        CompletionRefusal::NotByHand { .. } | CompletionRefusal::AlreadyReached { .. } => {
            "not_waiting"
        }
        CompletionRefusal::RoleRequired { .. } => "role_required",
        CompletionRefusal::Unconfirmed { .. }
        | CompletionRefusal::UnknownItems { .. }
        | CompletionRefusal::ReasonRequired => "malformed",
    }
}
