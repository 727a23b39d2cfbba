//! Parses the values of arguments.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::state::{IncidentCode, TaskStatus};
use serde_json::Value;

/// JSON in the argument itself, or in the file after an `@`.
pub(super) fn json_argument(text: &str) -> Result<Value, String> {
    let content = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(path) => std::fs::read_to_string(path).map_err(|e| format!("file `{path}`: {e}"))?,
    };
    serde_json::from_str(&content)
        .map_err(|error| format!("{error}; a text needs its quotes, as '\"positive\"'"))
}

/// `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text
        .split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "write KEY=VALUE".to_owned())
}

/// A time as in RFC 3339.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text);
    let time = time.map_err(|error| format!("{error}; write it as 2026-01-31T12:00:00Z"))?;
    Ok(time.with_timezone(&Utc))
}

/// A status by its name.
pub(super) fn status(text: &str) -> Result<TaskStatus, String> {
    let names = || TaskStatus::ALL.map(TaskStatus::as_str).join(", ");
    TaskStatus::from_name(text).ok_or_else(|| format!("there are: {}", names()))
}

/// The code of an incident by its name.
pub(super) fn incident_code(text: &str) -> Result<IncidentCode, String> {
    let names = || IncidentCode::ALL.map(IncidentCode::as_str).join(", ");
    IncidentCode::from_name(text).ok_or_else(|| format!("there are: {}", names()))
}
