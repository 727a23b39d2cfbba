//! Rules of the house that a compiler does not know: layers, invariants, words.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Modules by layer, lowest first. A module imports only modules of lower layers.
const LAYERS: [&[&str]; 9] = [
    &["canonical", "ids", "limits", "consensus"],
    &["config", "expression", "reliability"],
    &["state", "parser"],
    &["events"],
    &["store", "transition", "assignment"],
    &["executor", "goals"],
    &["command"],
    &["timers"],
    &["decide"],
    &["orchestrator"],
    &["simulation"],
    &["lib"],
];

/// Imports against the layers that are known and argued where they stand.
///
/// - `events` re-exports the stores under the names that users of an event store look for.
const KNOWN: [(&str, &str); 1] = [("events", "store")];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[expect(clippy::disallowed_methods, reason = "reads the source")]
fn files(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

fn module_of(path: &Path) -> String {
    let relative = path.strip_prefix(source()).unwrap();
    let first = relative
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Modules that a file names by `crate::module`, also inside a `use crate::{…}` group.
fn imports(text: &str) -> Vec<String> {
    let code: String = text
        .split("#[cfg(test)]")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => name.clear(),
                    ':' if depth == 0 && !name.is_empty() => {
                        found.push(name.trim().to_owned());
                        name.clear();
                    }
                    c if depth == 0 => name.push(c),
                    _ => {}
                }
            }
        } else {
            found.push(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    found
}

/// Names in backticks in a cell of a table.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_invariant_names_what_enforces_and_what_pins_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    #[expect(clippy::disallowed_methods, reason = "reads the documentation")]
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut sources = Vec::new();
    for folder in ["engine/src", "engine/tests", "worker/src", "worker/tests"] {
        files(&root.join(folder), &mut sources);
    }
    let code: String = sources.into_iter().map(|(_, text)| text).collect();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| INV-"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(
        rows.len() >= 15,
        "the table of invariants is read: {}",
        rows.len()
    );
    for row in &rows {
        let [id, _, enforced, pinned] = row.as_slice() else {
            panic!("four columns: {row:?}")
        };
        assert!(!enforced.is_empty(), "{id} is enforced by something");
        assert!(!names(pinned).is_empty(), "{id} is pinned by a test");
        for test in names(pinned) {
            assert!(
                code.contains(&format!("fn {test}(")),
                "{id} names the test `{test}`"
            );
        }
    }
    // An assertion that names an invariant names one of the table.
    for (at, assertion) in code.match_indices("expect(\"INV-") {
        let at = at + assertion.len() - "INV-".len();
        let id = &code[at..at + "INV-00".len()];
        assert!(
            rows.iter().any(|row| row[0].trim() == id),
            "`{id}` is in the table"
        );
    }
}

#[test]
fn modules_import_only_lower_layers() {
    let layer: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(level, modules)| modules.iter().map(move |module| (*module, level)))
        .collect();
    let mut found = Vec::new();
    files(&source(), &mut found);
    let mut faults = Vec::new();
    for (path, text) in found {
        let module = module_of(&path);
        let level = layer
            .get(module.as_str())
            .unwrap_or_else(|| panic!("`{module}` has no layer"));
        for import in imports(&text) {
            let Some(target) = layer.get(import.as_str()) else {
                continue;
            };
            let known = KNOWN.contains(&(module.as_str(), import.as_str()));
            if import != module && target >= level && !known {
                faults.push(format!("{} imports `{import}`", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
