//! What each kind compares, unites and refuses, with one worked number each.

#![expect(
    clippy::needless_pass_by_value,
    reason = "values written in place read better without a reference"
)]

use serde_json::{Value, json};

use super::*;
use crate::config::{AgreementMethod, AnswerConfig, ConsensusConfig, Metric};

/// The question of an `answer` and a `consensus` block.
fn ask(answer: Value, consensus: Value) -> Question {
    try_ask(answer, consensus).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn try_ask(answer: Value, consensus: Value) -> Result<Question, Vec<QuestionFault>> {
    // What a block of today has no name for yet is taken from a field.
    let field: crate::config::AnswerField = serde_json::from_value(consensus.clone()).unwrap();
    let answer: AnswerConfig = serde_json::from_value(answer).unwrap();
    Question::resolve(&Asked {
        answer: Some(&answer),
        comparison: Some(Comparison {
            metric: field.metric,
            level: field.level,
            weights: field.weights,
            threshold: field.threshold,
            ..Comparison::default()
        }),
        ..Asked::default()
    })
}

fn plain(answer: Value) -> Question {
    ask(answer, json!({}))
}

fn read(question: &Question, data: &Value) -> Answer {
    let answer = question.read(data, &Value::Null);
    answer.unwrap_or_else(|error| panic!("{error}"))
}

fn refused(question: &Question, data: Value) -> String {
    question.read(&data, &Value::Null).unwrap_err().to_string()
}

fn agreement(question: &Question, data: &[Value]) -> Agreement {
    let answers: Vec<Answer> = data.iter().map(|data| read(question, data)).collect();
    let answers: Vec<&Answer> = answers.iter().collect();
    question.agreement(&answers, &mut Work::of_decision())
}

fn unite(question: &Question, method: AgreementMethod, data: &[Value]) -> United {
    weigh(question, method, None, data)
}

fn weigh(
    question: &Question,
    method: AgreementMethod,
    weights: Option<&[f64]>,
    data: &[Value],
) -> United {
    let answers: Vec<Answer> = data.iter().map(|data| read(question, data)).collect();
    let answers: Vec<&Answer> = answers.iter().collect();
    let rule = Rule {
        method,
        weights,
        weights_break_ties: false,
    };
    question.unite(&answers, &rule, &Value::Null, &mut Work::of_decision())
}

fn majority(question: &Question, data: &[Value]) -> Option<Value> {
    unite(question, AgreementMethod::MajorityVote, data).value
}

#[track_caller]
fn close(found: Option<f64>, expected: f64) {
    let found = found.expect("agreement is defined");
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

#[test]
fn category() {
    let question = plain(json!({"kind": "category", "values": ["positive", "negative"]}));
    let said = [json!("positive"), json!("positive"), json!("negative")];
    close(agreement(&question, &said).agreement, 1.0 / 3.0);
    assert_eq!(majority(&question, &said), Some(json!("positive")));
    let tie = unite(&question, AgreementMethod::MajorityVote, &said[1..]);
    assert!(tie.tied && tie.value.is_none());
    assert_eq!(
        refused(&question, json!("postive")),
        "`annotation.data`: `\"postive\"` is none of the values `\"positive\"`, `\"negative\"`: \
         did you mean `\"positive\"`?"
    );
    assert!(refused(&question, json!(["positive"])).contains("a list is no category"));
    assert!(refused(&question, Value::Null).contains("no value here"));
    assert_eq!(
        question
            .class(&read(&question, &json!("positive")))
            .as_deref(),
        Some("positive")
    );
    assert_eq!(
        question.data_schema(),
        json!({"enum": ["positive", "negative"]})
    );
}

#[test]
fn numbers_and_texts_are_one_answer_only_where_they_are_equal() {
    let question = plain(json!({"field": "id"}));
    let id = |id: u64| json!({"id": id});
    close(
        agreement(
            &question,
            &[id(9_007_199_254_740_993), id(9_007_199_254_740_992)],
        )
        .agreement,
        0.0,
    );
    let same = [json!({"id": 1}), json!({"id": 1.0})];
    close(agreement(&question, &same).agreement, 1.0);
    let same = [json!({"id": "e\u{301}"}), json!({"id": "\u{e9}"})];
    close(agreement(&question, &same).agreement, 1.0);
    let [a, b] = [0, 1].map(|n| read(&question, &same[n]));
    assert_eq!(question.class(&a), question.class(&b));
    assert_eq!(a.name(), b.name());
    let big = [
        json!({"id": 1e16}),
        json!({"id": 10_000_000_000_000_000_u64}),
    ];
    let [a, b] = [0, 1].map(|n| read(&question, &big[n]).name());
    assert_eq!(a, b);
}

#[test]
fn any() {
    let question = plain(json!({}));
    // One of three keys is equal.
    let objects = [json!({"a": 1, "b": 2}), json!({"a": 1.0, "c": 2})];
    close(agreement(&question, &objects).agreement, 1.0 / 3.0);
    // Two of four positions.
    let lists = [json!([1, 2, 3]), json!([1, 2, 4, 5])];
    close(agreement(&question, &lists).agreement, 0.5);
    assert_eq!(agreement(&question, &lists).units, 4);
    assert_eq!(majority(&question, &lists), None, "whole values are tied");
    let third = [lists[0].clone(), lists[1].clone(), json!([1, 2, 3])];
    assert_eq!(majority(&question, &third), Some(json!([1, 2, 3])));
    assert_eq!(question.class(&read(&question, &lists[0])), None);
}

#[test]
fn one_long_list_lifts_nobodys_agreement() {
    let short = |label: &str| json!({"labels": [label]});
    let long: Vec<String> = (0..10).map(|n| format!("l{n}")).collect();
    let said = [
        short("a"),
        short("a"),
        short("b"),
        short("c"),
        short("d"),
        json!({"labels": long}),
    ];
    let question = plain(json!({"field": "labels"}));
    close(agreement(&question, &said).agreement, 1.0 / 15.0);
    for metric in [
        "gwet_ac1",
        "cohen_kappa",
        "fleiss_kappa",
        "krippendorff_alpha",
    ] {
        let question = ask(json!({"field": "labels"}), json!({"metric": metric}));
        let found = agreement(&question, &said);
        assert!(found.agreement.unwrap() < 0.15, "{metric}: {found:?}");
        assert!(found.note.unwrap().contains("different length"));
    }
}

/// Two of each: of the six pairs two are equal, and four have two of three units alike.
#[test]
fn pairs_of_lists_count_as_often_as_people_said_them() {
    let (short, long) = (
        json!({"labels": ["a", "b"]}),
        json!({"labels": ["a", "b", "c"]}),
    );
    let said = [short.clone(), short, long.clone(), long];
    let question = ask(
        json!({"field": "labels"}),
        json!({"metric": "krippendorff_alpha"}),
    );
    let found = agreement(&question, &said);
    assert_eq!((found.pairs, found.units), (6, 3), "{found:?}");
}

#[test]
fn coefficients_over_several_units_are_those_of_the_mathematics() {
    let question = ask(json!({}), json!({"metric": "krippendorff_alpha"}));
    let a = json!({"p": "x", "q": "y", "r": "x"});
    let b = json!({"p": "x", "q": "y", "r": "y"});
    // Two of three units agree: 1 - 5 * (2 / 6) / (9 * 2 / 6)
    close(
        agreement(&question, &[a.clone(), b.clone()]).agreement,
        4.0 / 9.0,
    );
    let one = agreement(&question, &[json!("x"), json!("y")]);
    close(one.agreement, 0.0);
    assert!(one.note.unwrap().contains("observed agreement stands in"));
    let none = agreement(&question, &[a.clone(), a]);
    close(none.agreement, 1.0);
    let same = json!({"p": "x", "q": "x"});
    let none = agreement(&question, &[same.clone(), same]);
    assert_eq!((none.agreement, none.agreed), (None, true));
    assert!(none.note.unwrap().contains("no variation"));
    let flags = ask(json!({}), json!({"metric": "gwet_ac1"}));
    let yes = json!({"p": true, "q": true});
    // Yes and no are two categories though nobody says no.
    close(agreement(&flags, &[yes.clone(), yes]).agreement, 1.0);
}

#[test]
fn ordinal() {
    let scale = json!({"kind": "ordinal", "values": ["none", "mild", "moderate", "severe"]});
    let question = plain(scale.clone());
    let said = [json!("none"), json!("mild"), json!("mild")];
    // 1 - 1/3 twice, and 1.
    close(agreement(&question, &said).agreement, 7.0 / 9.0);
    assert_eq!(majority(&question, &said), Some(json!("mild")));
    let median = |said: &[Value]| unite(&question, AgreementMethod::Median, said);
    let three = [json!("severe"), json!("none"), json!("mild")];
    assert_eq!(median(&three).value, Some(json!("mild")));
    assert!(median(&three[..2]).tied, "nothing lies between two values");
    let equal = ask(scale, json!({"metric": "percent_agreement"}));
    close(agreement(&equal, &said).agreement, 1.0 / 3.0);
    let numbers = plain(json!({"kind": "ordinal"}));
    close(agreement(&numbers, &[json!(1), json!(2)]).agreement, 0.0);
    assert!(refused(&numbers, json!("low")).contains("only numbers have an order"));
    let one = plain(json!({"kind": "ordinal", "values": ["x"]}));
    close(agreement(&one, &[json!("x"), json!("x")]).agreement, 1.0);
}

#[test]
fn several_judgements_on_a_scale() {
    let of = |values: Option<[&str; 3]>, metric: Value| {
        let mut answer = json!({"field": "sev"});
        if let Some(values) = values {
            answer["values"] = json!(values);
        }
        ask(answer, metric)
    };
    let alpha = json!({"metric": "krippendorff_alpha", "level": "ordinal"});
    let words = of(Some(["low", "medium", "high"]), alpha.clone());
    let sev =
        |a: &str, b: &str| json!({"sev": {"pain": "low", "fever": a, "cough": "high", "rash": b}});
    let said = [sev("medium", "low"), sev("high", "medium")];
    let found = agreement(&words, &said).agreement.unwrap();
    assert!((found - 0.708).abs() < 5e-4, "{found}");
    let number = |a: i32, b: i32| json!({"sev": {"pain": 1, "fever": a, "cough": 3, "rash": b}});
    let numbers = of(None, alpha);
    let found_again = agreement(&numbers, &[number(2, 1), number(3, 2)]);
    close(found_again.agreement, found);
    assert!(refused(&numbers, said[0].clone()).starts_with("`sev."));
    // One of the three that somebody judged is alike.
    let alike = ask(json!({"field": "sev"}), json!({"level": "interval"}));
    let one = json!({"sev": {"pain": 1, "fever": 1}});
    let other = json!({"sev": {"pain": 1, "fever": 3, "rash": 1}});
    close(agreement(&alike, &[one, other]).agreement, 1.0 / 3.0);
    for weights in ["linear", "quadratic"] {
        let kappa = json!({"metric": "cohen_kappa", "weights": weights});
        let kappa = of(Some(["low", "medium", "high"]), kappa);
        assert!(agreement(&kappa, &said).agreement.unwrap() > 0.4);
    }
}

#[test]
fn number() {
    let question = plain(json!({"kind": "number", "min": 0, "max": 100, "tolerance": 5}));
    let said = [json!(50), json!(54), json!(60)];
    close(agreement(&question, &said).agreement, 1.0 / 3.0);
    assert_eq!(majority(&question, &said), Some(json!(54)));
    assert_eq!(majority(&question, &said[1..]), Some(json!(57)));
    let two = [json!(1), json!(2)];
    assert_eq!(majority(&question, &two), Some(json!(1.5)));
    let mean = unite(
        &question,
        AgreementMethod::Mean,
        &[json!(1), json!(2), json!(6)],
    );
    assert_eq!(mean.value, Some(json!(3)));
    assert!(unite(&question, AgreementMethod::MostVotes, &said).tied);
    let weighted = weigh(
        &question,
        AgreementMethod::WeightedVote,
        Some(&[5.0, 1.0, 1.0]),
        &said,
    );
    assert_eq!((weighted.value, weighted.weighted), (Some(json!(50)), true));
    assert!(refused(&question, json!(101)).contains("above the greatest"));
    assert!(refused(&question, json!("7")).contains("without quotation marks"));
    let tenth = plain(json!({"kind": "number", "tolerance": 0.1}));
    close(agreement(&tenth, &[json!(0.3), json!(0.4)]).agreement, 1.0);
    close(agreement(&tenth, &[json!(0.3), json!(0.41)]).agreement, 0.0);
}

#[test]
fn several_numbers_are_united_one_by_one() {
    let alpha = json!({"metric": "krippendorff_alpha", "level": "interval", "threshold": 0.7});
    let question = ask(json!({"field": "scores"}), alpha);
    let scores = |a: i32, b: i32| json!({"scores": {"fluency": a, "adequacy": b}});
    let said = [scores(71, 12), scores(72, 11), scores(73, 13)];
    let found = agreement(&question, &said);
    assert!(found.agreement.unwrap() > 0.999 && found.agreed);
    assert_eq!(
        majority(&question, &said),
        Some(json!({"fluency": 72, "adequacy": 12}))
    );
    let ratio = json!({"metric": "krippendorff_alpha", "level": "ratio"});
    let ratio = ask(json!({}), ratio);
    assert!(
        refused(&ratio, json!({"size": -1})).starts_with("`size`: -1 is below")
            || refused(&ratio, json!({"size": -1})).contains("below the least")
    );
    let lists = ask(json!({}), json!({"level": "interval"}));
    assert_eq!(
        majority(&lists, &[json!([1, 2]), json!([3, 2]), json!([2, 5, 9])]),
        Some(json!([2, 2])),
        "most people have no third"
    );
}

#[test]
fn set() {
    let question = plain(json!({"kind": "set"}));
    let said = [json!(["a", "b"]), json!(["b", "a"]), json!(["b", "c", "a"])];
    close(agreement(&question, &said[..2]).agreement, 1.0);
    close(agreement(&question, &said[1..]).agreement, 2.0 / 3.0);
    let masi = ask(json!({"kind": "set"}), json!({"metric": "masi"}));
    close(agreement(&masi, &said[1..]).agreement, 4.0 / 9.0);
    let crossed = [json!(["a", "b"]), json!(["b", "c"])];
    close(agreement(&masi, &crossed).agreement, 1.0 / 9.0);
    close(agreement(&masi, &[json!([]), json!([])]).agreement, 1.0);
    close(
        agreement(&question, &[json!([]), json!(["a"])]).agreement,
        0.0,
    );
    let united = unite(&question, AgreementMethod::MajorityVote, &said);
    assert_eq!(united.value, Some(json!(["a", "b"])));
    assert_eq!(united.open, [json!("c")]);
    let third = plain(json!({"kind": "set", "share": 0.3}));
    assert_eq!(majority(&third, &said), Some(json!(["a", "b", "c"])));
    let ordered = plain(json!({"kind": "set", "values": ["c", "b", "a"]}));
    assert_eq!(majority(&ordered, &said[..2]), Some(json!(["b", "a"])));
    assert!(refused(&question, json!("a")).contains("give a list, [\"a\"] for one member"));
    assert!(refused(&question, json!(["a", "a"])).contains("`[1]`: `\"a\"` is listed twice"));
    assert_eq!(
        read(&question, &said[0]),
        read(&question, &said[1]),
        "the order is nothing"
    );
}

#[test]
fn ranking() {
    let question = plain(json!({"kind": "ranking", "values": ["a", "b", "c"]}));
    let said = [
        json!(["a", "b", "c"]),
        json!(["b", "a", "c"]),
        json!(["a", "c", "b"]),
    ];
    // One of three pairs differs: tau = 1/3.
    close(agreement(&question, &said[..2]).agreement, 2.0 / 3.0);
    close(
        agreement(&question, &[json!(["a", "b", "c"]), json!(["c", "b", "a"])]).agreement,
        0.0,
    );
    // 5, 3 and 1 points.
    assert_eq!(majority(&question, &said), Some(json!(["a", "b", "c"])));
    assert!(unite(&question, AgreementMethod::Borda, &said[..2]).tied);
    assert!(refused(&question, json!(["a", "b"])).contains("`\"c\"` is not ranked"));
    let one = plain(json!({"kind": "ranking", "values": ["a"]}));
    close(
        agreement(&one, &[json!(["a"]), json!(["a"])]).agreement,
        1.0,
    );
}

#[test]
fn text() {
    let question = plain(json!({"kind": "text"}));
    let said = [json!("kitten"), json!("sitting")];
    close(agreement(&question, &said).agreement, 4.0 / 7.0);
    close(agreement(&question, &[json!(""), json!("")]).agreement, 1.0);
    close(
        agreement(&question, &[json!("e\u{301}"), json!("\u{e9}")]).agreement,
        1.0,
    );
    let measured = |metric: &str, a: &str, b: &str| {
        let question = ask(json!({"kind": "text"}), json!({"metric": metric}));
        agreement(&question, &[json!(a), json!(b)]).agreement
    };
    close(measured("token_f1", "The red car.", "the red car"), 1.0);
    close(
        measured("token_f1", "the red car", "the car was red"),
        6.0 / 7.0,
    );
    // Police killed the gunman: Lin (2004), section 3.
    close(
        measured(
            "rouge_l",
            "police killed the gunman",
            "police kill the gunman",
        ),
        0.75,
    );
    close(
        measured(
            "rouge_l",
            "police killed the gunman",
            "the gunman kill police",
        ),
        0.5,
    );
    let three = [
        json!("a red car"),
        json!("a red cat"),
        json!("a big red car"),
    ];
    assert_eq!(majority(&question, &three), Some(json!("a red car")));
    assert!(unite(&question, AgreementMethod::Medoid, &three[..2]).tied);
    assert!(refused(&question, json!(["a"])).contains("answer.kind: set"));
}

#[test]
fn spans() {
    let spans = json!({"field": "s", "kind": "spans"});
    let question = ask(spans.clone(), json!({"metric": "span_iou"}));
    let span = |start: i32, end: i32, tag: &str| json!({"start": start, "end": end, "tag": tag});
    let data = |spans: Vec<Value>| json!({"s": spans});
    let (a, b) = (span(0, 10, "A"), span(0, 5, "A"));
    let two = [data(vec![a.clone()]), data(vec![b.clone()])];
    close(agreement(&question, &two).agreement, 0.5);
    let other = [data(vec![a.clone()]), data(vec![span(0, 10, "B")])];
    close(agreement(&question, &other).agreement, 0.0);
    let f1 = plain(spans.clone());
    close(agreement(&f1, &two).agreement, 1.0);
    // One pair of three spans.
    let more = [
        data(vec![a.clone(), span(20, 30, "A")]),
        data(vec![b.clone()]),
    ];
    close(agreement(&f1, &more).agreement, 2.0 / 3.0);
    close(agreement(&question, &more).agreement, 0.25);
    let strict = plain(json!({"field": "s", "kind": "spans", "min_iou": 0.6}));
    close(agreement(&strict, &two).agreement, 0.0);
    close(agreement(&f1, &[data(vec![]), data(vec![])]).agreement, 1.0);
    // 4.0 is a whole number, the same region twice counts once, lists are in no order.
    let twice = json!({"s": [{"start": 4.0, "end": 9}, {"start": 0, "end": 2}, {"start": 4, "end": 9, "id": 7}]});
    let once = json!({"s": [{"start": 0, "end": 2}, {"start": 4, "end": 9}]});
    assert_eq!(read(&f1, &twice), read(&f1, &once));
    assert_eq!(
        refused(
            &f1,
            json!({"s": [a, {"start": 1, "end": 2, "label": "PER"}]})
        ),
        "`s[1]`: a span has no `tag` but `label`: did you mean `tag`? Rename the key, or set \
         `answer.tag: label`"
    );
    assert!(refused(&f1, json!({"s": [{"start": 1, "end": 2, "Tag": "x"}]})).contains("`Tag`"));
    assert!(refused(&f1, json!({"s": [[0, 3]]})).contains("a list is no span"));
    assert!(refused(&f1, json!({"s": b})).contains("put the span into a list"));
    assert!(refused(&f1, json!({"s": [{"start": 4, "end": 4}]})).contains("start must be less"));
    assert!(refused(&f1, json!({"s": [{"start": 0.5, "end": 4}]})).contains("whole number"));
    assert!(refused(&f1, json!({"s": [{"start": -1, "end": 4}]})).contains("`s[0].start`"));
    let labelled = plain(json!({"field": "s", "kind": "spans", "tag": "label"}));
    let label = |tag: &str| json!({"s": [{"start": 0, "end": 5, "label": tag}]});
    close(
        agreement(&labelled, &[label("PER"), label("ORG")]).agreement,
        0.0,
    );
    assert!(
        refused(
            &labelled,
            json!({"s": [{"start": 0, "end": 5, "tag": "x"}]})
        )
        .contains("`tag`")
    );
    let inside = plain(json!({"field": "s", "kind": "spans", "text": "input.text"}));
    let input = json!({"text": "été"});
    assert!(
        inside
            .read(&json!({"s": [{"start": 0, "end": 3}]}), &input)
            .is_ok()
    );
    let beyond = inside.read(&json!({"s": [{"start": 0, "end": 4}]}), &input);
    assert!(beyond.unwrap_err().to_string().contains("3 code points"));
    let schema = f1.data_schema().to_string();
    assert!(
        schema.contains(r#""start":{"minimum":0,"type":"integer"}"#),
        "{schema}"
    );
}

#[test]
fn compared_attributes_make_other_regions_and_others_are_kept() {
    let spans = json!({"kind": "spans", "compare": ["negated"]});
    let question = plain(spans);
    let span = |negated: bool, note: &str| json!([{"start": 0, "end": 4, "negated": negated, "note": note}]);
    let said = [span(true, "x"), span(true, "y"), span(false, "y")];
    close(agreement(&question, &said[..2]).agreement, 1.0);
    close(agreement(&question, &said[1..]).agreement, 0.0);
    let united = majority(
        &question,
        &[said[0].clone(), said[1].clone(), said[2].clone()],
    );
    let [region] = united.as_ref().unwrap().as_array().unwrap().as_slice() else {
        panic!("{united:?}")
    };
    assert_eq!(region["negated"], true);
    let noted = [span(true, "x"), span(true, "x"), span(true, "y")];
    assert_eq!(majority(&question, &noted), Some(span(true, "x")));
    let boxes = plain(json!({"kind": "boxes"}));
    let car =
        |y2: i32| json!([{"x1": 0, "y1": 0, "x2": 10, "y2": y2, "tag": "car", "occluded": true}]);
    assert_eq!(majority(&boxes, &[car(11), car(10)]), Some(car(10)));
}

#[test]
fn regions_are_merged_whatever_the_order() {
    let question = ask(json!({"kind": "spans"}), json!({"metric": "span_iou"}));
    let list = |spans: &[(i32, i32)]| {
        let spans = spans
            .iter()
            .map(|(start, end)| json!({"start": start, "end": end}));
        Value::Array(spans.collect())
    };
    let merged = |people: &[&[(i32, i32)]]| {
        let said: Vec<Value> = people.iter().map(|spans| list(spans)).collect();
        majority(&question, &said)
    };
    let apart: &[(i32, i32)] = &[(0, 4), (10, 14)];
    assert_eq!(merged(&[apart, &[(0, 4)], apart]), Some(list(apart)));
    let both = Some(list(&[(0, 10)]));
    assert_eq!(merged(&[&[(0, 10)], &[(0, 6), (0, 10)]]), both);
    assert_eq!(merged(&[&[(0, 10)], &[(0, 10), (0, 6)]]), both);
    let chain: [&[(i32, i32)]; 3] = [&[(0, 10)], &[(3, 13)], &[(6, 16)]];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]] {
        assert_eq!(merged(&order.map(|n| chain[n])), Some(list(&[(3, 13)])));
    }
    assert_eq!(
        merged(&[&[(0, 10)], &[(0, 6), (0, 10)], &[(0, 6)]]),
        Some(list(&[(0, 6), (0, 10)]))
    );
    assert_eq!(
        merged(&[&[(0, 4), (0, 4)], &[(0, 4), (0, 4)], &[]]),
        Some(list(&[(0, 4)]))
    );
    assert_eq!(
        merged(&[&[(0, 4)], &[]]),
        Some(list(&[])),
        "half is not more than half"
    );
    let two = [list(&[(0, 4)]), list(&[])];
    let weighted = weigh(
        &question,
        AgreementMethod::WeightedVote,
        Some(&[2.0, 1.0]),
        &two,
    );
    assert_eq!(weighted.value, Some(list(&[(0, 4)])));
    let united = unite(&question, AgreementMethod::MajorityVote, &two);
    let agreed = agreement(&question, &two);
    assert_eq!(
        question.settled(&agreed, &united),
        Some((json!([]), list(&[(0, 4)])))
    );
    assert_eq!(
        question.lay_over(&list(&[(5, 9)]), &list(&[(0, 4), (5, 9)]), &Value::Null),
        list(&[(0, 4), (5, 9)])
    );
}

#[test]
fn segments() {
    let question = plain(json!({"kind": "segments"}));
    let segment = |start: f64, end: f64| json!([{"start": start, "end": end}]);
    close(
        agreement(&question, &[segment(0.0, 2.5), segment(0.5, 2.5)]).agreement,
        0.8,
    );
    assert!(refused(&question, segment(2.5, 0.5)).contains("start must be less than end"));
    let f1 = ask(json!({"kind": "segments"}), json!({"metric": "segment_f1"}));
    close(
        agreement(&f1, &[segment(0.0, 2.5), segment(0.5, 2.5)]).agreement,
        1.0,
    );
}

#[test]
fn boxes() {
    let question = plain(json!({"kind": "boxes"}));
    let square = |x1: i32, x2: i32| json!([{"x1": x1, "y1": 0, "x2": x2, "y2": 2}]);
    close(
        agreement(&question, &[square(0, 2), square(1, 3)]).agreement,
        1.0 / 3.0,
    );
    assert!(refused(&question, square(3, 1)).contains("x1 must be less than x2"));
    assert!(refused(&question, json!([[0, 0, 5, 5]])).contains("a list is no box"));
    let sized = json!([{"x": 0, "y": 0, "width": 2, "height": 2}]);
    assert!(refused(&question, sized.clone()).contains("answer.format: xywh"));
    let xywh = plain(json!({"kind": "boxes", "format": "xywh"}));
    let moved = json!([{"x": 1, "y": 0, "width": 2, "height": 2}]);
    close(agreement(&xywh, &[sized, moved]).agreement, 1.0 / 3.0);
    let flat = json!([{"x": 1, "y": 0, "width": 0, "height": 2}]);
    assert!(refused(&xywh, flat).contains("covers no area"));
}

#[test]
fn polygons() {
    let question = plain(json!({"kind": "polygons"}));
    let polygon = |points: Value| json!([{"points": points}]);
    let square = polygon(json!([[0, 0], [2, 0], [2, 2], [0, 2]]));
    let triangle = polygon(json!([[0, 0], [2, 0], [0, 2]]));
    close(
        agreement(&question, &[square.clone(), triangle]).agreement,
        0.5,
    );
    // The same ring: closed, from another corner, the other way round.
    let again = polygon(json!([[2, 2], [2, 0], [0.0, 0], [0, 2], [2, 2]]));
    assert_eq!(read(&question, &square), read(&question, &again));
    let l = polygon(json!([[0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3]]));
    // 3 of 4 + 5 - 3.
    close(agreement(&question, &[square.clone(), l]).agreement, 0.5);
    let bow = polygon(json!([[0, 0], [2, 2], [2, 0], [0, 2]]));
    assert!(refused(&question, bow).contains("touch or cross"));
    assert!(refused(&question, polygon(json!([[0, 0], [1, 1]]))).contains("three corners"));
    let dot = polygon(json!([[1, 1], [1, 1], [1, 1]]));
    assert!(
        refused(&question, dot).contains("not 1"),
        "three times the same"
    );
    let line = polygon(json!([[0, 0], [1, 1], [2, 2]]));
    assert!(question.read(&line, &Value::Null).is_err());
    assert!(refused(&question, polygon(json!([[0, 0], [1], [2, 2]]))).contains("`[0].points[1]`"));
    let far = polygon(json!([
        [1e9, 1e9],
        [1_000_000_002.0, 1e9],
        [1_000_000_002.0, 1_000_000_002.0],
        [1e9, 1_000_000_002.0]
    ]));
    let near = polygon(json!([
        [1e9, 1e9],
        [1_000_000_002.0, 1e9],
        [1e9, 1_000_000_002.0]
    ]));
    close(agreement(&question, &[far, near]).agreement, 0.5);
}

fn tone() -> Question {
    plain(json!({"kind": "record", "fields": {
        "tone": {"kind": "category", "values": ["positive", "negative"]},
        "severity": {"kind": "ordinal", "values": ["none", "mild", "severe"], "weight": 2, "threshold": 0.5},
        "sarcasm": {"kind": "category", "when": "annotation.tone == 'negative'", "missing": "leave_out"},
    }}))
}

#[test]
fn record() {
    let question = tone();
    let said = [
        json!({"tone": "negative", "severity": "mild", "sarcasm": "yes", "time": 3}),
        json!({"tone": "negative", "severity": "severe", "sarcasm": "no"}),
        json!({"tone": "positive", "severity": "mild", "sarcasm": "yes"}),
    ];
    // tone 1, severity 0.5 of weight 2, sarcasm 0.
    let two = agreement(&question, &said[..2]);
    close(two.agreement, 0.5);
    let agreed: Vec<bool> = two.fields.iter().map(|f| f.agreement.agreed).collect();
    assert_eq!(agreed, [false, true, true], "sarcasm, severity, tone");
    assert!(!two.agreed);
    // Sarcasm of the third is not asked for: what is left is a tie of the others.
    let united = unite(&question, AgreementMethod::MajorityVote, &said);
    assert_eq!(
        united.value,
        Some(json!({"tone": "negative", "severity": "mild", "sarcasm": null}))
    );
    assert_eq!(united.disputed, ["sarcasm"]);
    let (agreed, disputed) = question
        .settled(&agreement(&question, &said), &united)
        .unwrap();
    assert_eq!(agreed, json!({"severity": "mild"}));
    assert_eq!(disputed, json!(["sarcasm", "tone"]));
    let laid = question.lay_over(&agreed, &json!({"tone": "negative"}), &Value::Null);
    assert_eq!(laid, json!({"tone": "negative", "severity": "mild"}));
    // Not in the value where the united record does not ask for it.
    let positive = [said[2].clone(), said[2].clone(), said[0].clone()];
    let united = unite(&question, AgreementMethod::MajorityVote, &positive);
    assert_eq!(
        united.value,
        Some(json!({"tone": "positive", "severity": "mild"}))
    );
    assert!(
        refused(&question, json!({"tone": "negative"}))
            .starts_with("`severity`: there is no value")
    );
    let schema = question.data_schema();
    assert_eq!(schema["required"], json!(["severity", "tone"]));
}

#[test]
fn an_adjudicator_need_not_repeat_what_is_settled() {
    let fields = json!({"dx": {}, "sev": {"kind": "number"}});
    let question = plain(json!({"kind": "record", "fields": fields}));
    let only = question.for_disputed(&["sev"]);
    assert!(only.read(&json!({"sev": 2}), &Value::Null).is_ok());
    assert!(refused(&only, json!({"dx": "I10"})).starts_with("`sev`"));
    let laid = question.lay_over(&json!({"dx": "I10"}), &json!({"sev": 2}), &Value::Null);
    assert_eq!(laid, json!({"dx": "I10", "sev": 2}));
}

#[test]
fn what_is_hostile_ends_within_its_bound() {
    // Everything overlaps everything: the matching is refused before it is begun.
    let question = plain(json!({"kind": "boxes"}));
    let crowd = |shift: f64| {
        let boxes = (0..1_500).map(|n| {
            let x = f64::from(n) * 0.01 + shift;
            json!({"x1": x, "y1": 0, "x2": x + 50.0, "y2": 50})
        });
        Value::Array(boxes.collect())
    };
    let said = [crowd(0.0), crowd(0.001), crowd(0.002)];
    let found = agreement(&question, &said);
    assert_eq!((found.agreement, found.comparable), (None, false));
    assert!(
        unite(&question, AgreementMethod::MajorityVote, &said)
            .note
            .is_some()
    );
    // Many values in one coefficient, without a linear search for each.
    let many: Vec<u32> = (0..70_000).collect();
    let alpha = ask(json!({}), json!({"metric": "krippendorff_alpha"}));
    let found = agreement(&alpha, &[json!(many), json!(many)]);
    close(found.agreement, 1.0);
    let ratio = ask(
        json!({}),
        json!({"metric": "krippendorff_alpha", "level": "ratio"}),
    );
    assert!(!agreement(&ratio, &[json!(many), json!(many)]).comparable);
}

#[test]
fn that_a_field_is_missing_can_be_an_answer() {
    let fields = json!({"a": {"kind": "category", "missing": "own_answer"}, "b": {}});
    let question = plain(json!({"kind": "record", "fields": fields}));
    let (with, without) = (json!({"a": "x", "b": 1}), json!({"b": 1}));
    let said = [with.clone(), without.clone(), without.clone()];
    // a: 1 of 3 pairs; b: all.
    close(agreement(&question, &said).agreement, 0.666_666_666_667);
    let united = unite(&question, AgreementMethod::MajorityVote, &said);
    assert_eq!(united.value, Some(json!({"a": null, "b": 1})));
    assert!(united.disputed.is_empty());
    assert_eq!(
        unite(&question, AgreementMethod::MajorityVote, &said[..2]).disputed,
        ["a"]
    );
    let verdict = question.judge(&without, &with, &Value::Null, None).unwrap();
    assert_eq!((verdict.correct, verdict.similarity), (false, 0.5));
}

#[test]
fn a_field_whose_condition_cannot_be_asked_needs_more_than_half() {
    let fields = json!({
        "n": {"kind": "category"},
        "b": {"kind": "category", "when": "annotation.n > 3", "missing": "leave_out"},
    });
    let question = plain(json!({"kind": "record", "fields": fields}));
    let disputed = |said: &[Value]| {
        let united = unite(&question, AgreementMethod::MajorityVote, said);
        let asked: Vec<String> = united.fields.into_iter().map(|field| field.field).collect();
        (united.disputed, asked)
    };
    // Nobody knows `n`, so whether it is more than 3 is unknown.
    let said = [
        json!({"n": 5, "b": "x"}),
        json!({"n": 1}),
        json!({"n": 7, "b": "x"}),
    ];
    let [n, b] = ["n", "b"].map(str::to_owned);
    assert_eq!(disputed(&said[..2]), (vec![n.clone()], vec![n.clone()]));
    assert_eq!(disputed(&said), (vec![n.clone()], vec![b, n]));
}

#[test]
fn what_nobody_gave_is_no_tie() {
    let fields = json!({"a": {"kind": "category", "missing": "leave_out"}, "b": {}});
    let question = plain(json!({"kind": "record", "fields": fields}));
    let said = [json!({"b": 1}), json!({"b": 1})];
    let united = unite(&question, AgreementMethod::MostVotes, &said);
    assert!(!united.tied, "{united:?}");
}

#[test]
fn a_list_of_objects_and_others_is_compared_as_a_whole() {
    let question = ask(json!({}), json!({"metric": "krippendorff_alpha"}));
    let object = json!({"a": 1, "b": 2});
    let found = agreement(&question, &[object.clone(), object, json!("x")]);
    close(found.agreement, 1.0 / 3.0);
    assert!(found.note.unwrap().contains("observed agreement stands in"));
}

#[test]
fn what_compares_pays_for_it() {
    let mut work = Work::bounded(10);
    assert!(work.spend(6).is_ok());
    assert!(work.spend(5).is_err(), "4 are left");
    assert!(work.spend(1).is_err(), "what did not suffice is gone");
    let words = |two: &str| json!(two.repeat(50));
    let list = |n: i32| json!({"s": (0..100).map(|at| at * n).collect::<Vec<_>>()});
    let took = |question: Question, said: [Value; 2]| {
        let answers = said.map(|data| read(&question, &data));
        let mut work = Work::of_decision();
        let all = work.left();
        let alike = question.similarity(&answers[0], &answers[1], &mut work);
        assert!(alike.is_ok(), "{alike:?}");
        all - work.left()
    };
    let texts = ask(json!({"kind": "text"}), json!({"metric": "rouge_l"}));
    let texts = took(texts, [words("a b "), words("b a ")]);
    assert!(texts >= 4 * 100 * 100, "{texts}");
    let scores = json!({"metric": "krippendorff_alpha", "level": "interval"});
    let lists = took(ask(json!({"field": "s"}), scores), [list(1), list(2)]);
    assert!(lists >= 8 * 200, "{lists}");
}

#[test]
fn a_record_has_no_more_fields_than_the_limit() {
    use crate::limits::FIELDS_MAX;
    let record = |count: usize| {
        let fields = (0..count).map(|n| (format!("f{n}"), json!({})));
        let fields: serde_json::Map<_, _> = fields.collect();
        try_ask(json!({"kind": "record", "fields": fields}), json!({}))
    };
    assert!(record(FIELDS_MAX).is_ok());
    assert!(record(FIELDS_MAX + 1).is_err());
}

#[test]
fn a_comparison_of_another_field_asks_another_question() {
    let step = json!({"id": "a", "type": "annotation", "name": "A", "field": "tone"});
    let step: crate::config::StepConfig = serde_json::from_value(step).unwrap();
    let consensus: ConsensusConfig = serde_json::from_value(json!({"field": "topic"})).unwrap();
    let question = step.question_compared_by(&consensus).unwrap();
    assert_eq!(question.field(), Some("topic"));
}

#[test]
fn gold_is_judged_by_similarity() {
    let judge = |question: &Question, data: Value, known: Value, threshold: Option<f64>| {
        question
            .judge(&data, &known, &Value::Null, threshold)
            .map(|v| v.correct)
    };
    let boxes = ask(
        json!({"field": "b", "kind": "boxes"}),
        json!({"threshold": 0.5}),
    );
    let square = |y: i32| json!([{"x1": 0, "y1": y, "x2": 10, "y2": 10 + y}]);
    assert_eq!(
        judge(
            &boxes,
            json!({"b": square(1)}),
            json!({"b": square(0)}),
            None
        ),
        Some(true)
    );
    assert_eq!(
        judge(&boxes, json!({"b": square(1)}), square(0), Some(0.9)),
        Some(false)
    );
    assert_eq!(
        judge(&boxes, json!({"b": square(1)}), json!({"c": 1}), None),
        None
    );
    let spans = plain(json!({"field": "s", "kind": "spans"}));
    let (a, b) = (
        json!({"start": 0, "end": 4, "tag": "x"}),
        json!({"start": 5, "end": 9, "id": 1}),
    );
    assert_eq!(
        judge(
            &spans,
            json!({"s": [a, b]}),
            json!({"s": [{"start": 5, "end": 9}, a]}),
            None
        ),
        Some(true)
    );
    let id = plain(json!({"field": "id"}));
    let big = |n: u64| json!({"id": n});
    assert_eq!(
        judge(
            &id,
            big(999_000_011_000_001_104),
            big(999_000_011_000_001_109),
            None
        ),
        Some(false)
    );
    let whole = plain(json!({}));
    assert_eq!(
        judge(&whole, json!({"x": 1, "y": 2}), json!({"x": 1}), None),
        Some(true)
    );
    assert_eq!(judge(&whole, json!({"x": 1}), json!(1), None), None);
    let kappa = ask(
        json!({}),
        json!({"metric": "krippendorff_alpha", "threshold": 0.3}),
    );
    assert_eq!(
        judge(&kappa, json!([1, 2]), json!([1, 3]), None),
        Some(false)
    );
    let category = ask(json!({"field": "a"}), json!({"threshold": 0}));
    assert_eq!(
        judge(&category, json!({"a": "x"}), json!("y"), None),
        Some(false),
        "a threshold that any two reach says nothing of right and wrong"
    );
    let verdict = tone().judge(
        &json!({"tone": "negative", "severity": "mild", "sarcasm": "no"}),
        &json!({"tone": "negative", "severity": "severe"}),
        &Value::Null,
        None,
    );
    let verdict = verdict.unwrap();
    assert!(verdict.correct, "0.5 reaches the field's threshold");
    assert!((verdict.similarity - 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn weights_break_ties_where_they_may() {
    let question = plain(json!({"kind": "category"}));
    let answers = [json!("a"), json!("b")].map(|data| read(&question, &data));
    let answers: Vec<&Answer> = answers.iter().collect();
    let rule = Rule {
        weights: Some(&[1.0, 2.0]),
        weights_break_ties: true,
        ..Rule::default()
    };
    let united = question.unite(&answers, &rule, &Value::Null, &mut Work::of_decision());
    assert_eq!((united.value, united.weighted), (Some(json!("b")), true));
    let united = unite(
        &question,
        AgreementMethod::Unanimous,
        &[json!(1), json!(1.0)],
    );
    assert_eq!(united.value, Some(json!(1)));
    assert_eq!(
        unite(&question, AgreementMethod::Unanimous, &[json!(1), json!(2)]).value,
        None
    );
}

#[test]
fn what_is_too_much_is_said_at_once() {
    let question = plain(json!({"kind": "text"}));
    let text = |seed: u32| {
        let letter = |n: u32| char::from_u32(97 + (n.wrapping_mul(seed) >> 7) % 26).unwrap();
        Value::String((0..100_000).map(letter).collect())
    };
    let said = [text(2_654_435_761), text(2_246_822_519)];
    let found = agreement(&question, &said);
    assert_eq!(
        (found.agreement, found.comparable, found.agreed),
        (None, false, false)
    );
    assert!(
        found
            .note
            .unwrap()
            .contains("more than the 268435456 steps")
    );
    let united = unite(&question, AgreementMethod::Medoid, &said);
    assert!(united.value.is_none() && united.note.is_some());
    // A long text with one slip is no work at all.
    let mut slip = said[0].as_str().unwrap().to_owned();
    slip.push('x');
    close(
        agreement(&question, &[said[0].clone(), json!(slip)]).agreement,
        1.0 - 1.0 / 100_001.0,
    );
}

#[test]
fn short_forms_say_the_same_and_must_not_differ() {
    let consensus = |yaml: Value| -> ConsensusConfig { serde_json::from_value(yaml).unwrap() };
    let config = consensus(json!({"field": "label", "threshold": 0.5}));
    let classes = [json!("a"), json!("b")];
    let question = Question::resolve(&Asked {
        field: Some("label"),
        classes: Some(&classes),
        comparison: Some(Comparison::from(&config)),
        answer: None,
    })
    .unwrap();
    assert_eq!(
        (question.field(), question.threshold()),
        (Some("label"), 0.5)
    );
    assert_eq!(question.values(), Some(&classes[..]));
    let codes = |asked: &Asked<'_>| -> Vec<(&'static str, String)> {
        let faults = Question::resolve(asked).err().unwrap_or_default();
        faults
            .into_iter()
            .map(|f| (f.code.as_str(), f.path))
            .collect()
    };
    let other = Asked {
        field: Some("tag"),
        comparison: Some(Comparison::from(&config)),
        ..Asked::default()
    };
    assert_eq!(
        codes(&other),
        [("conflicting_keys", "consensus.field".to_owned())]
    );
    let listed = |values: Value| {
        let answer = serde_json::from_value(json!({"values": values})).unwrap();
        codes(&Asked {
            classes: Some(&classes),
            answer: Some(&answer),
            ..Asked::default()
        })
    };
    assert_eq!(listed(json!(["b", "a"])), [], "the same in another order");
    let differs = ("conflicting_keys", "completion.classes".to_owned());
    assert_eq!(listed(json!(["a", "c"])), [differs]);
    let fields = consensus(
        json!({"per_field": {"a": {"weight": 3}, "b.c": {"metric": "krippendorff_alpha", "level": "interval"}}}),
    );
    let record = Question::resolve(&Asked {
        comparison: Some(Comparison::from(&fields)),
        ..Asked::default()
    })
    .unwrap();
    let paths: Vec<(&str, f64)> = record.fields().iter().map(|f| (f.path, f.weight)).collect();
    assert_eq!(paths, [("a", 3.0), ("b.c", 1.0)]);
    assert_eq!(
        record.fields()[1].question.metric(),
        Metric::KrippendorffAlpha
    );
    let spans = consensus(json!({"metric": "span_f1"}));
    let spans = Asked {
        comparison: Some(Comparison::from(&spans)),
        ..Asked::default()
    };
    assert_eq!(Question::resolve(&spans).unwrap().kind().as_str(), "spans");
}

#[test]
fn unsound_questions_are_told_with_their_place() {
    let found = |answer: Value, consensus: Value| -> Vec<String> {
        let faults = try_ask(answer, consensus).err().unwrap_or_default();
        let told = faults
            .into_iter()
            .map(|f| format!("{} {}", f.code.as_str(), f.path));
        told.collect()
    };
    let one = |answer: Value, fault: &str| assert_eq!(found(answer, json!({})), [fault]);
    one(json!({"kind": "ranking"}), "missing_key answer");
    one(json!({"kind": "record"}), "missing_key answer");
    one(json!({"kind": "set", "min": 1}), "misplaced_key answer.min");
    one(
        json!({"kind": "spans", "text": "text"}),
        "invalid_value answer.text",
    );
    one(
        json!({"kind": "category", "values": ["a", "b", "a"]}),
        "invalid_value answer.values[2]",
    );
    one(
        json!({"kind": "category", "values": []}),
        "out_of_range answer.values",
    );
    one(
        json!({"kind": "number", "min": 2, "max": 1}),
        "out_of_range answer.min",
    );
    one(
        json!({"field": "labels[0].name"}),
        "invalid_value answer.field",
    );
    one(
        json!({"kind": "set", "fields": {"a": {}}}),
        "conflicting_keys answer.fields",
    );
    one(
        json!({"fields": {"a": {"when": "agreement > 1"}}}),
        "bad_expression answer.fields.a.when",
    );
    one(
        json!({"fields": {"a": {"kind": "record"}}}),
        "invalid_value answer.fields.a.kind",
    );
    one(
        json!({"fields": {"a": {"weight": 0}}}),
        "out_of_range answer.fields.a.weight",
    );
    assert_eq!(
        found(json!({"kind": "spans"}), json!({"metric": "jaccard"})),
        ["conflicting_keys consensus.metric"]
    );
    assert_eq!(
        found(json!({"kind": "category"}), json!({"level": "interval"})),
        ["conflicting_keys consensus.level"]
    );
    let odd = |question: &Question, people: u32| -> Vec<&'static str> {
        let warnings = question.warnings(Some(people));
        warnings.into_iter().map(|w| w.code.as_str()).collect()
    };
    assert_eq!(
        odd(&plain(json!({"kind": "ordinal"})), 2),
        ["unordered_scale"]
    );
    let mixed = plain(json!({"kind": "category", "values": ["yes", false]}));
    assert_eq!(odd(&mixed, 2), ["number_like_value"]);
    let two_thirds = ask(json!({"kind": "category"}), json!({"threshold": 0.66}));
    assert_eq!(odd(&two_thirds, 3), ["odd_threshold"]);
    let unnamed_kind = ask(json!({"field": "a"}), json!({"threshold": 0.66}));
    assert_eq!(odd(&unnamed_kind, 3), ["odd_threshold"]);
    assert_eq!(odd(&unnamed_kind, 2), [""; 0]);
    for (threshold, people, is_odd) in [
        (0.3, 3, false),
        (0.33, 3, false),
        (0.5, 3, true),
        (0.5, 4, false),
        (0.75, 4, true),
        (0.5, 5, true),
        (0.6, 5, false),
        (0.96, 3, false),
    ] {
        let question = ask(json!({"field": "a"}), json!({"threshold": threshold}));
        assert_eq!(
            !odd(&question, people).is_empty(),
            is_odd,
            "{threshold} of {people}"
        );
    }
    let fields = json!({"fields": {"a": {"kind": "category"}, "b": {}}});
    let by_field = ask(fields.clone(), json!({"threshold": 0.66}));
    assert_eq!(odd(&by_field, 3), ["odd_threshold", "odd_threshold"]);
    let consensus = json!({"threshold": 0.66, "mode": "weighted"});
    let consensus: ConsensusConfig = serde_json::from_value(consensus).unwrap();
    let fields: AnswerConfig = serde_json::from_value(fields).unwrap();
    let weighted = Question::resolve(&Asked {
        answer: Some(&fields),
        comparison: Some(Comparison::from(&consensus)),
        ..Asked::default()
    })
    .unwrap();
    assert_eq!(
        odd(&weighted, 3),
        [""; 0],
        "only the mean over the fields counts"
    );
    assert_eq!(Question::reachable_agreements(3), [0.0, 1.0 / 3.0, 1.0]);
}
