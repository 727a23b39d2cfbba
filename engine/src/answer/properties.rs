//! What holds for every kind and all answers.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Answer, Asked, Comparison, Question, Rule, Work};
use crate::config::{AgreementMethod, AnswerConfig, AnswerField};

fn ask(answer: Value, consensus: Value) -> Question {
    let answer: AnswerConfig = serde_json::from_value(answer).unwrap();
    let said: AnswerField = serde_json::from_value(consensus).unwrap();
    let comparison = Comparison {
        metric: said.metric,
        level: said.level,
        weights: said.weights,
        ..Comparison::default()
    };
    let asked = Asked {
        answer: Some(&answer),
        comparison: Some(comparison),
        ..Asked::default()
    };
    Question::resolve(&asked).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Scalars that are easily taken for one another.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0_u8..3).prop_map(|n| json!(n)),
        (0_u8..3).prop_map(|n| json!(f64::from(n))),
        "[ab]{0,2}".prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        (0_u64..3).prop_map(|n| json!(9_007_199_254_740_992 + n)),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![4 => scalar(), 1 => Just(Value::Null)];
    let nested = leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[abc]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    nested.prop_filter("null is no answer", |value| !value.is_null())
}

fn stretch(unit: f64) -> impl Strategy<Value = Value> {
    let tag = prop::option::of("[xy]");
    (0_u8..12, 1_u8..10, tag, prop::option::of(any::<bool>())).prop_map(
        move |(start, length, tag, flag)| {
            let mut region = json!({
                "start": f64::from(start) * unit,
                "end": f64::from(start + length) * unit,
            });
            if let Some(tag) = tag {
                region["tag"] = tag.into();
            }
            if let Some(flag) = flag {
                region["flag"] = flag.into();
            }
            region
        },
    )
}

fn rectangle() -> impl Strategy<Value = Value> {
    (0_u8..6, 0_u8..6, 1_u8..6, 1_u8..6, "[xy]").prop_map(
        |(x, y, w, h, tag)| json!({"x1": x, "y1": y, "x2": x + w, "y2": y + h, "tag": tag}),
    )
}

/// Corners at rising angles around a centre: always simple.
fn polygon() -> impl Strategy<Value = Value> {
    let radii = prop::collection::vec(1_u8..9, 3..8);
    (0_u8..6, 0_u8..6, radii).prop_map(|(x, y, radii)| {
        let count = radii.len() as f64;
        let corners = radii.iter().enumerate().map(|(k, radius)| {
            let angle = std::f64::consts::TAU * k as f64 / count;
            let radius = f64::from(*radius);
            json!([
                f64::from(x) + radius * angle.cos(),
                f64::from(y) + radius * angle.sin()
            ])
        });
        json!({"points": corners.collect::<Vec<Value>>()})
    })
}

fn list(item: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop::collection::vec(item, 0..5)
        .prop_map(Value::Array)
        .boxed()
}

/// Every kind, with answers to it.
fn kinds() -> Vec<(Question, BoxedStrategy<Value>)> {
    let values = ["a", "b", "c", "d"];
    let one = prop::sample::select(values.to_vec()).prop_map(Value::from);
    let set = prop::sample::subsequence(values.to_vec(), 0..=4).prop_shuffle();
    let ranking = Just(values.to_vec()).prop_shuffle();
    let listed = |list: Vec<&str>| json!(list);
    let number = prop_oneof![
        (0_i32..6).prop_map(|n| json!(n)),
        (0_i32..12).prop_map(|n| json!(f64::from(n) / 2.0)),
    ];
    let judged = prop::collection::btree_map("[pq]", number.clone(), 0..3)
        .prop_map(|map| Value::Object(map.into_iter().collect()));
    let record = (
        one.clone(),
        prop::option::of(number.clone()),
        list(stretch(1.0)),
    )
        .prop_map(|(tone, size, spans)| json!({"tone": tone, "size": size, "spans": spans}));
    let fields = json!({
        "tone": {"kind": "category"},
        "size": {"kind": "number", "missing": "own_answer", "weight": 0.3},
        "spans": {"kind": "spans", "when": "annotation.tone != 'a'", "weight": 2},
    });
    let none = || json!({});
    vec![
        (ask(none(), none()), any_json().boxed()),
        (ask(json!({"kind": "category"}), none()), scalar().boxed()),
        (
            ask(json!({"kind": "ordinal", "values": values}), none()),
            one.boxed(),
        ),
        (
            ask(json!({"kind": "number", "tolerance": 1}), none()),
            number.boxed(),
        ),
        (
            ask(none(), json!({"level": "interval"})),
            judged.clone().boxed(),
        ),
        (ask(none(), json!({"level": "ordinal"})), judged.boxed()),
        (
            ask(json!({"kind": "set"}), none()),
            set.clone().prop_map(listed).boxed(),
        ),
        (
            ask(json!({"kind": "set"}), json!({"metric": "masi"})),
            set.prop_map(listed).boxed(),
        ),
        (
            ask(json!({"kind": "ranking", "values": values}), none()),
            ranking.prop_map(listed).boxed(),
        ),
        (
            ask(json!({"kind": "text"}), none()),
            "[ab é]{0,6}".prop_map(Value::from).boxed(),
        ),
        (
            ask(json!({"kind": "text"}), json!({"metric": "token_f1"})),
            "([ab] ){0,5}".prop_map(Value::from).boxed(),
        ),
        (
            ask(json!({"kind": "text"}), json!({"metric": "rouge_l"})),
            "([ab] ){0,5}".prop_map(Value::from).boxed(),
        ),
        (ask(json!({"kind": "spans"}), none()), list(stretch(1.0))),
        (
            ask(
                json!({"kind": "spans", "compare": ["flag"]}),
                json!({"metric": "span_iou"}),
            ),
            list(stretch(1.0)),
        ),
        (ask(json!({"kind": "segments"}), none()), list(stretch(0.5))),
        (ask(json!({"kind": "boxes"}), none()), list(rectangle())),
        (ask(json!({"kind": "polygons"}), none()), list(polygon())),
        (
            ask(json!({"kind": "record", "fields": fields}), none()),
            record.boxed(),
        ),
    ]
}

thread_local! {
    /// Compiled once: conditions take milliseconds.
    static KINDS: Vec<(Question, BoxedStrategy<Value>)> = kinds();
}

fn question(kind: usize) -> Question {
    KINDS.with(|kinds| kinds[kind].0.clone())
}

/// A kind, and what several people answer.
fn answered() -> impl Strategy<Value = (usize, Vec<Value>)> {
    let choices: Vec<BoxedStrategy<(usize, Vec<Value>)>> = kinds()
        .into_iter()
        .enumerate()
        .map(|(kind, (_, answer))| {
            let people = prop::collection::vec(answer, 2..6);
            people.prop_map(move |people| (kind, people)).boxed()
        })
        .collect();
    prop::strategy::Union::new(choices)
}

fn read(question: &Question, said: &[Value]) -> Vec<Answer> {
    let read = |data| question.read(data, &Value::Null);
    said.iter()
        .map(|data| read(data).unwrap_or_else(|e| panic!("{e}: {data}")))
        .collect()
}

/// The elements of every list that is in no order, the other way round.
fn turned(question: &Question, data: &Value) -> Value {
    let kind = question.kind();
    match data {
        Value::Array(items) if kind.is_regions() || kind.as_str() == "set" => {
            Value::Array(items.iter().rev().cloned().collect())
        }
        Value::Object(entries) if kind.as_str() == "record" => {
            let mut entries = entries.clone();
            if let Some(Value::Array(spans)) = entries.get_mut("spans") {
                spans.reverse();
            }
            Value::Object(entries)
        }
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(768))]

    #[test]
    fn similarity_is_symmetric_within_bounds_and_1_for_equal((kind, said) in answered()) {
        let question = &question(kind);
        let answers = read(question, &said);
        let work = &mut Work::of_decision();
        for a in &answers {
            for b in &answers {
                let alike = question.similarity(a, b, work).unwrap();
                prop_assert!((0.0..=1.0).contains(&alike), "{alike}");
                let back = question.similarity(b, a, work).unwrap();
                prop_assert!(alike.total_cmp(&back).is_eq(), "{} {}", a.json(), b.json());
                prop_assert!(a != b || alike >= 1.0);
            }
        }
    }

    #[test]
    fn nothing_depends_on_the_order_of_people_or_lists(
        (kind, said) in answered(),
        turn in any::<prop::sample::Index>(),
        method in prop::sample::select(vec![
            AgreementMethod::MajorityVote,
            AgreementMethod::WeightedVote,
            AgreementMethod::MostVotes,
            AgreementMethod::Mean,
            AgreementMethod::Median,
        ]),
    ) {
        let question = &question(kind);
        let weights: Vec<f64> = (0..said.len()).map(|n| 0.1 + 0.7 * n as f64).collect();
        let together = |said: &[Value], weights: &[f64]| {
            let answers = read(question, said);
            let answers: Vec<&Answer> = answers.iter().collect();
            let rule = Rule { method, weights: Some(weights), weights_break_ties: false };
            let work = &mut Work::of_decision();
            let agreement = question.agreement(&answers, work);
            (agreement, question.unite(&answers, &rule, &Value::Null, work))
        };
        let (agreement, united) = together(&said, &weights);
        let by = turn.index(said.len());
        let mut moved: Vec<Value> = said.iter().map(|data| turned(question, data)).collect();
        moved.rotate_left(by);
        let mut moved_weights = weights.clone();
        moved_weights.rotate_left(by);
        let (agreement_moved, united_moved) = together(&moved, &moved_weights);
        prop_assert_eq!(agreement, agreement_moved);
        prop_assert_eq!(&united, &united_moved);
        moved.reverse();
        moved_weights.reverse();
        let (_, united_moved) = together(&moved, &moved_weights);
        prop_assert_eq!(united, united_moved);
    }

    #[test]
    fn a_third_person_changes_nothing_between_two((kind, said) in answered()) {
        let question = &question(kind);
        let answers = read(question, &said);
        let work = &mut Work::of_decision();
        // The mean over all is the mean of what each two agree to; a record leaves fields out of it.
        prop_assume!(question.fields().is_empty());
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (i, a) in answers.iter().enumerate() {
            for b in &answers[..i] {
                sum += question.agreement(&[a, b], work).agreement.unwrap();
                pairs += 1.0;
            }
        }
        let all: Vec<&Answer> = answers.iter().collect();
        let together = question.agreement(&all, work).agreement.unwrap();
        prop_assert!((together - sum / pairs).abs() < 1e-9, "{together} {}", sum / pairs);
    }

    #[test]
    fn a_merge_holds_nothing_twice_and_is_an_answer((kind, said) in answered()) {
        let question = &question(kind);
        let answers = read(question, &said);
        let all: Vec<&Answer> = answers.iter().collect();
        let united = question.unite(&all, &Rule::default(), &Value::Null, &mut Work::of_decision());
        let Some(value) = united.value else { return Ok(()) };
        if question.fields().is_empty() {
            let read = question.read_value(&value, &Value::Null);
            prop_assert!(read.is_ok(), "{value}: {read:?}");
        }
        let merged = question.kind().is_regions() || question.kind().as_str() == "set";
        if let (true, Value::Array(items)) = (merged, &value) {
            let part = |item: &Value| {
                question.read_value(&json!([item]), &Value::Null).unwrap()
            };
            let mut parts: Vec<Answer> = items.iter().map(part).collect();
            parts.sort();
            parts.dedup();
            prop_assert_eq!(parts.len(), items.len(), "{}", value);
        }
    }
}
