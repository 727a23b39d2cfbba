//! The dead queue.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use schemars::{JsonSchema, json_schema, schema_for};
use serde::Deserialize;
use tokio::sync::MutexGuard;

use super::{
    Api, Problem,
    auth::Caller,
    jobs::Chosen,
    operation::Operation,
    request::{Limited, Parameters, Path, page_limit, read_json},
};
use crate::{
    dead_letters::{DeadLetter, DeadLetters, Letter, Visit},
    jobs::JobKind,
    operations::{
        jobs::StartedJob,
        letters::{Dropped, EditedLetter, LetterList},
    },
};

/// The operations on dead letters.
pub(super) fn operations() -> Vec<Operation> {
    let limit = page_limit();
    vec![
        Operation::get("/api/v1/dead-letters", "list_dead_letters", list)
            .summary("Commands that could not be read or ran out of retries, oldest first")
            .query("reason", "With this reason, as `malformed`.", schema_for!(String))
            .query("limit", "Letters to look at.", limit)
            .query(
                "set_aside",
                "List commands that were set aside instead: they are not dead, and tried again each \
                 minute.",
                json_schema!({"type": "boolean", "default": false}),
            )
            .answers::<LetterList>(200, "The letters, and their number by reason")
            .problems(&[503]),
        Operation::get("/api/v1/dead-letters/{letter}", "show_dead_letter", show)
            .summary("One dead letter, by its handle or the id of its command")
            .answers::<DeadLetter>(200, "The letter")
            .problems(&[404, 503]),
        Operation::post("/api/v1/dead-letters/replay", "replay_dead_letters", replay)
            .summary(
                "Try dead letters again, as a job: one, ten, a hundredth, then the rest; it stops by \
                 itself",
            )
            .reads::<Chosen>("Which letters")
            .answers::<StartedJob>(202, "The job"),
        Operation::post("/api/v1/dead-letters/drop", "drop_dead_letters", drop_chosen)
            .summary("Delete dead letters")
            .reads::<Chosen>("Which letters")
            .answers::<Dropped>(200, "How many were deleted")
            .problems(&[503]),
        Operation::put("/api/v1/dead-letters/{letter}", "edit_dead_letter", edit)
            .summary("Change the body of a dead letter; it can be replayed then")
            .reads::<NewBody>("The body")
            .answers::<EditedLetter>(200, "It has another content, and so another handle")
            .problems(&[404, 413, 422, 503]),
    ]
}

/// A new body.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewBody {
    /// The whole command, as text.
    body: String,
}

type Letters<'a> = MutexGuard<'a, std::sync::Arc<dyn DeadLetters>>;

/// The dead queue. One request looks at a time: a letter that one holds is hidden from others.
async fn letters(api: &Api) -> Result<Letters<'_>, Problem> {
    let broker = api.broker.get();
    let broker = broker.ok_or_else(|| Problem::unavailable("the worker is starting"))?;
    Ok(broker.letters.lock().await)
}

async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<LetterList>, Problem> {
    let reason = parameters.take("reason", "a reason", |text| Some(text.to_owned()))?;
    let limit = parameters.take_limit()? as usize;
    let set_aside = parameters.take("set_aside", "true or false", |text| text.parse().ok())?;
    parameters.finish()?;
    let mut list = LetterList {
        dead_letters: Vec::new(),
        reasons: BTreeMap::new(),
        more: false,
    };
    let mut seen = 0;
    let queue = letters(&api).await?;
    if set_aside.unwrap_or(false) {
        let mut found = queue.set_aside(limit).await?;
        found.retain(|letter| {
            reason
                .as_ref()
                .is_none_or(|reason| *reason == letter.reason)
        });
        list.dead_letters = found;
        return Ok(Json(list));
    }
    queue
        .visit(&mut |handle, letter| {
            if seen >= limit {
                list.more = true;
                return Visit::End;
            }
            seen += 1;
            let found = letter.reason();
            if reason.as_ref().is_none_or(|reason| *reason == found) {
                list.dead_letters.push(letter.shown(handle));
            }
            *list.reasons.entry(found).or_default() += 1;
            Visit::Leave
        })
        .await?;
    Ok(Json(list))
}

async fn show(
    State(api): State<Api>,
    Path(named): Path<String>,
    parameters: Parameters,
) -> Result<Json<DeadLetter>, Problem> {
    parameters.finish()?;
    let found = letters(&api).await?.find(&named).await?;
    let (handle, letter) = found.ok_or_else(|| Problem::not_found("dead letter", &named))?;
    Ok(Json(letter.shown(&handle)))
}

async fn replay(
    State(api): State<Api>,
    caller: Caller,
    Limited(body): Limited,
) -> Result<(StatusCode, Json<StartedJob>), Problem> {
    let chosen = of_letters(&body)?;
    chosen
        .replay(JobKind::ReplayDeadLetters, &api, &caller)
        .await
}

async fn drop_chosen(
    State(api): State<Api>,
    caller: Caller,
    Limited(body): Limited,
) -> Result<Json<Dropped>, Problem> {
    let picked = of_letters(&body)?.selection();
    let queue = letters(&api).await?;
    let count = queue
        .remove(&|handle, letter| picked.picks(handle, letter))
        .await?;
    let actor = &caller.holder.name;
    tracing::info!(count, actor, "dead letters were dropped");
    Ok(Json(Dropped {
        dropped: count as u64,
    }))
}

/// Which letters; those of a workflow cannot be told.
fn of_letters(body: &[u8]) -> Result<Chosen, Problem> {
    let chosen = Chosen::read(body)?;
    if chosen.workflow.is_some() {
        let why = "a dead letter belongs to no workflow: choose by `ids`, `reason` or `task`";
        return Err(Problem::malformed(why));
    }
    Ok(chosen)
}

async fn edit(
    State(api): State<Api>,
    caller: Caller,
    Path(named): Path<String>,
    Limited(body): Limited,
) -> Result<Json<EditedLetter>, Problem> {
    let new: NewBody = read_json(&body)?;
    let queue = letters(&api).await?;
    let mut found: Option<Letter> = None;
    queue
        .visit(&mut |handle, letter| {
            if handle != named {
                return Visit::Leave;
            }
            found = Some(letter.clone());
            Visit::End
        })
        .await?;
    let letter = found.ok_or_else(|| Problem::not_found("dead letter", &named))?;
    let letter = letter.edited(new.body.into_bytes(), &caller.holder.name)?;
    let body = letter.body.clone();
    if !queue.replace(&named, letter).await? {
        return Err(Problem::not_found("dead letter", &named));
    }
    let now = queue.handle_of(&body).await?;
    Ok(Json(EditedLetter {
        edited: named,
        letter: now,
    }))
}
