//! Claiming the next task.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use glyph_workflow_engine::{
    command::ClaimRequest,
    store::{AnnotatorPause, Store},
};

use super::{
    Api, Problem,
    auth::Caller,
    commands::{Person, named, with_key},
    request::{CommandHeaders, Limited},
    workflows::resolve_one,
};
use crate::wire::read_claim;

/// A place for whoever asks, or 204 where nothing is free that the person may take.
pub(super) async fn next(
    State(api): State<Api>,
    caller: Caller,
    headers: CommandHeaders,
    Limited(body): Limited,
) -> Response {
    let key = headers.command_id.to_string();
    let claim = async {
        let body = match caller.user {
            Some(user) => named(&body, user, Person::Top)?,
            None => body.to_vec(),
        };
        let CommandHeaders {
            command_id,
            correlation_id,
            traceparent,
        } = headers;
        let request = read_claim(command_id, correlation_id, traceparent, &body)?;
        // In a task of its own: a caller who hangs up must not leave a claim half made.
        let asked = request.clone();
        let store = Arc::clone(&api.store);
        let claimed =
            tokio::spawn(async move { api.orchestrator.claim_next(&*api.store, &asked).await });
        let claimed = claimed.await.map_err(|_| Problem::internal())??;
        let is_paused = claimed.is_none() && is_paused(&*store, &request).await?;
        Ok::<_, Problem>((claimed, is_paused))
    };
    let answer = match claim.await {
        Ok((Some(place), _)) => Json(place).into_response(),
        Ok((None, false)) => StatusCode::NO_CONTENT.into_response(),
        Ok((None, true)) => (StatusCode::NO_CONTENT, [(REASON, PAUSED)]).into_response(),
        Err(problem) => problem.into_response(),
    };
    with_key(answer, &key)
}

/// Says why nothing is offered, where more than "nothing is free" is known.
const REASON: &str = "x-glyph-reason";
/// The person is paused.
const PAUSED: &str = "annotator_paused";

/// Whether the person is paused in a workflow that is asked for.
async fn is_paused(store: &dyn Store, request: &ClaimRequest) -> Result<bool, Problem> {
    let mut open = store.annotator_pauses(Some(request.user_id)).await?;
    open.retain(AnnotatorPause::is_open);
    let Some(selector) = request.workflow.as_ref().filter(|_| !open.is_empty()) else {
        return Ok(!open.is_empty());
    };
    let asked = resolve_one(store, &selector.to_string()).await?;
    Ok(asked.is_some_and(|asked| open.iter().any(|pause| pause.workflow == asked.id)))
}
