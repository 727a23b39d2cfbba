//! Ways back, and their bounds.

use serde_json::json;

use super::REFINEMENT;
use crate::desk::Desk;

#[test]
fn requested_changes_go_back_and_the_loop_is_bounded() {
    let mut desk = Desk::started(REFINEMENT);
    for round in 1..=3 {
        desk.label("annotate", round, "a");
        assert_eq!(
            desk.review("review", 1, "approve").as_str(),
            "rejected self_review"
        );
        assert_eq!(
            desk.review("review", 50, "request_changes"),
            "advanced [annotate] | annotation_submitted, step_completed, transition_occurred, \
             step_activated"
        );
    }
    desk.label("annotate", 4, "a");
    let end = desk.review("review", 50, "request_changes");
    assert!(end.starts_with("failed"), "{end}");
}

#[test]
fn a_loop_inside_one_branch_leaves_the_other_alone() {
    let yaml = "
workflow:
  id: looping
  settings: { allow_parallel_steps: true }
  steps:
    - { id: read, type: annotation }
    - { id: a, type: annotation }
    - { id: check, type: review }
    - { id: b, type: annotation }
    - { id: merge, type: auto_process, handler: result_merger, config: { steps: [a, b] } }
  transitions:
    - { from: read, to: a }
    - { from: read, to: b }
    - { from: a, to: check }
    - { from: check, to: a, condition: { type: on_disagreement }, loop: { max_iterations: 2, on_exhausted: _failed } }
    - { from: check, to: merge, condition: { type: on_agreement } }
    - { from: b, to: merge }
";
    let mut desk = Desk::started(yaml);
    desk.label("read", 1, "x");
    desk.label("a", 1, "a1");
    let back = desk.review("check", 9, "request_changes");
    assert!(back.starts_with("advanced [a, b]"), "{back}");
    desk.label("a", 1, "a2");
    assert!(
        desk.review("check", 9, "approve")
            .starts_with("advanced [b]")
    );
    assert!(desk.label("b", 1, "b").starts_with("completed"));
    assert_eq!(
        desk.output()["result"],
        json!({"a": {"label": "a2"}, "b": {"label": "b"}})
    );
}
