//! What expressions read, and with what they compare it: from this follow values that lead one way
//! and another.
//!
//! The source is scanned, not evaluated, and what is not understood is passed over: a guess that is
//! missing leads to a case that is not played, never to a wrong one.

use serde_json::{Map, Number, Value};

use crate::expression::Expression;

/// Values tried for one path.
const CANDIDATES_MAX: usize = 4;
/// Keys tried until a share (`sample`) takes one and leaves another.
const KEYS_TRIED_MAX: u32 = 500;

/// One place in an expression that reads a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    /// The path, from the variable on.
    pub(super) path: Vec<String>,
    /// What becomes of it.
    pub(super) usage: Usage,
}

/// What an expression does with a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Usage {
    /// Compares it with a literal.
    Compared(Comparison, Value),
    /// Looks it up in a list of literals.
    OneOf(Vec<Value>),
    /// Looks it up in the value at another path.
    OneOfPath(Vec<String>),
    /// Asks whether it is there.
    Has,
    /// Takes it as true or false.
    Truth,
    /// Draws a share of its values.
    Sample(f64),
    /// Needs it to be like this one.
    Given(Value),
    /// Something else.
    Other,
}

/// How a value is compared with a literal on its right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `==` and `!=`.
    Equal,
    /// `<` and `>=`: the literal itself falls to the greater side.
    Less,
    /// `<=` and `>`: the literal itself falls to the lesser side.
    LessOrEqual,
    /// Begins with it, ends with it or contains it.
    Part,
}

/// The values that an expression reads.
pub(super) fn readings(source: &str) -> Vec<Reading> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    // What stands for the elements of a list inside `exists` and `all`, and for which list.
    let mut elements: Vec<(String, Vec<String>)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Some((path, end)) = path_at(&tokens, at) else {
            at += 1;
            continue;
        };
        if let Some(element) = element_of(&tokens, &path, end) {
            let list = path.split_last().map_or(&[][..], |(_, list)| list);
            elements.push((element, list.to_vec()));
            // Past the bracket, the element and the comma.
            at = end + 3;
            continue;
        }
        let (path, usage) = usage(&tokens, path, at, end);
        let list = path.first().and_then(|first| {
            let mut named = elements.iter().rev();
            named.find(|(element, _)| element == first)
        });
        match list {
            // The data of each annotation is that of one.
            Some((_, list)) if list.as_slice() == ["annotations"] => {
                let rest = path.iter().skip(1).cloned();
                let path = std::iter::once("annotation".to_owned()).chain(rest);
                let path = path.collect();
                found.push(Reading { path, usage });
            }
            Some(_) => {}
            None if path.is_empty() => {}
            None => found.push(Reading { path, usage }),
        }
        at = end;
    }
    found
}

/// What stands for the elements of a list in `list.exists(element, condition)` and the like.
fn element_of(tokens: &[Token], path: &[String], end: usize) -> Option<String> {
    let method = path.last().filter(|_| path.len() > 1)?;
    let visits = ["exists", "all"].contains(&method.as_str());
    if !visits || !is_sign(tokens.get(end), "(") || !is_sign(tokens.get(end + 2), ",") {
        return None;
    }
    match tokens.get(end + 1)? {
        Token::Name(element) => Some(element.clone()),
        Token::Literal(_) | Token::Sign(_) => None,
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Literal(Value),
    Sign(String),
}

fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    let run = |from: usize, inside: fn(char) -> bool| {
        let rest = chars.get(from..).unwrap_or_default();
        rest.iter().take_while(|c| inside(**c)).count()
    };
    while let Some(first) = chars.get(at).copied() {
        if first.is_whitespace() {
            at += 1;
        } else if first == '$' {
            at += if chars.get(at + 1) == Some(&'.') {
                2
            } else {
                1
            };
        } else if first == '"' || first == '\'' {
            let (text, length) = text_literal(&chars, at);
            tokens.push(Token::Literal(Value::String(text)));
            at += length;
        } else if first.is_alphabetic() || first == '_' {
            let length = run(at, |c| c.is_alphanumeric() || c == '_');
            let name: String = chars.iter().skip(at).take(length).collect();
            tokens.push(match name.as_str() {
                "true" => Token::Literal(true.into()),
                "false" => Token::Literal(false.into()),
                "null" => Token::Literal(Value::Null),
                _ => Token::Name(name),
            });
            at += length;
        } else if first.is_ascii_digit() {
            let length = run(at, |c| c.is_ascii_alphanumeric() || c == '.');
            let text: String = chars.iter().skip(at).take(length).collect();
            tokens.push(match text.trim_end_matches('u').parse::<Number>() {
                Ok(number) => Token::Literal(Value::Number(number)),
                Err(_) => Token::Sign(text),
            });
            at += length;
        } else {
            let two: String = chars.iter().skip(at).take(2).collect();
            let double = ["==", "!=", "<=", ">=", "&&", "||"].contains(&two.as_str());
            let sign = if double { two } else { first.to_string() };
            at += sign.chars().count();
            tokens.push(Token::Sign(sign));
        }
    }
    tokens
}

/// A text literal and its length, with the plain escapes.
fn text_literal(chars: &[char], at: usize) -> (String, usize) {
    let quote = chars.get(at).copied();
    let mut text = String::new();
    let mut length = 1;
    while let Some(c) = chars.get(at + length).copied() {
        length += 1;
        if Some(c) == quote {
            break;
        }
        if c == '\\'
            && let Some(escaped) = chars.get(at + length).copied()
        {
            length += 1;
            text.push(match escaped {
                'n' => '\n',
                't' => '\t',
                other => other,
            });
        } else {
            text.push(c);
        }
    }
    (text, length)
}

/// A path such as `input.kind` or `step["annotate"].result` that begins here, and where it ends.
fn path_at(tokens: &[Token], at: usize) -> Option<(Vec<String>, usize)> {
    let Token::Name(first) = tokens.get(at)? else {
        return None;
    };
    // A keyword, or the name of a method.
    if first == "in" || (at > 0 && is_sign(tokens.get(at - 1), ".")) {
        return None;
    }
    let mut path = vec![first.clone()];
    let mut end = at + 1;
    loop {
        match (tokens.get(end), tokens.get(end + 1), tokens.get(end + 2)) {
            (Some(Token::Sign(dot)), Some(Token::Name(name)), _) if dot == "." => {
                path.push(name.clone());
                end += 2;
            }
            (Some(Token::Sign(open)), Some(Token::Literal(Value::String(key))), close)
                if open == "[" && is_sign(close, "]") =>
            {
                path.push(key.clone());
                end += 3;
            }
            _ => return Some((path, end)),
        }
    }
}

fn is_sign(token: Option<&Token>, sign: &str) -> bool {
    matches!(token, Some(Token::Sign(found)) if found == sign)
}

fn literal(token: Option<&Token>) -> Option<&Value> {
    match token {
        Some(Token::Literal(value)) => Some(value),
        Some(Token::Name(_) | Token::Sign(_)) | None => None,
    }
}

/// What the expression does with the path between `at` and `end`. A call is no path: the result is
/// then the path on which a method is called, or none for a function.
fn usage(tokens: &[Token], mut path: Vec<String>, at: usize, end: usize) -> (Vec<String>, Usage) {
    if is_sign(tokens.get(end), "(") {
        let method = path.pop().unwrap_or_default();
        let known = ["startsWith", "endsWith", "contains"].contains(&method.as_str());
        let part = literal(tokens.get(end + 1)).filter(|_| known);
        let usage = part.map_or(Usage::Other, |part| {
            Usage::Compared(Comparison::Part, part.clone())
        });
        return (path, usage);
    }
    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
    let caller = at
        .checked_sub(2)
        .and_then(|caller| tokens.get(caller))
        .filter(|_| is_sign(before, "("));
    if let Some(Token::Name(function)) = caller {
        let share = literal(tokens.get(end + 1)).and_then(Value::as_f64);
        let usage = match (function.as_str(), share) {
            ("has", _) => Usage::Has,
            ("sample", Some(share)) => Usage::Sample(share),
            _ => Usage::Other,
        };
        return (path, usage);
    }
    let compares = |token: Option<&Token>, turned| match token {
        Some(Token::Sign(sign)) => comparison_of(sign, turned),
        Some(Token::Name(_) | Token::Literal(_)) | None => None,
    };
    let right = literal(tokens.get(end + 1));
    if let (Some(comparison), Some(value)) = (compares(tokens.get(end), false), right) {
        return (path, Usage::Compared(comparison, value.clone()));
    }
    let turned = compares(before, true);
    let left = at.checked_sub(2).and_then(|left| literal(tokens.get(left)));
    if let (Some(comparison), Some(value)) = (turned, left) {
        return (path, Usage::Compared(comparison, value.clone()));
    }
    let usage = looked_up(tokens, end).unwrap_or_else(|| alone(tokens, before, end));
    (path, usage)
}

/// `PATH in […]` and `PATH in PATH`.
fn looked_up(tokens: &[Token], end: usize) -> Option<Usage> {
    match tokens.get(end)? {
        Token::Name(name) if name == "in" => {}
        Token::Name(_) | Token::Literal(_) | Token::Sign(_) => return None,
    }
    if let Some((path, _)) = path_at(tokens, end + 1) {
        return Some(Usage::OneOfPath(path));
    }
    if !is_sign(tokens.get(end + 1), "[") {
        return None;
    }
    let items = tokens.iter().skip(end + 2);
    let items = items.take_while(|token| !is_sign(Some(*token), "]"));
    let values = items.filter_map(|token| literal(Some(token)).cloned());
    Some(Usage::OneOf(values.collect()))
}

/// A path without a comparison: a condition of its own if nothing but `!`, `&&`, `||` and brackets
/// stand around it.
fn alone(tokens: &[Token], before: Option<&Token>, end: usize) -> Usage {
    let around = |token: Option<&Token>, signs: &[&str]| match token {
        None => true,
        Some(Token::Sign(sign)) => signs.contains(&sign.as_str()),
        Some(Token::Name(_) | Token::Literal(_)) => false,
    };
    let is_condition =
        around(before, &["!", "&&", "||", "("]) && around(tokens.get(end), &["&&", "||", ")", "?"]);
    if is_condition {
        Usage::Truth
    } else {
        Usage::Other
    }
}

/// The comparison of a sign; `turned` where the literal stands on the left.
fn comparison_of(sign: &str, turned: bool) -> Option<Comparison> {
    Some(match (sign, turned) {
        ("==" | "!=", _) => Comparison::Equal,
        ("<" | ">=", false) | (">" | "<=", true) => Comparison::Less,
        ("<=" | ">", false) | ("<" | ">=", true) => Comparison::LessOrEqual,
        _ => return None,
    })
}

/// Values for a path that lead to either side of what is asked; `None` stands for a missing value.
/// The first one is always a value.
pub(super) fn candidates<'r>(
    usages: impl IntoIterator<Item = &'r Usage>,
    listed: impl Fn(&[String]) -> Vec<Value>,
) -> Vec<Option<Value>> {
    let mut values: Vec<Value> = Vec::new();
    let mut may_lack = false;
    for usage in usages {
        match usage {
            Usage::Compared(comparison, literal) => values.extend(sides(*comparison, literal)),
            Usage::OneOf(literals) => values.extend(members(literals)),
            Usage::OneOfPath(path) => values.extend(members(&listed(path))),
            Usage::Has => may_lack = true,
            Usage::Truth => values.extend([true.into(), false.into()]),
            Usage::Sample(share) => values.extend(sampled(*share)),
            Usage::Given(value) => values.push(value.clone()),
            Usage::Other => {}
        }
    }
    // Nobody sends null, and texts of which others are a part may be the same.
    values.retain(|value| !value.is_null());
    let mut distinct: Vec<Option<Value>> = Vec::new();
    for value in values.into_iter().map(Some) {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct.truncate(CANDIDATES_MAX);
    if may_lack && !distinct.is_empty() {
        distinct.push(None);
    }
    distinct
}

fn sides(comparison: Comparison, literal: &Value) -> Vec<Value> {
    match (comparison, literal) {
        (Comparison::Less, Value::Number(number)) => vec![literal.clone(), below(number)],
        (Comparison::LessOrEqual, Value::Number(number)) => vec![above(number), literal.clone()],
        (Comparison::Equal, Value::Bool(truth)) => vec![literal.clone(), (!truth).into()],
        (Comparison::Equal, Value::Number(number)) => vec![literal.clone(), above(number)],
        (
            Comparison::Equal | Comparison::Part | Comparison::Less | Comparison::LessOrEqual,
            Value::String(_),
        ) => vec![literal.clone(), "something else".into()],
        _ => Vec::new(),
    }
}

fn members(literals: &[Value]) -> Vec<Value> {
    let other = match literals.first() {
        Some(Value::String(_)) => Some(Value::from("something else")),
        Some(Value::Number(number)) => {
            let greatest = literals
                .iter()
                .filter_map(Value::as_f64)
                .fold(f64::MIN, f64::max);
            Some(Number::from_f64(greatest).map_or_else(|| above(number), |max| above(&max)))
        }
        Some(_) | None => None,
    };
    literals.iter().take(2).cloned().chain(other).collect()
}

/// A smaller number that is still plausible: half of a positive one.
fn below(number: &Number) -> Value {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => whole.saturating_sub(1).into(),
        (None, Some(number)) if number > 0.0 => (number / 2.0).into(),
        (None, number) => (number.unwrap_or_default() - 1.0).into(),
    }
}

/// A greater number that is still plausible: of a share, one between it and 1.
fn above(number: &Number) -> Value {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => whole.saturating_add(1).into(),
        (None, Some(share)) if (0.0..1.0).contains(&share) => f64::midpoint(share, 1.0).into(),
        (None, number) => (number.unwrap_or_default() + 1.0).into(),
    }
}

/// A key that a share leaves out, and one that it takes.
fn sampled(share: f64) -> Vec<Value> {
    let Ok(expression) = Expression::compile(&format!("sample(input, {share:?})")) else {
        return Vec::new();
    };
    let mut found: [Option<String>; 2] = [None, None];
    for n in 1..=KEYS_TRIED_MAX {
        let key = format!("item-{n}");
        let facts = serde_json::json!({"input": key});
        let Ok(taken) = expression.evaluate_bool(&facts) else {
            break;
        };
        let place = usize::from(taken);
        if let Some(free) = found.get_mut(place).filter(|free| free.is_none()) {
            *free = Some(key);
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found.into_iter().flatten().map(Value::String).collect()
}

/// Sets a value at a path of a document, or removes it. A value in the way stays as it is.
pub(super) fn set(document: &mut Value, path: &[String], value: Option<Value>) {
    let Some((key, rest)) = path.split_first() else {
        if let Some(value) = value {
            *document = value;
        }
        return;
    };
    if document.is_null() {
        *document = Value::Object(Map::new());
    }
    let Value::Object(fields) = document else {
        return;
    };
    match value {
        Some(value) => {
            let inner = fields.entry(key.clone()).or_insert(Value::Null);
            set(inner, rest, Some(value));
        }
        None if rest.is_empty() => {
            fields.remove(key);
        }
        None => {
            if let Some(inner) = fields.get_mut(key).filter(|inner| inner.is_object()) {
                set(inner, rest, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(source: &str) -> Vec<(String, Usage)> {
        let found = readings(source).into_iter();
        found
            .map(|reading| (reading.path.join("."), reading.usage))
            .collect()
    }

    #[test]
    fn what_is_read_is_found_with_what_is_asked_of_it() {
        let equal = |literal: Value| Usage::Compared(Comparison::Equal, literal);
        assert_eq!(
            read("$.annotation.kind == 'junk' && has(input.x) || !result.flag"),
            [
                ("annotation.kind".to_owned(), equal(json!("junk"))),
                ("input.x".to_owned(), Usage::Has),
                ("result.flag".to_owned(), Usage::Truth),
            ]
        );
        assert_eq!(
            read("0.5 > agreement && step[\"first-pass\"].result.value in ['a', \"b\"]"),
            [
                (
                    "agreement".to_owned(),
                    Usage::Compared(Comparison::Less, json!(0.5))
                ),
                (
                    "step.first-pass.result.value".to_owned(),
                    Usage::OneOf(vec![json!("a"), json!("b")])
                ),
            ]
        );
        assert_eq!(
            read("input.language in context.own_team"),
            [
                (
                    "input.language".to_owned(),
                    Usage::OneOfPath(vec!["context".to_owned(), "own_team".to_owned()])
                ),
                ("context.own_team".to_owned(), Usage::Other),
            ]
        );
        assert_eq!(
            read("sample(input.id, 0.1) && size(input.text) > 3 && input.url.startsWith('x')"),
            [
                ("input.id".to_owned(), Usage::Sample(0.1)),
                ("input.text".to_owned(), Usage::Other),
                (
                    "input.url".to_owned(),
                    Usage::Compared(Comparison::Part, json!("x"))
                ),
            ]
        );
        assert_eq!(
            read("annotations.exists(a, a.flag == true) || input.all(i, i.x == 1)"),
            [(
                "annotation.flag".to_owned(),
                Usage::Compared(Comparison::Equal, json!(true))
            )]
        );
        assert!(read("'input.x == 1' == 'it\\'s'").is_empty());
        assert!(read("").is_empty());
    }

    #[test]
    fn candidates_lie_on_both_sides() {
        let of = |source: &str| {
            let found = readings(source);
            let usages: Vec<Usage> = found.into_iter().map(|reading| reading.usage).collect();
            candidates(&usages, |_| vec![json!("de")])
        };
        let some =
            |values: &[Value]| -> Vec<Option<Value>> { values.iter().cloned().map(Some).collect() };
        assert_eq!(of("input.n >= 0.5"), some(&[json!(0.5), json!(0.25)]));
        assert_eq!(of("input.n > 0.5"), some(&[json!(0.75), json!(0.5)]));
        assert_eq!(of("3 < input.n"), some(&[json!(4), json!(3)]));
        assert_eq!(
            of("input.kind != 'a'"),
            some(&[json!("a"), json!("something else")])
        );
        assert_eq!(
            of("has(input.l) && input.l in context.ours"),
            [Some(json!("de")), Some(json!("something else")), None]
        );
        assert!(of("input.x == null").is_empty());
        let keys = of("sample(input.id, 0.1)");
        assert_eq!(keys.len(), 2);
        let taken = Expression::compile("sample(input, 0.1)").unwrap();
        let is_taken = |key: &Option<Value>| taken.evaluate_bool(&json!({"input": key})).unwrap();
        assert_eq!((is_taken(&keys[0]), is_taken(&keys[1])), (false, true));
    }

    #[test]
    fn values_are_set_and_removed_below_what_is_there() {
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let mut document = Value::Null;
        set(&mut document, &path("a.b"), Some(json!(1)));
        set(&mut document, &path("a.c"), Some(json!(2)));
        set(&mut document, &path("a.b"), None);
        set(&mut document, &path("a.c.d"), Some(json!(3)));
        assert_eq!(document, json!({"a": {"c": 2}}));
    }
}
