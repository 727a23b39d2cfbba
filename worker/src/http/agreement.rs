//! Agreement over time.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, Problem, request::Parameters};
use crate::{projections::agreement::summaries, wire::data::AgreementProgress};

#[derive(Serialize, JsonSchema)]
pub(super) struct AgreementList {
    agreement: Vec<AgreementProgress>,
}

pub(super) async fn list(
    State(api): State<Api>,
    parameters: Parameters,
) -> Result<Json<AgreementList>, Problem> {
    parameters.finish()?;
    Ok(Json(AgreementList {
        agreement: summaries(&*api.store).await?,
    }))
}
