//! Plausible answers to what a step asks for.

use serde_json::{Map, Value, json};

use super::readings::set;
use crate::{
    answer::{Answer, FieldQuestion, Question},
    config::AnswerKind,
};

/// Answers made up for one question.
const ANSWERS_MAX: usize = 4;
/// Texts that stand for answers where nothing is listed; no two of them have a word in common.
const TEXTS: [&str; ANSWERS_MAX] = [
    "one answer",
    "another reply",
    "some third opinion",
    "yet different words",
];

/// A few answers to a question, as `annotation.data`: plausible ones, no two alike, and each accepted by
/// the question. The first two are as far apart as the question allows.
///
/// They follow from the kind of answer and from the values that are listed; where nothing is listed,
/// texts stand for answers. There is none if the question accepts nothing that is made up.
///
/// ```
/// use glyph_workflow_engine::{
///     answer::{Asked, Question},
///     simulation::plausible_answers,
/// };
/// use serde_json::{Value, json};
///
/// let answer = serde_json::from_value(json!({
///     "field": "severity", "kind": "ordinal", "values": ["none", "mild", "severe"],
/// }))?;
/// let asked = Asked { answer: Some(&answer), ..Asked::default() };
/// let question = Question::resolve(&asked).expect("the question is sound");
/// assert_eq!(
///     plausible_answers(&question, &Value::Null),
///     [json!({"severity": "none"}), json!({"severity": "severe"}), json!({"severity": "mild"})],
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plausible_answers(question: &Question, input: &Value) -> Vec<Value> {
    let made = values(question).into_iter();
    let data = made.map(|value| data_of(question, value));
    let mut answers = accepted(question, data, input);
    answers.truncate(ANSWERS_MAX);
    answers
}

/// Those of several answers that a question accepts, each once.
pub(super) fn accepted(
    question: &Question,
    data: impl IntoIterator<Item = Value>,
    input: &Value,
) -> Vec<Value> {
    let mut known: Vec<Answer> = Vec::new();
    let mut kept = Vec::new();
    for data in data {
        let Ok(answer) = question.read(&data, input) else {
            continue;
        };
        if !known.contains(&answer) {
            known.push(answer);
            kept.push(data);
        }
    }
    kept
}

/// Of a record, an answer that differs from the first one in a single field.
pub(super) fn differs_in_one_field(question: &Question, input: &Value) -> Option<Value> {
    let fields = question.fields();
    if fields.len() < 2 {
        return None;
    }
    let record = |changed: usize| {
        let values = fields.iter().enumerate().map(|(at, field)| {
            let possible = values(field.question);
            (
                field.path,
                possible.get(usize::from(at == changed)).cloned(),
            )
        });
        data_of(question, record_of(values))
    };
    let usual = question.read(&record(fields.len()), input).ok()?;
    let others = (0..fields.len()).map(record);
    others
        .filter_map(|data| Some((question.read(&data, input).ok()?, data)))
        .find(|(answer, _)| *answer != usual)
        .map(|(_, data)| data)
}

/// Data with an answer at its place.
pub(super) fn data_of(question: &Question, value: Value) -> Value {
    let mut data = Value::Null;
    set(&mut data, &path_of(question.field()), Some(value));
    data
}

/// The keys of a path such as `$.a.b`.
pub(super) fn path_of(field: Option<&str>) -> Vec<String> {
    let path = field.map(|field| field.strip_prefix("$.").unwrap_or(field));
    let keys = path.into_iter().flat_map(|path| path.split('.'));
    keys.map(str::to_owned).collect()
}

/// Values of an answer, before they are known to be accepted.
fn values(question: &Question) -> Vec<Value> {
    let listed = question.values().unwrap_or_default();
    match question.kind() {
        AnswerKind::Any | AnswerKind::Category if listed.is_empty() => texts(),
        AnswerKind::Any | AnswerKind::Category => {
            listed.iter().take(ANSWERS_MAX).cloned().collect()
        }
        AnswerKind::Ordinal if listed.is_empty() => vec![json!(1), json!(5), json!(3), json!(2)],
        AnswerKind::Ordinal => ends_first(listed),
        AnswerKind::Number => numbers(&schema(question)),
        AnswerKind::Set => sets(listed),
        AnswerKind::Ranking => orders(listed),
        AnswerKind::Text => texts(),
        AnswerKind::Spans => regions(question, |n| json!({"start": 5 * n, "end": 5 * n + 4})),
        AnswerKind::Segments => regions(question, |n| json!({"start": 5 * n, "end": 5 * n + 4})),
        AnswerKind::Boxes => boxes(question),
        AnswerKind::Polygons => regions(question, |n| {
            let (from, to) = (20 * n, 20 * n + 10);
            json!({"points": [[from, from], [to, from], [to, to]]})
        }),
        AnswerKind::Record => records(&question.fields()),
    }
}

fn texts() -> Vec<Value> {
    TEXTS.map(Value::from).to_vec()
}

/// The ends of a scale, then what lies between.
fn ends_first(scale: &[Value]) -> Vec<Value> {
    let (first, last) = (scale.first(), scale.last());
    let between = scale.iter().skip(1).take(scale.len().saturating_sub(2));
    first
        .into_iter()
        .chain(last)
        .chain(between)
        .cloned()
        .collect()
}

fn numbers(schema: &Value) -> Vec<Value> {
    let bound = |key: &str| schema[key].as_f64();
    let (low, high) = match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + 1_000.0),
        (None, Some(high)) => (high - 1_000.0, high),
        (None, None) => (1.0, 1_000.0),
    };
    let shares = [0.0, 1.0, 0.5, 0.25];
    let between = shares.map(|share| number(low + share * (high - low)));
    between.to_vec()
}

/// A number as people write it: whole where it is.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
    let whole = value as i64;
    if (whole as f64 - value).abs() < f64::EPSILON {
        whole.into()
    } else {
        value.into()
    }
}

fn sets(listed: &[Value]) -> Vec<Value> {
    let texts = texts();
    let members = if listed.is_empty() { &texts } else { listed };
    let one = members.iter().take(2).map(|member| json!([member]));
    let more = [json!(members.get(..2)), json!([])];
    one.chain(more).collect()
}

fn orders(listed: &[Value]) -> Vec<Value> {
    let mut reversed = listed.to_vec();
    reversed.reverse();
    let mut turned = listed.to_vec();
    let mut swapped = listed.to_vec();
    if listed.len() > 1 {
        turned.rotate_left(1);
        swapped.swap(0, 1);
    }
    [listed.to_vec(), reversed, turned, swapped]
        .map(Value::Array)
        .to_vec()
}

/// Lists of one region each, which do not overlap; tags of the list in turn.
fn regions(question: &Question, place: impl Fn(usize) -> Value) -> Vec<Value> {
    let region = &schema(question)["items"]["properties"];
    let tags = question.values().unwrap_or_default();
    // The tag is the key that can be a text.
    let tag = region
        .as_object()
        .into_iter()
        .flatten()
        .find(|(_, schema)| schema.get("enum").is_some() || schema["type"].as_array().is_some());
    let one = |n: usize| {
        let mut region = place(n);
        if let (Some((key, _)), Some(value)) = (tag, tags.iter().cycle().nth(n)) {
            set(&mut region, std::slice::from_ref(key), Some(value.clone()));
        }
        json!([region])
    };
    (0..ANSWERS_MAX).map(one).collect()
}

fn boxes(question: &Question) -> Vec<Value> {
    let corners = schema(question)["items"]["properties"].get("x2").is_some();
    regions(question, |n| {
        let (from, to) = (20 * n, 20 * n + 10);
        if corners {
            json!({"x1": from, "y1": from, "x2": to, "y2": to})
        } else {
            json!({"x": from, "y": from, "width": 10, "height": 10})
        }
    })
}

fn records(fields: &[FieldQuestion<'_>]) -> Vec<Value> {
    let of_fields: Vec<(&str, Vec<Value>)> = fields
        .iter()
        .map(|field| (field.path, values(field.question)))
        .collect();
    let record = |n: usize| {
        let values = of_fields.iter();
        record_of(values.map(|(path, values)| (*path, values.iter().cycle().nth(n).cloned())))
    };
    (0..ANSWERS_MAX).map(record).collect()
}

fn record_of<'p>(values: impl IntoIterator<Item = (&'p str, Option<Value>)>) -> Value {
    let mut record = Value::Object(Map::new());
    for (path, value) in values {
        set(&mut record, &path_of(Some(path)), value);
    }
    record
}

/// The schema of the answer itself.
fn schema(question: &Question) -> Value {
    let keys = path_of(question.field());
    let schema = question.data_schema();
    keys.iter()
        .fold(schema, |schema, key| schema["properties"][key].clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Asked;

    fn question(answer: Value) -> Question {
        let answer = serde_json::from_value(answer).unwrap();
        let asked = Asked {
            answer: Some(&answer),
            ..Asked::default()
        };
        Question::resolve(&asked).unwrap()
    }

    fn answers(answer: Value) -> Vec<Value> {
        plausible_answers(&question(answer), &Value::Null)
    }

    #[test]
    fn every_kind_of_answer_has_at_least_two_that_are_accepted_and_differ() {
        for answer in [
            json!({}),
            json!({"field": "a.b"}),
            json!({"kind": "category", "values": ["x", "y"]}),
            json!({"kind": "category", "field": "label"}),
            json!({"kind": "ordinal", "values": [1, 2, 3]}),
            json!({"kind": "ordinal"}),
            json!({"kind": "number"}),
            json!({"kind": "number", "min": 0, "max": 1, "tolerance": 0.1}),
            json!({"kind": "number", "min": 7}),
            json!({"kind": "number", "max": -3.5}),
            json!({"kind": "set"}),
            json!({"kind": "set", "values": ["a"]}),
            json!({"kind": "ranking", "values": ["a", "b"]}),
            json!({"kind": "text"}),
            json!({"kind": "spans"}),
            json!({"kind": "spans", "field": "e", "tag": "label", "values": ["PER", "ORG"]}),
            json!({"kind": "segments", "values": ["speech"]}),
            json!({"kind": "boxes"}),
            json!({"kind": "boxes", "format": "xywh", "tag": "class", "values": [1, 2]}),
            json!({"kind": "polygons"}),
            json!({"kind": "record", "fields": {
                "a.b": {"kind": "category", "values": [true, false]},
                "c": {"kind": "spans"},
            }}),
        ] {
            let found = answers(answer.clone());
            assert!(found.len() >= 2, "{answer}: {found:?}");
        }
    }

    #[test]
    fn answers_follow_the_values_the_bounds_and_the_field() {
        assert_eq!(
            answers(json!({"kind": "number", "min": 0, "max": 1, "field": "n"})),
            [
                json!({"n": 0}),
                json!({"n": 1}),
                json!({"n": 0.5}),
                json!({"n": 0.25})
            ]
        );
        assert_eq!(
            answers(json!({"kind": "spans", "tag": "label", "values": ["PER", "ORG"]}))[1],
            json!([{"start": 5, "end": 9, "label": "ORG"}])
        );
        assert_eq!(
            answers(json!({"kind": "boxes", "format": "xywh"}))[0],
            json!([{"x": 0, "y": 0, "width": 10, "height": 10}])
        );
        assert_eq!(
            answers(json!({"kind": "ranking", "values": ["a"]})),
            [json!(["a"])],
            "of one value there is one order"
        );
    }

    #[test]
    fn of_a_record_one_field_alone_can_differ() {
        let record = question(json!({"kind": "record", "field": "r", "fields": {
            "a": {"kind": "category", "values": ["x"]},
            "b": {"kind": "category", "values": ["y", "z"]},
        }}));
        assert_eq!(
            differs_in_one_field(&record, &Value::Null),
            Some(json!({"r": {"a": "x", "b": "z"}})),
            "`a` has one value only"
        );
        let single = question(json!({"kind": "category"}));
        assert_eq!(differs_in_one_field(&single, &Value::Null), None);
    }
}
