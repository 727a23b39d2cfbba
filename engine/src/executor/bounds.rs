//! The bounds of values that a task makes.

use serde_json::Value;

use crate::limits::{COMMAND_BYTES_MAX, COMMAND_DEPTH_MAX};

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
