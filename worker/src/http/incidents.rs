//! Open incidents.

use axum::{Json, extract::State};
use glyph_workflow_engine::{
    ids::{TaskId, WorkflowId},
    state::IncidentCode,
};
use schemars::schema_for;

use super::{
    Api, Problem,
    operation::Operation,
    request::{Parameters, page_limit},
};
use crate::operations::incidents::{IncidentFilter, IncidentList, incidents};

/// The operations on incidents.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/incidents", "list_incidents", list)
            .summary("Open incidents by code, with their tasks, in pages")
            .query("code", "With this code.", schema_for!(IncidentCode))
            .query("workflow", "In this workflow.", schema_for!(WorkflowId))
            .query(
                "after",
                "The last task of the previous page.",
                schema_for!(TaskId),
            )
            .query(
                "limit",
                "Tasks with an incident to look at for a page.",
                page_limit(),
            )
            .answers::<IncidentList>(200, "The incidents"),
    ]
}

async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<IncidentList>, Problem> {
    let filter = IncidentFilter {
        code: incident_code(&mut parameters, "code")?,
        workflow: parameters.take("workflow", "a workflow id", |text| {
            WorkflowId::new(text).ok()
        })?,
    };
    let after = parameters.take("after", "a task id", |text| text.parse::<TaskId>().ok())?;
    let limit = parameters.take_limit()?;
    parameters.finish()?;
    Ok(Json(incidents(&*api.store, &filter, after, limit).await?))
}

/// A parameter that is the code of an incident.
pub(super) fn incident_code(
    parameters: &mut Parameters,
    name: &str,
) -> Result<Option<IncidentCode>, Problem> {
    let names = IncidentCode::ALL.map(IncidentCode::as_str).join(", ");
    parameters.take(name, &format!("one of {names}"), IncidentCode::from_name)
}
