//! How many submissions a step requires, and their result: agreement, ties, more people.

use serde_json::{Value, json};

use super::{DUAL, with_completion};
use crate::scenario::Scenario;

fn adjudicate(scenario: &mut Scenario, who: u128, label: &str) -> String {
    scenario.submit_with("adjudicate", who, json!({"label": label}), |s| {
        s.annotation.roles = Some(vec!["adjudicator".to_owned()]);
    })
}

#[test]
fn two_who_agree_complete_the_task() {
    let mut scenario = Scenario::new(DUAL);
    assert_eq!(
        scenario.start(json!({"text": "x"})),
        "waiting annotate | workflow_started, step_activated"
    );
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );
    assert_eq!(
        scenario.label("annotate", 2, "a"),
        "completed | annotation_submitted, consensus_calculated, step_completed, \
         transition_occurred, workflow_completed"
    );
    let output = scenario.output();
    assert_eq!(output["result"], "a");
    assert_eq!(output["agreement"], 1.0);
    assert_eq!(output["resolved_by"], "majority_vote");
    assert_eq!(output["steps"]["annotate"]["kind"], "consensus");
}

#[test]
fn two_who_differ_are_judged_by_a_third() {
    let mut scenario = Scenario::started(DUAL);
    scenario.label("annotate", 1, "a");
    assert_eq!(
        scenario.label("annotate", 2, "b"),
        "advanced [adjudicate] | annotation_submitted, consensus_calculated, step_completed, \
         transition_occurred, step_activated"
    );
    assert_eq!(
        scenario.label("adjudicate", 3, "b"),
        "rejected role_required"
    );
    assert_eq!(adjudicate(&mut scenario, 1, "a"), "rejected self_review");
    assert_eq!(
        scenario.submit_with("adjudicate", 3, json!({"x": 1}), |s| {
            s.annotation.roles = Some(vec!["adjudicator".to_owned()]);
        }),
        "rejected invalid_annotation"
    );
    assert_eq!(
        adjudicate(&mut scenario, 3, "b"),
        "completed | annotation_submitted, step_completed, transition_occurred, workflow_completed"
    );
    assert_eq!(scenario.output()["result"], "b");
    assert_eq!(scenario.output()["resolved_by"], "adjudication");
    assert_eq!(
        scenario.output()["agreement"],
        0.0,
        "of the last consensus step passed"
    );
}

#[test]
fn advance_closes_with_the_best_answer_once_enough_are_there() {
    let yaml = with_completion(
        "{ type: annotation_count, count: 5, min_required: 3 }\n      consensus: { field: label, threshold: 0.3 }",
        "",
    );
    let mut scenario = Scenario::started(&yaml);
    scenario.label("annotate", 1, "a");
    scenario.label("annotate", 2, "b");
    assert_eq!(scenario.advance("", None), "rejected not_waiting");
    scenario.label("annotate", 3, "a");
    assert_eq!(
        scenario.advance("", None),
        "completed | consensus_calculated, step_completed, workflow_completed"
    );
    assert_eq!(scenario.output()["result"], "a");
    assert_eq!(scenario.output()["resolved_by"], "exhausted");
    assert_eq!(
        scenario.label("annotate", 4, "a"),
        "rejected task_finished",
        "not closed by its count"
    );
}

#[test]
fn closing_early_makes_no_agreement_of_a_disagreement() {
    let yaml = with_completion(
        "{ type: annotation_count, count: 5, min_required: 3 }\n      consensus: { field: label }",
        "",
    );
    let mut scenario = Scenario::started(&yaml);
    for (person, label) in [(1, "a"), (2, "b"), (3, "a")] {
        scenario.label("annotate", person, label);
    }
    scenario.advance("", None);
    assert_eq!(scenario.output()["result"], Value::Null);
    assert_eq!(scenario.output()["agreement"], 1.0 / 3.0);
}

#[test]
fn without_a_rule_values_are_kept_as_they_are() {
    let mut scenario =
        Scenario::started(&with_completion("{ type: annotation_count, count: 2 }", ""));
    scenario.label("annotate", 1, "a");
    scenario.label("annotate", 2, "b");
    assert_eq!(
        scenario.output()["result"],
        json!([{"label": "a"}, {"label": "b"}])
    );
    assert_eq!(scenario.output()["agreement"], Value::Null);
}

#[test]
fn one_person_may_submit_twice_where_the_file_says_so() {
    let mut scenario = Scenario::started(&with_completion(
        "{ type: annotation_count, count: 2, unique_annotators: false }",
        "",
    ));
    scenario.label("annotate", 1, "a");
    assert!(scenario.label("annotate", 1, "b").starts_with("completed"));
}

#[test]
fn ties_and_majorities() {
    let vote = |rule: &str, labels: &[&str]| {
        let yaml = with_completion(
            &format!(
                "{{ type: annotation_count, count: {} }}\n      consensus: {{ field: label, {rule} }}",
                labels.len()
            ),
            "  transitions:\n    - { from: annotate, to: _complete, condition: { type: on_agreement } }\n    \
             - { from: annotate, to: _failed, condition: { type: on_disagreement } }\n",
        );
        let mut scenario = Scenario::started(&yaml);
        for (who, label) in (1..).zip(labels) {
            scenario.label("annotate", who, label);
        }
        scenario
            .state
            .unwrap()
            .output
            .map(|output| (output["result"].clone(), output["resolved_by"].clone()))
    };
    let majority = "on_disagreement: { strategy: majority_vote }";
    let won = |by: &str| Some((json!("a"), json!(by)));
    assert_eq!(vote(majority, &["a", "b", "a"]), won("majority_vote"));
    assert_eq!(vote(majority, &["a", "b"]), None, "a tie is unresolved");
    assert_eq!(
        vote("threshold: 0.3", &["a", "b", "a"]),
        won("majority_vote")
    );
    assert_eq!(
        vote(
            "threshold: 0.3, on_agreement: { method: unanimous }",
            &["a", "b", "a"]
        ),
        None
    );
    assert_eq!(
        vote("on_agreement: { method: unanimous }", &["a", "a"]),
        won("unanimous")
    );
    assert_eq!(vote("threshold: 1.0", &["a", "b", "a"]), None);
    assert_eq!(
        vote("metric: krippendorff_alpha", &["a"]),
        won("majority_vote"),
        "one agrees"
    );
}

#[test]
fn spans_that_overlap_enough_are_merged() {
    let yaml = with_completion(
        "{ type: annotation_count, count: 2 }\n      consensus: { field: spans, metric: span_iou, threshold: 0.7 }",
        "",
    );
    let mut scenario = Scenario::started(&yaml);
    scenario.submit(
        "annotate",
        1,
        json!({"spans": [{"start": 0, "end": 10, "tag": "PER"}]}),
    );
    scenario.submit(
        "annotate",
        2,
        json!({"spans": [{"start": 1, "end": 10, "tag": "PER"}]}),
    );
    assert_eq!(scenario.output()["agreement"], 0.9);
    assert_eq!(
        scenario.output()["result"],
        json!([{"start": 0, "end": 10, "tag": "PER"}])
    );
}

#[test]
fn more_people_are_asked_one_at_a_time_until_it_is_settled() {
    let asked = |rule: &str| {
        Scenario::started(&with_completion(
            &format!(
                "{{ type: annotation_count, count: 2 }}\n      consensus: {{ field: label, threshold: 0.5, {rule} }}"
            ),
            "",
        ))
    };
    let strategy = "on_disagreement: { strategy: additional_annotators, max_additional: 2";
    let more = "waiting annotate | annotation_submitted, consensus_calculated, places_added";
    let mut scenario = asked(&format!("{strategy} }}"));
    scenario.label("annotate", 1, "a");
    assert_eq!(scenario.label("annotate", 2, "b"), more);
    assert_eq!(scenario.label("annotate", 3, "c"), more);
    assert!(
        scenario.label("annotate", 4, "d").starts_with("completed"),
        "the bound ends it"
    );
    assert_eq!(scenario.output()["result"], Value::Null);

    let mut scenario = asked(&format!("{strategy}, fallback: majority_vote }}"));
    for (who, label) in [(1, "a"), (2, "b"), (3, "c"), (4, "a")] {
        scenario.label("annotate", who, label);
    }
    assert_eq!(scenario.output()["result"], "a");

    let mut scenario =
        asked("on_disagreement: { strategy: majority_vote }, tie_breaker: additional_annotator");
    scenario.label("annotate", 1, "a");
    assert_eq!(scenario.label("annotate", 2, "b"), more);
    scenario.label("annotate", 3, "b");
    assert_eq!(scenario.output()["result"], "b");
}
