//! Claims the next task.

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
    commands::{Person, name_person, with_key},
    request::{CommandHeaders, Limited},
};
use crate::{operations::workflows::resolve_one, wire::read_claim};

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
        let store = Arc::clone(&api.store);
        let claimed =
            tokio::spawn(async move { api.orchestrator.claim_next(&*api.store, &asked).await });
        let claimed = claimed.await.map_err(|_| Problem::internal())??;
        Ok(match claimed {
            Some(slot) => Json(slot).into_response(),
            None if is_paused(&*store, &request).await? => {
                (StatusCode::NO_CONTENT, [(REASON, PAUSED)]).into_response()
            }
            None => StatusCode::NO_CONTENT.into_response(),
        })
    })
    .await
}

/// The header that says why nothing is offered, if more is known than "no open slot".
const REASON: &str = "x-glyph-reason";
/// The person is paused.
const PAUSED: &str = "annotator_paused";

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
