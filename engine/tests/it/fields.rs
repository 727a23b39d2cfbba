//! Consensus by field: the result of each mode for fields that agree and fields that do not.

use glyph_workflow_engine::events::{ConsensusCalculated, WorkflowEvent};
use serde_json::{Value, json};

use crate::scenario::Scenario;

fn workflow(count: u32, consensus: &str) -> String {
    format!(
        "
workflow:
  id: fields
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: annotation_count, count: {count} }}
      consensus: {{ {consensus} }}
    - {{ id: adjudicate, type: adjudication }}
  transitions:
    - {{ from: annotate, to: _complete, condition: {{ type: on_agreement }} }}
    - {{ from: annotate, to: adjudicate, condition: {{ type: on_disagreement }} }}
    - {{ from: adjudicate, to: _complete }}
"
    )
}

/// Submits each of `data` by another annotator.
fn scenario(consensus: &str, data: &[Value]) -> Scenario {
    let count = u32::try_from(data.len()).unwrap();
    let mut scenario = Scenario::started(&workflow(count, consensus));
    for (who, data) in (1..).zip(data) {
        let answer = scenario.submit("annotate", who, data.clone());
        assert!(!answer.starts_with("rejected"), "{answer}");
    }
    scenario
}

fn calculated(scenario: &Scenario) -> &ConsensusCalculated {
    let compared = scenario
        .log
        .iter()
        .rev()
        .find_map(|event| match &event.event {
            WorkflowEvent::ConsensusCalculated(calculated) => Some(calculated),
            _ => None,
        });
    compared.expect("the annotations were compared")
}

fn ended(scenario: &Scenario) -> Option<Value> {
    let state = scenario.state.as_ref().unwrap();
    state.output.as_ref().map(|output| output["result"].clone())
}

/// All agree on `a`, two of three on `b`.
fn split() -> [Value; 3] {
    [
        json!({"a": 1, "b": "x"}),
        json!({"a": 1, "b": "x"}),
        json!({"a": 1, "b": "y"}),
    ]
}

const BOTH: &str = "per_field: { a: {}, b: {} }";

#[test]
fn every_field_must_agree_or_none_counts() {
    let scenario_of = |rest: &str| scenario(&format!("{BOTH}{rest}"), &split());
    assert_eq!(ended(&scenario_of("")), None);
    assert_eq!(ended(&scenario_of(", mode: all_or_nothing")), None);
    let two = &split()[..2];
    let scenario = scenario(BOTH, two);
    assert_eq!(ended(&scenario), Some(json!({"a": 1, "b": "x"})));
    assert_eq!(scenario.output()["agreement"], 1.0);
    assert_eq!(scenario.output()["resolved_by"], "majority_vote");
    let scenario = scenario_of(", on_disagreement: { strategy: majority_vote }");
    assert_eq!(ended(&scenario), Some(json!({"a": 1, "b": "x"})));
}

#[test]
fn each_field_has_its_own_metric_and_threshold() {
    let rules = "per_field: { a: {}, b: { threshold: 0.3 } }";
    let scenario = scenario(rules, &split());
    assert_eq!(ended(&scenario), Some(json!({"a": 1, "b": "x"})));
    let calculated = calculated(&scenario);
    assert!(calculated.agreed);
    assert_eq!(calculated.agreement, Some(0.666_666_666_667));
    let [a, b] = calculated.fields.as_slice() else {
        panic!("{calculated:?}")
    };
    assert_eq!((a.agreement, a.threshold), (Some(1.0), 1.0));
    assert_eq!((b.agreement, b.threshold), (Some(1.0 / 3.0), 0.3));
    assert_eq!((b.votes.len(), b.votes[0].count), (2, 2));
    assert_eq!(b.value, Some(json!("x")));
}

#[test]
fn fields_are_settled_one_by_one() {
    let rules = |strategy: &str| {
        format!(
            "{BOTH}, mode: field_by_field, on_agreement: {{ method: unanimous }}, \
             on_disagreement: {{ strategy: {strategy} }}"
        )
    };
    let settled = scenario(&rules("majority_vote"), &split());
    assert_eq!(ended(&settled), Some(json!({"a": 1, "b": "x"})));
    assert_eq!(
        settled.output()["resolved_by"],
        "majority_vote",
        "what settled the disputed one"
    );
    let open = scenario(&rules("adjudication"), &split());
    assert_eq!(ended(&open), None, "a field without a value");
    let fields = &calculated(&open).fields;
    assert_eq!(
        (&fields[0].value, &fields[1].value),
        (&Some(json!(1)), &None),
        "the event tells what is settled and what is not"
    );
}

#[test]
fn the_weighted_mean_decides() {
    let with = |threshold: f64| {
        let rules = format!(
            "threshold: {threshold}, mode: weighted, per_field: {{ a: {{ weight: 0.7 }}, \
             b: {{ weight: 0.1, threshold: 1.0 }}, c: {{ weight: 0.2 }} }}"
        );
        let data = |b: &str| json!({"a": 1, "b": b, "c": 3});
        scenario(&rules, &[data("x"), data("x"), data("y")])
    };
    // 0.7 + 0.2 + 0.1 / 3
    assert_eq!(calculated(&with(0.9)).agreement, Some(0.933_333_333_333));
    assert_eq!(ended(&with(0.9)), Some(json!({"a": 1, "b": "x", "c": 3})));
    assert_eq!(ended(&with(0.94)), None);
}

#[test]
fn rounding_does_not_miss_a_threshold() {
    let lists = |last: u32| json!({"a": [1, 2, 3, 4, last], "b": [1, 2, 3, 4, last], "c": [1, 2, 3, 4, last]});
    let rules = "threshold: 0.8, mode: weighted, per_field: { a: { weight: 0.1 }, \
                 b: { weight: 0.2 }, c: { weight: 0.3 } }";
    let scenario = scenario(rules, &[lists(5), lists(6)]);
    assert_eq!(calculated(&scenario).agreement, Some(0.8));
    assert!(calculated(&scenario).agreed);
}

#[test]
fn an_undefined_agreement_is_told_and_left_out_of_the_mean() {
    // Both gave the same value twice: no variation, so alpha is not defined.
    let rules = "per_field: { a: { metric: krippendorff_alpha }, b: {} }";
    let data = || json!({"a": [1, 1], "b": "x"});
    let one_defined = scenario(rules, &[data(), data()]);
    let compared = calculated(&one_defined);
    assert_eq!(compared.agreement, Some(1.0));
    assert!(compared.note.as_ref().unwrap().contains("`a`"));
    assert!(
        compared.fields[0]
            .note
            .as_ref()
            .unwrap()
            .contains("no variation")
    );
    assert_eq!(ended(&one_defined), Some(data()));

    let alone = scenario(rules, &[data()]);
    assert_eq!(calculated(&alone).agreement, None);
    assert_eq!(ended(&alone), Some(data()), "one annotation agrees");
}

#[test]
fn regions_of_a_field_are_merged() {
    let rules = "per_field: { spans: { metric: span_iou, threshold: 0.7 }, label: {} }";
    let data = |start: u32| json!({"spans": [{"start": start, "end": 10}], "label": "a"});
    let scenario = scenario(rules, &[data(0), data(1)]);
    assert_eq!(ended(&scenario), Some(data(0)));
    assert_eq!(scenario.output()["agreement"], 0.95);
}

#[test]
fn ties_and_disagreement_ask_further_people() {
    let both = |b: &str| json!({"a": 1, "b": b});
    for rest in [
        "on_disagreement: { strategy: additional_annotators, fallback: majority_vote }",
        "threshold: 0, tie_breaker: additional_annotator",
    ] {
        let mut scenario = scenario(&format!("{BOTH}, {rest}"), &[both("x"), both("y")]);
        assert_eq!(ended(&scenario), None, "{rest}");
        assert_eq!(calculated(&scenario).more, Some(1), "{rest}");
        scenario.submit("annotate", 3, both("y"));
        assert_eq!(ended(&scenario), Some(both("y")), "{rest}");
    }
}

#[test]
fn all_fields_are_asked_of_annotators_and_adjudicators() {
    let mut scenario = Scenario::started(&workflow(2, BOTH));
    assert_eq!(
        scenario.submit("annotate", 1, json!({"a": 1})),
        "rejected invalid_annotation"
    );
    scenario.submit("annotate", 1, json!({"a": 1, "b": 2}));
    scenario.submit("annotate", 2, json!({"a": 1, "b": 3}));
    assert_eq!(
        scenario.submit("adjudicate", 3, json!({"b": 3})),
        "rejected invalid_annotation"
    );
    scenario.submit("adjudicate", 3, json!({"a": 1, "b": 3, "note": "clear"}));
    assert_eq!(
        ended(&scenario),
        Some(json!({"a": 1, "b": 3})),
        "one shape of output, whoever found it"
    );
}

#[test]
fn values_that_differ_in_what_is_left_out_are_told_apart() {
    let given = [json!({"x": 1}), json!({"x": 1, "note": "n"})];
    let scenario = scenario("threshold: 0.8", &given);
    let compared = calculated(&scenario);
    // One of the two fields that somebody gave is equal.
    assert_eq!((compared.agreement, &compared.value), (Some(0.5), &None));
    assert!(!compared.agreed);
}

#[test]
fn a_value_by_fields_is_picked_by_their_paths() {
    let mut scenario = Scenario::started(
        "
workflow:
  id: picked
  steps:
    - id: x
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { per_field: { a: {}, b.c: {} } }
    - { id: f, type: auto_process, handler: finalize, config: { fields: [a, b.c] } }
  transitions: [{ from: x, to: f }]
",
    );
    for who in 1..=2 {
        scenario.submit("x", who, json!({"a": 1, "b": {"c": 2}}));
    }
    assert_eq!(ended(&scenario), Some(json!({"a": 1, "b.c": 2})));
}

#[test]
fn the_handler_compares_fields_too() {
    let yaml = "
workflow:
  id: handled
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 3 } }
    - id: check
      type: auto_process
      handler: consensus_calculator
      config: { mode: weighted, threshold: 0.6, per_field: { a: {}, b: {} } }
  transitions:
    - { from: annotate, to: check }
";
    let mut scenario = Scenario::started(yaml);
    for (who, data) in (1..).zip(split()) {
        scenario.submit("annotate", who, data);
    }
    assert_eq!(ended(&scenario), Some(json!({"a": 1, "b": "x"})));
    assert_eq!(calculated(&scenario).fields.len(), 2);

    let mut scenario = Scenario::started(yaml);
    for who in 1..=3 {
        scenario.submit("annotate", who, json!({"a": 1}));
    }
    assert_eq!(
        scenario.output()["steps"]["check"]["value"],
        Value::Null,
        "a field that nobody gave has no value"
    );
}

#[test]
fn what_a_metric_cannot_read_is_refused_and_never_agreement() {
    for (consensus, data) in [
        ("metric: span_iou, field: a", json!({"a": "0-5"})),
        (
            "metric: box_iou, field: a",
            json!({"a": [{"start": 0, "end": 5}]}),
        ),
        ("metric: token_f1, field: a", json!({"a": 7})),
        (
            "metric: krippendorff_alpha, level: ratio, field: a",
            json!({"a": [-1]}),
        ),
        (
            "per_field: { a: { metric: span_f1 }, b: {} }",
            json!({"a": [{"start": 5, "end": 0}], "b": 1}),
        ),
        ("metric: span_iou", json!({"start": 0})),
    ] {
        let mut scenario = Scenario::started(&workflow(2, consensus));
        assert_eq!(
            scenario.submit("annotate", 1, data),
            "rejected invalid_annotation",
            "{consensus}"
        );
    }
    // The step that people submit to does not know who compares them later.
    let mut scenario = Scenario::started(
        "
workflow:
  id: handled
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 } }
    - { id: check, type: auto_process, handler: consensus_calculator, config: { metric: span_iou } }
    - { id: adjudicate, type: adjudication }
  transitions:
    - { from: annotate, to: check }
    - { from: check, to: _complete, condition: { type: on_agreement } }
    - { from: check, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
",
    );
    scenario.submit("annotate", 1, json!("0-5"));
    let answer = scenario.submit("annotate", 2, json!("0-5"));
    assert!(answer.starts_with("advanced [adjudicate]"), "{answer}");
    let compared = calculated(&scenario);
    assert_eq!((compared.agreed, compared.agreement), (false, None));
    assert!(
        compared
            .note
            .as_ref()
            .unwrap()
            .contains("2 of 2 annotations do not answer what is asked")
    );
}

#[test]
fn votes_tell_who_gave_them_where_it_is_not_plain() {
    let by = |labels: &[&str]| {
        let data: Vec<Value> = labels.iter().map(|label| json!({"label": label})).collect();
        let scenario = scenario("field: label", &data);
        let votes = calculated(&scenario).votes.iter();
        votes.map(|vote| vote.by.clone()).collect::<Vec<_>>()
    };
    assert_eq!(by(&["b", "a", "b"]), [vec![0, 2], vec![1]]);
    assert_eq!(by(&["b", "a"]), [vec![1], vec![0]]);
    for plain in [&["a", "a", "a"][..], &["a", "a", "b"], &["a", "b"]] {
        assert!(by(plain).iter().all(Vec::is_empty), "{plain:?}");
    }
}
