//! One number for the content of a workflow.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::WorkflowConfig;

/// SHA-256 of the workflow as canonical JSON (keys sorted, no blanks).
///
/// Two files with the same hash mean the same: layout, comments, templates and library steps make
/// no difference once they are resolved. Revision and its id do not count.
pub fn content_hash(config: &WorkflowConfig) -> [u8; 32] {
    // A configuration holds nothing but JSON values under text keys, which cannot fail.
    let value = serde_json::to_value(config).unwrap_or_default();
    let mut text = String::new();
    write_canonical(&value, &mut text);
    Sha256::digest(text.as_bytes()).into()
}

/// Sorts keys itself: whether `serde_json` does depends on the features other crates ask for.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(entries) => {
            let mut keys: Vec<_> = entries.keys().collect();
            keys.sort();
            text.push('{');
            for (at, key) in keys.into_iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                let _ = write!(text, "{}:", Value::String(key.clone()));
                write_canonical(&entries[key], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = write!(text, "{value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse_workflow;

    #[test]
    fn only_what_a_workflow_means_counts() {
        let hash = |source: &str| content_hash(&parse_workflow(source).unwrap());
        let plain =
            hash("workflow: { id: x, steps: [{ id: annotate, ref: standard-annotation }] }");
        let other_layout = "# A comment.
workflow:
  steps:
    - { type: annotation, id: annotate, completion: { count: 1, type: annotation_count } }
  settings: { max_retries: 3 }
  entry_step: annotate
  id: x
";
        assert_eq!(plain, hash(other_layout));
        assert_ne!(plain, hash(&other_layout.replace("count: 1", "count: 2")));
        let mut stored = parse_workflow(other_layout).unwrap();
        stored.revision = 7;
        assert_eq!(plain, content_hash(&stored));
    }
}
