//! Changes the body of a command that is put back, and shows where it is wrong.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::PathBuf,
    process::Command,
};

use clap::Args;
use serde_json::{Map, Value};

use super::CliError;

/// How a body is changed.
#[derive(Clone, Debug, Args)]
pub struct EditArgs {
    /// Take the whole body from this file; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "set")]
    body: Option<PathBuf>,
    /// Set a field, as annotation.data.label=cat; the value is JSON, or else text. Can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// The new body: from a file, by fields, or from an editor.
pub(super) fn edited(body: &[u8], how: &EditArgs) -> Result<Vec<u8>, CliError> {
    if let Some(file) = &how.body {
        return read(file);
    }
    if how.set.is_empty() {
        return in_editor(body);
    }
    let mut value: Value = serde_json::from_slice(body).map_err(|error| {
        let text = format!("the body is not JSON ({error}); replace the whole with --body FILE");
        CliError::failed("malformed", text)
    })?;
    for field in &how.set {
        set(&mut value, field)?;
    }
    Ok(value.to_string().into_bytes())
}

fn read(file: &PathBuf) -> Result<Vec<u8>, CliError> {
    let unreadable =
        |error: io::Error| CliError::Usage(format!("--body {}: {error}", file.display()));
    if file.as_os_str() == "-" {
        let mut body = Vec::new();
        io::stdin().read_to_end(&mut body).map_err(unreadable)?;
        return Ok(body);
    }
    fs::read(file).map_err(unreadable)
}

/// Sets one field of an object; objects on the way to it are made.
fn set(value: &mut Value, field: &str) -> Result<(), CliError> {
    let usage = |why: &str| CliError::Usage(format!("--set {field}: {why}"));
    let (path, text) = field
        .split_once('=')
        .ok_or_else(|| usage("write KEY=VALUE"))?;
    let mut at = value;
    for name in path.split('.') {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let fields = at
            .as_object_mut()
            .ok_or_else(|| usage("it is in no object"))?;
        at = fields.entry(name).or_insert(Value::Null);
    }
    *at = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    Ok(())
}

fn in_editor(body: &[u8]) -> Result<Vec<u8>, CliError> {
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(std::env::var_os);
    let (Some(editor), true) = (editor, io::stdin().is_terminal()) else {
        let text = "say how: --set KEY=VALUE, --body FILE, or set $EDITOR at a terminal";
        return Err(CliError::Usage(text.to_owned()));
    };
    let failed = |error: io::Error| CliError::failed("editor", format!("$EDITOR: {error}"));
    let folder = std::env::temp_dir().join(format!("glyph-{}", uuid::Uuid::now_v7()));
    let mut private = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut private, 0o700);
    private.create(&folder).map_err(failed)?;
    let file = folder.join("command.json");
    let written = (|| {
        fs::write(&file, pretty(&String::from_utf8_lossy(body)))?;
        // An editor may be a command with arguments, as `code --wait`.
        let mut run = Command::new("sh");
        run.arg("-c")
            .arg(r#"eval "$0 \"\$1\"""#)
            .arg(&editor)
            .arg(&file);
        if !run.status()?.success() {
            return Err(io::Error::other("it did not end well; nothing was changed"));
        }
        fs::read(&file)
    })();
    let _ = fs::remove_dir_all(&folder);
    written.map_err(failed)
}

/// JSON with line breaks; other text as it is.
fn pretty(body: &str) -> String {
    serde_json::from_str::<Value>(body)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| body.to_owned())
}

/// A body for people, with the line marked whose key an error names: `annotation.user_id: …`.
pub(super) fn marked(body: &str, error: Option<&str>) -> String {
    let text = pretty(body);
    let path = error
        .and_then(|error| error.split_once(": "))
        .map(|(path, _)| path);
    let is_path = |path: &&str| !path.is_empty() && !path.contains(char::is_whitespace);
    let Some(path) = path.filter(is_path) else {
        return text;
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (mut from, mut found) = (0, None);
    for name in path.split(['.', '[']).filter(|name| !name.is_empty()) {
        let key = format!("\"{name}\":");
        let next = lines[from..]
            .iter()
            .position(|line| line.trim_start().starts_with(&key));
        let Some(next) = next else { break };
        found = Some(from + next);
        from += next + 1;
    }
    match found {
        Some(line) => lines[line].push_str("   <-- here"),
        None => lines.push(format!("({path} is not there)")),
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_set_by_their_path() {
        let how = EditArgs {
            body: None,
            set: vec![
                "annotation.data.label=cat".to_owned(),
                "workflow=\"flow\"".to_owned(),
                "new.n=1".to_owned(),
            ],
        };
        let body = json!({"annotation": {"data": {"label": 7, "kept": true}}}).to_string();
        let changed: Value =
            serde_json::from_slice(&edited(body.as_bytes(), &how).unwrap()).unwrap();
        let expected = json!({
            "annotation": {"data": {"label": "cat", "kept": true}}, "workflow": "flow", "new": {"n": 1},
        });
        assert_eq!(changed, expected);
        assert!(
            edited(b"{", &how)
                .unwrap_err()
                .to_string()
                .contains("--body")
        );
        let through = EditArgs {
            body: None,
            set: vec!["workflow.x=1".to_owned()],
        };
        let refused = edited(br#"{"workflow": "w"}"#, &through).unwrap_err();
        assert!(refused.to_string().contains("in no object"));
    }

    #[test]
    fn the_key_that_an_error_names_is_marked() {
        let body = r#"{"user_id": 1, "annotation": {"user_id": 2}}"#;
        let shown = marked(body, Some("annotation.user_id: must be a UUID"));
        let line = shown
            .lines()
            .find(|line| line.contains("<-- here"))
            .unwrap();
        assert!(line.contains('2'), "{shown}");
        assert!(marked("{}", Some("task_id: missing")).contains("task_id is not there"));
        assert!(!marked(body, Some("it is wrong: all of it")).contains("<--"));
        assert_eq!(marked("{", Some("expected value")), "{");
    }
}
