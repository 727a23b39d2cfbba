//! Progress of goals.

use axum::{Json, extract::State};
use glyph_workflow_engine::store::GoalProgressRow;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, Problem, request::Parameters};

#[derive(Serialize, JsonSchema)]
pub(super) struct GoalList {
    goals: Vec<GoalDocument>,
}

/// Progress with what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
struct GoalDocument {
    #[serde(flatten)]
    progress: GoalProgressRow,
    /// Share of the target, at most 1.
    ratio: f64,
    completed: bool,
}

impl From<GoalProgressRow> for GoalDocument {
    fn from(progress: GoalProgressRow) -> Self {
        Self {
            ratio: progress.ratio(),
            completed: progress.completed_at.is_some(),
            progress,
        }
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    parameters: Parameters,
) -> Result<Json<GoalList>, Problem> {
    parameters.finish()?;
    let goals = api.store.goals().await?;
    Ok(Json(GoalList {
        goals: goals.into_iter().map(GoalDocument::from).collect(),
    }))
}
