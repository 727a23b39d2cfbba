//! Moves tasks to another revision.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use futures::future::join_all;
use glyph_workflow_engine::{
    command::{CommandEnvelope, Migrate, Outcome},
    ids::{CommandId, TaskId, WorkflowId},
};
use schemars::JsonSchema;
use serde_json::Value;

use super::{
    Api, NotTaken, Problem, REQUEST_TIMEOUT,
    auth::Caller,
    commands::{
        TaskRequest, WorkResult, outcome_response, result_of, submit_command, tell_ignored,
        with_key,
    },
    request::{CommandHeaders, Limited, Path, read_json},
};
use crate::operations::migration::{MigrationPage, MigrationRequest, TaskMigration, dry_run_id};

/// The body of a request that migrates one task.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema of what is read as a command")]
pub(super) struct MigrateBody {
    #[serde(flatten)]
    command: Migrate,
    /// Whether to only report what would happen.
    #[serde(default)]
    dry_run: Option<bool>,
}

/// What happened, or would happen, to one task.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the schema of two answers")]
pub(super) enum MigrateAnswer {
    Result(WorkResult),
    DryRun(TaskMigration),
}

/// Migrates one task, or reports what would happen to it.
pub(super) async fn migrate_one(State(api): State<Api>, request: TaskRequest) -> Response {
    let key = request.headers.command_id;
    with_key(key, async {
        let mut dry_run = false;
        let (command, ignored) = request.read("migrate", |fields| {
            if let Some(Value::Bool(asked)) = fields.get("dry_run") {
                dry_run = *asked;
                fields.remove("dry_run");
            }
            Ok(())
        })?;
        Ok(if dry_run {
            Json(previewed(&api, request.task, command).await?).into_response()
        } else {
            let mut outcome = submit_command(&api, command).await?;
            tell_ignored(outcome.result.as_mut(), ignored);
            if request.asks_outcome {
                outcome_response(&outcome)
            } else {
                Json(result_of(outcome)?).into_response()
            }
        })
    })
    .await
}

async fn previewed(
    api: &Api,
    task: TaskId,
    mut command: CommandEnvelope,
) -> Result<TaskMigration, Problem> {
    // The same key may have been used for the migration itself.
    command.command_id = dry_run_id(command.command_id);
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

/// Migrates one page of a workflow's tasks, or reports what would happen to them. The
/// `Idempotency-Key` is the id of the migration; all its pages use the same key.
pub(super) async fn migrate(
    State(api): State<Api>,
    caller: Caller,
    Path(workflow): Path<String>,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Response {
    let key = headers.command_id;
    with_key(key, async {
        page(api, &caller, workflow, key, &body).await.map(Json)
    })
    .await
}

async fn page(
    api: Api,
    caller: &Caller,
    workflow: String,
    migration_id: CommandId,
    body: &[u8],
) -> Result<MigrationPage, Problem> {
    let workflow = WorkflowId::new(&workflow).map_err(|_| Problem::workflow_not_found(workflow))?;
    let request: MigrationRequest = read_json(body)?;
    let sender = caller.sender();
    // Spawned: a caller that disconnects must not leave a page half executed.
    let moved = tokio::spawn(async move {
        let commands = api.commands.clone();
        let run = async |batch: Vec<CommandEnvelope>| -> Result<Vec<Outcome>, Problem> {
            let submitted = batch.into_iter().map(|mut command| {
                command.sender = sender.clone();
                commands.submit(command)
            });
            let outcomes = join_all(submitted).await.into_iter();
            let not_taken = |not_taken: NotTaken| Problem::unavailable(not_taken.reason);
            outcomes.map(|outcome| outcome.map_err(not_taken)).collect()
        };
        request
            .page(&workflow, migration_id, &*api.store, &api.orchestrator, run)
            .await
    });
    tokio::time::timeout(REQUEST_TIMEOUT, moved)
        .await
        .map_err(|_| Problem::timeout())?
        .map_err(|_| Problem::internal())?
}
