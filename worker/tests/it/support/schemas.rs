//! Validates published messages against their schemas.

use std::{collections::BTreeMap, sync::LazyLock};

use glyph_worker::wire::{SCHEMA_BASE, schema::schema_files};
use jsonschema::Validator;
use serde_json::Value;

static VALIDATORS: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    let files = schema_files().into_iter();
    files
        .map(|(path, text)| {
            let schema: Value = serde_json::from_str(&text).unwrap();
            let options = jsonschema::options().should_validate_formats(true);
            let validator = options
                .build(&schema)
                .unwrap_or_else(|e| panic!("{path}: {e}"));
            (path, validator)
        })
        .collect()
});

/// Where `value` does not match the schema at `path`.
pub(crate) fn faults(path: &str, value: &Value) -> Vec<String> {
    let validator = VALIDATORS
        .get(path)
        .unwrap_or_else(|| panic!("no schema {path}"));
    validator
        .iter_errors(value)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect()
}

/// Panics unless `value` matches the schema at `path`.
pub(crate) fn assert_valid(path: &str, value: &Value) {
    let faults = faults(path, value);
    assert!(
        faults.is_empty(),
        "{value:#} does not match {path}: {faults:#?}"
    );
}

/// Panics unless `body` is a valid message: the envelope, and the data by its own schema.
pub(crate) fn assert_message(body: &Value) {
    assert_valid("messages/message.v1.json", body);
    let schema = body["dataschema"].as_str().unwrap();
    let path = schema
        .strip_prefix(SCHEMA_BASE)
        .unwrap()
        .trim_start_matches('/');
    match body.get("data") {
        Some(data) => assert_valid(path, data),
        None => assert!(
            body["dataref"].is_string(),
            "{body:#} has neither data nor dataref"
        ),
    }
}
