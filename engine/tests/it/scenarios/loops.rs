//! Loops and their bounds.

use serde_json::json;

use super::REFINEMENT;
use crate::scenario::Scenario;

#[test]
fn requested_changes_go_back_and_the_loop_is_bounded() {
    let mut scenario = Scenario::started(REFINEMENT);
    for round in 1..=3 {
        scenario.label("annotate", round, "a");
        assert_eq!(
            scenario.review("review", 1, "approve").as_str(),
            "rejected self_review"
        );
        assert_eq!(
            scenario.review("review", 50, "request_changes"),
            "advanced [annotate] | annotation_submitted, step_completed, transition_occurred, \
             step_activated"
        );
    }
    scenario.label("annotate", 4, "a");
    let end = scenario.review("review", 50, "request_changes");
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
    let mut scenario = Scenario::started(yaml);
    scenario.label("read", 1, "x");
    scenario.label("a", 1, "a1");
    let back = scenario.review("check", 9, "request_changes");
    assert!(back.starts_with("advanced [a, b]"), "{back}");
    scenario.label("a", 1, "a2");
    assert!(
        scenario
            .review("check", 9, "approve")
            .starts_with("advanced [b]")
    );
    assert!(scenario.label("b", 1, "b").starts_with("completed"));
    assert_eq!(
        scenario.output()["result"],
        json!({"a": {"label": "a2"}, "b": {"label": "b"}})
    );
}
