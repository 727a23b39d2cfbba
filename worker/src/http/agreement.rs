//! Agreement over time.

use axum::{Json, extract::State};
use glyph_workflow_engine::ids::{StepId, WorkflowId};

use super::{Api, Problem, request::Parameters};
use crate::operations::agreement::{AgreementFilter, AgreementList, agreement};

pub(super) async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<AgreementList>, Problem> {
    let filter = AgreementFilter {
        workflow: parameters.take("workflow", "a workflow id", |text| {
            WorkflowId::new(text).ok()
        })?,
        step: parameters.take("step", "a step id", |text| StepId::new(text).ok())?,
        class: parameters.take("class", "an answer", |text| Some(text.to_owned()))?,
    };
    parameters.finish()?;
    let agreement = agreement(&*api.store, &filter).await?;
    Ok(Json(AgreementList { agreement }))
}
