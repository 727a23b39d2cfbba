//! Claims the next task, and lists what a person has claimed.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use glyph_workflow_engine::{
    command::ClaimRequest,
    ids::{TaskId, UserId},
    store::{AnnotatorPause, Store},
};

use super::{
    Api, Problem,
    auth::Caller,
    commands::{Person, name_person, with_key},
    request::{CommandHeaders, Limited, Parameters},
};
use crate::{
    operations::{
        assignments::{AssignmentList, held_slots},
        workflows::resolve_one,
    },
    wire::read_claim,
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
        let request = read_claim(command_id, correlation_id, traceparent, &body, |fields| {
            name_person(fields, caller, Person::Top)
        })?;
        // Spawned: a caller that disconnects must not leave a claim half made.
        let asked = request.clone();
        let (store, orchestrator) = (Arc::clone(&api.store), Arc::clone(&api.orchestrator));
        let claimed =
            tokio::spawn(async move { api.orchestrator.claim_next(&*api.store, &asked).await });
        let claimed = claimed.await.map_err(|_| Problem::internal())??;
        Ok(match claimed {
            Some(slot) => Json(slot).into_response(),
            None if is_paused(&*store, &request).await? => nothing(PAUSED),
            None if orchestrator.is_at_limit(&*store, &request).await? => nothing(AT_LIMIT),
            None => StatusCode::NO_CONTENT.into_response(),
        })
    })
    .await
}

/// The header that says why nothing is offered, if more is known than "no open slot".
const REASON: &str = "x-glyph-reason";
/// The person is paused.
const PAUSED: &str = "annotator_paused";
/// The person has claimed as many slots as a step allows.
const AT_LIMIT: &str = "max_concurrent";

/// The answer that offers nothing, with the reason.
fn nothing(reason: &'static str) -> Response {
    (StatusCode::NO_CONTENT, [(REASON, reason)]).into_response()
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
    let own = caller.user.filter(|_| caller.is_annotator());
    let user = match (named, own) {
        (Some(named), Some(own)) if named != own => {
            let why = format!("the token stands for user {own}, and sees no claims of others");
            return Err(Problem::forbidden(why));
        }
        (Some(user), _) | (None, Some(user)) => user,
        (None, None) => {
            let missing = "name the person: `?user_id=` and a UUID";
            return Err(Problem::malformed(missing));
        }
    };
    Ok(Json(held_slots(&*api.store, user, after, limit).await?))
}

/// Whether the person is paused in a requested workflow.
async fn is_paused(store: &dyn Store, request: &ClaimRequest) -> Result<bool, Problem> {
    let mut open = store.annotator_pauses(Some(request.user_id)).await?;
    open.retain(AnnotatorPause::is_open);
    let Some(selector) = request.workflow.as_ref().filter(|_| !open.is_empty()) else {
        return Ok(!open.is_empty());
    };
    let asked = resolve_one(store, &selector.to_string()).await?;
    Ok(asked.is_some_and(|asked| open.iter().any(|pause| pause.workflow == asked.id)))
}
