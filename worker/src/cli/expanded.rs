//! `glyph workflow show --expanded`: every value of a workflow with its source.

use std::path::Path;

use glyph_workflow_engine::{
    config::StepLibrary,
    parser::{ExpandedValue, ValueOrigin, expand_workflow},
};
use serde_json::json;

use super::{
    CliError, Output,
    diagnostics::{errors_of, read, render},
    output::{Table, clipped},
    visualize::{is_file, stored},
};
use crate::{operations::workflows::file_of, settings::Settings};

/// Characters of a value that the table shows.
const VALUE_MAX: usize = 60;

pub(super) async fn run(
    workflow: &str,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    if is_file(workflow) {
        return of_file(Path::new(workflow), output);
    }
    // The store keeps the parsed configuration, not the file, so the sources of its values are
    // lost.
    let config = stored(workflow, settings).await?;
    let name = format!("{}@{}", config.id, config.revision);
    let file = file_of(&config).to_string().into_bytes();
    let (expanded, _) = expand_workflow(&file, &StepLibrary::built_in(), &[]);
    let values: Vec<ExpandedValue> = expanded.map(|found| found.values).unwrap_or_default();
    let shown: Vec<_> = values
        .iter()
        .map(|value| json!({"path": value.path, "value": value.value, "origin": {"from": "revision"}}))
        .collect();
    output.result(
        &json!({"workflow": name, "config": config, "values": shown}),
        || table(&values, |_| name.clone()),
    );
    Ok(())
}

fn of_file(file: &Path, output: Output) -> Result<(), CliError> {
    let (name, source) = read(file)?;
    let (expanded, faults) = expand_workflow(&source, &StepLibrary::built_in(), &[]);
    if !output.is_json() {
        output.diagnostics(&render(&name, &source, &faults));
    }
    let Some(expanded) = expanded else {
        if output.is_json() {
            output.result(&json!({"valid": false, "diagnostics": faults}), String::new);
        }
        return Err(errors_of(&name, &faults, output));
    };
    let document = json!({
        "workflow": expanded.config.id,
        "config": expanded.config,
        "values": expanded.values,
    });
    output.result(&document, || {
        table(&expanded.values, |origin| origin_text(&name, origin))
    });
    Ok(())
}

fn table(values: &[ExpandedValue], origin: impl Fn(&ValueOrigin) -> String) -> String {
    let mut table = Table::new(&["key", "value", "from"]);
    for value in values {
        let text = value
            .value
            .as_str()
            .map_or_else(|| value.value.to_string(), str::to_owned);
        table.row([
            value.path.clone(),
            clipped(&text, VALUE_MAX),
            origin(&value.origin),
        ]);
    }
    table.render(0)
}

fn origin_text(file: &str, origin: &ValueOrigin) -> String {
    match origin {
        ValueOrigin::File { line } => format!("{file}:{line}"),
        ValueOrigin::Template { name } => format!("template {name}"),
        ValueOrigin::Library { name, line: None } => format!("library {name}"),
        ValueOrigin::Library {
            name,
            line: Some(line),
        } => format!("library {name}, {file}:{line}"),
        ValueOrigin::Default => "default".to_owned(),
    }
}
