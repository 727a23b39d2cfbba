//! Agreement of annotators over the newest items.

use glyph_workflow_engine::{
    ids::{StepId, WorkflowId},
    store::{EventStoreError, Store},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::projections::agreement::{AgreementCourse, courses};

/// Which agreement.
#[derive(Clone, Debug, Default)]
pub struct AgreementFilter {
    /// Only in this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only of this step.
    pub step: Option<StepId>,
    /// Only questions with this answer, and of their classes only it: a text by itself, anything else
    /// as JSON.
    pub class: Option<String>,
}

/// The agreement of annotators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgreementList {
    /// By workflow, step and field.
    pub agreement: Vec<AgreementCourse>,
}

/// The agreement that a filter leaves, by workflow, step and field.
///
/// # Errors
///
/// The store cannot be read.
pub async fn agreement(
    store: &dyn Store,
    filter: &AgreementFilter,
) -> Result<Vec<AgreementCourse>, EventStoreError> {
    let mut agreement = courses(store).await?;
    agreement.retain(|one| {
        let workflow = filter.workflow.as_ref();
        workflow.is_none_or(|id| one.now.workflow == *id)
            && filter.step.as_ref().is_none_or(|id| one.now.step_id == *id)
    });
    if let Some(class) = &filter.class {
        for one in &mut agreement {
            one.now
                .classes
                .retain(|known| is_named(&known.value, class));
            for point in &mut one.history {
                point.classes.retain(|known| is_named(&known.value, class));
            }
        }
        agreement.retain(|one| !one.now.classes.is_empty());
    }
    Ok(agreement)
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
