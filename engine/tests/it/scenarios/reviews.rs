//! What a review approves, fixes, rejects or sends back.

use serde_json::{Value, json};

use super::REFINEMENT;
use crate::scenario::Scenario;

#[test]
fn a_review_approves_fixes_or_rejects() {
    let review = |decision: &str, data: Value| {
        let mut scenario = Scenario::started(REFINEMENT);
        scenario.label("annotate", 1, "a");
        assert_eq!(
            scenario.submit("review", 2, json!({})),
            "rejected invalid_annotation"
        );
        scenario.submit_with("review", 2, data, |s| {
            s.annotation.decision = Some(decision.to_owned());
        });
        scenario
            .state
            .unwrap()
            .output
            .map(|output| output["result"].clone())
    };
    assert_eq!(review("approve", json!({})), Some(json!("a")));
    assert_eq!(review("fix", json!({"label": "c"})), Some(json!("c")));
    assert_eq!(review("fix", json!({})), None, "a fix needs its value");
    assert_eq!(review("reject", json!({})), None);
}

/// A review approves what the reviewer saw: the subject as an adjudicator or another reviewer
/// changed it, or as the join of the branches merged it.
#[test]
fn a_review_approves_what_has_become_of_the_judged_value() {
    let mut scenario = Scenario::started(
        "
workflow:
  id: judged
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { field: label }
    - { id: adjudicate, type: adjudication }
    - { id: second, type: review }
    - { id: third, type: review }
  transitions:
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: annotate, to: second, condition: { type: on_agreement } }
    - { from: adjudicate, to: second }
    - { from: second, to: third }
",
    );
    scenario.label("annotate", 1, "a");
    scenario.label("annotate", 2, "b");
    scenario.label("adjudicate", 3, "c");
    scenario.review("second", 4, "approve");
    let value = |scenario: &Scenario, step: &str| {
        let state = scenario.state.as_ref().unwrap();
        state
            .current_visit(step)
            .unwrap()
            .result
            .as_ref()
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(value(&scenario, "second"), Some(json!("c")));
    scenario.submit_with("third", 5, json!({"label": "d"}), |s| {
        s.annotation.decision = Some("fix".to_owned());
    });
    assert_eq!(scenario.output()["result"], "d");

    let mut scenario = Scenario::new(
        "
workflow:
  id: merged
  settings: { allow_parallel_steps: true }
  steps:
    - { id: begin, type: auto_process, handler: finalize }
    - { id: one, type: annotation, field: label }
    - { id: two, type: annotation, field: label }
    - { id: merge, type: auto_process, handler: result_merger }
    - { id: look, type: review }
  transitions:
    - { from: begin, to: one }
    - { from: begin, to: two }
    - { from: one, to: merge }
    - { from: two, to: merge }
    - { from: merge, to: look }
",
    );
    scenario.start(Value::Null);
    scenario.label("one", 1, "a");
    scenario.label("two", 2, "b");
    scenario.review("look", 3, "approve");
    assert_eq!(scenario.output()["result"], json!({"one": "a", "two": "b"}));
}

#[test]
fn a_review_judges_the_visit_that_has_ended_where_a_loop_begins_another() {
    let mut scenario = Scenario::new(
        "
workflow:
  id: again
  settings: { allow_parallel_steps: true }
  steps:
    - { id: label, type: annotation, field: label }
    - { id: look, type: review }
  transitions:
    - { from: label, to: label, loop: { max_iterations: 1, on_exhausted: _complete } }
    - { from: label, to: look }
",
    );
    scenario.start(Value::Null);
    scenario.label("label", 1, "a");
    let state = scenario.state.as_ref().unwrap();
    let judges = state
        .current_visit("look")
        .unwrap()
        .reviewed
        .clone()
        .unwrap();
    assert_eq!(judges.visit, 1);
}

#[test]
fn null_is_no_value_before_it_is_written_either() {
    let mut scenario = Scenario::started(
        "
workflow:
  id: dual
  steps: [{ id: ann, type: annotation }, { id: rv, type: review }, { id: bad, type: annotation }]
  transitions:
    - { from: ann, to: rv }
    - { from: rv, to: _complete, condition: { type: on_agreement } }
    - { from: rv, to: bad }
    - { from: bad, to: _complete }
",
    );
    scenario.submit("ann", 1, Value::Null);
    assert_eq!(
        scenario.review("rv", 2, "approve"),
        "rejected invalid_annotation",
        "there is nothing to approve"
    );
    let refused = scenario.review("rv", 2, "reject");
    assert!(refused.starts_with("advanced [bad]"), "{refused}");
}
