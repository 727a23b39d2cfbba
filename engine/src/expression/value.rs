//! Values while an expression is evaluated. The data of a task is borrowed and never copied.

use std::{ops::Deref, rc::Rc};

use serde_json::{Map, Value};

use super::variables::Variable;

/// Most characters of a key that a message shows.
const SHOWN_MAX: usize = 60;

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// From literals such as `1u`, and whole numbers above 2^63 in data.
    UInt(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Rc<[u8]>),
    List(List<'a>),
    Mapping(Mapping<'a>),
    /// The name of a type.
    Type(&'static str),
}

/// A text.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

/// A list.
#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    Borrowed(&'a [Value]),
    Made(Rc<[Val<'a>]>),
}

/// A mapping.
#[derive(Clone, Debug)]
pub(super) enum Mapping<'a> {
    Borrowed(&'a Map<String, Value>),
    /// Keys and values of a literal.
    Made(Rc<[(Val<'a>, Val<'a>)]>),
}

/// A number, with all digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// Of 64 bits, with or without a sign.
    Whole(i128),
    Double(f64),
}

impl<'a> Val<'a> {
    pub(super) fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(whole), _, _) => Self::Int(whole),
                (None, Some(whole), _) => Self::UInt(whole),
                (None, None, Some(double)) => Self::Double(double),
                (None, None, None) => Self::Null,
            },
            Value::String(text) => Self::Text(Text::Borrowed(text)),
            Value::Array(items) => Self::List(List::Borrowed(items)),
            Value::Object(entries) => Self::Mapping(Mapping::Borrowed(entries)),
        }
    }

    pub(super) fn of_variable(variable: &'a Variable<'_>) -> Self {
        match variable {
            Variable::Value(value) => Self::of(value),
            Variable::Made(value) => Self::of(value),
            Variable::Mapping(entries) => Self::Mapping(Mapping::Borrowed(entries)),
            Variable::List(items) => {
                let items = items.iter().map(|item| Self::of(item)).collect();
                Self::List(List::Made(items))
            }
        }
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Text(Text::Made(text.into()))
    }

    /// The kind of the value, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::UInt(_) => "a whole number",
            Self::Double(_) => "a decimal number",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
            Self::Type(_) => "a type",
        }
    }

    /// The name of its type in the language.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::UInt(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Mapping(_) => "map",
            Self::Type(_) => "type",
        }
    }

    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Self::Int(whole) => Some(Number::Whole((*whole).into())),
            Self::UInt(whole) => Some(Number::Whole((*whole).into())),
            Self::Double(double) => Some(Number::Double(*double)),
            Self::Null
            | Self::Bool(_)
            | Self::Text(_)
            | Self::Bytes(_)
            | Self::List(_)
            | Self::Mapping(_)
            | Self::Type(_) => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether a mapping can have it as a key.
    pub(super) fn is_key(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Bool(_)) || self.number().is_some()
    }

    /// The beginning of a key, for messages; `None` where it is no key.
    pub(super) fn shown_key(&self) -> Option<String> {
        if let Self::Text(text) = self {
            return Some(text.chars().take(SHOWN_MAX).collect());
        }
        self.key_text()
    }

    /// The value as a key of JSON; `None` where it cannot be one.
    pub(super) fn key_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.to_string()),
            Self::Bool(truth) => Some(truth.to_string()),
            Self::Int(whole) => Some(whole.to_string()),
            Self::UInt(whole) => Some(whole.to_string()),
            Self::Double(double) => Some(double.to_string()),
            Self::Null | Self::Bytes(_) | Self::List(_) | Self::Mapping(_) | Self::Type(_) => None,
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Borrowed(items) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<Val<'a>> {
        match self {
            Self::Borrowed(items) => items.get(at).map(Val::of),
            Self::Made(items) => items.get(at).cloned(),
        }
    }

    pub(super) fn items(&self) -> impl Iterator<Item = Val<'a>> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

impl<'a> Mapping<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Borrowed(entries) => entries.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// The steps that looking up a key takes.
    pub(super) fn lookup_steps(&self) -> usize {
        match self {
            Self::Borrowed(_) => 1,
            Self::Made(entries) => 1 + entries.len(),
        }
    }

    pub(super) fn get(&self, key: &Val<'_>) -> Option<Val<'a>> {
        match (self, key) {
            (Self::Borrowed(entries), Val::Text(key)) => entries.get(&**key).map(Val::of),
            (Self::Borrowed(_), _) => None,
            (Self::Made(entries), _) => entries
                .iter()
                .find(|(known, _)| same_key(known, key))
                .map(|(_, value)| value.clone()),
        }
    }

    pub(super) fn entries(&self) -> Box<dyn Iterator<Item = (Val<'a>, Val<'a>)> + '_> {
        match self {
            Self::Borrowed(entries) => Box::new(
                entries
                    .iter()
                    .map(|(key, value)| (Val::Text(Text::Borrowed(key)), Val::of(value))),
            ),
            Self::Made(entries) => Box::new(entries.iter().cloned()),
        }
    }
}

/// Whether two keys are one: `1`, `1u` and `1.0` are.
pub(super) fn same_key(a: &Val<'_>, b: &Val<'_>) -> bool {
    match (a, b) {
        (Val::Text(a), Val::Text(b)) => **a == **b,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        _ => match (a.number(), b.number()) {
            (Some(a), Some(b)) => a.order(b).is_some_and(std::cmp::Ordering::is_eq),
            _ => false,
        },
    }
}
