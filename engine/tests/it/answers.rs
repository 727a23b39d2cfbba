//! Kinds of answers through a whole task: what is accepted, agreed on and kept.

use glyph_workflow_engine::{
    events::{ConsensusCalculated, WorkflowEvent},
    state::ResolvedBy,
};
use serde_json::{Value, json};

use crate::scenario::Scenario;

/// A step that asks `people` for `answer`, compared by `consensus`.
fn asking(people: u32, answer: &str, consensus: &str) -> Scenario {
    Scenario::started(&format!(
        "
workflow:
  id: asking
  gold: {{ share: 0.1 }}
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: annotation_count, count: {people} }}
      answer: {answer}
      consensus: {consensus}
"
    ))
}

fn given(answer: &str, consensus: &str, data: &[Value]) -> Scenario {
    let people = u32::try_from(data.len()).unwrap();
    let mut scenario = asking(people, answer, consensus);
    for (person, data) in (1..).zip(data) {
        let answer = scenario.submit("annotate", person, data.clone());
        assert!(!answer.starts_with("rejected"), "{answer}: {data}");
    }
    scenario
}

fn calculated(scenario: &Scenario) -> &ConsensusCalculated {
    let found = scenario
        .log
        .iter()
        .rev()
        .find_map(|event| match &event.event {
            WorkflowEvent::ConsensusCalculated(calculated) => Some(calculated),
            _ => None,
        });
    found.unwrap()
}

#[test]
fn two_numbers_beyond_the_doubles_are_two_answers() {
    let ids = [999_000_011_000_001_104_u64, 999_000_011_000_001_109];
    let data = ids.map(|id| json!({"code": id}));
    let scenario = given("{ field: code, kind: category }", "{}", &data);
    assert_eq!(calculated(&scenario).agreement, Some(0.0));
    assert_eq!(scenario.output()["result"], Value::Null);
}

#[test]
fn each_kind_has_its_own_agreement_and_value() {
    let label = |label: &str| json!({"a": label});
    for (answer, consensus, data, agreement, value) in [
        (
            "{ field: a, kind: category, values: [x, y] }",
            "{ threshold: 0.3 }",
            vec![label("x"), label("x"), label("y")],
            1.0 / 3.0,
            json!("x"),
        ),
        (
            "{ field: a, kind: ordinal, values: [low, mid, high] }",
            "{ threshold: 0.3, on_agreement: { method: median } }",
            vec![label("low"), label("mid"), label("high")],
            1.0 / 3.0,
            json!("mid"),
        ),
        (
            "{ field: a, kind: number, tolerance: 2 }",
            "{ threshold: 0.6 }",
            vec![json!({"a": 10}), json!({"a": 12}), json!({"a": 14})],
            2.0 / 3.0,
            json!(12),
        ),
        (
            "{ field: a, kind: set }",
            "{ threshold: 0.5 }",
            vec![json!({"a": ["x", "y"]}), json!({"a": ["y", "x", "z"]})],
            2.0 / 3.0,
            json!(["x", "y"]),
        ),
        (
            "{ field: a, kind: ranking, values: [x, y, z] }",
            "{ threshold: 0.5 }",
            vec![
                json!({"a": ["x", "y", "z"]}),
                json!({"a": ["x", "y", "z"]}),
                json!({"a": ["y", "x", "z"]}),
            ],
            7.0 / 9.0,
            json!(["x", "y", "z"]),
        ),
        (
            "{ field: a, kind: text }",
            "{ threshold: 0.5 }",
            vec![label("kitten"), label("kitten"), label("sitten")],
            (1.0 + 2.0 * 5.0 / 6.0) / 3.0,
            json!("kitten"),
        ),
        (
            "{ field: a, kind: spans, tag: label }",
            "{ metric: span_iou, threshold: 0.5 }",
            vec![
                json!({"a": [{"start": 0, "end": 10, "label": "PER", "id": 1}]}),
                json!({"a": [{"start": 0, "end": 8, "label": "PER", "id": 1}]}),
            ],
            0.8,
            json!([{"start": 0, "end": 8, "label": "PER", "id": 1}]),
        ),
        (
            "{ field: a, kind: segments }",
            "{ threshold: 0.9 }",
            vec![
                json!({"a": [{"start": 1.5, "end": 3.5, "tag": "speech"}]}),
                json!({"a": [{"start": 1.5, "end": 3.5, "tag": "speech"}]}),
            ],
            1.0,
            json!([{"start": 1.5, "end": 3.5, "tag": "speech"}]),
        ),
        (
            "{ field: a, kind: boxes, format: xywh }",
            "{ threshold: 0.4 }",
            vec![
                json!({"a": [{"x": 0, "y": 0, "width": 10, "height": 10}]}),
                json!({"a": [{"x": 0, "y": 0, "width": 10, "height": 5}]}),
                json!({"a": [{"x": 0, "y": 0, "width": 10, "height": 10}]}),
            ],
            2.0 / 3.0,
            json!([{"x": 0, "y": 0, "width": 10, "height": 10}]),
        ),
        (
            "{ field: a, kind: polygons }",
            "{ threshold: 0.4 }",
            vec![
                json!({"a": [{"points": [[0, 0], [4, 0], [4, 4], [0, 4]]}]}),
                json!({"a": [{"points": [[0, 0], [4, 0], [4, 2], [0, 2]]}]}),
                json!({"a": [{"points": [[0, 0], [4, 0], [4, 4], [0, 4]]}]}),
            ],
            2.0 / 3.0,
            json!([{"points": [[0, 0], [4, 0], [4, 4], [0, 4]]}]),
        ),
    ] {
        let scenario = given(answer, consensus, &data);
        let found = calculated(&scenario);
        assert!(
            (found.agreement.unwrap() - agreement).abs() < 1e-9,
            "{answer}: {:?}",
            found.agreement
        );
        assert!(found.agreed, "{answer}");
        assert_eq!(scenario.output()["result"], value, "{answer}");
    }
}

#[test]
fn a_record_is_united_field_by_field() {
    let answer = "{ kind: record, fields: { a: { kind: category }, b: { kind: number }, c: { kind: category, when: \"annotation.a == 'x'\", missing: leave_out } } }";
    let data = [
        json!({"a": "x", "b": 1, "c": "p"}),
        json!({"a": "x", "b": 3, "c": "q"}),
        json!({"a": "y", "b": 2}),
    ];
    let scenario = given(answer, "{ mode: weighted, threshold: 0.05 }", &data);
    let result = &scenario.output()["steps"]["annotate"];
    assert_eq!(result["value"], json!({"a": "x", "b": 2, "c": null}));
    assert_eq!(result["disputed"], json!(["c"]));
}

#[test]
fn methods_name_what_found_the_value() {
    let data = [json!({"a": 1}), json!({"a": 2}), json!({"a": 6})];
    for (method, value, resolved_by) in [
        ("median", json!(2), ResolvedBy::Median),
        ("mean", json!(3), ResolvedBy::Mean),
        ("majority_vote", json!(2), ResolvedBy::MajorityVote),
    ] {
        let consensus = format!("{{ threshold: 0, on_agreement: {{ method: {method} }} }}");
        let scenario = given("{ field: a, kind: number }", &consensus, &data);
        let found = calculated(&scenario);
        assert_eq!(found.resolved_by, Some(resolved_by), "{method}");
        assert_eq!(scenario.output()["result"], value, "{method}");
    }
}

#[test]
fn an_answer_that_is_none_is_refused_with_its_place() {
    for (answer, data) in [
        (
            "{ field: a, kind: category, values: [x, y] }",
            json!({"a": "z"}),
        ),
        (
            "{ field: a, kind: number, min: 0, max: 5 }",
            json!({"a": 6}),
        ),
        ("{ field: a, kind: set }", json!({"a": "x"})),
        ("{ field: a, kind: set }", json!({"a": ["x", "x"]})),
        (
            "{ field: a, kind: ranking, values: [x, y] }",
            json!({"a": ["x"]}),
        ),
        ("{ field: a, kind: text }", json!({"a": 1})),
        (
            "{ field: a, kind: spans }",
            json!({"a": [{"start": 5, "end": 5}]}),
        ),
        (
            "{ field: a, kind: spans }",
            json!({"a": [{"start": 0, "end": 5, "label": "PER"}]}),
        ),
        (
            "{ field: a, kind: spans }",
            json!({"a": {"start": 0, "end": 5}}),
        ),
        ("{ field: a, kind: boxes }", json!({"a": [[0, 0, 5, 5]]})),
        (
            "{ field: a, kind: polygons }",
            json!({"a": [{"points": [[0, 0], [1, 1], [1, 0], [0, 1]]}]}),
        ),
        (
            "{ kind: record, fields: { a: {}, b: {} } }",
            json!({"a": 1}),
        ),
    ] {
        let mut scenario = asking(2, answer, "{}");
        assert_eq!(
            scenario.submit("annotate", 1, data.clone()),
            "rejected invalid_annotation",
            "{answer} {data}"
        );
    }
}
