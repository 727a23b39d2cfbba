//! Goals: their progress, and completing one by hand.

use axum::{Json, extract::State, response::Response};
use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    goals::CompletionRefusal,
    ids::{Slug, WorkflowId},
    store::RecordedOutcome,
};
use schemars::JsonSchema;

use super::{
    Api, Problem,
    auth::Caller,
    commands::with_key,
    request::{CommandHeaders, Limited, Parameters, Path},
};
use crate::{
    operations::goals::{GoalDocument, GoalList, check_completion, refusal_code},
    wire::{CompletionRequest, read_completion},
};

/// The recorded completion of a goal.
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

pub(super) async fn list(
    State(api): State<Api>,
    parameters: Parameters,
) -> Result<Json<GoalList>, Problem> {
    parameters.finish()?;
    let goals = GoalDocument::all(&*api.store, Utc::now()).await?;
    Ok(Json(GoalList { goals }))
}

pub(super) async fn show(
    State(api): State<Api>,
    Path((workflow, goal)): Path<(String, String)>,
    parameters: Parameters,
) -> Result<Json<GoalDocument>, Problem> {
    parameters.finish()?;
    let found = GoalDocument::find(&*api.store, &workflow, &goal, Utc::now()).await?;
    let found = found.ok_or_else(|| Problem::goal_not_found(format!("{workflow}/{goal}")))?;
    Ok(Json(found))
}

/// Records that a person declares a goal completed.
pub(super) async fn complete(
    State(api): State<Api>,
    Path((workflow, goal)): Path<(String, String)>,
    caller: Caller,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Response {
    with_key(headers.command_id, async {
        let not_found = || Problem::goal_not_found(format!("{workflow}/{goal}"));
        let (Ok(workflow_id), Ok(goal_id)) = (WorkflowId::new(&workflow), Slug::new(&goal)) else {
            return Err(not_found());
        };
        let (operator_command, statement) = read_completion(&CompletionRequest {
            workflow: workflow_id.clone(),
            goal: goal_id.clone(),
            user: caller.holder.user,
            actor: Some(&caller.holder.name),
            command_id: headers.command_id,
            correlation_id: headers.correlation_id.as_deref(),
            traceparent: headers.traceparent.as_deref(),
            body: &body,
        })?;
        let (store, key) = (&*api.store, headers.command_id);
        let found = check_completion(store, &workflow_id, &goal_id, key, &statement).await?;
        found
            .ok_or_else(not_found)?
            .map_err(|refusal| refused(&refusal))?;
        match api
            .orchestrator
            .operator_command(&*api.store, operator_command)
            .await?
        {
            RecordedOutcome::Applied { result } => Ok(Json(result)),
            RecordedOutcome::Rejected { reason, detail } => Err(Problem::rejected(reason, detail)),
        }
    })
    .await
}

fn refused(refusal: &CompletionRefusal) -> Problem {
    match (refusal_code(refusal), refusal.to_string()) {
        ("malformed", detail) => Problem::malformed(detail),
        (code, detail) => Problem::rejected(code, detail),
    }
}
