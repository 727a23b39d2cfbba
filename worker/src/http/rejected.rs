//! Rejected commands, which the inbox keeps with their payload.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    ids::{CommandId, Slug, TaskId, WorkflowId},
    limits::PAGE_MAX,
    store::{CommandPage, CommandRow, RecordedOutcome, RejectedFilter},
};
use schemars::{JsonSchema, json_schema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Api, Problem,
    auth::Caller,
    commands::submit_command,
    jobs::{Chosen, StartedJob},
    operation::Operation,
    request::{Limited, PAGE_DEFAULT, Parameters, Path},
};
use crate::jobs::{JobKind, REPLAYS_MAX, command_of, first_replay};

/// The operations on rejected commands.
pub(super) fn operations() -> Vec<Operation> {
    let limit = json_schema!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT});
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
            .reads::<Chosen>("Which commands, by their ids")
            .answers::<Dropped>(200, "How many were listed"),
        Operation::post("/api/v1/rejected/{command_id}/replay", "edit_rejected", edit)
            .summary("Run one rejected command again, with a changed payload if there is one")
            .reads::<Edited>("The payload")
            .answers::<Replayed>(200, "It was applied")
            .problems(&[404, 409, 422]),
    ]
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

/// What was dropped.
#[derive(Serialize, JsonSchema)]
pub(super) struct Dropped {
    /// How many.
    pub(super) dropped: u64,
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
    let chosen = Chosen::read(&body)?;
    let ids = chosen
        .ids
        .iter()
        .map(|id| Uuid::parse_str(id).map(CommandId));
    let ids: Result<Vec<CommandId>, _> = ids.collect();
    let ids = ids
        .ok()
        .filter(|ids| !ids.is_empty() && ids.len() <= PAGE_MAX as usize);
    let ids = ids.ok_or_else(|| {
        Problem::malformed(format!("`ids` must be command ids, {PAGE_MAX} at most"))
    })?;
    let dropped = api.store.drop_rejected(&ids, &caller.holder.name).await?;
    Ok(Json(Dropped { dropped }))
}

async fn edit(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Limited(body): Limited,
) -> Result<Response, Problem> {
    let id = Uuid::parse_str(&id)
        .map_err(|_| Problem::malformed(format!("the command `{id}` is no UUID")))?;
    let mut reader = serde_json::Deserializer::from_slice(&body);
    let edited: Edited = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| Problem::malformed(error.to_string()))?;
    let row = rejected(&api, CommandId(id)).await?;
    let payload = edited
        .payload
        .or(row.payload)
        .ok_or_else(|| Problem::rejected("no_payload", format!("command {id} kept no payload")))?;
    let replay = match first_replay(&*api.store, row.command_id).await? {
        Some(Ok(replay)) => replay,
        Some(Err(applied)) => {
            let detail = format!("command {id} was replayed as {applied}, and that was applied");
            return Err(Problem::rejected("already_replayed", detail));
        }
        None => {
            let detail =
                format!("command {id} was replayed {REPLAYS_MAX} times and rejected each time");
            return Err(Problem::rejected("replays_exhausted", detail));
        }
    };
    let mut command = command_of(&payload, replay)?;
    command.sender = caller.sender();
    let result = submit_command(&api, command).await?;
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
