//! Paths inside a document: `workflow.transitions[1].to`.

use std::{fmt, rc::Rc};

/// Characters of a key that a path shows.
const KEY_SHOWN_MAX: usize = 80;

/// One step down into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Key(Rc<str>),
    Index(usize),
}

/// A path into the source document, shared by its prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Option<Rc<Link>>);

#[derive(Debug, PartialEq, Eq)]
struct Link {
    parent: Path,
    segment: Segment,
}

impl Path {
    pub(super) fn root() -> Self {
        Self(None)
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.join(Segment::Key(key.into()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.join(Segment::Index(index))
    }

    fn join(&self, segment: Segment) -> Self {
        Self(Some(Rc::new(Link {
            parent: self.clone(),
            segment,
        })))
    }

    /// Whether this is `other` or lies below it.
    pub(super) fn is_in(&self, other: &Self) -> bool {
        let (own, others) = (self.segments(), other.segments());
        own.len() >= others.len() && own[..others.len()] == others
    }

    /// From the root down.
    pub(super) fn segments(&self) -> Vec<&Segment> {
        let mut segments = Vec::new();
        let mut at = self;
        while let Some(link) = &at.0 {
            segments.push(&link.segment);
            at = &link.parent;
        }
        segments.reverse();
        segments
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.segments().into_iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_plain(key) => {
                    write!(f, "{}{key}", if at == 0 { "" } else { "." })?;
                }
                Segment::Key(key) => write!(f, "[{:?}]", shown(key, KEY_SHOWN_MAX))?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    (1..=KEY_SHOWN_MAX).contains(&key.len())
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

/// The text, cut to `max` characters.
pub(super) fn shown(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_in_the_documentation() {
        let path = Path::root()
            .key("workflow")
            .key("transitions")
            .index(1)
            .key("to");
        assert_eq!(path.to_string(), "workflow.transitions[1].to");
        assert_eq!(Path::root().to_string(), "");
        assert_eq!(Path::root().key("a b").key("c").to_string(), "[\"a b\"].c");
        assert!(Path::root().key(&"k".repeat(10_000)).to_string().len() < 100);
    }
}
