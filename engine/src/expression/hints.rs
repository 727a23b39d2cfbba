//! What was probably meant by an expression that cannot be read.

use cel::ParseErrors;

use super::{
    ExpressionError,
    scan::{Kind, Token},
};

/// A key with a hyphen behind a dot, which CEL reads as a subtraction: `step.first-pass`. The parts
/// of the key for which `is_foreign` is true cannot be variables. States of steps are no numbers, so
/// a hyphen behind the name of a step belongs to the name in any case.
pub(super) fn hyphenated(
    source: &str,
    tokens: &[Token<'_>],
    is_foreign: impl Fn(&str) -> bool,
) -> Option<ExpressionError> {
    dots(tokens).find_map(|dot| {
        let start = chain_start(tokens, dot)?;
        let first = tokens
            .get(dot + 1)
            .filter(|token| token.kind == Kind::Name)?;
        let mut end = first.end();
        let mut parts = Vec::new();
        let mut at = dot + 2;
        while let (Some(hyphen), Some(part)) = (tokens.get(at), tokens.get(at + 1)) {
            let touches = hyphen.offset == end && part.offset == end + 1;
            if hyphen.text != "-" || !touches || !matches!(part.kind, Kind::Name | Kind::Number) {
                break;
            }
            // A number takes the dots behind it along.
            let text = part.text.split('.').next().unwrap_or_default();
            end = part.offset + text.len();
            parts.push((part.kind, text));
            at += 2;
        }
        let of_step = dot == start + 1 && tokens[start].text == "step";
        let foreign = |(kind, text): &(Kind, &str)| *kind == Kind::Name && is_foreign(text);
        if parts.is_empty() || !(of_step || parts.iter().any(foreign)) {
            return None;
        }
        let chain = &source[tokens[start].offset..tokens[dot].offset];
        let key = &source[first.offset..end];
        Some(ExpressionError::Syntax {
            message: format!(
                "`{chain}.{key}` is a subtraction; a key with a hyphen needs brackets and quotes"
            ),
            offset: first.offset,
            suggestion: Some(format!("{chain}[\"{key}\"]")),
        })
    })
}

/// A key behind a dot that is no name of the language: `annotation.größe`, `annotation.2nd`.
fn unreadable_key(source: &str, tokens: &[Token<'_>]) -> Option<ExpressionError> {
    dots(tokens).find_map(|dot| {
        let start = chain_start(tokens, dot)?;
        let key = tokens.get(dot + 1)?;
        if key.offset != tokens[dot].end() {
            return None;
        }
        let text = match key.kind {
            Kind::Name if key.text.is_ascii() && !KEYWORDS.contains(&key.text) => return None,
            Kind::Name => key.text,
            Kind::Number => key.text.split('.').next().unwrap_or_default(),
            Kind::Text | Kind::Sign => return None,
        };
        let chain = &source[tokens[start].offset..tokens[dot].offset];
        Some(ExpressionError::Syntax {
            message: format!("`{text}` cannot stand behind a dot; it needs brackets and quotes"),
            offset: key.offset,
            suggestion: Some(format!("{chain}[\"{text}\"]")),
        })
    })
}

/// Words that the grammar takes for itself, also behind a dot.
const KEYWORDS: [&str; 4] = ["false", "in", "null", "true"];

fn dots(tokens: &[Token<'_>]) -> impl Iterator<Item = usize> {
    (0..tokens.len()).filter(|at| tokens[*at].text == ".")
}

/// The token at which the chain of keys before a dot begins: `a` of `a.b["c"].`.
fn chain_start(tokens: &[Token<'_>], dot: usize) -> Option<usize> {
    let mut start = dot;
    loop {
        let before = |n: usize| start.checked_sub(n).map(|at| &tokens[at]);
        if before(1)?.kind == Kind::Name {
            if before(2).is_none_or(|token| token.text != ".") {
                return Some(start - 1);
            }
            start -= 2;
        } else if before(1)?.text == "]" && before(3)?.text == "[" {
            start -= 3;
        } else {
            return None;
        }
    }
}

/// A hint for keys that need quotes and for syntax from other languages, in an expression that cannot
/// be parsed.
pub(super) fn slip(source: &str, tokens: &[Token<'_>]) -> Option<ExpressionError> {
    unreadable_key(source, tokens).or_else(|| foreign_syntax(tokens))
}

fn foreign_syntax(tokens: &[Token<'_>]) -> Option<ExpressionError> {
    let touches = |at: usize, signs: &str| {
        let is_sign = |token: &Token<'_>| token.kind == Kind::Sign && signs.contains(token.text);
        let before = at.checked_sub(1).map(|at| &tokens[at]);
        let after = tokens.get(at + 1);
        before.is_some_and(|token| is_sign(token) && token.offset + 1 == tokens[at].offset)
            || after.is_some_and(|token| is_sign(token) && tokens[at].offset + 1 == token.offset)
    };
    let message = |at: usize| {
        let token = &tokens[at];
        let is_field = at > 0 && tokens[at - 1].text == ".";
        Some(match (token.kind, token.text) {
            (Kind::Sign, "=") if !touches(at, "=!<>") => "`=` compares nothing: write `==`",
            (Kind::Sign, "&") if !touches(at, "&") => "write `&&`",
            (Kind::Sign, "|") if !touches(at, "|") => "write `||`",
            (Kind::Name, "and" | "AND") if !is_field => "write `&&`",
            (Kind::Name, "or" | "OR") if !is_field => "write `||`",
            (Kind::Name, "not" | "NOT") if !is_field => "write `!`",
            (Kind::Text, text) if is_open(text) => "the text has no closing quote",
            _ => return None,
        })
    };
    (0..tokens.len()).find_map(|at| {
        Some(ExpressionError::Syntax {
            message: message(at)?.to_owned(),
            offset: tokens[at].offset,
            suggestion: None,
        })
    })
}

/// Whether a literal lacks its closing quote.
fn is_open(literal: &str) -> bool {
    let body = literal.trim_start_matches(['r', 'R', 'b', 'B']);
    match body.chars().next() {
        Some(quote) => body.len() < 2 || !body.ends_with(quote),
        None => false,
    }
}

/// The first fault, with its byte. The parser counts lines and columns in characters, from 1.
pub(super) fn syntax_error(source: &str, errors: &ParseErrors) -> ExpressionError {
    // The error recovery of the grammar reports the first real fault among followers.
    let first = errors.errors.iter().min_by_key(|error| error.pos);
    let (line, column, message) = first.map_or((1, 1, ""), |error| {
        (error.pos.0, error.pos.1, error.msg.as_str())
    });
    let line = usize::try_from(line).unwrap_or(1).max(1) - 1;
    let column = usize::try_from(column).unwrap_or(1).max(1) - 1;
    let line_start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let in_line = &source[line_start.min(source.len())..];
    let offset = line_start
        + in_line
            .char_indices()
            .nth(column)
            .map_or(in_line.trim_end().len(), |(at, _)| at);
    ExpressionError::Syntax {
        message: readable(message),
        offset,
        suggestion: None,
    }
}

/// The grammar's message without its list of a dozen expected tokens.
fn readable(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message
        .split(" expecting {")
        .next()
        .unwrap_or(message)
        .trim();
    let unexpected = [
        "mismatched input ",
        "extraneous input ",
        "no viable alternative at input ",
        "token recognition error at: ",
    ];
    let found = unexpected
        .iter()
        .find_map(|start| Some(message.strip_prefix(start)?.trim_matches('\'').trim()));
    let text = match message {
        "" => "the expression cannot be read",
        _ if found == Some("<EOF>") => "the expression ends too early",
        text if text.contains("Incomplete `ExprContext` for `_?_:_`") => {
            "a condition `a ? b : c` is not complete"
        }
        text if text.contains("Incomplete `") => "the expression is not complete here",
        text if text.contains("Recursion limit") => "the expression nests too deeply",
        "invalid int literal" | "invalid uint literal" => "the number is too large",
        text => text,
    };
    let text = match found {
        Some(found) if found != "<EOF>" => format!("`{found}` is not expected here"),
        _ => text.to_owned(),
    };
    text.chars().take(200).collect()
}
