//! What expressions see of a task.

use glyph_workflow_engine::{
    command::{Command, Start},
    ids::WorkflowSelector,
    state::IncidentCode,
};
use serde_json::json;

use crate::scenario::{Scenario, TASK};

/// Asked by two people, then by an expression.
fn asked(expression: &str) -> String {
    format!(
        "
workflow:
  id: asked
  steps:
    - {{ id: annotate, type: annotation, completion: {{ type: annotation_count, count: 2 }} }}
    - {{ id: yes, type: annotation }}
    - {{ id: no, type: annotation }}
  transitions:
    - {{ from: annotate, to: yes, condition: {{ type: expression, expression: \"{expression}\" }} }}
    - {{ from: annotate, to: no }}
"
    )
}

/// Starts the task with a label.
fn start(scenario: &mut Scenario, workflow: &str) {
    scenario.run(Command::Start(Start {
        task_id: TASK,
        workflow: WorkflowSelector::Latest(workflow.parse().unwrap()),
        input: Some(json!({"limit": 2.5})),
        labels: Some([("lang".to_owned(), "de".to_owned())].into()),
        expected: None,
    }));
}

#[test]
fn a_transition_asks_of_all_annotations_the_labels_and_the_task() {
    let task = TASK.to_string();
    for (expression, answer) in [
        ("annotations.exists(a, a.flag == true)", true),
        ("annotations.all(a, a.flag == true)", false),
        ("annotation.flag", false),
        ("annotations[0].flag && size(annotations) == 2", true),
        (
            "annotation.n * 0.5 > 1.0 && annotation.n > input.limit",
            true,
        ),
        ("has(annotation.x.y)", false),
        ("has(result.posterior)", false),
        ("labels.lang == 'de'", true),
        ("has(labels.project)", false),
        (&*format!("task_id == '{task}' && task.id == task_id"), true),
        ("step.annotate.visits == 1.0", true),
    ] {
        let mut scenario = Scenario::new(&asked(expression));
        start(&mut scenario, "asked");
        scenario.submit("annotate", 1, json!({"flag": true, "n": 1}));
        let outcome = scenario.submit("annotate", 2, json!({"flag": false, "n": 3, "x": null}));
        let next = if answer { "yes" } else { "no" };
        assert!(
            outcome.starts_with(&format!("advanced [{next}]")),
            "{expression}: {outcome}"
        );
    }
}

#[test]
fn a_failed_question_is_an_incident_that_says_how_to_ask() {
    let mut scenario = Scenario::started(&asked("annotation.x > 1"));
    scenario.submit("annotate", 1, json!({"x": 2}));
    scenario.submit("annotate", 2, json!({"x": null}));
    let incident = &scenario.state.as_ref().unwrap().incidents[0];
    assert_eq!(incident.code, IncidentCode::ExpressionFailed);
    let said = format!("{incident:?}");
    assert!(said.contains("ask `annotation.x != null` first"), "{said}");
}

#[test]
fn a_step_without_people_is_asked_about_the_people_before_it() {
    let mut scenario = Scenario::new(
        "
workflow:
  id: behind
  steps:
    - { id: ask, type: conditional, condition: { expression: 'annotations == [] && annotation == null' }, true_branch: annotate, false_branch: _failed }
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 } }
    - { id: check, type: adjudication }
    - { id: child, type: sub_workflow, workflow: other }
    - id: route
      type: conditional
      condition: { expression: 'annotation.n == 2 && annotations.all(a, a.n < 3) && step.child.visits < 2' }
      true_branch: child
      false_branch: _complete
  transitions:
    - { from: annotate, to: check }
    - { from: check, to: child }
    - { from: child, to: route, loop: { max_iterations: 5 } }
",
    );
    let outcome = scenario.start(json!(null));
    assert!(outcome.starts_with("advanced [annotate]"), "{outcome}");
    scenario.submit("annotate", 1, json!({"n": 1}));
    scenario.submit("annotate", 2, json!({"n": 2}));
    scenario.submit("check", 3, json!({"n": 9}));
    let outcome = scenario.advance("child", Some(json!("first")));
    assert!(outcome.starts_with("advanced [child]"), "{outcome}");
    let outcome = scenario.advance("child", Some(json!("second")));
    assert!(outcome.starts_with("completed"), "{outcome}");
}

#[test]
fn an_unsure_answer_is_sent_to_a_review() {
    let yaml = "
workflow:
  id: unsure
  steps:
    - id: annotate
      type: annotation
      field: label
      completion: { type: confidence, target: 0.99, min: 2, max: 2, classes: [x, y] }
    - { id: review, type: review }
  transitions:
    - from: annotate
      to: review
      condition: { type: expression, expression: 'has(result.posterior) && result.posterior.confidence < 0.6' }
    - { from: annotate, to: _complete }
    - { from: review, to: _complete }
";
    let labelled = |second: &str| {
        let mut scenario = Scenario::started(yaml);
        scenario.label("annotate", 1, "x");
        scenario.label("annotate", 2, second)
    };
    let outcome = labelled("y");
    assert!(outcome.starts_with("advanced [review]"), "{outcome}");
    let outcome = labelled("x");
    assert!(outcome.starts_with("completed"), "{outcome}");
}
