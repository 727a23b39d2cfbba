//! Claiming the next task.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    Api, Problem,
    auth::Caller,
    commands::{Person, named, with_key},
    request::{CommandHeaders, Limited},
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
        let claimed =
            tokio::spawn(async move { api.orchestrator.claim_next(&*api.store, &request).await });
        let claimed = claimed.await.map_err(|_| Problem::internal())?;
        Ok::<_, Problem>(claimed?)
    };
    let answer = match claim.await {
        Ok(Some(place)) => Json(place).into_response(),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => problem.into_response(),
    };
    with_key(answer, &key)
}
