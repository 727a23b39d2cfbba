//! What is known about an annotator.

use axum::{Json, extract::State};
use glyph_workflow_engine::ids::{UserId, WorkflowId};
use schemars::schema_for;

use super::{
    Api, Problem,
    annotators::once_learned,
    operation::Operation,
    request::{Parameters, Path},
};
use crate::operations::annotators::{AnnotatorReport, annotator_report};

/// The operations on reports of annotators.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/annotators/{user_id}", "show_annotator", show)
            .summary("How reliable an annotator is, by workflow, step and field")
            .query(
                "workflow",
                "Only this workflow, and there every question whose answers are categories; \
                 without it, the questions whose models decisions use.",
                schema_for!(WorkflowId),
            )
            .answers::<AnnotatorReport>(200, "What is known"),
    ]
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(user): Path<String>,
    mut parameters: Parameters,
) -> Result<Json<AnnotatorReport>, Problem> {
    let user = user.parse().map(UserId);
    let user = user.map_err(|_| Problem::malformed("the annotator in the path is no UUID"))?;
    let workflow = parameters.take("workflow", "a workflow id", |text| {
        WorkflowId::new(text).ok()
    })?;
    parameters.finish()?;
    let report = annotator_report(&*api.store, &api.orchestrator, user, workflow.as_ref());
    Ok(Json(once_learned(&api, report).await?))
}
