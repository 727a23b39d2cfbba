//! The tokens file: who may call the HTTP API, and what each token permits.

use std::{fmt, fs, path::Path, sync::Arc};

use glyph_workflow_engine::ids::UserId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What a token permits; each role includes the roles before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read everything.
    Viewer,
    /// Start tasks, submit, claim and release slots.
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

/// The known tokens, stored as hashes.
#[derive(Clone, Default)]
pub struct Tokens {
    known: Arc<Vec<Token>>,
}

#[derive(Clone, Debug)]
struct Token {
    hash: [u8; 32],
    holder: TokenHolder,
}

/// The holder of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// What the token permits.
    pub role: Role,
    /// The user that the token belongs to; none if it may act for any user.
    pub user: Option<UserId>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.known.len())
    }
}

/// The tokens file cannot be used.
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

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
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

    /// The holder of a token, if the token is known.
    pub fn holder(&self, token: &str) -> Option<TokenHolder> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // All hashes are compared whichever matches, so that timing reveals nothing.
        let matching = self.known.iter().filter(|token| same(&token.hash, &hash));
        matching.fold(None, |_, token| Some(token.holder))
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
            holder: TokenHolder { role, user },
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

/// Compares in constant time, wherever the two differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter()
        .zip(b)
        .fold(0, |difference, (a, b)| difference | (a ^ b))
        == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

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
}
