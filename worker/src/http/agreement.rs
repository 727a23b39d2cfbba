//! Agreement over time.

use axum::{Json, extract::State};
use glyph_workflow_engine::ids::{StepId, WorkflowId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Api, Problem, request::Parameters};
use crate::{projections::agreement::summaries, wire::data::AgreementProgress};

#[derive(Serialize, JsonSchema)]
pub(super) struct AgreementList {
    agreement: Vec<AgreementProgress>,
}

pub(super) async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<AgreementList>, Problem> {
    let workflow = parameters.take("workflow", "a workflow id", |text| {
        WorkflowId::new(text).ok()
    })?;
    let step = parameters.take("step", "a step id", |text| StepId::new(text).ok())?;
    let class = parameters.take("class", "an answer", |text| Some(text.to_owned()))?;
    parameters.finish()?;
    let mut agreement = summaries(&*api.store).await?;
    agreement.retain(|one| {
        workflow.as_ref().is_none_or(|id| one.workflow == *id)
            && step.as_ref().is_none_or(|id| one.step_id == *id)
    });
    if let Some(class) = class {
        for one in &mut agreement {
            one.classes.retain(|known| is_named(&known.value, &class));
        }
        agreement.retain(|one| !one.classes.is_empty());
    }
    Ok(Json(AgreementList { agreement }))
}

/// Whether a text in a request names an answer: a text by itself, anything else as JSON.
fn is_named(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            serde_json::from_str::<Value>(name).is_ok_and(|named| named == *value)
        }
    }
}
