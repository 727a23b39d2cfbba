//! JSON in the one form in which answers are compared.

use std::{cmp::Ordering, collections::BTreeMap};

use serde_json::{Map, Number, Value};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// JSON in canonical form: equal where the answers are the same one.
///
/// The order is total: null, booleans, numbers by size, texts by code point, lists by their elements,
/// objects by their sorted keys and values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Form {
    Null,
    Bool(bool),
    Number(Exact),
    /// In NFC.
    Text(String),
    List(Vec<Form>),
    /// Sorted by key; keys in NFC. No map, since two keys may be one in NFC and both must count.
    Object(Vec<(String, Form)>),
}

/// A number by its exact value: 1 and 1.0 are one, two different integers never.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exact {
    /// Every whole number up to 2^127, however it is written.
    Whole(i128),
    /// Any other: not whole, or larger.
    Float(f64),
}

/// From here on a double is larger than any `i128`.
const WHOLE_END: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;

impl Exact {
    pub(crate) fn of(number: &Number) -> Self {
        if let Some(whole) = number.as_i64() {
            return Self::Whole(whole.into());
        }
        if let Some(whole) = number.as_u64() {
            return Self::Whole(whole.into());
        }
        Self::of_f64(number.as_f64().unwrap_or_default())
    }

    pub(crate) fn of_f64(float: f64) -> Self {
        if float.fract() == 0.0 && float.abs() < WHOLE_END {
            Self::Whole(whole(float))
        } else {
            Self::Float(float)
        }
    }

    /// The nearest double.
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Float(float) => float,
        }
    }

    /// As JSON: whole numbers of 64 bits without a fraction, others as doubles.
    pub(crate) fn to_json(self) -> Value {
        let whole = match self {
            Self::Whole(whole) => i64::try_from(whole)
                .map(Number::from)
                .or_else(|_| u64::try_from(whole).map(Number::from))
                .ok(),
            Self::Float(_) => None,
        };
        whole
            .or_else(|| Number::from_f64(self.to_f64()))
            .map_or(Value::Null, Value::Number)
    }
}

/// The whole number that a double below [`WHOLE_END`] is, or the next one toward zero.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the caller has made sure that it fits"
)]
fn whole(float: f64) -> i128 {
    float as i128
}

impl Ord for Exact {
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(&b),
            (Self::Whole(a), Self::Float(b)) => order(a, b),
            (Self::Float(a), Self::Whole(b)) => order(b, a).reverse(),
        }
    }
}

/// A whole number and a double that is none, or is larger than all: they are never equal.
fn order(a: i128, b: f64) -> Ordering {
    if b.abs() >= WHOLE_END {
        return if b > 0.0 {
            Ordering::Less
        } else {
            Ordering::Greater
        };
    }
    // The whole number below `b`; a double that is not whole is below 2^53, so this is exact.
    if a <= whole(b.floor()) {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

impl PartialOrd for Exact {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Exact {}

impl std::hash::Hash for Exact {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Self::Whole(whole) => whole.hash(state),
            Self::Float(float) => float.to_bits().hash(state),
        }
    }
}

/// A text in NFC, the form in which what looks alike is alike (Unicode Standard Annex 15).
pub(crate) fn nfc(text: &str) -> String {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.to_owned(),
        IsNormalized::No | IsNormalized::Maybe => text.nfc().collect(),
    }
}

impl Form {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Number(number) => Self::Number(Exact::of(number)),
            Value::String(text) => Self::Text(nfc(text)),
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(entries) => Self::object(
                entries
                    .iter()
                    .map(|(key, value)| (nfc(key), Self::of(value))),
            ),
        }
    }

    /// An object of these entries, in any order.
    pub(crate) fn object(entries: impl IntoIterator<Item = (String, Form)>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort();
        Self::Object(entries)
    }

    pub(crate) fn is_scalar(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Number(_) | Self::Text(_))
    }

    pub(crate) fn number(&self) -> Option<Exact> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// How much there is to compare: its values, itself included, and a step for every eight bytes of
    /// text.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => 1,
            Self::Text(text) => 1 + text.len() as u64 / 8,
            Self::List(items) => 1 + items.iter().map(Self::size).sum::<u64>(),
            Self::Object(entries) => {
                let entry = |(key, value): &(String, Self)| 1 + key.len() as u64 / 8 + value.size();
                1 + entries.iter().map(entry).sum::<u64>()
            }
        }
    }

    /// As JSON, each number and text in one way of writing it.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Number(number) => number.to_json(),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Self::Object(entries) => {
                let entries: Map<String, Value> = entries
                    .iter()
                    .map(|(key, value)| (key.clone(), value.to_json()))
                    .collect();
                Value::Object(entries)
            }
        }
    }
}

/// Which of several ways of writing equal values is kept: the one that most people used, of those the
/// shortest, of those the first by code point.
pub(crate) fn most_written<'v>(written: impl IntoIterator<Item = &'v Value>) -> Value {
    let mut counts: BTreeMap<String, (usize, &Value)> = BTreeMap::new();
    for value in written {
        let text = crate::canonical::text(value);
        counts.entry(text).or_insert((0, value)).0 += 1;
    }
    let best = counts
        .into_iter()
        .min_by(|(a, (a_count, _)), (b, (b_count, _))| {
            b_count
                .cmp(a_count)
                .then_with(|| a.len().cmp(&b.len()))
                .then_with(|| a.cmp(b))
        });
    best.map_or(Value::Null, |(_, (_, value))| value.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn exact(json: &str) -> Exact {
        let Value::Number(number) = serde_json::from_str(json).unwrap() else {
            panic!("{json} is no number")
        };
        Exact::of(&number)
    }

    #[test]
    fn numbers_are_compared_by_exact_value() {
        assert_eq!(exact("1"), exact("1.0"));
        assert_eq!(exact("0"), exact("-0.0"));
        assert_ne!(exact("9007199254740993"), exact("9007199254740992"));
        assert_ne!(exact("9007199254740993"), exact("9007199254740992.0"));
        assert_eq!(exact("9007199254740992"), exact("9007199254740992.0"));
        assert_ne!(exact("18446744073709551615"), exact("18446744073709551614"));
        assert_eq!(exact("10000000000000000"), exact("1e16"));
        assert!(exact("1e300") > exact("18446744073709551615"));
        assert!(exact("-1e300") < exact("-9223372036854775808"));
        assert!(exact("2.5") > exact("2") && exact("2.5") < exact("3"));
        assert!(exact("-2.5") < exact("-2") && exact("-2.5") > exact("-3"));
    }

    #[test]
    fn texts_are_compared_in_nfc_and_objects_in_any_order_of_keys() {
        assert_eq!(Form::of(&json!("e\u{301}te")), Form::of(&json!("\u{e9}te")));
        assert_eq!(
            Form::of(&json!({"a": 1, "b": [2.0]})),
            Form::of(&json!({"b": [2], "a": 1.0}))
        );
        assert_ne!(Form::of(&json!([1, 2])), Form::of(&json!([2, 1])));
        assert_ne!(Form::of(&json!("1")), Form::of(&json!(1)));
        assert_ne!(Form::of(&json!({"a": null})), Form::of(&json!({})));
    }

    #[test]
    fn the_way_of_writing_that_most_used_is_kept() {
        let [a, b] = [json!(1.0), json!(1)];
        assert_eq!(most_written([&a, &b]), json!(1));
        assert_eq!(most_written([&a, &b, &a]), json!(1.0));
    }

    proptest! {
        #[test]
        fn numbers_are_ordered_totally(
            a in prop_oneof![any::<i64>().prop_map(|n| json!(n)), any::<f64>().prop_map(|n| json!(n)), (-5_i64..5).prop_map(|n| json!(n)), (-10_i64..10).prop_map(|n| json!(n as f64 / 2.0))],
            b in prop_oneof![any::<u64>().prop_map(|n| json!(n)), any::<f64>().prop_map(|n| json!(n)), (-5_i64..5).prop_map(|n| json!(n)), (-10_i64..10).prop_map(|n| json!(n as f64 / 2.0))],
        ) {
            let (a, b) = (Form::of(&a), Form::of(&b));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if let (Form::Number(a), Form::Number(b)) = (&a, &b) {
                // Where doubles differ the exact values do, in the same direction.
                if a.to_f64() < b.to_f64() {
                    prop_assert!(a < b);
                }
            }
            prop_assert_eq!(&Form::of(&a.to_json()), &a);
        }
    }
}
