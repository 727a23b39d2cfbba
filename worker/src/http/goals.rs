//! Goals: their progress, and completing one by hand.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    goals::{CompletionAction, CompletionRefusal, Goals},
    ids::{Slug, WorkflowId},
    store::{EventStoreError, GoalActionRow, GoalActionStatus, RecordedOutcome, Store},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api, Problem, Role,
    auth::Caller,
    commands::with_key,
    request::{CommandHeaders, Limited, Parameters},
};
use crate::{
    projections::{find_goal, read_goals},
    wire::{CompletionRequest, GoalReport, read_completion},
};

/// A goal with what it has set off.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GoalDocument {
    #[serde(flatten)]
    report: GoalReport,
    /// What happens, or has happened, when it is reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<ActionDocument>,
}

/// An action of a goal.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ActionDocument {
    /// What.
    pub action: String,
    /// `pending` until the goal is reached, then `waiting`, `done` or `failed`.
    pub status: &'static str,
    /// Failed attempts so far.
    #[serde(skip_serializing_if = "is_zero")]
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
                    status: row.status.as_str(),
                    attempts: row.attempts,
                    last_error: row.last_error.clone(),
                    changed_at: Some(row.changed_at),
                },
                // A message is written with the progress that reached the goal.
                None => ActionDocument {
                    action: action.as_str().to_owned(),
                    status: match goal.completed_at {
                        Some(_) => GoalActionStatus::Done.as_str(),
                        None => "pending",
                    },
                    attempts: 0,
                    last_error: None,
                    changed_at: goal.completed_at,
                },
            }
        });
        Some(Self {
            report: GoalReport::of(goal, goals, now),
            actions: configured.collect(),
        })
    }

    /// How far the goal has come.
    pub fn report(&self) -> &GoalReport {
        &self.report
    }

    /// What it sets off.
    pub fn actions(&self) -> &[ActionDocument] {
        &self.actions
    }
}

/// What was recorded.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used; the inbox keeps the answer"
)]
pub(super) struct CompletionResult {
    /// The workflow.
    workflow: WorkflowId,
    /// The goal.
    goal: Slug,
    /// Always true.
    completed: bool,
    /// When it was recorded.
    completed_at: DateTime<Utc>,
}

/// All goals.
#[derive(Serialize, JsonSchema)]
pub(super) struct GoalList {
    goals: Vec<GoalDocument>,
}

pub(super) async fn list(
    State(api): State<Api>,
    parameters: Parameters,
) -> Result<Json<GoalList>, Problem> {
    parameters.finish()?;
    let goals = GoalDocument::all(&*api.store, Utc::now()).await?;
    Ok(Json(GoalList { goals }))
}

/// Records a person's word that a goal is reached.
pub(super) async fn complete(
    State(api): State<Api>,
    Path((workflow, goal)): Path<(String, String)>,
    caller: Caller,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Response {
    let key = headers.command_id.to_string();
    let completed = async {
        caller.require(Role::Operator)?;
        let not_found = || Problem::goal_not_found(format!("{workflow}/{goal}"));
        let (Ok(workflow_id), Ok(goal_id)) = (WorkflowId::new(&workflow), Slug::new(&goal)) else {
            return Err(not_found());
        };
        let (act, statement) = read_completion(&CompletionRequest {
            workflow: workflow_id.clone(),
            goal: goal_id.clone(),
            user: caller.user,
            command_id: headers.command_id,
            correlation_id: headers.correlation_id.as_deref(),
            traceparent: headers.traceparent.as_deref(),
            body: &body,
        })?;
        // A known id gets its first outcome back, whatever has become of the goal since.
        if api.store.command(headers.command_id).await?.is_none() {
            let found = find_goal(&*api.store, &workflow_id, &goal_id).await?;
            let progress = found.ok_or_else(not_found)?;
            progress
                .accepts(&statement)
                .map_err(|refusal| refused(&refusal))?;
        }
        match api.orchestrator.act(&*api.store, act).await? {
            RecordedOutcome::Applied { result } => Ok(Json(result)),
            RecordedOutcome::Rejected { reason, detail } => Err(Problem::rejected(reason, detail)),
        }
    };
    let answer: Result<_, Problem> = completed.await;
    with_key(answer.into_response(), &key)
}

fn refused(refusal: &CompletionRefusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        CompletionRefusal::NotByHand { .. } | CompletionRefusal::AlreadyReached { .. } => {
            Problem::rejected("not_waiting", detail)
        }
        CompletionRefusal::RoleRequired { .. } => Problem::rejected("role_required", detail),
        CompletionRefusal::Unconfirmed { .. }
        | CompletionRefusal::UnknownItems { .. }
        | CompletionRefusal::ReasonRequired => Problem::malformed(detail),
    }
}
