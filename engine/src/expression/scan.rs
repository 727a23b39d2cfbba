//! A flat scan of the source before anything recurses over it: tokens, bounds, leading `$.`.

use super::ExpressionError;
use crate::limits::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX};

/// Most tokens of one expression. A chain of n operators or dots is a tree of depth n, so this
/// limits recursion that the bound on brackets does not. 512 tokens need at most half of the 64 MiB
/// stack, even in a debug build.
pub(super) const TOKENS_MAX: usize = 512;

/// The kinds of token that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or keyword.
    Name,
    /// A string or bytes literal with its quotes.
    Text,
    /// A number.
    Number,
    /// Any other single character.
    Sign,
}

/// A token with its offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) offset: usize,
}

impl Token<'_> {
    /// The byte behind it.
    pub(super) fn end(&self) -> usize {
        self.offset + self.text.len()
    }
}

/// The source for CEL: every leading `$.` is replaced by blanks, so that offsets stay the same.
pub(super) fn plain_source(source: &str) -> Result<String, ExpressionError> {
    if source.len() > EXPRESSION_BYTES_MAX {
        return Err(ExpressionError::TooLong {
            bytes: source.len(),
        });
    }
    let mut plain = String::with_capacity(source.len());
    let mut rest = 0;
    let mut before: Option<Token<'_>> = None;
    for token in Tokens::new(source) {
        let leads = !before.is_some_and(|b| b.text == "." || b.kind == Kind::Name);
        let after = &source[token.offset + token.text.len()..];
        if token.text == "$" && leads && after.starts_with('.') && !after[1..].starts_with('.') {
            plain.push_str(&source[rest..token.offset]);
            plain.push_str("  ");
            rest = token.offset + 2;
        }
        before = Some(token);
    }
    plain.push_str(&source[rest..]);
    Ok(plain)
}

/// The tokens of a source within its bounds.
pub(super) fn bounded_tokens(source: &str) -> Result<Vec<Token<'_>>, ExpressionError> {
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    for token in Tokens::new(source) {
        let offset = token.offset;
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > EXPRESSION_DEPTH_MAX {
            return Err(ExpressionError::TooDeep { offset });
        }
        if tokens.len() == TOKENS_MAX {
            return Err(ExpressionError::TooComplex {
                max: TOKENS_MAX,
                offset,
            });
        }
        tokens.push(token);
    }
    if tokens.is_empty() {
        Err(ExpressionError::Empty)
    } else {
        Ok(tokens)
    }
}

struct Tokens<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn new(source: &'a str) -> Self {
        Self { source, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let rest = self.rest();
            let text = rest.trim_start();
            self.at += rest.len() - text.len();
            if !text.starts_with("//") {
                return;
            }
            self.at += text.find('\n').unwrap_or(text.len());
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks_and_comments();
        let rest = self.rest();
        let first = rest.chars().next()?;
        let (kind, len) = if let Some(len) = text_len(rest) {
            (Kind::Text, len)
        } else if first.is_alphabetic() || first == '_' {
            (Kind::Name, span(rest, |c| c.is_alphanumeric() || c == '_'))
        } else if first.is_ascii_digit() {
            (
                Kind::Number,
                span(rest, |c| c.is_ascii_alphanumeric() || c == '.'),
            )
        } else {
            (Kind::Sign, first.len_utf8())
        };
        let token = Token {
            kind,
            text: &rest[..len],
            offset: self.at,
        };
        self.at += len;
        Some(token)
    }
}

fn span(text: &str, inside: impl Fn(char) -> bool) -> usize {
    text.find(|c| !inside(c)).unwrap_or(text.len())
}

/// The length of the string literal that `text` starts with, including prefix and quotes. An
/// unterminated literal extends to the end of the source.
fn text_len(text: &str) -> Option<usize> {
    let prefix = span(text, |c| matches!(c, 'r' | 'R' | 'b' | 'B'));
    if prefix > 2 {
        return None;
    }
    let raw = text[..prefix].contains(['r', 'R']);
    let body = &text[prefix..];
    let quote = body.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let triple: String = [quote; 3].iter().collect();
    let end = if body.starts_with(&triple) {
        triple
    } else {
        quote.to_string()
    };
    let mut at = end.len();
    while at < body.len() {
        let here = &body[at..];
        if here.starts_with(&end) {
            return Some(prefix + at + end.len());
        }
        let mut chars = here.chars();
        let skipped = chars.next().map_or(0, char::len_utf8);
        at += skipped;
        if !raw && here.starts_with('\\') {
            at += chars.next().map_or(0, char::len_utf8);
        }
    }
    Some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_root_becomes_blanks_but_not_inside_strings() {
        for (given, plain) in [
            ("$.result.decision == '$.x'", "  result.decision == '$.x'"),
            ("$.a>$.b && [$.c]", "  a>  b && [  c]"),
            ("a.$.b", "a.$.b"),
            ("$..a", "$..a"),
            ("$a", "$a"),
            (r#"r"\" + $.a"#, r#"r"\" +   a"#),
            (r#""\"$.q" + $.a"#, r#""\"$.q" +   a"#),
            ("'''a'$.b''' + $.c", "'''a'$.b''' +   c"),
        ] {
            assert_eq!(plain_source(given).unwrap(), plain, "{given}");
        }
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let source = format!("'{}' // {}", "(".repeat(99), "[".repeat(99));
        assert_eq!(bounded_tokens(&source).unwrap().len(), 1);
        assert!(bounded_tokens(&"(".repeat(EXPRESSION_DEPTH_MAX)).is_ok());
        assert!(matches!(
            bounded_tokens(&"(".repeat(EXPRESSION_DEPTH_MAX + 1)),
            Err(ExpressionError::TooDeep { offset: 32 })
        ));
    }

    #[test]
    fn unended_strings_end_with_the_source() {
        for source in ["'abc", "'''abc'", r"'abc\", "b'ä", "r'"] {
            assert_eq!(bounded_tokens(source).unwrap().len(), 1, "{source}");
        }
    }
}
