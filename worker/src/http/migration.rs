//! Moving many tasks to another revision.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use futures::future::join_all;
use glyph_workflow_engine::{
    command::{CommandEnvelope, Migrate, Outcome, ProcessResult},
    ids::{TaskId, WorkflowId},
};
use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::{
    Api, Problem,
    auth::Caller,
    commands::{carry_out_migration, with_key},
    request::{CommandHeaders, Limited, TaskPath},
};
use crate::{
    migration::{MigrationError, MigrationPage, MigrationRequest, TaskMigration, dry_run_id},
    wire::commands::{CommandRequest, read_request},
};

/// The body of a migration of one task.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema of what is read as a command")]
pub(super) struct MigrateBody {
    #[serde(flatten)]
    command: Migrate,
    /// Whether only to say what would happen.
    #[serde(default)]
    dry_run: Option<bool>,
}

/// What one task has come to, or would.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the schema of two answers")]
pub(super) enum MigrateAnswer {
    Result(ProcessResult),
    DryRun(TaskMigration),
}

/// Moves one task, or says what would become of it.
pub(super) async fn migrate_one(
    State(api): State<Api>,
    task: TaskPath,
    caller: Caller,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Response {
    let fields = serde_json::from_slice::<Map<String, Value>>(&body).ok();
    let dry_run = fields.filter(|fields| fields.get("dry_run") == Some(&Value::Bool(true)));
    let Some(mut fields) = dry_run else {
        return carry_out_migration(State(api), task, caller, headers, Limited(body)).await;
    };
    fields.remove("dry_run");
    let key = headers.command_id.to_string();
    let answer = match foretold(&api, task.0, &headers, fields).await {
        Ok(task) => Json(task).into_response(),
        Err(problem) => problem.into_response(),
    };
    with_key(answer, &key)
}

async fn foretold(
    api: &Api,
    task: TaskId,
    headers: &CommandHeaders,
    fields: Map<String, Value>,
) -> Result<TaskMigration, Problem> {
    let body = Value::Object(fields).to_string();
    let request = CommandRequest {
        command_type: "migrate",
        task_id: task,
        // The key may have been used for the migration itself.
        command_id: dry_run_id(headers.command_id),
        correlation_id: None,
        traceparent: None,
        body: body.as_bytes(),
    };
    let command = read_request(&request)?.envelope;
    let row = api.store.task(task).await?;
    let from_revision = row.map_or(0, |row| row.revision);
    let mut previews = api.orchestrator.preview(vec![command]).await?;
    let preview = previews.pop().ok_or_else(Problem::internal)?;
    match preview.outcome {
        Outcome::Undecided(undecided) => Err(undecided.into()),
        Outcome::Dead(dead) => Err(dead.into()),
        Outcome::Applied(_) | Outcome::Rejected(_) | Outcome::Duplicate(_) => {
            Ok(TaskMigration::of_preview(task, from_revision, preview))
        }
    }
}

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
            MigrationError::Engine(error) => error.into(),
            error @ (MigrationError::OtherWorkflow { .. }
            | MigrationError::UnknownRevision { .. }
            | MigrationError::UnknownStep { .. }
            | MigrationError::Ended(_)) => Self::malformed(error.to_string()),
        }
    }
}
