//! The tokens file: who may call the HTTP API, and what each token permits.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{ids::UserId, limits, store::hex};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Longest name of a token, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Hexadecimal digits of a token's hash that stand for a token without a name.
const HASH_DIGITS_SHOWN: usize = 8;

/// What a token permits. Which operation each role may call stands with the routes of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Read everything but the secrets of workflows.
    Viewer,
    /// Do the work of one person, and see nothing but that.
    Annotator,
    /// Start tasks, and submit, claim and release for anybody.
    Producer,
    /// Everything: create workflows; pause, resume, cancel, retry.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [
        Self::Viewer,
        Self::Annotator,
        Self::Producer,
        Self::Operator,
    ];

    /// The name in the tokens file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Annotator => "annotator",
            Self::Producer => "producer",
            Self::Operator => "operator",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == name)
    }
}

/// The holder of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// What the token permits.
    pub role: Role,
    /// The user that the token belongs to. An annotator has one.
    pub user: Option<UserId>,
    /// The name that events and rows keep; where the file gives none, the role and the first
    /// digits of the hash.
    pub name: String,
    /// The roles of an annotator.
    pub roles: Vec<String>,
    /// The skills of an annotator.
    pub skills: Vec<String>,
}

/// The known tokens, stored as hashes. Clones share them, so that a reload reaches all.
#[derive(Clone, Default)]
pub struct Tokens(Arc<TokenFile>);

#[derive(Default)]
struct TokenFile {
    /// None where the API needs no tokens.
    path: Option<PathBuf>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// Hash of the file's content.
    content: [u8; 32],
    tokens: Vec<Token>,
}

#[derive(Clone, Debug)]
struct Token {
    hash: [u8; 32],
    expires: Option<DateTime<Utc>>,
    holder: Arc<TokenHolder>,
}

/// A token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// The file does not have it.
    Unknown,
    /// Its time ended then.
    Expired(DateTime<Utc>),
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.len())
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
    /// Reads a file with one token a line: `role:sha256-hex[:user]`, then keys separated by blanks
    /// (`roles=a+b`, `skills=a+b`, `name=…`, `expires=RFC 3339`); `#` begins a comment.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a line of it; the error names the line and never quotes it.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let known = Known::read(path)?;
        Ok(Self(Arc::new(TokenFile {
            path: Some(path.to_owned()),
            known: RwLock::new(known),
        })))
    }

    /// Reads the file again. Returns how many tokens there are now, or none if the content is the
    /// same. The content decides, not its time: a mounted secret is swapped by a symlink.
    ///
    /// # Errors
    ///
    /// As [`Self::from_file`]; the tokens known before stay.
    pub fn reload(&self) -> Result<Option<usize>, TokenError> {
        let Some(path) = &self.0.path else {
            return Ok(None);
        };
        let read = Known::read(path)?;
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.content == read.content {
            return Ok(None);
        }
        *known = read;
        Ok(Some(known.tokens.len()))
    }

    /// Whether callers need a token at all.
    pub fn required(&self) -> bool {
        self.0.path.is_some()
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.read().tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The holder of a token at a time.
    ///
    /// # Errors
    ///
    /// The token is unknown, or its time is over.
    pub fn holder(
        &self,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Arc<TokenHolder>, TokenRefusal> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = self.read();
        // All hashes are compared whichever matches, so that timing reveals nothing.
        let matching = known.tokens.iter().filter(|token| same(&token.hash, &hash));
        let token = matching.fold(None, |_, token| Some(token));
        let token = token.ok_or(TokenRefusal::Unknown)?;
        match token.expires.filter(|expires| *expires <= now) {
            Some(expired) => Err(TokenRefusal::Expired(expired)),
            None => Ok(Arc::clone(&token.holder)),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn read(path: &Path) -> Result<Self, TokenError> {
        let refused = |fault: String| TokenError {
            path: path.display().to_string(),
            fault,
        };
        let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        Self::parse(&text).map_err(refused)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut lines: BTreeMap<[u8; 32], usize> = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let mut words = line
                .split_whitespace()
                .take_while(|word| !word.starts_with('#'));
            let Some(first) = words.next() else { continue };
            // The line itself stays out of the message: it might hold a token unhashed.
            let token =
                Token::parse(first, words).map_err(|fault| format!("line {number} {fault}"))?;
            if let Some(earlier) = lines.insert(token.hash, number) {
                return Err(format!(
                    "line {number} has the same token as line {earlier}; keep one of them"
                ));
            }
            tokens.push(token);
        }
        if tokens.is_empty() {
            return Err("holds no token, so nobody could call anything".to_owned());
        }
        Ok(Self {
            content: Sha256::digest(text.as_bytes()).into(),
            tokens,
        })
    }
}

impl Token {
    /// Reads a line by its words. The error goes on a sentence that begins with the line.
    fn parse<'w>(first: &str, keys: impl Iterator<Item = &'w str>) -> Result<Self, String> {
        let mut parts = first.split(':');
        let role = parts.next().and_then(Role::from_name);
        let hash = parts.next().and_then(unhex);
        let user = parts.next().map(Uuid::try_parse).transpose();
        let (Some(role), Some(hash), Ok(user), None) = (role, hash, user, parts.next()) else {
            return Err(
                "is not `role:sha256-hex[:user]` with a role of viewer, annotator, producer or \
                 operator and a UUID as user (printf %s TOKEN | sha256sum)"
                    .to_owned(),
            );
        };
        match (role, user) {
            (Role::Annotator, None) => {
                return Err("is an annotator's and names no user: write \
                            `annotator:sha256-hex:user`"
                    .to_owned());
            }
            (Role::Producer, Some(_)) => {
                return Err(
                    "is a producer's and names a user: use annotator, which acts as that \
                            user, or leave the user out"
                        .to_owned(),
                );
            }
            _ => {}
        }
        let mut token = Self {
            hash,
            expires: None,
            holder: Arc::default(),
        };
        let mut holder = TokenHolder {
            role,
            user: user.map(UserId),
            name: format!("{}-{}", role.as_str(), first_digits(&hash)),
            roles: Vec::new(),
            skills: Vec::new(),
        };
        let mut seen = Vec::new();
        for word in keys {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            if seen.contains(&key) {
                return Err(format!("has `{}` twice", clip(key)));
            }
            seen.push(key);
            match key {
                "roles" | "skills" if role != Role::Annotator => {
                    return Err(format!(
                        "has `{key}`, which only an annotator's token takes: others say in each \
                         request for whom they act"
                    ));
                }
                "roles" => holder.roles = names(key, value)?,
                "skills" => holder.skills = names(key, value)?,
                "name" => holder.name = token_name(value)?,
                "expires" => {
                    let time = DateTime::parse_from_rfc3339(value).map_err(|_| {
                        "has an `expires` that is no time as in RFC 3339: write \
                         `expires=2027-01-31T00:00:00Z`"
                            .to_owned()
                    })?;
                    token.expires = Some(time.with_timezone(&Utc));
                }
                _ => {
                    return Err(
                        "has something that is none of `roles=`, `skills=`, `name=`, `expires=`"
                            .to_owned(),
                    );
                }
            }
        }
        token.holder = Arc::new(holder);
        Ok(token)
    }
}

impl Default for TokenHolder {
    /// Whoever calls an API that needs no tokens: it serves this machine alone.
    fn default() -> Self {
        Self {
            role: Role::Operator,
            user: None,
            name: "http:local".to_owned(),
            roles: Vec::new(),
            skills: Vec::new(),
        }
    }
}

/// Names joined by `+`, each once.
fn names(key: &str, value: &str) -> Result<Vec<String>, String> {
    let named: Vec<String> = value.split('+').map(str::to_owned).collect();
    let bad = |name: &String| name.is_empty() || name.len() > limits::LABEL_BYTES_MAX;
    if named.iter().any(bad) || named.len() > limits::ROLES_MAX {
        return Err(format!(
            "has `{key}` that are not names joined by `+`, as `{key}=a+b` (at most {} of {} bytes)",
            limits::ROLES_MAX,
            limits::LABEL_BYTES_MAX
        ));
    }
    Ok(named)
}

/// No colon: those of accounts (`cli:`) and of the broker's users (`amqp:`) have one.
fn token_name(value: &str) -> Result<String, String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if (1..=NAME_BYTES_MAX).contains(&value.len()) && value.chars().all(plain) {
        Ok(value.to_owned())
    } else {
        Err(format!(
            "has a `name` that is not 1 to {NAME_BYTES_MAX} bytes of letters, digits, `-`, `_`, \
             `.` and `@`"
        ))
    }
}

fn clip(text: &str) -> String {
    text.chars().take(16).collect()
}

fn first_digits(hash: &[u8; 32]) -> String {
    let mut text = hex(hash);
    text.truncate(HASH_DIGITS_SHOWN);
    text
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..32)
        .map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok())
        .collect();
    bytes?.try_into().ok()
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

    /// Of the token `secret`.
    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    const USER: &str = "0190a6e0-0000-7000-8000-0000000000bb";

    fn fault(line: &str) -> String {
        Known::parse(&format!("\n{line}\n")).err().unwrap()
    }

    #[test]
    fn faults_of_a_tokens_file_name_the_line_but_never_quote_it() {
        for (bad, part) in [
            ("chief:00".to_owned(), "is not `role"),
            ("viewer:secret".to_owned(), "is not `role"),
            ("viewer".to_owned(), "is not `role"),
            (format!("viewer:{HASH}:me"), "is not `role"),
            (format!("viewer:+{}", &HASH[1..]), "is not `role"),
            (format!("operator:{HASH}:{USER}:x"), "is not `role"),
            (format!("annotator:{HASH}"), "names no user"),
            (format!("producer:{HASH}:{USER}"), "use annotator"),
            (format!("operator:{HASH} roles=a"), "only an annotator"),
            (format!("annotator:{HASH}:{USER} roles=a++b"), "joined by"),
            (format!("annotator:{HASH}:{USER} roles=a roles=b"), "twice"),
            (format!("viewer:{HASH} name=cli:root"), "`name`"),
            (format!("viewer:{HASH} expires=tomorrow"), "RFC 3339"),
            (format!("viewer:{HASH} secret"), "none of"),
        ] {
            let fault = fault(&bad);
            assert!(
                fault.starts_with("line 2 ") && fault.contains(part) && !fault.contains("secret"),
                "{bad}: {fault}"
            );
        }
        assert!(Known::parse("# nobody\n").is_err());
        let twice = Known::parse(&format!("viewer:{HASH}\noperator:{}", HASH.to_uppercase()));
        let twice = twice.err().unwrap();
        assert!(
            twice.starts_with("line 2 has the same token as line 1"),
            "{twice}"
        );
    }

    #[test]
    fn a_line_holds_everything_about_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let text = format!(
            "# people\n  annotator:{HASH}:{USER}  roles=annotator+reviewer skills=icd \
             name=ada@example.org expires=2027-01-31T00:00:00+01:00 # until she leaves\n"
        );
        fs::write(&path, text).unwrap();
        let tokens = Tokens::from_file(&path).unwrap();
        let at = |time: &str| time.parse::<DateTime<Utc>>().unwrap();
        let holder = tokens.holder("secret", at("2027-01-30T22:59:59Z")).unwrap();
        assert_eq!(holder.role, Role::Annotator);
        assert_eq!(holder.user, Some(USER.parse().unwrap()));
        assert_eq!(holder.roles, ["annotator", "reviewer"]);
        assert_eq!(
            (&*holder.skills, &*holder.name),
            (&["icd".to_owned()][..], "ada@example.org")
        );
        let end = at("2027-01-30T23:00:00Z");
        assert_eq!(
            tokens.holder("secret", end),
            Err(TokenRefusal::Expired(end))
        );
        assert_eq!(tokens.holder("other", end), Err(TokenRefusal::Unknown));
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_leaves_the_old_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let swap = |name: &str, text: &str| {
            // As a mounted secret is swapped: the path stays, what it links to is another file.
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            let _ = fs::remove_file(&path);
            std::os::unix::fs::symlink(&file, &path).unwrap();
        };
        swap("one", &format!("viewer:{HASH}"));
        let tokens = Tokens::from_file(&path).unwrap();
        let shared = tokens.clone();
        let role = || shared.holder("secret", DateTime::default()).unwrap().role;
        assert_eq!(tokens.reload(), Ok(None));
        swap("two", &format!("operator:{HASH} name=eve"));
        assert_eq!(role(), Role::Viewer);
        assert_eq!(tokens.reload(), Ok(Some(1)));
        assert_eq!(role(), Role::Operator);
        swap("three", "operator:");
        assert!(tokens.reload().is_err());
        assert_eq!(role(), Role::Operator);
        fs::remove_file(&path).unwrap();
        assert!(tokens.reload().is_err());
        assert!(shared.required());
    }
}
