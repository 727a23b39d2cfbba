//! `glyph config check`: the settings in force in this process.

use clap::Subcommand;
use serde_json::json;

use super::{CliError, Output, output::Table};
use crate::settings::{Settings, Tokens, misspelt_variables};

/// Verbs on settings.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the settings in force, where each comes from, and what is wrong; secrets are masked
    Check,
}

pub(super) fn run(verb: ConfigVerb, settings: &Settings, output: Output) -> Result<(), CliError> {
    let ConfigVerb::Check = verb;
    let lines = settings.describe();
    // A setting that only some verbs need is a warning if missing; a contradiction is an error.
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut warnings = misspelt_variables(variables);
    warnings.extend(settings.link_warnings());
    let mut faults = Vec::new();
    if settings.api.is_none()
        && let Err(error) = settings.services()
    {
        let incomplete = settings.database.is_none() || settings.broker.is_none();
        let list = if incomplete {
            &mut warnings
        } else {
            &mut faults
        };
        list.extend(error.faults);
    }
    if let Err(error) = settings.check_http() {
        faults.extend(error.faults);
    }
    if let Some(path) = &settings.api_tokens_file {
        faults.extend(Tokens::from_file(path).err().map(|e| e.to_string()));
    }
    let document = json!({
        "valid": faults.is_empty(),
        "settings": lines,
        "warnings": warnings,
        "faults": faults,
    });
    output.result(&document, || {
        let mut table = Table::new(&["setting", "value", "from"]);
        for line in &lines {
            let value = line.value.clone().unwrap_or_else(|| "-".to_owned());
            table.row([line.key.clone(), value, line.origin.clone()]);
        }
        let notes = warnings.iter().map(|w| format!("\nwarning: {w}"));
        let notes = notes.chain(faults.iter().map(|f| format!("\nerror: {f}")));
        format!("{}\n{}", table.render(0), notes.collect::<String>())
    });
    if faults.is_empty() {
        Ok(())
    } else {
        Err(CliError::SettingsShown)
    }
}
