//! `glyph settings`, and `glyph help settings`: every setting with its flag, its variable and its
//! default.

use std::fmt::Write as _;

use serde_json::json;

use super::Output;
use crate::settings::SettingsFlags;

const HEAD: &str = "\
Every command takes every setting, as a flag, as an environment variable, or as a key of the TOML file
that --config names; the key is the flag's name with underscores, as http_addr. Flags override the
environment, and the environment overrides the file. Traces are set by the standard OTEL_* variables,
and PGSSLMODE says how much of the link to Postgres is verified where the URL does not.

`glyph config check` prints the settings in force and where each comes from.
";

/// The list of settings, for help.
pub(super) fn help() -> String {
    let mut text = HEAD.to_owned();
    for setting in SettingsFlags::documented() {
        let variable = setting.environment.map(|name| format!(", {name}"));
        // Writing to a string never fails.
        let _ = write!(
            text,
            "\n  {}{}\n          {}",
            setting.flag,
            variable.unwrap_or_default(),
            setting.about
        );
    }
    text
}

pub(super) fn run(output: Output) {
    output.result(&json!({"settings": SettingsFlags::documented()}), help);
}
