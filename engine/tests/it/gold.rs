//! Gold tasks: scored whenever the known answer is there, and excluded from output.

use glyph_workflow_engine::{
    command::{Command, Start},
    events::WorkflowEvent,
    ids::WorkflowSelector,
};
use serde_json::{Value, json};

use crate::scenario::{Scenario, TASK, user};

const DUAL: &str = "
workflow:
  id: dual
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { field: label }
    - { id: adjudicate, type: adjudication }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
";

fn start_gold(scenario: &mut Scenario, expected: Value) -> String {
    let workflow: WorkflowSelector = "dual".parse().unwrap();
    scenario.run(Command::Start(Start {
        task_id: TASK,
        workflow,
        input: None,
        labels: None,
        expected: Some(expected),
    }))
}

/// Who was right and who was wrong, in the order of the log.
fn scores(scenario: &Scenario) -> Vec<(String, u128, bool)> {
    let score = |event: &WorkflowEvent| match event {
        WorkflowEvent::GoldScored {
            step_id,
            user_id,
            correct,
            ..
        } => {
            let who = (1..9).find(|n| user(*n) == *user_id)?;
            Some((step_id.to_string(), who, *correct))
        }
        _ => None,
    };
    scenario
        .log
        .iter()
        .filter_map(|e| score(&e.event))
        .collect()
}

#[test]
fn answers_to_gold_tasks_are_scored() {
    let mut scenario = Scenario::new(DUAL);
    start_gold(&mut scenario, json!("a"));
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted, gold_scored"
    );
    assert!(
        scenario
            .label("annotate", 2, "b")
            .starts_with("advanced [adjudicate] | annotation_submitted, gold_scored, consensus")
    );
    scenario.label("adjudicate", 3, "a");
    let who = |step: &str, who, correct| (step.to_owned(), who, correct);
    assert_eq!(
        scores(&scenario),
        [
            who("annotate", 1, true),
            who("annotate", 2, false),
            who("adjudicate", 3, true)
        ]
    );
    assert!(scenario.log.iter().all(|event| event.metadata.gold));
}

#[test]
fn a_known_answer_that_comes_late_scores_what_came_before() {
    for until in [1, 2] {
        let mut scenario = Scenario::new(DUAL);
        for who in 1..=until {
            scenario.submit_with("annotate", who, json!({"label": "a"}), |submission| {
                submission.workflow = Some("dual".parse().unwrap());
            });
        }
        let before = scenario.log.len();
        let answer = start_gold(&mut scenario, json!({"label": "a"}));
        assert!(
            answer.contains("| task_details_supplied, gold_scored"),
            "{answer}"
        );
        assert_eq!(scores(&scenario).len(), usize::try_from(until).unwrap());
        let (early, late) = scenario.log.split_at(before);
        assert!(early.iter().all(|event| !event.metadata.gold));
        assert!(late.iter().all(|event| event.metadata.gold));
    }
}

#[test]
fn nothing_is_scored_that_the_known_answer_says_nothing_of() {
    let mut scenario = Scenario::new(DUAL);
    start_gold(&mut scenario, json!({"spans": []}));
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );
    let mut scenario = Scenario::started(DUAL);
    scenario.label("annotate", 1, "a");
    assert_eq!(scores(&scenario), []);
    assert!(scenario.log.iter().all(|event| !event.metadata.gold));
}
