//! Kinds of answers through a whole task: what is accepted, agreed on and kept.

use glyph_workflow_engine::{
    events::{ConsensusCalculated, WorkflowEvent},
    state::ResolvedBy,
};
use serde_json::{Value, json};

use crate::{language_page::ANSWERS, scenario::Scenario};

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

/// What `consensus` says, always ending with a value where the method finds one.
fn always(consensus: &str) -> String {
    let said = consensus.trim_start_matches('{').trim();
    match said {
        "}" => "{ threshold: 0 }".to_owned(),
        said => format!("{{ threshold: 0, {said}"),
    }
}

/// Checks the agreement and the value of what people gave; the text of `value` is JSON, or `none`.
fn comes_to(answer: &str, consensus: &str, given_json: &str, agreement: Option<f64>, value: &str) {
    let said: Vec<Value> = serde_json::from_str(given_json).unwrap();
    let scenario = given(answer, &always(consensus), &said);
    let found = calculated(&scenario);
    let row = format!("{answer} {consensus} {given_json}");
    match (found.agreement, agreement) {
        (Some(found), Some(expected)) => {
            assert!((found - expected).abs() < 5.1e-4, "{row}: {found}");
        }
        (found, expected) => assert_eq!(found, expected, "{row}"),
    }
    let expected = match value {
        "none" => Value::Null,
        json => serde_json::from_str(json).unwrap(),
    };
    let output = &scenario.output()["result"];
    assert_eq!(plainly(output), plainly(&expected), "{row}");
}

/// Whole numbers written as such.
fn plainly(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plainly).collect(),
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (key.clone(), plainly(value)));
            Value::Object(entries.collect())
        }
        Value::Number(number) if number.to_string().ends_with(".0") => {
            serde_json::from_str(number.to_string().trim_end_matches(".0")).unwrap()
        }
        other => other.clone(),
    }
}

#[test]
fn the_numbers_of_the_page_are_those_of_the_engine() {
    let rows: Vec<&str> = ANSWERS
        .lines()
        .filter(|line| line.starts_with("| `{"))
        .collect();
    for row in &rows {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let cells: Vec<&str> = cells.iter().map(|cell| cell.trim_matches('`')).collect();
        let [answer, consensus, given, agreement, value] = cells[..] else {
            panic!("{row}")
        };
        comes_to(
            answer,
            consensus,
            given,
            Some(agreement.parse().unwrap()),
            value,
        );
    }
    let kinds = [
        "category", "any", "ordinal", "number", "set", "ranking", "text", "spans", "segments",
        "boxes", "polygons", "record",
    ];
    for kind in kinds {
        let named = format!("kind: {kind}");
        assert!(rows.iter().any(|row| row.contains(&named)), "{kind}");
    }
}

#[test]
fn edges_of_every_kind() {
    let third = 1.0 / 3.0;
    for (answer, consensus, given, agreement, value) in [
        // Equality.
        ("{ kind: category }", "{}", r"[1, 1.0]", 1.0, "1"),
        ("{ kind: category }", "{}", r#"[1, "1"]"#, 0.0, "none"),
        ("{ kind: category }", "{}", r"[true, 1]", 0.0, "none"),
        (
            "{ kind: category }",
            "{}",
            r#"["\u00e9", "e\u0301"]"#,
            1.0,
            r#""\u00e9""#,
        ),
        (
            "{ kind: category }",
            "{}",
            "[18446744073709551615, 18446744073709551614]",
            0.0,
            "none",
        ),
        (
            "{ kind: any }",
            "{}",
            r#"[{"e\u0301": [1, 2]}, {"\u00e9": [1.0, 2]}]"#,
            1.0,
            r#"{"e\u0301": [1, 2]}"#,
        ),
        ("{ kind: any }", "{}", r"[[], []]", 1.0, "[]"),
        ("{ kind: any }", "{}", r#"[["a"], "a"]"#, 0.0, "none"),
        (
            "{ kind: any }",
            "{}",
            r#"[{"a": 1, "b": null}, {"a": 1}]"#,
            0.5,
            "none",
        ),
        (
            "{ kind: any }",
            "{}",
            r#"[[1, 2], [1, 3], "x"]"#,
            0.5 * third,
            "none",
        ),
        // With one unit a coefficient gives way to the mean similarity.
        (
            "{ kind: category }",
            "{ metric: cohen_kappa }",
            r#"["x", "x", "y"]"#,
            third,
            r#""x""#,
        ),
        (
            "{ kind: category }",
            "{ metric: fleiss_kappa }",
            r#"["x", "x", "y"]"#,
            third,
            r#""x""#,
        ),
        (
            "{ kind: category }",
            "{ metric: gwet_ac1 }",
            r#"["x", "x", "y"]"#,
            third,
            r#""x""#,
        ),
        (
            "{ kind: ordinal, values: [1, 2, 5] }",
            "{ metric: krippendorff_alpha }",
            "[1, 2.0]",
            0.5,
            "none",
        ),
        (
            "{ kind: ordinal, values: [1, 2, 5] }",
            "{ metric: cohen_kappa, weights: quadratic }",
            "[1, 5]",
            0.0,
            "none",
        ),
        (
            "{ kind: number, tolerance: 1 }",
            "{ metric: krippendorff_alpha, level: ratio }",
            "[1, 1, 2]",
            1.0,
            "1",
        ),
        // Several units: the numbers are those of other implementations.
        (
            "{ kind: any }",
            "{ metric: krippendorff_alpha }",
            r#"[["a","b","a","c","a"],["a","b","b","c","a"],["a","c","a","c","b"]]"#,
            0.4167,
            "none",
        ),
        (
            "{}",
            "{ metric: krippendorff_alpha, level: ordinal }",
            r#"[{"p":1,"q":2,"r":3,"s":4,"t":5},{"p":1,"q":2,"r":2,"s":4,"t":1},{"p":2,"q":2,"r":3,"s":4,"t":5}]"#,
            0.3502,
            r#"{"p":1,"q":2,"r":3,"s":4,"t":5}"#,
        ),
        (
            "{}",
            "{ metric: krippendorff_alpha, level: ordinal }",
            "[[1, 10], [1, 10], [2, 10]]",
            0.875,
            "[1, 10]",
        ),
        // Scales.
        ("{ kind: ordinal }", "{}", "[1, 3, 3]", third, "3"),
        (
            "{ kind: ordinal, values: [x] }",
            "{}",
            r#"["x", "x"]"#,
            1.0,
            r#""x""#,
        ),
        (
            "{ kind: ordinal, values: [low, mid, high] }",
            "{ metric: percent_agreement }",
            r#"["low", "low", "high"]"#,
            third,
            r#""low""#,
        ),
        (
            "{ kind: number, tolerance: 0.1 }",
            "{}",
            "[0.3, 0.4, 0.7, 0.8]",
            third,
            "0.55",
        ),
        (
            "{ kind: number }",
            "{}",
            "[9007199254740993, 9007199254740993, 9007199254740992]",
            third,
            "9007199254740993",
        ),
        (
            "{ kind: number }",
            "{ on_agreement: { method: most_votes } }",
            "[1, 6]",
            0.0,
            "none",
        ),
        // Sets and rankings.
        ("{ kind: set }", "{}", "[[], []]", 1.0, "[]"),
        ("{ kind: set }", "{}", r#"[[], ["a"]]"#, 0.0, "[]"),
        ("{ kind: set }", "{ metric: masi }", "[[], []]", 1.0, "[]"),
        (
            "{ kind: set }",
            "{ metric: masi }",
            r#"[["a", "b"], ["a", "c"]]"#,
            1.0 / 9.0,
            r#"["a"]"#,
        ),
        (
            "{ kind: set, share: 0 }",
            "{}",
            r#"[["a"], ["b"]]"#,
            0.0,
            r#"["a", "b"]"#,
        ),
        (
            "{ kind: ranking, values: [x, y, z] }",
            "{}",
            r#"[["x","y","z"],["y","z","x"],["z","x","y"]]"#,
            third,
            "none",
        ),
        (
            "{ kind: ranking, values: [x] }",
            "{}",
            r#"[["x"], ["x"]]"#,
            1.0,
            r#"["x"]"#,
        ),
        // Texts.
        ("{ kind: text }", "{}", r#"["", ""]"#, 1.0, r#""""#),
        (
            "{ kind: text }",
            "{}",
            r#"["a\ud83d\ude00", "a\ud83d\ude01"]"#,
            0.5,
            "none",
        ),
        (
            "{ kind: text }",
            "{}",
            r#"["abc", "abcd", "bcd"]"#,
            11.0 / 18.0,
            r#""abcd""#,
        ),
        (
            "{ kind: text }",
            "{ metric: token_f1 }",
            r#"["", ""]"#,
            1.0,
            r#""""#,
        ),
        (
            "{ kind: text }",
            "{ metric: rouge_l }",
            r#"["a b c d", "b d", "b d"]"#,
            (1.0 + 4.0 * third) * third,
            r#""b d""#,
        ),
        (
            "{ kind: text }",
            "{ on_agreement: { method: most_votes } }",
            r#"["a", "b", "b"]"#,
            third,
            r#""b""#,
        ),
        // Regions.
        ("{ kind: spans }", "{}", "[[], []]", 1.0, "[]"),
        (
            "{ kind: spans }",
            "{}",
            r#"[[{"start": 0, "end": 4.0}, {"start": 0, "end": 4}], [{"start": 0, "end": 4}]]"#,
            1.0,
            r#"[{"start": 0, "end": 4}]"#,
        ),
        (
            "{ kind: spans }",
            "{}",
            r#"[[{"start": 0, "end": 10}], [{"start": 0, "end": 5}]]"#,
            1.0,
            r#"[{"start": 0, "end": 5}]"#,
        ),
        (
            "{ kind: spans, min_iou: 0.6 }",
            "{}",
            r#"[[{"start": 0, "end": 10}], [{"start": 0, "end": 5}]]"#,
            0.0,
            "[]",
        ),
        (
            "{ kind: spans }",
            "{ metric: span_iou }",
            r#"[[{"start": 0, "end": 10}, {"start": 20, "end": 30}], [{"start": 0, "end": 10}, {"start": 40, "end": 50}]]"#,
            third,
            r#"[{"start": 0, "end": 10}]"#,
        ),
        (
            "{ kind: spans }",
            "{}",
            r#"[[{"start": 0, "end": 9, "tag": "A"}], [{"start": 0, "end": 9}]]"#,
            0.0,
            "[]",
        ),
        (
            "{ kind: spans }",
            "{}",
            r#"[[{"start": 0, "end": 9, "n": 1}], [{"start": 0, "end": 9, "n": 2}], [{"start": 0, "end": 9, "n": 2}]]"#,
            1.0,
            r#"[{"start": 0, "end": 9, "n": 2}]"#,
        ),
        (
            "{ kind: segments }",
            "{ metric: segment_f1 }",
            r#"[[{"start": 0.5, "end": 1.5}], [{"start": 0.5, "end": 1.0}]]"#,
            1.0,
            r#"[{"start": 0.5, "end": 1.0}]"#,
        ),
        (
            "{ kind: boxes }",
            "{}",
            r#"[[{"x1": 0, "y1": 0, "x2": 1, "y2": 1}], [{"x1": 1, "y1": 0, "x2": 2, "y2": 1}]]"#,
            0.0,
            "[]",
        ),
        (
            "{ kind: polygons }",
            "{}",
            r#"[[{"points": [[0,0],[4,0],[4,4],[0,4],[0,0]]}], [{"points": [[0,4],[4,4],[4,0],[0,0]]}]]"#,
            1.0,
            // Either is the medoid; which one does not depend on the order of people.
            r#"[{"points": [[0,4],[4,4],[4,0],[0,0]]}]"#,
        ),
        (
            "{ kind: polygons }",
            "{}",
            r#"[[{"points": [[0,0],[4,0],[4,2],[2,2],[2,4],[0,4]]}], [{"points": [[0,0],[4,0],[4,4],[0,4]]}], []]"#,
            0.25,
            r#"[{"points": [[0,0],[4,0],[4,2],[2,2],[2,4],[0,4]]}]"#,
        ),
    ] {
        comes_to(answer, consensus, given, Some(agreement), value);
    }
}

#[test]
fn fields_of_a_record_may_be_missing_in_three_ways_and_asked_by_condition() {
    let fields = |b: &str| {
        format!(
            "{{ kind: record, fields: {{ a: {{ kind: category }}, b: {{ kind: category, {b} }} }} }}"
        )
    };
    for (b, given, agreement, value) in [
        (
            "missing: leave_out",
            r#"[{"a": "x"}, {"a": "x", "b": "y"}]"#,
            1.0,
            r#"{"a": "x", "b": "y"}"#,
        ),
        (
            "missing: leave_out",
            r#"[{"a": "x"}, {"a": "x"}]"#,
            1.0,
            r#"{"a": "x"}"#,
        ),
        (
            "missing: own_answer",
            r#"[{"a": "x"}, {"a": "x", "b": "y"}]"#,
            0.5,
            r#"{"a": "x", "b": null}"#,
        ),
        (
            "missing: own_answer",
            r#"[{"a": "x", "b": null}, {"a": "x"}]"#,
            1.0,
            r#"{"a": "x", "b": null}"#,
        ),
        (
            "when: \"annotation.a == 'x'\"",
            r#"[{"a": "n", "b": "p"}, {"a": "n"}]"#,
            1.0,
            r#"{"a": "n"}"#,
        ),
        (
            "when: \"annotation.a == 'x'\"",
            r#"[{"a": "x", "b": "q"}, {"a": "n"}, {"a": "x", "b": "q"}]"#,
            2.0 / 3.0,
            r#"{"a": "x", "b": "q"}"#,
        ),
    ] {
        comes_to(&fields(b), "{}", given, Some(agreement), value);
    }
    for (b, data) in [
        ("missing: refuse", json!({"a": "x"})),
        ("missing: refuse", json!({"a": "x", "b": null})),
        ("when: \"annotation.a == 'x'\"", json!({"a": "x"})),
    ] {
        let came = asking(2, &fields(b), "{}").submit("annotate", 1, data.clone());
        assert_eq!(came, "rejected invalid_annotation", "{b} {data}");
    }
}

#[test]
fn modes_of_a_record() {
    let answer =
        "{ kind: record, fields: { a: { kind: category, weight: 3 }, b.c: { kind: category } } }";
    let data = [
        json!({"a": "x", "b": {"c": "p"}}),
        json!({"a": "x", "b": {"c": "q"}}),
    ];
    let majority = "on_disagreement: { strategy: majority_vote }";
    for (consensus, value) in [
        (
            "{ mode: weighted, threshold: 0.75 }".to_owned(),
            json!({"a": "x", "b.c": null}),
        ),
        (
            "{ mode: weighted, threshold: 0.76 }".to_owned(),
            json!(null),
        ),
        (
            "{ mode: all_or_nothing, threshold: 0.5 }".to_owned(),
            json!(null),
        ),
        (
            format!("{{ mode: field_by_field, threshold: 0.5, {majority} }}"),
            json!({"a": "x", "b.c": null}),
        ),
    ] {
        let scenario = given(answer, &consensus, &data);
        let found = calculated(&scenario).agreement.unwrap();
        assert!((found - 0.75).abs() < 1e-9, "{consensus}: {found}");
        let result = &scenario.output()["steps"]["annotate"];
        assert_eq!(result["value"], value, "{consensus}");
        if !value.is_null() {
            assert_eq!(result["disputed"], json!(["b.c"]), "{consensus}");
        }
    }
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
            "{ field: a, kind: category, values: [1, 2] }",
            json!({"a": "1"}),
        ),
        ("{ field: a, kind: category }", json!({"a": ["x"]})),
        ("{ field: a, kind: ordinal }", json!({"a": "x"})),
        ("{ field: a, kind: number }", json!({"a": "5"})),
        ("{ field: a, kind: number }", json!({"a": true})),
        ("{ field: a, kind: set }", json!({"a": [1, 1.0]})),
        (
            "{ field: a, kind: set }",
            json!({"a": ["\u{e9}", "e\u{301}"]}),
        ),
        (
            "{ field: a, kind: spans, tag: label }",
            json!({"a": [{"start": 0, "end": 5, "class": "PER"}]}),
        ),
        (
            "{ field: a, kind: spans }",
            json!({"a": [{"start": 0.5, "end": 5}]}),
        ),
        (
            "{ field: a, kind: segments }",
            json!({"a": [{"start": 1.0, "end": 0.5}]}),
        ),
        (
            "{ field: a, kind: boxes }",
            json!({"a": [{"x1": 5, "y1": 0, "x2": 0, "y2": 5}]}),
        ),
        (
            "{ field: a, kind: boxes }",
            json!({"a": [{"x": 0, "y": 0, "width": 5, "height": 5}]}),
        ),
        (
            "{ field: a, kind: boxes, format: xywh }",
            json!({"a": [{"x": 0, "y": 0, "width": 0, "height": 5}]}),
        ),
        (
            "{ field: a, kind: polygons }",
            json!({"a": [{"points": [[0, 0], [1, 1], [2, 2]]}]}),
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

#[test]
fn spans_stay_inside_the_text_that_is_named_counted_in_code_points() {
    let yaml = "
workflow:
  id: asking
  steps:
    - { id: annotate, type: annotation, answer: { field: a, kind: spans, text: input.text } }
";
    for (input, end, came) in [
        (json!({"text": "a\u{1f600}b"}), 3, "completed"),
        (json!({"text": "a\u{1f600}b"}), 4, "rejected"),
        (json!({"text": "e\u{301}"}), 2, "completed"),
        (json!({"other": "no text to look into"}), 99, "completed"),
    ] {
        let mut scenario = Scenario::new(yaml);
        scenario.start(input.clone());
        let answer = scenario.submit("annotate", 1, json!({"a": [{"start": 0, "end": end}]}));
        assert!(answer.starts_with(came), "{input} {end}: {answer}");
    }
}
