//! Routing: expressions, handlers, the order of transitions.

use glyph_workflow_engine::{
    command::Command,
    state::{IncidentCode, TaskStatus},
};
use serde_json::{Value, json};

use super::ROUTED;
use crate::scenario::Scenario;

#[test]
fn an_expression_chooses_the_way() {
    let mut scenario = Scenario::started(ROUTED);
    let answer = scenario.submit(
        "annotate",
        1,
        json!({"label": "a", "confidence": 0.9, "x": 1}),
    );
    assert!(answer.starts_with("completed"), "{answer}");
    assert_eq!(scenario.output()["result"], json!({"label": "a"}));

    let mut scenario = Scenario::started(ROUTED);
    let answer = scenario.submit("annotate", 1, json!({"label": "a", "confidence": 0.1}));
    assert!(answer.starts_with("advanced [review]"), "{answer}");
    assert_eq!(
        scenario.review("review", 2, "reject"),
        "waiting review | annotation_submitted, step_completed, incident_opened",
        "no transition matches"
    );
    assert_eq!(
        scenario.control(Command::Retry),
        "waiting review | incident_resolved, incident_opened"
    );
    assert_eq!(
        scenario.control(Command::Cancel),
        "failed cancelled | incident_resolved, workflow_cancelled"
    );
}

#[test]
fn handlers_merge_and_compare() {
    let yaml = "
workflow:
  id: handled
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 3 } }
    - { id: check, type: auto_process, handler: consensus_calculator, config: { field: label, threshold: 0.3 } }
    - { id: merge, type: auto_process, handler: result_merger, config: { steps: [check] } }
  transitions:
    - { from: annotate, to: check }
    - { from: check, to: merge }
";
    let mut scenario = Scenario::started(yaml);
    for (who, label) in [(1, "a"), (2, "b"), (3, "a")] {
        scenario.label("annotate", who, label);
    }
    assert_eq!(scenario.output()["result"], json!({"check": "a"}));
    assert_eq!(scenario.output()["agreement"], 1.0 / 3.0);
    assert_eq!(scenario.output()["steps"]["check"]["kind"], "consensus");
}

#[test]
fn priority_comes_before_file_order() {
    let yaml = "
workflow:
  id: ranked
  steps:
    - { id: annotate, type: annotation }
    - { id: first, type: review }
    - { id: second, type: review }
  transitions:
    - { from: annotate, to: first, condition: { type: expression, expression: 'annotation.n > 0' } }
    - { from: annotate, to: second, priority: 5, condition: { type: expression, expression: 'annotation.n > 1' } }
    - { from: annotate, to: _complete, priority: -1 }
";
    let way = |n: u32| Scenario::started(yaml).submit("annotate", 1, json!({"n": n}));
    assert!(way(2).starts_with("advanced [second]"));
    assert!(way(1).starts_with("advanced [first]"));
    assert!(way(0).starts_with("completed"));
}

#[test]
fn a_conditional_asks_of_the_step_left_whatever_other_branches_come_to() {
    let mut scenario = Scenario::new(
        "
workflow:
  id: branches
  settings: { allow_parallel_steps: true }
  steps:
    - { id: begin, type: auto_process, handler: finalize }
    - { id: one, type: annotation }
    - { id: two, type: annotation }
    - { id: route, type: conditional, condition: { expression: 'result.value.kind == 1' }, true_branch: _complete, false_branch: _failed }
  transitions:
    - { from: begin, to: one }
    - { from: begin, to: two }
    - { from: one, to: route }
    - { from: two, to: _complete }
",
    );
    scenario.start(Value::Null);
    scenario.submit("one", 1, json!({"other": 2}));
    scenario.submit("two", 2, json!({"kind": 1}));
    scenario.control(Command::Retry);
    let state = scenario.state.as_ref().unwrap();
    assert_eq!(state.status, TaskStatus::Running);
    assert_eq!(state.incidents[0].code, IncidentCode::ExpressionFailed);
}
