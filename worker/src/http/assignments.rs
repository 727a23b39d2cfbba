//! Claims the next task, and lists what a person has claimed.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    command::Claim,
    ids::{TaskId, UserId},
};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Api, NotTaken, Problem, REQUEST_TIMEOUT,
    auth::Caller,
    commands::{Person, name_person, with_key},
    request::{CommandHeaders, IGNORED, Limited, Parameters, REASON},
};
use crate::{
    operations::assignments::{
        AssignmentList, NothingReason, ReleaseAll, ReleasedSlots, held_slots, why_nothing,
    },
    wire::{read_claim, read_reason},
};

/// Claims a slot for a person, or returns 204 if no slot is open that the person may take.
pub(super) async fn next(
    State(api): State<Api>,
    caller: Caller,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Response {
    with_key(headers.command_id, async {
        let CommandHeaders {
            command_id,
            correlation_id,
            traceparent,
        } = headers;
        let mut of_token = Vec::new();
        let complete = |fields: &mut Map<String, Value>| {
            of_token = name_person(fields, &caller, Person::Qualified)?;
            Ok::<_, Problem>(())
        };
        let read = read_claim(command_id, correlation_id, traceparent, &body, complete)?;
        let (mut request, ignored) = read;
        let mut ignored = ignored.paths;
        ignored.extend(of_token.into_iter().map(str::to_owned));
        request.sender = caller.sender();
        // Spawned: a caller that disconnects must not leave a claim half made.
        let asked = request.clone();
        let (store, orchestrator) = (Arc::clone(&api.store), Arc::clone(&api.orchestrator));
        let claimed =
            tokio::spawn(async move { api.orchestrator.claim_next(&*api.store, &asked).await });
        let claimed = claimed.await.map_err(|_| Problem::internal())??;
        if let Some(claim) = claimed {
            return Ok(Json(ClaimAnswer { claim, ignored }).into_response());
        }
        let reason = why_nothing(&*store, &orchestrator, &request).await?;
        Ok(nothing(reason.map(NothingReason::as_str), &ignored))
    })
    .await
}

/// A claimed slot.
#[derive(Serialize, JsonSchema)]
pub(super) struct ClaimAnswer {
    #[serde(flatten)]
    claim: Claim,
    /// Paths of the body that were ignored: fields that are unknown, and an annotator's roles and
    /// skills, which are those of the token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<String>,
}

/// The answer that offers nothing, with the reason if there is one.
fn nothing(reason: Option<&'static str>, ignored: &[String]) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    if let Some(reason) = reason {
        headers.insert(REASON, HeaderValue::from_static(reason));
    }
    if let Ok(paths) = HeaderValue::from_str(&ignored.join(", ").escape_default().to_string())
        && !ignored.is_empty()
    {
        headers.insert(IGNORED, paths);
    }
    response
}

/// Lists the slots that a person has claimed. A token that belongs to a user lists that user's.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<AssignmentList>, Problem> {
    let named = parameters.take("user_id", "a UUID", |text| text.parse().ok().map(UserId))?;
    let after = parameters.take("after", "a task id", |text| text.parse::<TaskId>().ok())?;
    let limit = parameters.take_limit()?;
    parameters.finish()?;
    let user = person(named, &caller)?;
    Ok(Json(held_slots(&*api.store, user, after, limit).await?))
}

/// Releases all slots that a person has claimed.
pub(super) async fn release_all(
    State(api): State<Api>,
    caller: Caller,
    headers: CommandHeaders,
    mut parameters: Parameters,
    Limited(body): Limited,
) -> Response {
    let key = headers.command_id;
    with_key(key, async {
        let named = parameters.take("user_id", "a UUID", |text| text.parse().ok().map(UserId))?;
        parameters.finish()?;
        let user = person(named, &caller)?;
        let release = ReleaseAll {
            user,
            reason: read_reason(key, &body)?,
            id: key,
            correlation_id: headers.correlation_id.unwrap_or_else(|| key.to_string()),
            sender: caller.sender(),
        };
        // Spawned: a caller that disconnects must not leave some of them claimed.
        let released = tokio::spawn(async move {
            let mut report = ReleasedSlots::default();
            for (slot, command) in release.commands(&*api.store).await? {
                let submitted = api.commands.submit(command).await;
                let not_taken = |not_taken: NotTaken| Problem::unavailable(not_taken.reason);
                report.add(slot, submitted.map_err(not_taken)?);
            }
            Ok::<_, Problem>(report)
        });
        let released = tokio::time::timeout(REQUEST_TIMEOUT, released).await;
        let released = released
            .map_err(|_| Problem::timeout())?
            .map_err(|_| Problem::internal())??;
        Ok(Json(released))
    })
    .await
}

/// The person that a request is about: the one who is named, or the token's.
fn person(named: Option<UserId>, caller: &Caller) -> Result<UserId, Problem> {
    match (named, caller.annotator()) {
        (Some(named), Some(own)) if named != own => {
            let why = format!("the token stands for user {own}, and sees no claims of others");
            Err(Problem::forbidden(why))
        }
        (Some(user), _) => Ok(user),
        (None, _) => caller
            .holder
            .user
            .ok_or_else(|| Problem::malformed("name the person: `?user_id=` and a UUID")),
    }
}
