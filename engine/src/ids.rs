//! Identifiers. Each kind of UUID has a type of its own, and a slug is checked when it is made.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }
    )+};
}

uuid_id! {
    /// One item to label; also the id of its event stream.
    TaskId;
    /// The idempotency key of a command.
    CommandId;
    /// A person (or program) who annotates, reviews or adjudicates.
    UserId;
    /// One immutable revision of a workflow.
    RevisionId;
}

/// What a name in the URL namespace begins with; the kind and the key follow.
const KEY_PREFIX: &str = "glyph";

/// The UUID of somebody's own key: the UUIDv5 of `glyph:KIND:KEY` in the URL namespace. A key that is
/// a UUID with its hyphens stands for itself.
fn of_key(kind: &str, key: &str) -> Uuid {
    const HYPHENATED_LENGTH: usize = 36;
    match Uuid::try_parse(key) {
        Ok(id) if key.len() == HYPHENATED_LENGTH => id,
        _ => Uuid::new_v5(
            &Uuid::NAMESPACE_URL,
            format!("{KEY_PREFIX}:{kind}:{key}").as_bytes(),
        ),
    }
}

impl UserId {
    /// The id of a person whom another system knows by `key`, such as a number or an e-mail address:
    /// the UUIDv5 of `glyph:user:KEY` in the URL namespace. A UUID stands for itself.
    ///
    /// ```
    /// use glyph_workflow_engine::ids::UserId;
    /// let id = UserId::of_key("ann@example.org");
    /// assert_eq!(id.to_string(), "d0c09171-b31a-5b60-a524-e7dbc8000eae");
    /// ```
    #[must_use]
    pub fn of_key(key: &str) -> Self {
        Self(of_key("user", key))
    }
}

impl TaskId {
    /// The id of a task that another system knows by `key`: the UUIDv5 of `glyph:task:KEY` in the URL
    /// namespace. A UUID stands for itself.
    ///
    /// ```
    /// use glyph_workflow_engine::ids::TaskId;
    /// let id = TaskId::of_key("item-1");
    /// assert_eq!(id.to_string(), "2101c8a5-785e-51e4-9e10-a54fddf79d16");
    /// ```
    #[must_use]
    pub fn of_key(key: &str) -> Self {
        Self(of_key("task", key))
    }

    /// The id of the `n`th child task that a visit of a `sub_workflow` step requests: the UUIDv5 of
    /// the parent and `STEP/VISIT`, or `STEP/VISIT/N` for later children of the visit (`n` > 1).
    #[must_use]
    pub fn child(self, step: &StepId, visit: u32, n: u32) -> Self {
        let name = match n {
            0 | 1 => format!("{step}/{visit}"),
            n => format!("{step}/{visit}/{n}"),
        };
        Self(Uuid::new_v5(&self.0, name.as_bytes()))
    }
}

/// The id of a log: drawn when the database is migrated first, and anew by a restore to an earlier
/// time. Nil for a log that nobody else reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub Uuid);

impl LogId {
    /// The id of the event that brings a task to `version`.
    ///
    /// Derived, not random: every process that decides the event of version `n` gives it the same
    /// id, so a retry after an unknown commit cannot rename a message that is already published.
    /// The log is a part of it, because after a restore version `n` may be another event.
    #[must_use]
    pub fn event_id(self, task: TaskId, version: u64) -> Uuid {
        Uuid::new_v5(&self.0, format!("event/{task}/{version}").as_bytes())
    }

    /// The id in this log of a message that no event of a task stands for, known by `name`
    /// whatever the log.
    #[must_use]
    pub fn message_id(self, name: Uuid) -> Uuid {
        Uuid::new_v5(&self.0, name.as_bytes())
    }
}

/// The ids of a log by time. A restore to an earlier time gives it another one; what happened before has
/// the old one, also where it is found later, or counted anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogIds {
    /// The id that it has now.
    pub present: LogId,
    /// Those of before, the oldest first.
    pub former: Vec<FormerLogId>,
}

/// The id of a log until a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerLogId {
    /// The id.
    pub log_id: LogId,
    /// When it was restored.
    pub until: DateTime<Utc>,
}

impl LogIds {
    /// The id that the log had at an instant.
    #[must_use]
    pub fn at(&self, instant: DateTime<Utc>) -> LogId {
        let former = self.former.iter().find(|former| instant < former.until);
        former.map_or(self.present, |former| former.log_id)
    }
}

/// A name people write in YAML and routing keys: `[a-z0-9][a-z0-9_-]{0,63}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Slug(
    #[schemars(with = "String", regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,63}$"))] Arc<str>,
);

/// The id of a workflow, shared by all its revisions.
pub type WorkflowId = Slug;
/// The id of a step within its workflow.
pub type StepId = Slug;

/// The text is not a slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a valid id: 1 to 64 of a-z, 0-9, `_` and `-`, starting with a letter or digit"
)]
pub struct InvalidSlug {
    /// The text.
    pub text: String,
}

impl Slug {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, InvalidSlug> {
        let mut bytes = text.bytes();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let valid = text.len() <= 64
            && bytes.next().is_some_and(plain)
            && bytes.all(|b| plain(b) || b == b'_' || b == b'-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSlug {
                text: text.chars().take(80).collect(),
            })
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Slug {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Slug {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Slug {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Slug {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Slug {
    type Err = InvalidSlug;
    fn from_str(text: &str) -> Result<Self, InvalidSlug> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Slug {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// How a command or file names a workflow: its id, `id@revision`, or the revision's UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WorkflowSelector {
    /// The latest revision of this id.
    Latest(WorkflowId),
    /// One numbered revision.
    Numbered(WorkflowId, u32),
    /// One revision by its UUID.
    Revision(RevisionId),
}

/// The text does not name a workflow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is neither a workflow id, nor `id@revision`, nor a revision's UUID")]
pub struct InvalidSelector {
    /// The text.
    pub text: String,
}

impl WorkflowSelector {
    /// Whether this selector can mean a task of `workflow` (at `revision_id`).
    /// Only the workflow counts, not the revision number: a running task keeps its own revision.
    pub fn names(&self, workflow: &WorkflowId, revision_id: RevisionId) -> bool {
        match self {
            Self::Latest(id) | Self::Numbered(id, _) => id == workflow,
            Self::Revision(id) => *id == revision_id,
        }
    }
}

impl FromStr for WorkflowSelector {
    type Err = InvalidSelector;
    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let invalid = || InvalidSelector {
            text: text.chars().take(120).collect(),
        };
        if let Ok(id) = Uuid::try_parse(text) {
            return Ok(Self::Revision(RevisionId(id)));
        }
        match text.split_once('@') {
            Some((id, revision)) => Ok(Self::Numbered(
                Slug::new(id).map_err(|_| invalid())?,
                revision.parse().map_err(|_| invalid())?,
            )),
            None => Slug::new(text).map(Self::Latest).map_err(|_| invalid()),
        }
    }
}

impl fmt::Display for WorkflowSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest(id) => id.fmt(f),
            Self::Numbered(id, revision) => write!(f, "{id}@{revision}"),
            Self::Revision(id) => id.fmt(f),
        }
    }
}

impl Serialize for WorkflowSelector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkflowSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for WorkflowSelector {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WorkflowSelector".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A workflow id, `id@revision`, or a revision's UUID."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_checked_at_their_edges() {
        assert!(Slug::new("a").is_ok());
        assert!(Slug::new("9_a-b").is_ok());
        assert!(Slug::new(&"a".repeat(64)).is_ok());
        for bad in ["", "_a", "-a", "A", "a b", "ä", &"a".repeat(65)] {
            assert!(Slug::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_has_one_id_and_a_uuid_stands_for_itself() {
        let own = "0190A6E0-0000-7000-8000-000000000001";
        assert_eq!(TaskId::of_key(own), own.parse().unwrap());
        assert_eq!(UserId::of_key(own), own.parse().unwrap());
        // Thirty-two hexadecimal digits are a hash more often than a UUID.
        let hash = "d41d8cd98f00b204e9800998ecf8427e";
        let name = format!("glyph:task:{hash}");
        let derived = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
        assert_eq!(TaskId::of_key(hash), TaskId(derived));
        assert_ne!(TaskId::of_key("1").0, UserId::of_key("1").0);
    }

    #[test]
    fn selectors_read_all_three_forms() {
        assert_eq!(
            "a-b".parse(),
            Ok(WorkflowSelector::Latest(Slug::new("a-b").unwrap()))
        );
        assert_eq!(
            "a@2".parse(),
            Ok(WorkflowSelector::Numbered(Slug::new("a").unwrap(), 2))
        );
        let id = Uuid::from_u128(7);
        assert_eq!(
            id.to_string().parse(),
            Ok(WorkflowSelector::Revision(RevisionId(id)))
        );
        assert!("a@x".parse::<WorkflowSelector>().is_err());
    }
}
