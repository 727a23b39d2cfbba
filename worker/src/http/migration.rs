//! Moving many tasks to another revision.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use futures::future::join_all;
use glyph_workflow_engine::{
    command::{CommandEnvelope, Outcome},
    ids::WorkflowId,
};

use super::{
    Api, Problem,
    commands::with_key,
    request::{CommandHeaders, Limited},
};
use crate::migration::{MigrationError, MigrationPage, MigrationRequest};

/// Moves one page of a workflow's tasks, or says what would become of them. The `Idempotency-Key` is
/// the migration's id: the pages of one migration go by the same.
pub(super) async fn migrate(
    State(api): State<Api>,
    Path(workflow): Path<String>,
    headers: CommandHeaders,
    body: Limited,
) -> Response {
    let key = headers.command_id.to_string();
    let answer = match page(api, workflow, headers, body).await {
        Ok(page) => Json(page).into_response(),
        Err(problem) => problem.into_response(),
    };
    with_key(answer, &key)
}

async fn page(
    api: Api,
    workflow: String,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Result<MigrationPage, Problem> {
    let workflow = WorkflowId::new(&workflow).map_err(|_| Problem::workflow_not_found(workflow))?;
    let mut reader = serde_json::Deserializer::from_slice(&body);
    let request: MigrationRequest = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| Problem::malformed(error.to_string()))?;
    // In a task of its own: a caller who hangs up must not leave a page half carried out.
    let moved = tokio::spawn(async move {
        let commands = api.commands.clone();
        let run = async |batch: Vec<CommandEnvelope>| -> Result<Vec<Outcome>, Problem> {
            let submitted = batch.into_iter().map(|command| commands.submit(command));
            let outcomes = join_all(submitted).await.into_iter();
            let not_taken = |not_taken: super::NotTaken| Problem::unavailable(not_taken.reason);
            outcomes.map(|outcome| outcome.map_err(not_taken)).collect()
        };
        request
            .page(
                &workflow,
                headers.command_id,
                &*api.store,
                &api.orchestrator,
                run,
            )
            .await
    });
    tokio::time::timeout(super::REQUEST_TIMEOUT, moved)
        .await
        .map_err(|_| Problem::timeout())?
        .map_err(|_| Problem::internal())?
}

impl From<MigrationError> for Problem {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::NoRevision(to) => Self::workflow_not_found(to),
            error @ (MigrationError::OtherWorkflow { .. } | MigrationError::Ended(_)) => {
                Self::malformed(error.to_string())
            }
            MigrationError::Engine(error) => error.into(),
        }
    }
}
