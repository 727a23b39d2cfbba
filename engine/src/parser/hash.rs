//! A hash of the content of a workflow.

use crate::{canonical, config::WorkflowConfig};

/// SHA-256 of the workflow as canonical JSON (keys sorted, no blanks).
///
/// Two files with the same hash have the same meaning: layout and comments make no difference, and
/// templates and library steps are resolved first. The revision and its id are excluded.
pub fn content_hash(config: &WorkflowConfig) -> [u8; 32] {
    // A configuration contains only JSON values under text keys, so serialization cannot fail.
    canonical::hash(&serde_json::to_value(config).unwrap_or_default())
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
