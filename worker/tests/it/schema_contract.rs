//! The committed schemas match this build.

use std::{collections::BTreeMap, fs, path::PathBuf};

use glyph_worker::wire::schema::schema_files;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::schemas::assert_valid;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

fn committed() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for part in ["", "commands", "messages"] {
        let Ok(entries) = fs::read_dir(folder().join(part)) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let name = path
                    .strip_prefix(folder())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    files
}

/// `UPDATE_SCHEMAS=1` rewrites them.
#[test]
fn the_committed_schemas_are_up_to_date() {
    let generated = schema_files();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        for name in committed()
            .keys()
            .filter(|name| !generated.contains_key(*name))
        {
            fs::remove_file(folder().join(name)).unwrap();
        }
        for (name, text) in &generated {
            let path = folder().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    let committed = committed();
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&generated),
        names(&committed),
        "run the test with UPDATE_SCHEMAS=1"
    );
    for (name, text) in &generated {
        assert_eq!(
            text, &committed[name],
            "{name} differs: run the test with UPDATE_SCHEMAS=1"
        );
    }
}

#[test]
fn commands_as_documented_match_their_schemas() {
    let ids = |n| Uuid::from_u128(n).to_string();
    let with_ids = |mut body: Value, kind: &str| {
        body["type"] = kind.into();
        body["command_id"] = ids(1).into();
        body["task_id"] = ids(2).into();
        body
    };
    let annotation = json!({"user_id": ids(3), "data": {"label": "a"}, "decision": null,
        "submitted_at": "2026-01-02T03:04:05Z", "roles": ["annotator"], "confidence": 0.9});
    let cases = [
        (
            "submission",
            json!({"step_id": "annotate", "annotation": annotation, "workflow": "w"}),
        ),
        (
            "start",
            json!({"workflow": "w@2", "input": {"text": "t"}, "labels": {"p": "1"}, "expected": null}),
        ),
        ("advance", json!({"output": [1, 2]})),
        (
            "assign",
            json!({"step_id": "annotate", "user_id": ids(3), "roles": []}),
        ),
        (
            "release",
            json!({"step_id": "annotate", "user_id": ids(3), "reason": "ill"}),
        ),
        (
            "activity",
            json!({"step_id": "annotate", "user_id": ids(3), "draft": {"label": "b"}}),
        ),
        (
            "pause",
            json!({"reason": "r", "until": "2026-01-02T03:04:05Z"}),
        ),
        ("resume", json!({"reason": "r"})),
        ("cancel", json!({"step_id": null})),
        ("retry", json!({})),
        (
            "migrate",
            json!({"to": "w@3", "steps": {"annotate": "label"}}),
        ),
    ];
    for (kind, body) in cases {
        assert_valid(&format!("commands/{kind}.v1.json"), &with_ids(body, kind));
    }
}

/// Editors, which use the schemas, must agree with the parser on single keys and values.
#[test]
fn examples_and_their_scripts_match_the_schemas_for_editors() {
    let examples = folder().join("../examples");
    let files = |folder: PathBuf| {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
            .map(|path| fs::read_to_string(path).unwrap())
    };
    let read = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
    for text in files(examples.clone()) {
        assert_valid("workflow.v1.json", &read(&text));
    }
    for text in files(examples.join("scripts")) {
        assert_valid("script.v1.json", &read(&text));
    }
    let slip = read("workflow: { id: x, steps: [{ id: a, type: anotation }] }");
    assert!(std::panic::catch_unwind(|| assert_valid("workflow.v1.json", &slip)).is_err());
}
