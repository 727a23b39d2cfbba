//! Messages that the broker has refused.

use axum::{Json, extract::State};

use super::{
    Api, Problem,
    auth::Caller,
    operation::Operation,
    request::{Parameters, Path, page_limit, path_uuid},
};
use crate::operations::outbox::{DropFailure, DroppedMessage, OutboxList, drop_refused};

/// The operations on the outbox.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/outbox", "list_outbox", list)
            .summary("Messages that the broker has refused, oldest first, with the reason")
            .query("limit", "Messages to list.", page_limit())
            .answers::<OutboxList>(200, "The messages, and how many rows wait"),
        Operation::post(
            "/api/v1/outbox/{message_id}/drop",
            "drop_message",
            drop_message,
        )
        .summary(
            "Give up a message that the broker refuses, or what cannot be read: no consumer gets it, and \
             the later ones of its task go out",
        )
        .answers::<DroppedMessage>(200, "The message, and what giving it up leads to")
        .problems(&[404, 409]),
    ]
}

async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<OutboxList>, Problem> {
    let limit = parameters.take_limit()?;
    parameters.finish()?;
    Ok(Json(OutboxList::read(&*api.store, limit).await?))
}

async fn drop_message(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DroppedMessage>, Problem> {
    let id = path_uuid("message", &id)?;
    let dropped = drop_refused(&*api.store, id).await?;
    let key = dropped.routing_key.as_deref().unwrap_or("unreadable");
    let actor = &caller.holder.name;
    tracing::warn!(message_id = %id, routing_key = key, actor, "a refused message was given up");
    Ok(Json(dropped))
}

impl From<DropFailure> for Problem {
    fn from(failure: DropFailure) -> Self {
        match failure {
            DropFailure::NotRefused(id) => Self::not_found("refused message", id),
            DropFailure::BeingSent(_) => Self::rejected("being_sent", failure.to_string()),
            DropFailure::Store(error) => error.into(),
        }
    }
}
