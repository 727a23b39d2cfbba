//! The committed schemas match this build.

use std::{collections::BTreeMap, fs, path::PathBuf};

use glyph_worker::wire::schema::schema_files;
use glyph_workflow_engine::{config::StepLibrary, parser::check_workflow};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::schemas::{assert_valid, faults};

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

const WORKFLOW: &str = "workflow.v1.json";

/// Whether `validate` accepts the file.
fn is_accepted(source: &str) -> bool {
    check_workflow(source, &StepLibrary::built_in(), &[]).is_valid()
}

/// Workflow files: the examples, the blocks of the page about the language, and the files that
/// trigger diagnostics or nearly do.
fn workflow_files() -> Vec<String> {
    let root = folder().join("..");
    let mut found = Vec::new();
    for part in ["examples", "engine/tests/fixtures/diagnostics"] {
        for entry in fs::read_dir(root.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yaml") {
                // Not all of them are UTF-8.
                found.extend(fs::read_to_string(path));
            }
        }
    }
    let page = fs::read_to_string(root.join("docs/language.md")).unwrap();
    let blocks = page.split("\n```yaml\n").skip(1);
    found.extend(blocks.map(|block| block.split("\n```").next().unwrap().to_owned()));
    found.sort();
    found
}

/// An editor must not mark what `validate` accepts: neither in whole files nor in files with a
/// change somewhere.
#[test]
fn the_schema_for_editors_refuses_nothing_that_is_valid() {
    let read = |text: &str| serde_yaml::from_str::<Value>(text).ok();
    let files = workflow_files();
    let valid: Vec<Value> = files
        .iter()
        .filter(|text| is_accepted(text))
        .filter_map(|text| read(text))
        .collect();
    assert!(valid.len() > 60, "{}", valid.len());
    for value in &valid {
        assert_eq!(faults(WORKFLOW, value), [""; 0], "{value:#}");
    }
    let mut numbers = Numbers(1);
    let (mut accepted, mut refused, mut seen) = (0, 0, 0);
    for value in &valid {
        for _ in 0..40 {
            let mut changed = value.clone();
            let place = numbers.below(places(&changed));
            change(&mut changed, &mut { place }, &mut numbers);
            let text = serde_yaml::to_string(&changed).unwrap();
            let faults = faults(WORKFLOW, &changed);
            if is_accepted(&text) {
                accepted += 1;
                assert_eq!(faults, [""; 0], "{text}");
            } else {
                refused += 1;
                seen += usize::from(!faults.is_empty());
            }
        }
    }
    println!("{accepted} changed files are valid; the schema sees {seen} of {refused} faults");
    assert!(
        accepted > 200 && seen * 3 > refused * 2,
        "{accepted} {seen} {refused}"
    );
}

/// A sequence of numbers, the same on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most.max(1)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// How many parts a value has.
fn places(value: &Value) -> usize {
    1 + match value {
        Value::Object(entries) => entries.values().map(places).sum(),
        Value::Array(items) => items.iter().map(places).sum(),
        _ => 0,
    }
}

/// Changes the part at this place: another value, a key more or a key less.
fn change(value: &mut Value, place: &mut usize, numbers: &mut Numbers) {
    const KEYS: [&str; 40] = [
        "type",
        "id",
        "ref",
        "overrides",
        "completion",
        "consensus",
        "assignment",
        "field",
        "handler",
        "config",
        "condition",
        "true_branch",
        "workflow",
        "input_mapping",
        "output_mapping",
        "join_mode",
        "join_count",
        "join_timeout",
        "on_error",
        "hooks",
        "count",
        "min_required",
        "target",
        "classes",
        "timeout",
        "timeout_action",
        "per_field",
        "fallback",
        "expression",
        "threshold",
        "loop",
        "priority",
        "template",
        "settings",
        "url",
        "fields",
        "steps",
        "unit",
        "goals",
        "alerts",
    ];
    if *place > 0 {
        *place -= 1;
        let parts: Vec<&mut Value> = match value {
            Value::Object(entries) => entries.values_mut().collect(),
            Value::Array(items) => items.iter_mut().collect(),
            _ => Vec::new(),
        };
        for part in parts {
            let count = places(part);
            if *place < count {
                return change(part, place, numbers);
            }
            *place -= count;
        }
        return;
    }
    let other = numbers.one_of(&[
        json!(null),
        json!(0),
        json!(-1),
        json!(2),
        json!(2.0),
        json!(1.5),
        json!(""),
        json!("annotate"),
        json!("2h"),
        json!("0s"),
        json!("a.b"),
        json!("a..b"),
        json!("webhook"),
        json!("finalize"),
        json!("n_of_m"),
        json!("all"),
        json!("confidence"),
        json!("review"),
        json!("volume"),
        json!("on_agreement"),
        json!(true),
        json!([]),
        json!({}),
        json!(["a"]),
    ]);
    match (value, numbers.below(3)) {
        (Value::Object(entries), 0) => {
            entries.insert(numbers.one_of(&KEYS).to_owned(), other);
        }
        (Value::Object(entries), 1) => {
            let keys: Vec<String> = entries.keys().cloned().collect();
            if !keys.is_empty() {
                entries.remove(&numbers.one_of(&keys));
            }
        }
        (value, _) => *value = other,
    }
}

/// What goes together by type, handler and mode is in the schema, so that editors see it.
#[test]
fn the_schema_for_editors_knows_which_keys_go_together() {
    let workflow = |step: Value, rest: Value| {
        let mut file = json!({"workflow": {"id": "w", "steps": [step]}});
        let entries: Map<String, Value> = rest.as_object().cloned().unwrap_or_default();
        file["workflow"].as_object_mut().unwrap().extend(entries);
        file
    };
    let step = |mut keys: Value| {
        keys["id"] = json!("a");
        workflow(keys, json!({}))
    };
    let goal = |goal: Value| json!({"workflow": {"id": "w", "steps": [{"id": "a", "type": "annotation"}]}, "goals": [goal]});
    let webhook = |config: Value| {
        step(json!({"type": "auto_process", "handler": "webhook", "config": config}))
    };
    let hook =
        |stage: &str, hook: Value| step(json!({"type": "annotation", "hooks": {stage: [hook]}}));
    let way = |condition: Value| {
        let way = json!({"from": "a", "to": "_complete", "condition": condition});
        workflow(
            json!({"id": "a", "type": "annotation"}),
            json!({"transitions": [way]}),
        )
    };
    for refused in [
        step(json!({"type": "annotation", "handler": "finalize"})),
        step(json!({"type": "review", "consensus": {}})),
        step(json!({"type": "conditional", "condition": {"expression": "true"}, "hooks": {}})),
        step(json!({"type": "conditional"})),
        step(json!({"type": "sub_workflow"})),
        step(
            json!({"type": "sub_workflow", "workflow": "b", "assignment": {"required_roles": ["c"]}}),
        ),
        step(
            json!({"type": "sub_workflow", "workflow": "b", "output_mapping": {"x": "codes.icd"}}),
        ),
        step(json!({"type": "review", "completion": {"type": "annotation_count"}})),
        step(
            json!({"type": "annotation", "completion": {"type": "annotation_count", "target": 0.9}}),
        ),
        step(
            json!({"type": "annotation", "completion": {"type": "annotation_count", "timeout": "0s"}}),
        ),
        step(json!({"type": "annotation", "join_mode": "n_of_m"})),
        step(json!({"type": "annotation", "join_mode": "all", "join_count": 2})),
        step(json!({"type": "annotation", "consensus": {"per_field": {}}})),
        step(json!({"type": "annotation", "field": ""})),
        step(json!({"type": "annotation", "consensus": {"field": "a..b"}})),
        step(json!({"ref": "review", "type": "review"})),
        step(json!({"type": "review", "overrides": {}})),
        webhook(json!({"timeout": "5s"})),
        webhook(json!({"url": "ftp://example.org"})),
        webhook(json!({"url": "https://example.org", "timeout": "0s"})),
        step(json!({"type": "auto_process", "handler": "finalize", "config": {"steps": ["a"]}})),
        step(
            json!({"type": "auto_process", "handler": "finalize", "completion": {"type": "auto", "timeout": "5m"}}),
        ),
        step(
            json!({"type": "auto_process", "handler": "consensus_calculator", "config": {"threshold": 2}}),
        ),
        hook("pre_process", json!("webhook")),
        hook("on_start", json!("finalize")),
        hook(
            "post_process",
            json!({"handler": "webhook", "url": "https://example.org"}),
        ),
        hook(
            "pre_process",
            json!({"handler": "finalize", "timeout": "5m"}),
        ),
        way(json!({"type": "expression"})),
        way(json!({"type": "always", "threshold": 0.5})),
        goal(json!({"id": "g", "type": "volume", "target": 1.5})),
        goal(json!({"id": "g", "type": "volume", "target": 10, "within": "2h"})),
        goal(json!({"id": "g", "type": "quality", "metric": "agreement", "target": 0})),
        goal(json!({"id": "g", "type": "duration", "within": "0s"})),
        json!({"workflow": {"id": "w", "template": "single", "steps": []}}),
    ] {
        assert!(!faults(WORKFLOW, &refused).is_empty(), "{refused:#}");
        assert!(
            !is_accepted(&serde_yaml::to_string(&refused).unwrap()),
            "{refused:#}"
        );
    }
    for taken in [
        step(json!({"type": "annotation", "handler": null})),
        step(
            json!({"type": "auto_process", "handler": "queue", "config": {"model": "large"},
            "completion": {"type": "auto", "timeout": "10m"}}),
        ),
        step(
            json!({"type": "annotation", "completion": {"type": "annotation_count", "count": 2.0}}),
        ),
        json!({"workflow": {"id": "w", "template": "iterative_refinement", "overrides": {"steps": {
            "annotate": {"completion": {"count": 2}},
            "review": {"ref": "strict", "assignment": {"required_roles": ["senior"]}}
        }}}, "step_library": {"strict": {"type": "review"}}}),
    ] {
        assert_eq!(faults(WORKFLOW, &taken), [""; 0], "{taken:#}");
        assert!(
            is_accepted(&serde_yaml::to_string(&taken).unwrap()),
            "{taken:#}"
        );
    }
}
