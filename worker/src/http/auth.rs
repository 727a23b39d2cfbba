//! Admits callers: the page that a request comes from, the token, and the role.

use std::sync::Arc;

use axum::{
    body::HttpBody,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    command::{Authority, Sender},
    ids::UserId,
};

use super::{
    Problem,
    access::{Access, Sight},
    cookie,
};
use crate::settings::{Role, TokenHolder, TokenRefusal, Tokens};

/// The caller of a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) holder: Arc<TokenHolder>,
    sight: Sight,
}

impl Caller {
    /// Whether the caller sees the secrets of workflows and all that is known of gold tasks.
    pub(super) fn sees_everything(&self) -> bool {
        self.sight == Sight::Everything
    }

    /// The person whose own work is all that the caller sees; none if the caller sees more.
    pub(super) fn annotator(&self) -> Option<UserId> {
        self.holder.user.filter(|_| self.sight == Sight::Own)
    }

    /// The caller as the sender of a command.
    pub(super) fn sender(&self) -> Sender {
        let authority = match self.holder.role {
            Role::Operator => Authority::Operator,
            Role::Viewer | Role::Producer => Authority::Producer,
            Role::Annotator => Authority::Annotator {
                skills: self.holder.skills.clone(),
            },
        };
        Sender {
            name: Some(self.holder.name.clone()),
            authority,
        }
    }
}

/// The page that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// One of this origin, or a program that is no browser.
    Own,
    /// One of an origin that is listed.
    Listed,
}

/// The conditions of one operation.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) tokens: Tokens,
    /// Origins whose pages may call.
    pub(super) origins: Arc<[HeaderValue]>,
    pub(super) access: Access,
    /// The type of the body, where the operation reads one.
    pub(super) media_type: Option<&'static str>,
}

/// Admits a request to an operation, or refuses it before anything else is read.
pub(super) async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    match gate.caller(&request, Utc::now()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

impl Gate {
    fn caller(&self, request: &Request, now: DateTime<Utc>) -> Result<Caller, Problem> {
        let headers = request.headers();
        let page = self.page(headers)?;
        let holder = self.holder(headers, page, now)?;
        let Some(sight) = self.access.sight(holder.role) else {
            return Err(Problem::forbidden(format!(
                "this needs one of the roles {}; the token has `{}`",
                self.access.roles().join(", "),
                holder.role.as_str()
            )));
        };
        self.check_media_type(request)?;
        Ok(Caller { holder, sight })
    }

    /// The holder of the token in the headers. A cookie counts only for a page of this origin.
    fn holder(
        &self,
        headers: &HeaderMap,
        page: Page,
        now: DateTime<Utc>,
    ) -> Result<Arc<TokenHolder>, Problem> {
        if !self.tokens.required() {
            return Ok(Arc::default());
        }
        let sent = bearer(headers).map(str::to_owned);
        let of_session = || cookie::token(headers).filter(|_| page == Page::Own);
        let token = sent.or_else(of_session).ok_or_else(|| {
            Problem::unauthenticated("send a known token: `Authorization: Bearer …`")
        })?;
        self.tokens
            .holder(&token, now)
            .map_err(|refusal| match refusal {
                TokenRefusal::Unknown => {
                    Problem::unauthenticated("send a known token: `Authorization: Bearer …`")
                }
                TokenRefusal::Expired(at) => {
                    Problem::unauthenticated(format!("the token expired at {}", at.to_rfc3339()))
                }
            })
    }

    /// Refuses requests that a browser sends for a page of another origin, which could else command
    /// the worker in the name of whoever looks at the page. Other ports of this machine are other
    /// origins too.
    fn page(&self, headers: &HeaderMap) -> Result<Page, Problem> {
        let origin = headers.get(header::ORIGIN);
        let is_listed = origin.is_some_and(|origin| self.origins.contains(origin));
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        if !self.tokens.required() && host.is_some_and(|host| !is_loopback(host)) {
            return Err(Problem::forbidden(
                "without tokens the API serves this machine alone: `Host` must be localhost or a \
                 loopback address",
            ));
        }
        let is_same = |origin: &HeaderValue| {
            let origin = origin.as_bytes();
            let authority = [&b"http://"[..], b"https://"]
                .into_iter()
                .find_map(|scheme| origin.strip_prefix(scheme));
            authority
                .zip(host)
                .is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
        };
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let crosses = matches!(site, Some(b"cross-site" | b"same-site"));
        // Behind a proxy that changes `Host`, the browser still knows.
        let is_vouched = is_listed && site == Some(b"same-origin");
        if !crosses && (is_vouched || origin.is_none_or(is_same)) {
            return Ok(Page::Own);
        }
        if is_listed {
            return Ok(Page::Listed);
        }
        Err(Problem::forbidden(
            "a page of another origin asked: list its origin in GLYPH_CORS_ORIGINS if it may",
        ))
    }

    /// Refuses a body of another type. A browser sends JSON and YAML for another origin only after
    /// it has asked, and plain text or a form without asking.
    fn check_media_type(&self, request: &Request) -> Result<(), Problem> {
        let Some(expected) = self.media_type.filter(|_| !request.body().is_end_stream()) else {
            return Ok(());
        };
        let sent = request.headers().get(header::CONTENT_TYPE);
        let sent = sent.and_then(|sent| sent.to_str().ok());
        let essence = sent.and_then(|sent| sent.split(';').next()).map(str::trim);
        if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(expected)) {
            return Ok(());
        }
        Err(Problem::unsupported_media_type(expected))
    }
}

/// The token in the headers.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let sent = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = sent.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn is_loopback(authority: &[u8]) -> bool {
    let Ok(authority) = std::str::from_utf8(authority) else {
        return false;
    };
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}
