//! What reviews and adjudications are about, who may do them, and what they are shown.

use serde_json::{Value, json};

use crate::scenario::{Scenario, user};

/// Two people label, a third decides if they differ, and a review follows in any case.
const REVIEWED: &str = "
workflow:
  id: reviewed
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { field: label }
    - { id: adjudicate, type: adjudication }
    - { id: review, type: review }
  transitions:
    - { from: annotate, to: review, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: review }
    - { from: review, to: _complete, condition: { type: on_agreement } }
    - { from: review, to: annotate, condition: { type: on_disagreement }, loop: { max_iterations: 2, on_exhausted: _failed } }
";

fn adjudicated() -> Scenario {
    let mut scenario = Scenario::started(REVIEWED);
    scenario.label("annotate", 1, "x");
    scenario.label("annotate", 2, "y");
    scenario.label("adjudicate", 3, "z");
    scenario
}

fn shown(scenario: &Scenario, step: &str) -> Value {
    let state = scenario.state.as_ref().unwrap();
    let id = step.parse().unwrap();
    let work = state.shown_work(&id, state.current_visit(step).unwrap(), &[]);
    serde_json::to_value(work).unwrap()
}

#[test]
fn no_author_reviews_the_value_be_it_annotator_adjudicator_or_fixer() {
    let mut scenario = adjudicated();
    for author in [1, 2, 3] {
        assert_eq!(
            scenario.review("review", author, "approve"),
            "rejected self_review",
            "{author}"
        );
        assert_eq!(
            scenario.assign("review", author),
            "rejected self_review",
            "{author}"
        );
    }
    assert!(
        scenario
            .review("review", 4, "approve")
            .starts_with("completed")
    );
    assert_eq!(scenario.output()["result"], "z");

    let mut scenario = Scenario::started(
        "
workflow:
  id: four-eyes
  steps:
    - { id: annotate, type: annotation, field: label }
    - { id: first, type: review }
    - { id: second, type: review, assignment: { not_who_did: [first] } }
  transitions:
    - { from: annotate, to: first }
    - { from: first, to: second }
    - { from: second, to: _complete }
",
    );
    scenario.label("annotate", 1, "a");
    scenario.submit_with("first", 2, json!({"label": "b"}), |s| {
        s.annotation.decision = Some("fix".to_owned());
    });
    assert_eq!(
        scenario.review("second", 2, "approve"),
        "rejected self_review",
        "who fixed"
    );
    scenario.review("second", 3, "approve");
    assert_eq!(scenario.output()["result"], "b");
}

#[test]
fn who_did_an_excluded_step_is_excluded_also_if_they_only_approved() {
    let yaml = |excluded: &str| {
        format!(
            "
workflow:
  id: four-eyes
  steps:
    - {{ id: annotate, type: annotation, field: label }}
    - {{ id: first, type: review }}
    - {{ id: second, type: review, assignment: {{ {excluded} }} }}
  transitions:
    - {{ from: annotate, to: first }}
    - {{ from: first, to: second }}
    - {{ from: second, to: _complete }}
"
        )
    };
    for (excluded, answer) in [
        ("not_who_did: [first]", "rejected self_review"),
        ("max_concurrent: 3", "completed"),
    ] {
        let mut scenario = Scenario::started(&yaml(excluded));
        scenario.label("annotate", 1, "a");
        scenario.review("first", 2, "approve");
        let came = scenario.review("second", 2, "approve");
        assert!(came.starts_with(answer), "{excluded}: {came}");
    }
    // Who is excluded is offered no slot either: the row of the open slot names them.
    let mut scenario = Scenario::started(&yaml("not_who_did: [first]"));
    scenario.label("annotate", 1, "a");
    scenario.review("first", 2, "approve");
    let slots = glyph_workflow_engine::state::Slots::from(scenario.state.as_ref().unwrap());
    assert_eq!(slots.open[0].authors, [user(1)]);
    assert_eq!(slots.open[0].barred, [user(2)]);
}

#[test]
fn a_review_shows_the_value_that_it_keeps_and_the_annotations_behind_it() {
    let mut scenario = adjudicated();
    let first = shown(&scenario, "review");
    assert_eq!(first["subject"]["value"], "z");
    let steps = &first["subject"]["steps"];
    assert_eq!(steps[0]["step"], "annotate");
    assert_eq!(steps[0]["annotations"][1]["data"], json!({"label": "y"}));
    assert_eq!(first.get("previous"), None);

    let reason = json!({"reason": "a typo"});
    scenario.submit_with("review", 4, reason.clone(), |s| {
        s.annotation.decision = Some("request_changes".to_owned());
    });
    let again = json!({"decision": "request_changes", "reason": "a typo", "data": reason});
    let annotate = shown(&scenario, "annotate");
    assert_eq!(annotate["previous"], again);
    assert_eq!(annotate.get("subject"), None, "annotators work blind");
    scenario.label("annotate", 1, "x");
    scenario.label("annotate", 2, "x");
    let second = shown(&scenario, "review");
    assert_eq!(second["subject"]["value"], "x");
    assert_eq!(second["previous"], again);
    assert_eq!(
        second["subject"]["steps"][0]["visit"], 2,
        "not what was said in the round before"
    );
}

#[test]
fn a_refused_value_is_no_output_and_no_value_of_finalize() {
    let yaml = |last: &str| {
        format!(
            "
workflow:
  id: routed
  steps:
    - {{ id: annotate, type: annotation, field: label }}
    - {{ id: review, type: review }}
    {last}
  transitions:
    - {{ from: annotate, to: review }}
    - {{ from: review, to: {} }}
",
            if last.is_empty() { "_complete" } else { "end" }
        )
    };
    for last in ["", "- { id: end, type: auto_process, handler: finalize }"] {
        let mut scenario = Scenario::started(&yaml(last));
        scenario.label("annotate", 1, "a");
        scenario.review("review", 2, "reject");
        assert_eq!(scenario.output()["result"], Value::Null, "{last}");
        assert_eq!(scenario.output()["result_of"], Value::Null, "{last}");
    }
    let mut scenario = Scenario::started(&yaml(""));
    scenario.label("annotate", 1, "a");
    scenario.review("review", 2, "approve");
    assert_eq!(
        scenario.output()["result_of"],
        json!({"step": "review", "visit": 1})
    );
}

#[test]
fn a_merger_sees_what_arrived_and_nothing_of_earlier_rounds() {
    let mut scenario = Scenario::new(
        "
workflow:
  id: rounds
  settings: { allow_parallel_steps: true }
  steps:
    - { id: text, type: annotation, field: label }
    - { id: fork, type: auto_process, handler: finalize }
    - { id: a, type: annotation, field: label }
    - { id: b, type: annotation, field: label }
    - { id: merge, type: auto_process, handler: result_merger, join_mode: any, config: { steps: [text, a, b] } }
    - { id: review, type: review }
  transitions:
    - { from: text, to: fork }
    - { from: fork, to: a }
    - { from: fork, to: b }
    - { from: a, to: merge }
    - { from: b, to: merge }
    - { from: merge, to: review }
    - { from: review, to: _complete, condition: { type: on_agreement } }
    - { from: review, to: fork, condition: { type: on_disagreement }, loop: { max_iterations: 2, on_exhausted: _failed } }
",
    );
    scenario.start(Value::Null);
    scenario.label("text", 1, "t");
    scenario.label("b", 2, "old");
    scenario.review("review", 3, "reject");
    scenario.label("a", 4, "new");
    assert_eq!(
        shown(&scenario, "review")["subject"]["value"],
        json!({"text": "t", "a": "new"}),
        "the round before and the withdrawn branch are gone, the step before the loop is not"
    );
    assert_eq!(
        scenario.review("review", 4, "approve"),
        "rejected self_review"
    );
    scenario.review("review", 3, "approve");
    assert_eq!(
        scenario.output()["result"],
        json!({"text": "t", "a": "new"})
    );
}

#[test]
fn whoever_made_what_a_merger_or_calculator_names_is_an_author_however_far_back() {
    let yaml = |handler: &str, config: &str| {
        format!(
            "
workflow:
  id: far
  steps:
    - {{ id: annotate, type: annotation, field: label, completion: {{ type: annotation_count, count: 2 }} }}
    - {{ id: adjudicate, type: adjudication }}
    - {{ id: next, type: annotation, field: label }}
    - {{ id: take, type: auto_process, handler: {handler}, config: {{ {config} }} }}
    - {{ id: review, type: review }}
  transitions:
    - {{ from: annotate, to: adjudicate }}
    - {{ from: adjudicate, to: next }}
    - {{ from: next, to: take }}
    - {{ from: take, to: review }}
    - {{ from: review, to: _complete }}
"
        )
    };
    let merger = "result_merger";
    for (handler, config, authors, seen) in [
        (
            merger,
            "steps: [annotate, next]",
            vec![1, 2, 4],
            vec!["next", "annotate"],
        ),
        (
            merger,
            "steps: [adjudicate]",
            vec![1, 2, 3],
            vec!["annotate"],
        ),
        (merger, "steps: [next]", vec![4], vec!["next"]),
        (merger, "", vec![4], vec!["next"]),
        (
            "consensus_calculator",
            "step: annotate, field: label",
            vec![1, 2],
            vec!["annotate"],
        ),
    ] {
        let mut scenario = Scenario::started(&yaml(handler, config));
        for (step, who) in [
            ("annotate", 1),
            ("annotate", 2),
            ("adjudicate", 3),
            ("next", 4),
        ] {
            scenario.label(step, who, "x");
        }
        let slots = glyph_workflow_engine::state::Slots::from(scenario.state.as_ref().unwrap());
        let expected: Vec<_> = authors.into_iter().map(user).collect();
        assert_eq!(slots.open[0].authors, expected, "{handler} {config}");
        let subject = shown(&scenario, "review")["subject"].clone();
        let steps = subject["steps"].as_array().unwrap().iter();
        let steps: Vec<_> = steps.map(|step| step["step"].as_str().unwrap()).collect();
        assert_eq!(steps, seen, "{handler} {config}");
    }
}

#[test]
fn an_adjudicator_decides_only_what_is_disputed_where_the_file_says_so() {
    let yaml = |answer: &str| {
        format!(
            "
workflow:
  id: partial
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: annotation_count, count: 2 }}
      answer: {answer}
      consensus: {{ threshold: 1.0, on_disagreement: {{ strategy: adjudication, scope: disputed }} }}
    - {{ id: adjudicate, type: adjudication }}
  transitions:
    - {{ from: annotate, to: _complete, condition: {{ type: on_agreement }} }}
    - {{ from: annotate, to: adjudicate, condition: {{ type: on_disagreement }} }}
    - {{ from: adjudicate, to: _complete }}
"
        )
    };
    let record = "{ kind: record, fields: { dx: { kind: category }, grade: { kind: ordinal, values: [low, mid, high] } } }";
    let mut scenario = Scenario::started(&yaml(record));
    scenario.submit("annotate", 1, json!({"dx": "I10", "grade": "low"}));
    scenario.submit("annotate", 2, json!({"dx": "I10", "grade": "high"}));
    let subject = shown(&scenario, "adjudicate")["subject"].clone();
    assert_eq!(subject["agreed"], json!({"dx": "I10"}));
    assert_eq!(subject["disputed"], json!(["grade"]));
    assert_eq!(
        scenario.submit("adjudicate", 3, json!({"dx": "I11"})),
        "rejected invalid_annotation",
        "what is disputed has to be decided"
    );
    scenario.submit("adjudicate", 3, json!({"grade": "mid"}));
    assert_eq!(
        scenario.output()["result"],
        json!({"dx": "I10", "grade": "mid"})
    );

    let mut scenario = Scenario::started(&yaml("{ field: tags, kind: set }"));
    scenario.submit("annotate", 1, json!({"tags": ["a", "b"]}));
    scenario.submit("annotate", 2, json!({"tags": ["c", "a"]}));
    let subject = shown(&scenario, "adjudicate")["subject"].clone();
    assert_eq!(subject["agreed"], json!(["a"]));
    assert_eq!(subject["disputed"], json!(["b", "c"]));
    scenario.submit("adjudicate", 3, json!({"tags": ["c"]}));
    assert_eq!(scenario.output()["result"], json!(["a", "c"]));
}

#[test]
fn only_an_adjudicator_who_is_asked_the_same_decides_a_part() {
    let yaml = |second: &str| {
        format!(
            "
workflow:
  id: partial
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: annotation_count, count: 2 }}
      answer: {{ kind: record, fields: {{ dx: {{ kind: category }}, grade: {{ kind: number }} }} }}
      consensus: {{ on_disagreement: {{ strategy: adjudication, scope: disputed }} }}
    - {{ id: second, {second} }}
  transitions:
    - {{ from: annotate, to: _complete, condition: {{ type: on_agreement }} }}
    - {{ from: annotate, to: second, condition: {{ type: on_disagreement }} }}
    - {{ from: second, to: _complete }}
"
        )
    };
    let own = "type: adjudication, answer: { kind: record, fields: { grade: { kind: number }, sure: { kind: category } } }";
    for (second, decision, part, whole) in [
        (
            "type: review",
            Some("fix"),
            json!({"grade": 2}),
            json!({"dx": "I11", "grade": 2}),
        ),
        (
            own,
            None,
            json!({"grade": 2}),
            json!({"grade": 2, "sure": "no"}),
        ),
    ] {
        let mut scenario = Scenario::started(&yaml(second));
        scenario.submit("annotate", 1, json!({"dx": "I10", "grade": 1}));
        scenario.submit("annotate", 2, json!({"dx": "I10", "grade": 3}));
        let mut send = |data: &Value| {
            scenario.submit_with("second", 3, data.clone(), |s| {
                s.annotation.decision = decision.map(str::to_owned);
            })
        };
        assert_eq!(send(&part), "rejected invalid_annotation", "{second}");
        send(&whole);
        assert_eq!(scenario.output()["result"], whole, "{second}");
    }
}
