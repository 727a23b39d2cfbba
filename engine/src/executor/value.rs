//! Values inside annotation data.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::{
    config::ConsensusConfig,
    limits::{COMMAND_BYTES_MAX, COMMAND_DEPTH_MAX},
};

/// The value at a path of keys separated by dots (`label`, `entities.0.tag`); a leading `$.` is
/// accepted. Without a path, all of `data`.
pub fn value_at<'v>(data: &'v Value, path: Option<&str>) -> Option<&'v Value> {
    let Some(path) = path else { return Some(data) };
    let path = path.strip_prefix("$.").unwrap_or(path);
    path.split('.').try_fold(data, |value, key| match value {
        Value::Object(fields) => fields.get(key),
        Value::Array(elements) => elements.get(key.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

/// Annotation data lacks the value the step takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// No value at the path.
    #[error("`annotation.data` has no value at `{field}`")]
    Missing {
        /// The path.
        field: String,
    },
    /// No data at all.
    #[error("`annotation.data` is empty")]
    Empty,
}

/// The part of annotation data that a step takes as its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection<'w> {
    /// All of it.
    All,
    /// The value at a path.
    Field(&'w str),
    /// The values at several paths: an object with the paths as keys.
    Fields(Vec<&'w str>),
}

impl<'w> Selection<'w> {
    /// The value a consensus rule compares.
    pub fn of(consensus: &'w ConsensusConfig) -> Self {
        match (&consensus.per_field, &consensus.field) {
            (Some(fields), _) => Self::Fields(fields.keys().map(String::as_str).collect()),
            (None, Some(field)) => Self::Field(field),
            (None, None) => Self::All,
        }
    }

    /// The value; `None` if a part of it is missing.
    pub fn value(&self, data: &Value) -> Option<Value> {
        match self {
            Self::All => Some(data.clone()),
            Self::Field(field) => value_at(data, Some(field)).cloned(),
            Self::Fields(fields) => fields
                .iter()
                .map(|field| Some(((*field).to_owned(), value_at(data, Some(field))?.clone())))
                .collect::<Option<Map<String, Value>>>()
                .map(Value::Object),
        }
    }

    /// Checks that a submission contains the whole value; null does not count.
    ///
    /// # Errors
    ///
    /// The first path without a value, or that the data are empty.
    pub fn check(&self, data: &Value) -> Result<(), ValueError> {
        let paths = match self {
            Self::All if data.is_null() => return Err(ValueError::Empty),
            Self::All => &[],
            Self::Field(field) => std::slice::from_ref(field),
            Self::Fields(fields) => fields.as_slice(),
        };
        let missing = |path: &&&str| value_at(data, Some(path)).is_none_or(Value::is_null);
        match paths.iter().find(missing) {
            Some(path) => Err(ValueError::Missing {
                field: (*path).to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// Checks that a value produced by a task stays within the bounds of a command. Without this check,
/// values made of values could double with every step, and nest too deeply for readers.
///
/// # Errors
///
/// By how much it exceeds the bounds.
pub(crate) fn check_bounds(value: &Value) -> Result<(), String> {
    let bytes = value.to_string().len();
    if bytes > COMMAND_BYTES_MAX {
        return Err(format!(
            "it has {bytes} bytes, more than {COMMAND_BYTES_MAX}"
        ));
    }
    if depth(value) > COMMAND_DEPTH_MAX {
        return Err(format!("it nests deeper than {COMMAND_DEPTH_MAX}"));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    let inside = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return 0,
    };
    1 + inside.unwrap_or(0)
}

/// A total order over JSON, so that categories have positions and lists are stable: null, booleans,
/// numbers by size, texts by code point, lists by their elements, then objects.
pub(crate) fn order(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => {
            let (x, y) = (
                a.as_f64().unwrap_or(f64::NAN),
                b.as_f64().unwrap_or(f64::NAN),
            );
            x.total_cmp(&y)
                .then_with(|| a.to_string().cmp(&b.to_string()))
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => a
            .iter()
            .zip(b)
            .map(|(x, y)| order(x, y))
            .find(|o| o.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        (Value::Object(_), Value::Object(_)) => a.to_string().cmp(&b.to_string()),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Whether two values are the same answer: `1` and `1.0` are equal.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len()
                && x.iter()
                    .all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_into_objects_and_lists() {
        let data = json!({"a": {"b": [10, {"c": null}]}});
        assert_eq!(value_at(&data, None), Some(&data));
        assert_eq!(value_at(&data, Some("a.b.0")), Some(&json!(10)));
        assert_eq!(value_at(&data, Some("$.a.b.1.c")), Some(&Value::Null));
        assert_eq!(value_at(&data, Some("a.x")), None);
        assert!(
            Selection::Field("a.b.1.c").check(&data).is_err(),
            "null is no value"
        );
    }

    #[test]
    fn several_fields_are_one_value_with_their_paths_as_keys() {
        let data = json!({"a": {"b": 1}, "c": 2, "d": 3});
        let selection = Selection::Fields(vec!["a.b", "c"]);
        assert_eq!(selection.value(&data), Some(json!({"a.b": 1, "c": 2})));
        assert_eq!(selection.check(&data), Ok(()));
        let without = Selection::Fields(vec!["c", "x"]);
        assert_eq!(without.value(&data), None);
        assert_eq!(
            without.check(&data),
            Err(ValueError::Missing {
                field: "x".to_owned()
            })
        );
    }

    #[test]
    fn one_and_one_point_zero_are_one_answer() {
        assert!(same(&json!({"n": [1, 2.0]}), &json!({"n": [1.0, 2]})));
        assert!(!same(&json!("1"), &json!(1)));
    }

    #[test]
    fn numbers_are_ordered_by_size_and_texts_by_code_point() {
        let mut values = vec![json!("b"), json!(10), json!(9), json!("a"), json!(null)];
        values.sort_by(order);
        assert_eq!(
            values,
            [json!(null), json!(9), json!(10), json!("a"), json!("b")]
        );
    }
}
