//! Authentication and roles.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::ids::UserId;

use super::Problem;
use crate::settings::{Role, TokenHolder, Tokens};

/// The caller of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    role: Role,
    /// The user that the token belongs to; none if it may act for any user.
    pub(super) user: Option<UserId>,
}

impl Caller {
    /// Whether the token belongs to a single annotator, who must not learn which tasks are gold.
    pub(super) fn is_annotator(self) -> bool {
        self.user.is_some() && self.role < Role::Operator
    }

    /// Refuses tokens of annotators, who are not told how people and answers are judged.
    pub(super) fn require_no_annotator(self) -> Result<(), Problem> {
        if self.is_annotator() {
            let why = "a token that names a user does not see how people are judged";
            return Err(Problem::forbidden(why));
        }
        Ok(())
    }

    /// Refuses callers below `role`.
    pub(super) fn require(self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        Err(Problem::forbidden(format!(
            "this needs the role `{}`; the token has `{}`",
            role.as_str(),
            self.role.as_str()
        )))
    }
}

/// The caller whose known token is in the headers.
fn caller(tokens: &Tokens, headers: &HeaderMap) -> Option<Caller> {
    let sent = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = sent.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let TokenHolder { role, user } = tokens.holder(token.trim())?;
    Some(Caller { role, user })
}

/// Authenticates the caller before anything else is read. Each operation checks the role itself.
pub(super) async fn authenticate(
    State(tokens): State<Tokens>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = if tokens.required() {
        caller(&tokens, request.headers()).ok_or_else(Problem::unauthenticated)
    } else if from_elsewhere(request.headers()) {
        Err(Problem::forbidden(
            "without tokens the API serves this machine alone; a page of another origin asked",
        ))
    } else {
        Ok(Caller {
            role: Role::Operator,
            user: None,
        })
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Whether a browser sends the request for a page that does not come from this machine. Without
/// this check, any page could command a worker that listens on loopback without tokens.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    let named = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let origin = named(header::ORIGIN).map(|origin| {
        origin
            .split_once("://")
            .map_or(origin, |(_, authority)| authority)
    });
    [origin, named(header::HOST)]
        .into_iter()
        .flatten()
        .any(|authority| !is_loopback(authority))
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        let user = Uuid::from_u128(7);
        let file = format!("# people\nproducer:{HASH}:{user}  # Ada\n\n");
        let tokens = Tokens::parse(&file).unwrap();
        let caller = |sent| caller(&tokens, &headers(header::AUTHORIZATION, sent));
        let known = caller("Bearer secret").unwrap();
        assert_eq!(
            (known.role, known.user),
            (Role::Producer, Some(UserId(user)))
        );
        assert!(caller("Bearer other").is_none());
        assert!(caller("Basic secret").is_none());
        assert!(known.require(Role::Viewer).is_ok());
        assert!(known.require(Role::Operator).is_err());
    }

    #[test]
    fn pages_of_other_origins_are_refused_without_tokens() {
        assert!(from_elsewhere(&headers(
            header::ORIGIN,
            "https://example.org"
        )));
        assert!(from_elsewhere(&headers(
            header::HOST,
            "rebound.example.org:8080"
        )));
        assert!(!from_elsewhere(&headers(header::HOST, "127.0.0.1:8080")));
        assert!(!from_elsewhere(&headers(header::HOST, "[::1]:8080")));
        assert!(!from_elsewhere(&headers(
            header::ORIGIN,
            "http://localhost:8080"
        )));
        assert!(!from_elsewhere(&HeaderMap::new()));
    }
}
