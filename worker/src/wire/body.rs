//! Converts external bytes to JSON that every store can keep, and on to a type.
//!
//! Content that any store could refuse is rejected here, one command at a time: later it would
//! abort a whole batch.

use glyph_workflow_engine::limits;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    forms::check_forms,
    unreadable::{CommandFault, UnreadableCode},
};

/// Like [`parse`], but an empty input is an empty object.
pub(super) fn parse_or_empty(body: &[u8]) -> Result<Map<String, Value>, CommandFault> {
    match body {
        [] => parse(b"{}"),
        body => parse(body),
    }
}

/// Parses bytes to an object that every store can keep.
pub(super) fn parse(body: &[u8]) -> Result<Map<String, Value>, CommandFault> {
    if body.len() > limits::COMMAND_BYTES_MAX {
        return Err(CommandFault {
            code: UnreadableCode::TooLarge,
            error: format!(
                "{} bytes are more than the {} allowed",
                body.len(),
                limits::COMMAND_BYTES_MAX
            ),
        });
    }
    let text = std::str::from_utf8(body).map_err(|e| {
        CommandFault::malformed(format!("not UTF-8 after byte {}", e.valid_up_to()))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(CommandFault::malformed(
            "not JSON: it begins with a byte order mark; send UTF-8 without one",
        ));
    }
    // serde_json rejects numbers outside the range of a finite f64, and nesting beyond 128.
    let value: Value = serde_json::from_str(text)
        .map_err(|e| CommandFault::malformed(format!("not JSON: {e}")))?;
    if let Some((byte, number)) = too_large_integer(text) {
        return Err(CommandFault::malformed(format!(
            "byte {byte}: the whole number {number} has more than 64 bits and would be rounded: send it as a text"
        )));
    }
    check_content(&value, 1)?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(CommandFault::malformed("a command is a JSON object")),
    }
}

/// The first integer of a valid JSON text that does not fit 64 bits, and its offset. The parser
/// would convert it to a float, which changes its value.
pub(crate) fn too_large_integer(text: &str) -> Option<(usize, &str)> {
    let (mut at, bytes) = (0, text.as_bytes());
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => {
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let inside =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                while bytes.get(at).is_some_and(inside) {
                    at += 1;
                }
                let number = &text[start..at];
                let whole = !number.contains(['.', 'e', 'E']);
                if whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some((start, number));
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether every store can keep an external value; the error says why not.
pub(crate) fn check_storable(value: &Value) -> Result<(), String> {
    check_content(value, 1).map_err(|fault| fault.error)
}

/// Rejects nesting beyond [`limits::COMMAND_DEPTH_MAX`] and the NUL character, which Postgres
/// stores neither in text nor in jsonb.
fn check_content(value: &Value, depth: usize) -> Result<(), CommandFault> {
    let check_text = |text: &str| {
        if text.contains('\0') {
            Err(CommandFault::malformed("a string holds the NUL character"))
        } else {
            Ok(())
        }
    };
    if depth > limits::COMMAND_DEPTH_MAX && (value.is_object() || value.is_array()) {
        return Err(CommandFault::malformed(format!(
            "nested more than {} levels deep",
            limits::COMMAND_DEPTH_MAX
        )));
    }
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) => check_text(text),
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_content(item, depth + 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(key, item)| {
            check_text(key)?;
            check_content(item, depth + 1)
        }),
    }
}

pub(super) fn typed<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, CommandFault> {
    check_forms(&fields)?;
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        CommandFault::malformed(if path == "." {
            inner.to_string()
        } else {
            format!("{path}: {inner}")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_that_would_be_rounded_are_refused() {
        let read = |text: &str| {
            parse(text.as_bytes())
                .map(drop)
                .map_err(|fault| fault.error)
        };
        for exact in [
            r#"{"a": 18446744073709551615, "b": -9223372036854775808}"#,
            r#"{"a": "18446744073709551616", "b": "\"99999999999999999999"}"#,
            r#"{"a": 1.5e20, "b": 99999999999999999999.0, "c": -0}"#,
        ] {
            assert_eq!(read(exact), Ok(()), "{exact}");
        }
        for rounded in [
            r#"{"a": [18446744073709551616]}"#,
            r#"{"a": "x\\", "b": -9223372036854775809}"#,
        ] {
            let error = read(rounded).unwrap_err();
            assert!(error.contains("more than 64 bits"), "{error}");
        }
    }
}
