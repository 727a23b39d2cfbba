//! The JSONL export of doccano: a text, with labels that are classes, spans, or other texts.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::{
    mapping::Mapping,
    plain::key,
    record::{Judgement, Outline, Part, Parts, Record, Refusal, Region, key_text, lookup},
    time::rfc3339,
};

/// Keys that hold answers.
const ANSWERS: [&str; 7] = [
    "label",
    "labels",
    "entities",
    "spans",
    "cats",
    "relations",
    "annotations",
];
/// Keys that are neither answers nor parts of the item.
const OTHER: [&str; 3] = ["Comments", "comments", "annotation_approver"];

/// What a line says.
pub(super) fn record(row: &Map<String, Value>, mapping: &Mapping) -> Result<Record, Refusal> {
    let named = mapping.answer_names();
    let is_answer = |name: &str| ANSWERS.contains(&name) || named.contains(&name);
    let is_kept = |name: &str| {
        let mut taken = [
            &mapping.user_field,
            &mapping.time_field,
            &mapping.expected_field,
        ]
        .into_iter();
        !is_answer(name) && !OTHER.contains(&name) && !taken.any(|t| t.as_deref() == Some(name))
    };
    let item = row.iter().filter(|(name, _)| is_kept(name));
    let mut record = Record {
        key: key(row, mapping.id_field.as_deref().unwrap_or("id"))?,
        input: item
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        ..Record::default()
    };
    let user = mapping
        .user_field
        .as_deref()
        .and_then(|name| lookup(row, name))
        .and_then(key_text);
    let time = mapping
        .time_field
        .as_deref()
        .and_then(|name| lookup(row, name));
    let submitted_at = rfc3339(time.unwrap_or(&Value::Null), mapping.utc_offset)?;
    // Older exports list what each person did.
    if let Some(annotations) = row.get("annotations").and_then(Value::as_array) {
        for (user, parts) in by_person(annotations)? {
            record.judgements.push(Judgement {
                place: user.as_ref().map(|user| format!("user {user}")),
                user,
                parts,
                submitted_at: submitted_at.clone(),
            });
        }
        return Ok(record);
    }
    let mut parts = Parts::of_tool();
    for (name, value) in row.iter().filter(|(name, _)| is_answer(name)) {
        if let Some(part) = part(value)? {
            parts.add(name.clone(), part);
        }
    }
    record.judgements.push(Judgement {
        user,
        parts,
        submitted_at,
        place: None,
    });
    Ok(record)
}

/// What stands under a key of answers.
fn part(value: &Value) -> Result<Option<Part>, Refusal> {
    match value {
        Value::Null => Ok(None),
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(list) if list.iter().all(is_span) => {
            let regions: Result<Vec<_>, _> = list.iter().map(region).collect();
            regions.map(|regions| Some(Part::Regions(regions)))
        }
        Value::Array(list) if !list.iter().any(|one| one.is_object() || one.is_array()) => {
            Ok(Some(Part::Choices(list.clone())))
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) => {
            Ok(Some(Part::Choices(vec![value.clone()])))
        }
        Value::Array(_) | Value::Object(_) => Ok(Some(Part::Json(value.clone()))),
    }
}

fn is_span(value: &Value) -> bool {
    match value {
        Value::Array(triple) => triple.len() == 3 && triple[0].is_number() && triple[1].is_number(),
        Value::Object(span) => start_of(span).is_some(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn start_of(span: &Map<String, Value>) -> Option<&Value> {
    span.get("start_offset").or_else(|| span.get("start"))
}

/// `[start, end, label]`, or an object with them.
fn region(value: &Value) -> Result<Region, Refusal> {
    let (start, end, class, attributes) = match value {
        Value::Array(triple) => (triple.first(), triple.get(1), triple.get(2), Map::new()),
        Value::Object(span) => {
            let end = span.get("end_offset").or_else(|| span.get("end"));
            let class = span.get("label").or_else(|| span.get("tag"));
            let own = [
                "id",
                "start_offset",
                "end_offset",
                "start",
                "end",
                "label",
                "tag",
                "user",
            ];
            let others = span.iter().filter(|(key, _)| !own.contains(&key.as_str()));
            let others = others
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            (start_of(span), end, class, others)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            (None, None, None, Map::new())
        }
    };
    let whole = |value: Option<&Value>| value.and_then(Value::as_number).cloned();
    let (Some(start), Some(end)): (Option<Number>, Option<Number>) = (whole(start), whole(end))
    else {
        return Err(Refusal::new(format!(
            "{value} is no span: it lacks its start or end"
        )));
    };
    Ok(Region {
        outline: Outline::Stretch { start, end },
        class: class.filter(|class| !class.is_null()).cloned(),
        attributes,
    })
}

/// The annotations of each person.
fn by_person(annotations: &[Value]) -> Result<Vec<(Option<String>, Parts)>, Refusal> {
    let mut people: BTreeMap<Option<String>, Vec<&Value>> = BTreeMap::new();
    for annotation in annotations {
        let user = annotation.get("user").and_then(key_text);
        people.entry(user).or_default().push(annotation);
    }
    let mut found = Vec::new();
    for (user, given) in people {
        let mut parts = Parts::of_tool();
        if given.iter().all(|one| is_span(one)) {
            let regions: Result<Vec<_>, _> = given.into_iter().map(region).collect();
            parts.add("entities", Part::Regions(regions?));
        } else {
            let classes = given.iter().map(|one| {
                one.get("label")
                    .or_else(|| one.get("text"))
                    .cloned()
                    .ok_or_else(|| Refusal::new(format!("the annotation {one} has no label")))
            });
            parts.add("label", Part::Choices(classes.collect::<Result<_, _>>()?));
        }
        found.push((user, parts));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operations::import::question::StepQuestion;

    fn read(row: &Value) -> Record {
        record(row.as_object().unwrap(), &Mapping::default()).unwrap()
    }

    fn data(step: &Value, row: &Value) -> Value {
        let step = StepQuestion::of_answer(step.clone());
        step.data(&read(row).judgements[0].parts).unwrap()
    }

    #[test]
    fn spans_are_read_in_all_their_forms() {
        let step = json!({"field": "entities", "kind": "spans", "text": "input.text"});
        let wanted = json!({"entities": [{"start": 0, "end": 3, "tag": "PER"}]});
        for row in [
            json!({"id": 1, "text": "Ann", "label": [[0, 3, "PER"]]}),
            json!({"id": 1, "text": "Ann", "labels": [[0, 3, "PER"]]}),
            json!({"id": 1, "text": "Ann", "relations": [], "Comments": [],
                "entities": [{"id": 9, "start_offset": 0, "end_offset": 3, "label": "PER"}]}),
            json!({"id": 1, "text": "Ann", "spans": [{"start": 0, "end": 3, "label": "PER"}]}),
            json!({"id": 1, "text": "Ann",
                "annotations": [{"label": "PER", "start_offset": 0, "end_offset": 3, "user": 2}]}),
        ] {
            assert_eq!(data(&step, &row), wanted, "{row}");
            let input = Value::Object(read(&row).input);
            assert_eq!(input, json!({"id": 1, "text": "Ann"}));
        }
        let nothing = json!({"id": 1, "text": "x", "label": []});
        assert_eq!(data(&step, &nothing), json!({"entities": []}));
    }

    #[test]
    fn classes_and_texts_are_read() {
        let row = json!({"id": 1, "text": "t", "label": ["a"], "source": "s"});
        assert_eq!(
            data(&json!({"field": "label", "kind": "category"}), &row),
            json!({"label": "a"})
        );
        assert_eq!(
            data(&json!({"field": "x", "kind": "set"}), &row),
            json!({"x": ["a"]})
        );
        assert_eq!(
            data(&json!({"field": "label", "kind": "text"}), &row),
            json!({"label": "a"})
        );
        assert_eq!(read(&row).input.get("source"), Some(&json!("s")));
    }

    #[test]
    fn older_exports_tell_people_apart() {
        let row = json!({"id": 1, "text": "t", "annotations": [
            {"label": 3, "user": 1}, {"label": 4, "user": 2}, {"label": 5, "user": 2},
        ]});
        let judgements = read(&row).judgements;
        let users: Vec<_> = judgements.iter().map(|j| j.user.as_deref()).collect();
        assert_eq!(users, [Some("1"), Some("2")]);
        let both = Part::Choices(vec![json!(4), json!(5)]);
        assert_eq!(judgements[1].parts.by_name.get("label"), Some(&both));
    }
}
