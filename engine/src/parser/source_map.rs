//! Line and column of every part of a file, and the bounds that keep hostile files out.
//!
//! The reader handles the events of the YAML parser in one flat loop, so depth and aliases are
//! counted before they can do harm. An alias is counted with the weight of its target.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScanError, Span};

use super::{
    fault::{Faults, Spot},
    path::{Path, Segment},
    report::DiagnosticCode,
};
use crate::limits::{WORKFLOW_DEPTH_MAX, WORKFLOW_NODES_MAX};

/// Characters between two entries of the table that maps characters to bytes.
const STRIDE: usize = 256;
/// Most bytes that a diagnostic underlines.
const LENGTH_MAX: usize = 4_096;

/// The location of every part of a source.
pub(super) struct SourceMap<'a> {
    source: &'a str,
    /// The byte at which every line begins.
    lines: Vec<usize>,
    /// The byte of every [`STRIDE`]th character: the parser counts characters.
    strides: Vec<usize>,
    entries: Vec<Entry>,
    root: Option<usize>,
}

struct Entry {
    span: Span,
    kind: Kind,
}

enum Kind {
    Scalar,
    Map(Vec<(String, Span, usize)>),
    List(Vec<usize>),
    Alias(usize),
}

/// A part of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceSpan {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// A mapping or list whose end has not been reached yet.
struct Frame {
    entry: usize,
    path: Path,
    anchor: usize,
    weight_before: usize,
    height: usize,
    key: Option<(String, Span)>,
    seen: HashSet<String>,
    items: usize,
}

/// The target of an anchor.
#[derive(Clone, Copy)]
struct Anchored {
    entry: usize,
    weight: usize,
    height: usize,
}

struct SourceMapReader<'a, 'f> {
    positions: SourceMap<'a>,
    faults: &'f mut Faults,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Anchored>,
    weight: usize,
}

/// The file is refused; the fault has been reported.
pub(super) struct Refused;

impl<'a> SourceMap<'a> {
    /// Reads all events of `source`, which must have no byte order mark.
    ///
    /// Duplicate keys are reported without ending the read; any other fault ends it.
    pub(super) fn read(source: &'a str, faults: &mut Faults) -> Result<Self, Refused> {
        let positions = Self::nowhere(source);
        let mut reader = SourceMapReader {
            positions,
            faults,
            frames: Vec::new(),
            anchors: HashMap::new(),
            weight: 0,
        };
        let mut documents = 0;
        for event in Parser::new_from_str(source) {
            let (event, span) = event.map_err(|error| reader.unreadable(&error))?;
            if matches!(event, Event::DocumentStart(_)) {
                documents += 1;
                if documents > 1 {
                    let message = "the file holds more than one document";
                    return Err(reader.refuse(DiagnosticCode::YamlSyntax, span.start, message));
                }
            }
            reader.take(&event, span)?;
        }
        Ok(reader.positions)
    }

    /// A map without parts, for faults found before the source is read.
    pub(super) fn nowhere(source: &'a str) -> Self {
        let lines = source.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(lines).collect();
        let strides = source
            .char_indices()
            .step_by(STRIDE)
            .map(|(at, _)| at)
            .collect();
        Self {
            source,
            lines,
            strides,
            entries: Vec::new(),
            root: None,
        }
    }

    /// Whether there is nothing but blanks, comments and null.
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none_or(|root| {
            let entry = &self.entries[root];
            matches!(entry.kind, Kind::Scalar) && entry.span.is_empty()
        })
    }

    /// The location of a path, or of its nearest existing ancestor.
    pub(super) fn locate(&self, path: &Path, spot: &Spot) -> SourceSpan {
        if let Spot::Known { byte, length } = spot {
            return self.at_byte(*byte, *length);
        }
        let mut key: Option<Span> = None;
        let mut at = self.root;
        let mut exact = true;
        for segment in path.segments() {
            let below = match at.map(|at| &self.entries[self.behind_aliases(at)].kind) {
                Some(Kind::Map(entries)) => match segment {
                    Segment::Key(name) => entries
                        .iter()
                        .rev()
                        .find(|(key, _, _)| **key == **name)
                        .map(|(_, key, value)| (Some(*key), *value)),
                    Segment::Index(_) => None,
                },
                Some(Kind::List(items)) => match segment {
                    Segment::Index(index) => items.get(*index).map(|item| (None, *item)),
                    Segment::Key(_) => None,
                },
                Some(Kind::Scalar | Kind::Alias(_)) | None => None,
            };
            let Some((name, value)) = below else {
                exact = false;
                break;
            };
            (key, at) = (name, Some(value));
        }
        let Some(entry) = at.map(|at| &self.entries[at]) else {
            return SourceSpan {
                line: 1,
                column: 1,
                offset: 0,
                length: 0,
            };
        };
        match (key, spot) {
            (Some(key), Spot::Key) => self.of(key),
            (Some(key), _) if !exact => self.of(key),
            // A block below its key is best shown by the key; so is a missing value.
            (Some(key), _) if entry.span.start.line() != key.start.line() => self.of(key),
            (Some(key), _) if entry.span.is_empty() => self.of(key),
            (_, Spot::Within { text, byte }) => self.within(entry.span, text, *byte),
            _ => self.of(entry.span),
        }
    }

    fn behind_aliases(&self, mut at: usize) -> usize {
        // An alias points to an entry before it, so this ends.
        while let Kind::Alias(target) = self.entries[at].kind {
            at = target;
        }
        at
    }

    /// The location of a byte in a text, if the source has the text verbatim; otherwise the whole
    /// text.
    fn within(&self, span: Span, text: &str, byte: usize) -> SourceSpan {
        let whole = self.of(span);
        let slice = &self.source[whole.offset..whole.offset + whole.length];
        match slice.find(text) {
            Some(start) if !text.is_empty() => {
                let byte = byte.min(text.len());
                let length = text[byte..].chars().next().map_or(0, char::len_utf8);
                self.at_byte(whole.offset + start + byte, length)
            }
            _ => whole,
        }
    }

    fn at_byte(&self, byte: usize, length: usize) -> SourceSpan {
        let byte = byte.min(self.source.len());
        let line = self.lines.partition_point(|start| *start <= byte).max(1);
        let column = self.character(byte) - self.character(self.lines[line - 1]) + 1;
        SourceSpan {
            line,
            column,
            offset: byte,
            length,
        }
    }

    /// The byte of a line and column, both from 1.
    pub(super) fn byte_of(&self, line: usize, column: usize) -> usize {
        let Some(start) = self.lines.get(line.saturating_sub(1)) else {
            return self.source.len();
        };
        let rest = &self.source[*start..];
        start
            + rest
                .char_indices()
                .nth(column.saturating_sub(1))
                .map_or(rest.len(), |(at, _)| at)
    }

    fn of(&self, span: Span) -> SourceSpan {
        let offset = self.byte(span.start);
        let mut end = self.byte(span.end).clamp(offset, offset + LENGTH_MAX);
        while !self.source.is_char_boundary(end) {
            end -= 1;
        }
        let slice = &self.source[offset..end];
        // The parser extends quoted texts to the next token, comments included.
        let length = quoted_len(slice).unwrap_or_else(|| slice.trim_end().len());
        SourceSpan {
            line: span.start.line(),
            column: span.start.col() + 1,
            offset,
            length,
        }
    }

    /// The byte of a character.
    fn byte(&self, marker: Marker) -> usize {
        let Some(start) = self.strides.get(marker.index() / STRIDE) else {
            return self.source.len();
        };
        let mut chars = self.source[*start..].char_indices();
        chars
            .nth(marker.index() % STRIDE)
            .map_or(self.source.len(), |(at, _)| start + at)
    }

    /// The number of the character at a byte.
    fn character(&self, byte: usize) -> usize {
        let stride = self.strides.partition_point(|start| *start <= byte).max(1) - 1;
        let start = self.strides.get(stride).copied().unwrap_or_default();
        stride * STRIDE + self.source[start..byte].chars().count()
    }
}

/// The length of the quoted text that `slice` starts with, quotes included.
fn quoted_len(slice: &str) -> Option<usize> {
    let quote = slice.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = slice.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            // Two single quotes in a row stand for one.
            if quote == '"' || chars.peek().is_none_or(|(_, next)| *next != quote) {
                return Some(at + 1);
            }
            chars.next();
        }
    }
    None
}

impl SourceMapReader<'_, '_> {
    fn take(&mut self, event: &Event<'_>, span: Span) -> Result<(), Refused> {
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Scalar(text, _, anchor, _) => self.scalar(text, *anchor, span),
            Event::SequenceStart(anchor, _) => self.open(Kind::List(Vec::new()), *anchor, span),
            Event::MappingStart(anchor, _) => self.open(Kind::Map(Vec::new()), *anchor, span),
            Event::SequenceEnd | Event::MappingEnd => {
                self.close(span);
                Ok(())
            }
            Event::Alias(anchor) => self.alias(*anchor, span),
        }
    }

    fn scalar(&mut self, text: &str, anchor: usize, span: Span) -> Result<(), Refused> {
        self.weigh(1 + text.len() / 64, span)?;
        if let Some(frame) = self.frames.last_mut()
            && frame.key.is_none()
            && matches!(self.positions.entries[frame.entry].kind, Kind::Map(_))
        {
            if !frame.seen.insert(text.to_owned()) {
                let path = frame.path.key(text);
                let place = self.positions.of(span);
                let spot = Spot::Known {
                    byte: place.offset,
                    length: place.length,
                };
                self.faults
                    .add(
                        DiagnosticCode::DuplicateKey,
                        &path,
                        format!("the key `{text}` stands here twice"),
                    )
                    .at(spot)
                    .suggest("remove or rename one of the two");
            }
            frame.key = Some((text.to_owned(), span));
            return Ok(());
        }
        let weight = 1 + text.len() / 64;
        let (entry, _) = self.attach(Kind::Scalar, span)?;
        self.anchor(
            anchor,
            Anchored {
                entry,
                weight,
                height: 0,
            },
        );
        Ok(())
    }

    fn open(&mut self, kind: Kind, anchor: usize, span: Span) -> Result<(), Refused> {
        self.weigh(1, span)?;
        let weight_before = self.weight - 1;
        let (entry, path) = self.attach(kind, span)?;
        self.frames.push(Frame {
            entry,
            path,
            anchor,
            weight_before,
            height: 1,
            key: None,
            seen: HashSet::new(),
            items: 0,
        });
        self.check_depth(0, span)
    }

    fn close(&mut self, span: Span) {
        let Some(frame) = self.frames.pop() else {
            return;
        };
        let entry = &mut self.positions.entries[frame.entry];
        entry.span = Span::new(entry.span.start, span.end);
        if let Some(above) = self.frames.last_mut() {
            above.height = above.height.max(frame.height + 1);
        }
        let weight = self.weight - frame.weight_before;
        self.anchor(
            frame.anchor,
            Anchored {
                entry: frame.entry,
                weight,
                height: frame.height,
            },
        );
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Refused> {
        let Some(target) = self.anchors.get(&anchor).copied() else {
            let message = "the alias stands inside of what it names";
            return Err(self.refuse(DiagnosticCode::YamlSyntax, span.start, message));
        };
        self.weigh(target.weight, span)?;
        self.check_depth(target.height, span)?;
        if let Some(frame) = self.frames.last_mut() {
            frame.height = frame.height.max(target.height + 1);
        }
        self.attach(Kind::Alias(target.entry), span).map(|_| ())
    }

    /// Puts an entry below the innermost open one.
    fn attach(&mut self, kind: Kind, span: Span) -> Result<(usize, Path), Refused> {
        let id = self.positions.entries.len();
        let mut path = Path::root();
        match self.frames.last_mut() {
            None => self.positions.root = Some(id),
            Some(frame) => match &mut self.positions.entries[frame.entry].kind {
                Kind::Map(entries) => {
                    let Some((key, at)) = frame.key.take() else {
                        let message = "a key must be a text";
                        return Err(self.refuse(DiagnosticCode::YamlSyntax, span.start, message));
                    };
                    path = frame.path.key(&key);
                    entries.push((key, at, id));
                }
                Kind::List(items) => {
                    path = frame.path.index(frame.items);
                    frame.items += 1;
                    items.push(id);
                }
                Kind::Scalar | Kind::Alias(_) => {}
            },
        }
        self.positions.entries.push(Entry { span, kind });
        Ok((id, path))
    }

    fn anchor(&mut self, anchor: usize, target: Anchored) {
        // The parser numbers anchors from 1.
        if anchor != 0 {
            self.anchors.insert(anchor, target);
        }
    }

    fn weigh(&mut self, more: usize, span: Span) -> Result<(), Refused> {
        self.weight = self.weight.saturating_add(more);
        if self.weight <= WORKFLOW_NODES_MAX {
            return Ok(());
        }
        let message = format!(
            "the file has more than {WORKFLOW_NODES_MAX} parts, counting aliases for what they stand for"
        );
        Err(self.refuse(DiagnosticCode::TooLarge, span.start, &message))
    }

    fn check_depth(&mut self, height_below: usize, span: Span) -> Result<(), Refused> {
        if self.frames.len() + height_below <= WORKFLOW_DEPTH_MAX {
            return Ok(());
        }
        let message = format!("the file nests deeper than {WORKFLOW_DEPTH_MAX}");
        Err(self.refuse(DiagnosticCode::TooLarge, span.start, &message))
    }

    fn unreadable(&mut self, error: &ScanError) -> Refused {
        // The parser has its own bound on lookahead.
        let (code, message) = match error.info() {
            "recursion limit exceeded" => (
                DiagnosticCode::TooLarge,
                "the file nests too deeply to be read",
            ),
            other => (DiagnosticCode::YamlSyntax, other),
        };
        self.refuse(code, *error.marker(), message)
    }

    fn refuse(&mut self, code: DiagnosticCode, marker: Marker, message: &str) -> Refused {
        let spot = Spot::Known {
            byte: self.positions.byte(marker),
            length: 0,
        };
        self.faults.add(code, &Path::root(), message).at(spot);
        Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(source: &str, path: &Path, spot: &Spot) -> (usize, usize, String) {
        let mut faults = Faults::default();
        let Ok(positions) = SourceMap::read(source, &mut faults) else {
            panic!("{source}")
        };
        let place = positions.locate(path, spot);
        (
            place.line,
            place.column,
            source[place.offset..place.offset + place.length].to_owned(),
        )
    }

    #[test]
    fn parts_are_found_where_they_stand() {
        let source = "a:\n  - x: 1\n    ü: \"ä\" # c\n  - {y: [2, zz]}\nb: &b {c: d}\ne: *b\nf:\n";
        let root = Path::root();
        let item = root.key("a").index(0);
        let found = |path: &Path, spot| {
            let (line, column, text) = place(source, path, &spot);
            format!("{line}:{column} {text}")
        };
        assert_eq!(found(&root.key("a"), Spot::Value), "1:1 a");
        assert_eq!(found(&item.key("x"), Spot::Value), "2:8 1");
        assert_eq!(found(&item.key("x"), Spot::Key), "2:5 x");
        assert_eq!(found(&item.key("ü"), Spot::Value), "3:8 \"ä\"");
        assert!(found(&item, Spot::Value).starts_with("2:5 x: 1"));
        assert_eq!(
            found(&root.key("a").index(1).key("y").index(1), Spot::Value),
            "4:13 zz"
        );
        assert_eq!(found(&root.key("b"), Spot::Value), "5:4 &b {c: d}");
        assert_eq!(found(&root.key("e"), Spot::Value), "6:4 *b");
        assert_eq!(found(&root.key("e").key("c"), Spot::Value), "5:11 d");
        assert_eq!(found(&root.key("f"), Spot::Value), "7:1 f");
        assert_eq!(
            found(&root.key("b").key("nope").key("x"), Spot::Value),
            "5:1 b"
        );
        assert_eq!(
            found(
                &item.key("ü"),
                Spot::Within {
                    text: "ä".to_owned(),
                    byte: 0
                }
            ),
            "3:9 ä"
        );
    }
}
