//! From text to a valid workflow, or to all its faults.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    document,
    draft::Draft,
    ending_checks,
    fault::{Fault, Faults, Spot},
    graph, outcomes,
    path::Path,
    report::{DiagnosticCode as Code, ParseError, Report, ValidationError},
    resolve, soundness,
    source_map::{Refused, SourceMap},
    structure,
    suggest::Suggester,
    tree::{Content, Node},
    validate,
    ways::Ways,
    yaml,
};
use crate::{
    config::{StepLibrary, WorkflowConfig},
    limits::WORKFLOW_BYTES_MAX,
};

/// Reads a workflow file with the built-in step library and handlers.
///
/// # Errors
///
/// All faults of the file, warnings included.
pub fn parse_workflow(source: &str) -> Result<WorkflowConfig, ParseError> {
    parse_workflow_with_library(source, &StepLibrary::built_in())
}

/// Reads a workflow file whose steps may come from `library`.
///
/// # Errors
///
/// All faults of the file, warnings included.
pub fn parse_workflow_with_library(
    source: &str,
    library: &StepLibrary,
) -> Result<WorkflowConfig, ParseError> {
    parse_workflow_with_handlers(source, library, &[])
}

/// Reads a workflow file whose steps may come from `library` and call `handlers`, besides
/// [`BUILT_IN_HANDLERS`](crate::config::BUILT_IN_HANDLERS). A handler with the name of a built-in
/// one replaces it, with its own settings.
///
/// # Errors
///
/// All faults of the file, warnings included.
pub fn parse_workflow_with_handlers(
    source: &str,
    library: &StepLibrary,
    handlers: &[&str],
) -> Result<WorkflowConfig, ParseError> {
    check_workflow(source, library, handlers).into_result()
}

/// Reads a workflow file and reports everything: errors and warnings.
///
/// `handlers` are the program's own, besides
/// [`BUILT_IN_HANDLERS`](crate::config::BUILT_IN_HANDLERS).
pub fn check_workflow(source: &str, library: &StepLibrary, handlers: &[&str]) -> Report {
    check_workflow_bytes(source.as_bytes(), library, handlers)
}

/// As [`check_workflow`], for bytes that may not be text.
pub fn check_workflow_bytes(source: &[u8], library: &StepLibrary, handlers: &[&str]) -> Report {
    let (config, diagnostics) = checked(source, |text, positions, faults| {
        read(text, library, handlers, positions, faults)
    });
    Report {
        config,
        diagnostics,
    }
}

/// Reads a YAML file with `read`. Returns its content, unless there are errors, and all faults.
pub(super) fn checked<T>(
    source: &[u8],
    read: impl for<'a> FnOnce(&'a str, &mut SourceMap<'a>, &mut Faults) -> Result<Option<T>, Refused>,
) -> (Option<T>, Vec<ValidationError>) {
    let mut faults = Faults::default();
    if source.len() > WORKFLOW_BYTES_MAX {
        let message = format!("the file has more than {WORKFLOW_BYTES_MAX} bytes");
        faults
            .add(Code::TooLarge, &Path::root(), message)
            .at(known(0));
        return (None, placed(faults, &SourceMap::nowhere(""), false));
    }
    let is_empty = source.is_empty();
    // Editors on Windows may put a byte order mark before the text.
    let source = source.strip_prefix("\u{feff}".as_bytes()).unwrap_or(source);
    let text = match std::str::from_utf8(source) {
        Ok(text) => text,
        Err(error) => {
            let text = String::from_utf8_lossy(&source[..error.valid_up_to()]);
            let message = format!("byte {} is not UTF-8", error.valid_up_to());
            faults
                .add(Code::NotUtf8, &Path::root(), message)
                .at(known(text.len()));
            return (None, placed(faults, &SourceMap::nowhere(&text), is_empty));
        }
    };
    let mut positions = SourceMap::nowhere(text);
    let found = read(text, &mut positions, &mut faults).unwrap_or_default();
    let diagnostics = placed(faults, &positions, is_empty);
    let is_error = |d: &ValidationError| d.severity == super::Severity::Error;
    let found = found.filter(|_| !diagnostics.iter().any(is_error));
    (found, diagnostics)
}

/// The text as nodes.
pub(super) fn nodes<'a>(
    text: &'a str,
    positions: &mut SourceMap<'a>,
    faults: &mut Faults,
    begin_with: &str,
) -> Result<Node, Refused> {
    *positions = SourceMap::read(text, faults)?;
    let value = yaml::read(text).map_err(|fault| {
        let byte = fault
            .place
            .map_or(0, |(line, column)| positions.byte_of(line, column));
        faults
            .add(Code::YamlSyntax, &Path::root(), fault.message)
            .at(known(byte));
        Refused
    });
    if positions.is_empty() {
        faults
            .add(Code::EmptyFile, &Path::root(), "the file is empty")
            .at(known(0))
            .suggest(format!("start with {begin_with}"));
        return Err(Refused);
    }
    let root = Node::written(value?, Path::root());
    refuse_nul(&root, faults);
    Ok(root)
}

/// Refuses NUL characters: YAML can write them as an escape, but no database keeps them in a text.
fn refuse_nul(node: &Node, faults: &mut Faults) {
    let refuse = |faults: &mut Faults, at: &Path, what: &str| {
        faults
            .add(
                Code::InvalidValue,
                at,
                format!("the {what} holds the NUL character"),
            )
            .suggest("leave it out: no database keeps it");
    };
    match &node.content {
        Content::Scalar(Value::String(text)) if text.contains('\0') => {
            refuse(faults, &node.origin, "text");
        }
        Content::Scalar(_) => {}
        Content::List(items) => items.iter().for_each(|item| refuse_nul(item, faults)),
        Content::Map(entries) => {
            for (key, value) in entries {
                if key.contains('\0') {
                    refuse(faults, &value.origin, "key");
                }
                refuse_nul(value, faults);
            }
        }
    }
}

fn read<'a>(
    text: &'a str,
    library: &StepLibrary,
    handlers: &[&str],
    positions: &mut SourceMap<'a>,
    faults: &mut Faults,
) -> Result<Option<WorkflowConfig>, Refused> {
    let found = read_nodes(text, library, handlers, positions, faults)?;
    Ok(found.map(|(config, _)| config))
}

/// The workflow, and the resolved nodes of the file it was read from.
pub(super) fn read_nodes<'a>(
    text: &'a str,
    library: &StepLibrary,
    handlers: &[&str],
    positions: &mut SourceMap<'a>,
    faults: &mut Faults,
) -> Result<Option<(WorkflowConfig, Node)>, Refused> {
    let begin_with = "`workflow:` and its `id` and `steps`";
    let mut root = nodes(text, positions, faults, begin_with)?;
    let suggester = Suggester::default();
    resolve::resolve(&mut root, library, &suggester, faults)?;
    structure::check(&mut root, document::file_schema(), &suggester, faults);
    let Some(body) = root.get("workflow") else {
        return Ok(None);
    };
    let whole = body.get("steps").is_none_or(|steps| !steps.broken)
        && body
            .get("transitions")
            .is_none_or(|transitions| !transitions.broken);
    if body.map().is_none() || !whole {
        return Ok(None);
    }
    let goals = root.get("goals").filter(|goals| !goals.broken);
    let draft = Draft::of(body, &suggester, faults);
    let expressions = validate::check(&draft, goals, handlers, &suggester, faults);
    let ways = Ways::of(&draft);
    graph::check(&draft, &ways, faults);
    let ends = outcomes::Ends::of(&draft, &ways, &expressions, handlers);
    ending_checks::check(&ends, faults);
    if !faults.has_errors() {
        soundness::check(&ends, faults);
    }
    if root.broken || body.broken {
        return Ok(None);
    }
    let config = whole_config(body, goals, faults);
    Ok(config.map(|config| (config, root)))
}

/// The typed workflow; a remaining conversion error is reported as a fault.
fn whole_config(body: &Node, goals: Option<&Node>, faults: &mut Faults) -> Option<WorkflowConfig> {
    let mut value = body.to_value();
    if let (Some(entries), Some(goals)) = (value.as_object_mut(), goals) {
        entries.insert("goals".to_owned(), goals.to_value());
    }
    match serde_json::from_value(value) {
        Ok(config) => Some(config),
        Err(_) if !faults.is_empty() => None,
        Err(error) => {
            faults.add(Code::InvalidValue, &body.origin, error.to_string());
            None
        }
    }
}

fn known(byte: usize) -> Spot {
    Spot::Known { byte, length: 0 }
}

/// Locates every fault in the file, sorts the faults in file order and removes duplicates.
fn placed(faults: Faults, positions: &SourceMap<'_>, is_empty: bool) -> Vec<ValidationError> {
    let mut seen = HashSet::new();
    let mut diagnostics: Vec<ValidationError> = faults
        .into_vec()
        .into_iter()
        .map(|fault| place(fault, positions, is_empty))
        .filter(|d| seen.insert((d.code, d.path.clone(), d.message.clone())))
        .collect();
    diagnostics.sort_by_key(|d| (d.offset, d.severity, d.code));
    diagnostics
}

fn place(fault: Fault, positions: &SourceMap<'_>, is_empty: bool) -> ValidationError {
    let place = positions.locate(&fault.path, &fault.spot);
    ValidationError {
        code: fault.code,
        severity: fault.code.severity(),
        message: fault.message,
        path: fault.path.to_string(),
        line: (!is_empty).then_some(place.line),
        column: (!is_empty).then_some(place.column),
        value: fault.value,
        suggestion: fault.suggestion,
        offset: place.offset,
        length: place.length,
    }
}
