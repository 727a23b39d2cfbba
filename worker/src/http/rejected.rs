//! Rejected commands, which the inbox keeps with their payload.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    ids::{CommandId, Slug, TaskId, WorkflowId},
    limits::PAGE_MAX,
    store::{CommandPage, CommandRow, RecordedOutcome, RejectedFilter},
};
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Api, Problem,
    auth::Caller,
    commands::{outcome_response, result_of, submit_command},
    jobs::Chosen,
    operation::Operation,
    request::{Limited, Parameters, Path, asks_outcome, page_limit, path_uuid, read_json},
};
use crate::{
    jobs::{JobKind, command_of, first_replay},
    operations::{jobs::StartedJob, letters::Dropped},
};

/// The operations on rejected commands.
pub(super) fn operations() -> Vec<Operation> {
    let limit = page_limit();
    vec![
        Operation::get("/api/v1/rejected", "list_rejected", list)
            .summary("Rejected commands with their payload, newest first, in pages")
            .query("reason", "With this reason, as `surplus`.", schema_for!(String))
            .query("workflow", "Of tasks of this workflow.", schema_for!(WorkflowId))
            .query("task", "Of this task.", schema_for!(TaskId))
            .query("after", "The last command of the previous page.", schema_for!(CommandId))
            .query("limit", "Commands per page.", limit)
            .answers::<CommandPage>(200, "A page of commands"),
        Operation::post("/api/v1/rejected/replay", "replay_rejected", replay)
            .summary(
                "Run rejected commands again under ids derived from their own, as a job: one, ten, a \
                 hundredth, then the rest; it stops by itself",
            )
            .reads::<Chosen>("Which commands")
            .answers::<StartedJob>(202, "The job"),
        Operation::post("/api/v1/rejected/drop", "drop_rejected", drop_listed)
            .summary("Take rejected commands out of the list; their ids stay known")
            .reads::<Named>("Which commands")
            .answers::<Dropped>(200, "How many were listed"),
        Operation::get("/api/v1/rejected/{command_id}", "show_rejected", show)
            .summary("One rejected command with its payload")
            .answers::<CommandRow>(200, "The command")
            .problems(&[404, 409]),
        Operation::post("/api/v1/rejected/{command_id}/replay", "edit_rejected", edit)
            .summary("Run one rejected command again, with a changed payload if there is one")
            .reads::<Edited>("The payload")
            .answers::<Replayed>(200, "It was applied")
            .answers_outcome()
            .problems(&[404, 409, 422]),
    ]
}

/// Commands by their ids.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Named {
    /// Their ids; a thousand at most.
    #[schemars(length(min = 1, max = 1_000))]
    ids: Vec<CommandId>,
}

/// A command to run again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Edited {
    /// The whole command; the one that was rejected if left out.
    payload: Option<Value>,
}

/// A command that was run again.
#[derive(Serialize, JsonSchema)]
struct Replayed {
    /// The id under which it ran.
    command_id: CommandId,
    /// Its result.
    result: Value,
}

async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<CommandPage>, Problem> {
    let filter = RejectedFilter {
        reason: parameters
            .take("reason", "a reason", |text| Slug::new(text).ok())?
            .as_deref()
            .map(str::to_owned),
        workflow: parameters
            .take("workflow", "a workflow id", |text| Slug::new(text).ok())?
            .as_deref()
            .map(str::to_owned),
        task: parameters.take("task", "a task id", |text| text.parse().ok())?,
        ..RejectedFilter::default()
    };
    let after = parameters.take("after", "a command id", |text| {
        Uuid::parse_str(text).ok().map(CommandId)
    })?;
    let limit = parameters.take_limit()?;
    parameters.finish()?;
    Ok(Json(api.store.rejected(&filter, after, limit).await?))
}

async fn replay(
    State(api): State<Api>,
    caller: Caller,
    Limited(body): Limited,
) -> Result<(StatusCode, Json<StartedJob>), Problem> {
    let chosen = Chosen::read(&body)?;
    chosen.replay(JobKind::ReplayRejected, &api, &caller).await
}

async fn drop_listed(
    State(api): State<Api>,
    caller: Caller,
    Limited(body): Limited,
) -> Result<Json<Dropped>, Problem> {
    let Named { ids } = read_json(&body)?;
    if ids.is_empty() || ids.len() > PAGE_MAX as usize {
        let detail = format!("`ids` must be 1 to {PAGE_MAX} command ids");
        return Err(Problem::malformed(detail));
    }
    let dropped = api.store.drop_rejected(&ids, &caller.holder.name).await?;
    Ok(Json(Dropped { dropped }))
}

async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<CommandRow>, Problem> {
    Ok(Json(rejected(&api, command_id(&id)?).await?))
}

/// The id of a command in a path.
fn command_id(text: &str) -> Result<CommandId, Problem> {
    path_uuid("command", text).map(CommandId)
}

async fn edit(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Limited(body): Limited,
) -> Result<Response, Problem> {
    let id = command_id(&id)?;
    let edited: Edited = read_json(&body)?;
    let row = rejected(&api, id).await?;
    let payload = edited
        .payload
        .or(row.payload)
        .ok_or_else(|| Problem::rejected("no_payload", format!("command {id} kept no payload")))?;
    let replay = first_replay(&*api.store, row.command_id)
        .await?
        .map_err(|why| Problem::rejected(why.code(), why.to_string()))?;
    let mut command = command_of(&payload, replay)?;
    command.sender = caller.sender();
    let outcome = submit_command(&api, command).await?;
    if asks_outcome(&headers) {
        return Ok(outcome_response(&outcome));
    }
    let result = result_of(outcome)?;
    let replayed = Replayed {
        command_id: replay,
        result,
    };
    Ok(Json(replayed).into_response())
}

async fn rejected(api: &Api, id: CommandId) -> Result<CommandRow, Problem> {
    let row = api.store.command(id).await?;
    let row = row.ok_or_else(|| Problem::not_found("command", id))?;
    match row.outcome {
        RecordedOutcome::Rejected { .. } => Ok(row),
        RecordedOutcome::Applied { .. } => {
            let detail = format!("command {id} was applied");
            Err(Problem::rejected("not_rejected", detail))
        }
    }
}
