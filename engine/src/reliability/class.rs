//! Converts answers to class names and back.

use serde_json::{Number, Value};

use crate::limits::CLASS_BYTES_MAX;

/// Why an answer is not a category.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    /// A list, an object or null.
    #[error("{found} is no category: give a text, a number, true or false")]
    NotScalar {
        /// Its JSON type.
        found: &'static str,
    },
    /// A long text, most likely not the name of a category.
    #[error("an answer of {bytes} bytes is no category: at most {CLASS_BYTES_MAX} are")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// The class name of a scalar answer. Equal answers have equal names (`1` and `1.0` are equal);
/// different answers have different names. A text is its own name, except if it would be read as a
/// number, `true`, `false` or `null`, or begins with a quotation mark; then it is quoted.
///
/// # Errors
///
/// [`ClassError`] for non-scalar values, and for names beyond [`CLASS_BYTES_MAX`].
pub fn class_of(value: &Value) -> Result<String, ClassError> {
    let name = match value {
        Value::Number(number) => number_name(number),
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Bool(_) | Value::String(_) => value.to_string(),
        Value::Null => return Err(ClassError::NotScalar { found: "null" }),
        Value::Array(_) => return Err(ClassError::NotScalar { found: "a list" }),
        Value::Object(_) => return Err(ClassError::NotScalar { found: "an object" }),
    };
    within_bound(name)
}

/// The scalar answer of a class.
pub fn value_of(class: &str) -> Value {
    if is_plain(class) {
        Value::String(class.to_owned())
    } else {
        serde_json::from_str(class).unwrap_or_else(|_| Value::String(class.to_owned()))
    }
}

fn is_plain(text: &str) -> bool {
    !text.starts_with('"') && serde_json::from_str::<Value>(text).is_err()
}

fn number_name(number: &Number) -> String {
    // Beyond 2^53 not every whole number is a double; numbers that are not stay unchanged.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
            // Adding zero also turns -0 into 0.
            format!("{:.0}", float + 0.0)
        }
        _ => number.to_string(),
    }
}

fn within_bound(name: String) -> Result<String, ClassError> {
    if name.len() > CLASS_BYTES_MAX {
        return Err(ClassError::TooLong { bytes: name.len() });
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_tell_answers_apart_and_lead_back() {
        let values = [
            json!("positive"),
            json!("1"),
            json!(1),
            json!("true"),
            json!(true),
            json!("null"),
            json!("\"x\""),
            json!(""),
            json!(-2.5),
            json!("{}"),
            json!(1e300),
            json!(-10),
        ];
        let names: Vec<_> = values.iter().map(|v| class_of(v).unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), values.len(), "{names:?}");
        for (value, name) in values.iter().zip(&names) {
            assert_eq!(value_of(name), *value, "{name}");
        }
    }

    #[test]
    fn one_and_one_point_zero_have_one_name() {
        for (a, b) in [
            (json!(1), json!(1.0)),
            (json!(0), json!(-0.0)),
            (json!(-10), json!(-10.0)),
        ] {
            assert_eq!(class_of(&a), class_of(&b));
        }
    }

    #[test]
    fn what_is_no_category_is_refused() {
        for value in [
            json!(null),
            json!([1]),
            json!({"a": 1}),
            json!("x".repeat(257)),
        ] {
            assert!(class_of(&value).is_err(), "{value}");
        }
    }
}
