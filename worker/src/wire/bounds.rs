//! Bounds on the length of texts, on their number, and on times.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Utc};
use glyph_workflow_engine::{
    command::{AnnotationInput, Command},
    limits,
};

use super::unreadable::CommandFault;

pub(super) fn check_bounds(command: &Command) -> Result<(), CommandFault> {
    match command {
        Command::Start(c) => c.labels.as_ref().map_or(Ok(()), check_labels),
        Command::Submission(c) => check_annotation(&c.annotation),
        Command::Assign(c) => check_roles("roles", c.roles.as_deref()),
        Command::Release(c) => check_reason(c.reason.as_deref()),
        Command::Pause(c) => {
            check_reason(c.reason.as_deref())?;
            check_time("until", c.until)
        }
        Command::Resume(c) | Command::Cancel(c) | Command::Retry(c) => {
            check_reason(c.reason.as_deref())
        }
        Command::Advance(_)
        | Command::Activity(_)
        | Command::Migrate(_)
        | Command::Child(_)
        | Command::FireTimer(_) => Ok(()),
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), CommandFault> {
    if labels.len() > limits::LABELS_MAX {
        return Err(CommandFault::malformed(format!(
            "labels: {} are more than the {} allowed",
            labels.len(),
            limits::LABELS_MAX
        )));
    }
    labels.iter().try_for_each(|(key, value)| {
        check_text("labels", key, limits::LABEL_BYTES_MAX)?;
        check_text(&format!("labels.{key}"), value, limits::LABEL_BYTES_MAX)
    })
}

fn check_annotation(annotation: &AnnotationInput) -> Result<(), CommandFault> {
    check_roles("annotation.roles", annotation.roles.as_deref())?;
    check_time("annotation.submitted_at", annotation.submitted_at)?;
    match annotation.confidence {
        Some(c) if !(0.0..=1.0).contains(&c) => Err(CommandFault::malformed(format!(
            "annotation.confidence: {c} is not between 0 and 1"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn check_roles(path: &str, roles: Option<&[String]>) -> Result<(), CommandFault> {
    let roles = roles.unwrap_or_default();
    if roles.len() > limits::ROLES_MAX {
        return Err(CommandFault::malformed(format!(
            "{path}: {} are more than the {} allowed",
            roles.len(),
            limits::ROLES_MAX
        )));
    }
    roles
        .iter()
        .try_for_each(|role| check_text(path, role, limits::LABEL_BYTES_MAX))
}

pub(super) fn check_reason(reason: Option<&str>) -> Result<(), CommandFault> {
    reason.map_or(Ok(()), |text| {
        check_text("reason", text, limits::TEXT_BYTES_MAX)
    })
}

/// The NUL check matters only for text from outside the body, but it costs next to nothing.
pub(super) fn check_text(path: &str, text: &str, bytes_max: usize) -> Result<(), CommandFault> {
    if text.len() > bytes_max {
        return Err(CommandFault::malformed(format!(
            "{path}: {} bytes are more than the {bytes_max} allowed",
            text.len()
        )));
    }
    if text.contains('\0') {
        return Err(CommandFault::malformed(format!(
            "{path}: holds the NUL character"
        )));
    }
    Ok(())
}

/// RFC 3339 has four-digit years; the parser and the databases each have other limits.
pub(super) fn check_time(path: &str, time: Option<DateTime<Utc>>) -> Result<(), CommandFault> {
    match time {
        Some(time) if !(0..=9_999).contains(&time.year()) => Err(CommandFault::malformed(format!(
            "{path}: the year must have four digits"
        ))),
        _ => Ok(()),
    }
}
