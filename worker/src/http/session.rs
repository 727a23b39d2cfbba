//! Sessions of the web console: a browser signs in with a token and keeps it in a cookie.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::ids::UserId;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api, Problem,
    access::Access,
    auth::{Caller, bearer},
    cookie,
    operation::Operation,
};

/// The operations on sessions.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/ui/session", "show_session", show)
            .access(Access::ANYBODY)
            .summary("Who the caller is")
            .answers::<Session>(200, "The role and name of the token"),
        Operation::post("/ui/session", "sign_in", sign_in)
            .access(Access::ANYBODY)
            .summary("Exchange the token for a cookie, for pages of this origin")
            .answers::<Session>(200, "The role and name of the token; the cookie is set"),
        Operation::delete("/ui/session", "sign_out", sign_out)
            .open()
            .summary("Delete the cookie")
            .answers_nothing(204, "The cookie is deleted"),
    ]
}

/// Who the caller is.
#[derive(Serialize, JsonSchema)]
pub(super) struct Session {
    /// The role of the token.
    role: &'static str,
    /// Its name, as events and rows keep it.
    name: String,
    /// The user that it belongs to.
    user_id: Option<UserId>,
    /// Whether callers need a token at all.
    tokens: bool,
    /// The version of the worker.
    version: &'static str,
}

impl Session {
    fn of(caller: &Caller, api: &Api) -> Self {
        Self {
            role: caller.holder.role.as_str(),
            name: caller.holder.name.clone(),
            user_id: caller.holder.user,
            tokens: api.tokens.required(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

async fn show(State(api): State<Api>, caller: Caller) -> Json<Session> {
    Json(Session::of(&caller, &api))
}

async fn sign_in(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut response = Json(Session::of(&caller, &api)).into_response();
    if let Some(token) = bearer(&headers).filter(|_| api.tokens.required()) {
        cookie::set(&mut response, &headers, token)?;
    }
    Ok(response)
}

async fn sign_out(headers: HeaderMap) -> Result<Response, Problem> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    cookie::delete(&mut response, &headers)?;
    Ok(response)
}
