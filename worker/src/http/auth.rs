//! Who may call what.

use std::{fmt, fs, path::Path, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::ids::UserId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Problem;

/// What a token allows; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    Viewer,
    /// Start tasks, submit, claim and give back places.
    Producer,
    /// Create workflows; pause, resume, cancel, retry.
    Operator,
}

impl Role {
    /// The name in the tokens file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Producer => "producer",
            Self::Operator => "operator",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Producer, Self::Operator]
            .into_iter()
            .find(|r| r.as_str() == name)
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    role: Role,
    /// The person that the token stands for; any, where it names none.
    pub(super) user: Option<UserId>,
}

impl Caller {
    /// Whether it is an annotator's own token: what tells gold tasks from others is kept from it.
    pub(super) fn is_annotator(self) -> bool {
        self.user.is_some() && self.role < Role::Operator
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

/// Known tokens, as hashes.
#[derive(Clone, Default)]
pub struct Tokens {
    known: Arc<Vec<Token>>,
}

#[derive(Clone, Debug)]
struct Token {
    hash: [u8; 32],
    caller: Caller,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.known.len())
    }
}

/// A tokens file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tokens file {path}: {fault}")]
pub struct TokenError {
    path: String,
    fault: String,
}

impl Tokens {
    /// Reads a file of lines `role:sha256hex[:user_uuid]`; `#` begins a comment.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let refused = |fault: String| TokenError {
            path: path.display().to_string(),
            fault,
        };
        let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        Self::parse(&text).map_err(refused)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().filter_map(|(index, line)| {
            let line = line.split('#').next().unwrap_or_default().trim();
            (!line.is_empty()).then(|| {
                // The line itself stays out of the message: it might hold a token unhashed.
                Token::parse(line).ok_or_else(|| {
                    format!(
                        "line {} is not `role:sha256hex[:user_uuid]` with a role of viewer, \
                         producer or operator (printf %s TOKEN | sha256sum)",
                        index + 1
                    )
                })
            })
        });
        let known: Vec<Token> = lines.collect::<Result<_, _>>()?;
        if known.is_empty() {
            return Err("holds no token, so nobody could call anything".to_owned());
        }
        Ok(Self {
            known: Arc::new(known),
        })
    }

    /// Whether callers need a token at all.
    pub fn required(&self) -> bool {
        !self.known.is_empty()
    }

    fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let sent = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = sent.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        // All are compared, whichever matches: the time tells nothing.
        let matching = self.known.iter().filter(|token| same(&token.hash, &hash));
        matching.fold(None, |_, token| Some(token.caller))
    }
}

impl Token {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(':').map(str::trim);
        let role = Role::from_name(parts.next()?)?;
        let hash = unhex(parts.next()?)?;
        let user = match parts.next() {
            None => None,
            Some(id) => Some(UserId(Uuid::parse_str(id).ok()?)),
        };
        parts.next().is_none().then_some(Self {
            hash,
            caller: Caller { role, user },
        })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> = (0..32)
        .map(|i| {
            text.get(2 * i..2 * i + 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        })
        .collect();
    (text.len() == 64).then(|| bytes?.try_into().ok())?
}

/// Compares in a time that does not depend on where the two differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter()
        .zip(b)
        .fold(0, |difference, (a, b)| difference | (a ^ b))
        == 0
}

/// Finds out who calls, before anything else is looked at. Whether they may is said by the role of
/// the operation.
pub(super) async fn authenticate(
    State(tokens): State<Tokens>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = if tokens.required() {
        tokens
            .caller(request.headers())
            .ok_or_else(Problem::unauthenticated)
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

/// Whether a browser asks on behalf of a page that does not come from this machine: without this,
/// any page could command a worker that listens on loopback without tokens.
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
        let caller = tokens
            .caller(&headers(header::AUTHORIZATION, "Bearer secret"))
            .unwrap();
        assert_eq!(
            (caller.role, caller.user),
            (Role::Producer, Some(UserId(user)))
        );
        assert!(
            tokens
                .caller(&headers(header::AUTHORIZATION, "Bearer other"))
                .is_none()
        );
        assert!(
            tokens
                .caller(&headers(header::AUTHORIZATION, "Basic secret"))
                .is_none()
        );
        assert!(caller.require(Role::Viewer).is_ok());
        assert!(caller.require(Role::Operator).is_err());
    }

    #[test]
    fn faults_of_a_tokens_file_name_the_line_but_never_quote_it() {
        for bad in [
            "chief:00",
            "viewer:secret",
            "viewer",
            &format!("viewer:{HASH}:me"),
        ] {
            let fault = Tokens::parse(&format!("\n{bad}\n")).unwrap_err();
            assert!(
                fault.starts_with("line 2 ") && !fault.contains("secret"),
                "{fault}"
            );
        }
        assert!(Tokens::parse("# nobody\n").is_err());
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
