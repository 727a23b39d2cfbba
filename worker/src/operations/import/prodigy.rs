//! The JSONL of Prodigy: one decision per line, accepted, rejected or ignored.

use serde_json::{Map, Number, Value};

use super::{
    mapping::Mapping,
    offsets::{MISQUOTED, code_points},
    plain::key,
    record::{
        Judgement, Outline, Part, Parts, Record, Rectangle, Refusal, Region, key_text, lookup,
    },
    time::rfc3339,
};

/// Keys that say something about the decision and not about the item.
const OTHER: [&str; 9] = [
    "_input_hash",
    "_task_hash",
    "_session_id",
    "_annotator_id",
    "_view_id",
    "_timestamp",
    "_is_binary",
    "answer",
    "config",
];
/// Keys that hold answers.
const ANSWERS: [&str; 5] = ["spans", "accept", "label", "user_input", "relations"];

/// What a line says.
pub(super) fn record(row: &Map<String, Value>, mapping: &Mapping) -> Result<Record, Refusal> {
    let answers = mapping.answer_names();
    let is_kept = |name: &str| {
        let named = [
            &mapping.user_field,
            &mapping.time_field,
            &mapping.expected_field,
        ];
        let is_named = named.into_iter().any(|n| n.as_deref() == Some(name));
        let is_answer = ANSWERS.contains(&name) || answers.contains(&name);
        !OTHER.contains(&name) && !is_named && !is_answer
    };
    let item = row.iter().filter(|(name, _)| is_kept(name));
    let id = mapping.id_field.as_deref().unwrap_or("_input_hash");
    let id = key(row, id).map_err(|refusal| match mapping.id_field {
        Some(_) => refusal,
        None => refusal.hint("name the key that holds the id of the item: --id-field"),
    })?;
    let mut record = Record {
        key: id,
        input: item
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        ..Record::default()
    };
    // The decision itself can be the answer.
    let is_decision =
        answers.contains(&"answer") || ANSWERS.iter().all(|name| !row.contains_key(*name));
    match row.get("answer").and_then(Value::as_str) {
        Some("ignore") => {
            record.skipped.push("ignored");
            return Ok(record);
        }
        Some("reject") if !is_decision => {
            record.skipped.push("rejected");
            return Ok(record);
        }
        Some("accept" | "reject") | None => {}
        Some(other) => {
            return Err(Refusal::new(format!(
                "`answer` is `{other}`, and none of accept, reject and ignore"
            )));
        }
    }
    let mut parts = Parts::of_tool();
    for name in ANSWERS {
        if let Some(part) = row
            .get(name)
            .map(|value| part(name, value, row, &mut record.notes))
        {
            parts
                .by_name
                .extend(part?.map(|part| (name.to_owned(), part)));
        }
    }
    for name in answers.iter().filter(|name| !ANSWERS.contains(name)) {
        if let Some(value) = lookup(row, name).filter(|value| !value.is_null()) {
            parts.add(*name, Part::Json(value.clone()));
        }
    }
    if is_decision && let Some(decision) = row.get("answer") {
        parts.add("answer", Part::Json(decision.clone()));
    }
    let user = match &mapping.user_field {
        Some(name) => lookup(row, name).and_then(key_text),
        None => ["_annotator_id", "_session_id"]
            .into_iter()
            .find_map(|n| key_text(row.get(n)?)),
    };
    let time = lookup(row, mapping.time_field.as_deref().unwrap_or("_timestamp"));
    record.judgements.push(Judgement {
        user,
        parts,
        submitted_at: rfc3339(time.unwrap_or(&Value::Null), mapping.utc_offset)?,
        place: None,
    });
    Ok(record)
}

fn part(
    name: &str,
    value: &Value,
    row: &Map<String, Value>,
    notes: &mut Vec<&'static str>,
) -> Result<Option<Part>, Refusal> {
    match (name, value) {
        (_, Value::Null) => Ok(None),
        ("spans", Value::Array(spans)) => {
            let text = row.get("text").and_then(Value::as_str);
            let regions = spans.iter().map(|span| region(span, text, notes));
            let regions: Result<Vec<_>, _> = regions.collect();
            regions.map(|regions| Some(Part::Regions(regions)))
        }
        ("relations", Value::Array(list)) if list.is_empty() => Ok(None),
        ("accept", Value::Array(chosen)) => Ok(Some(Part::Choices(chosen.clone()))),
        ("label" | "accept", one) => Ok(Some(Part::Choices(vec![one.clone()]))),
        (_, other) => Ok(Some(Part::Json(other.clone()))),
    }
}

/// A span of a text, or a shape in an image.
fn region(
    span: &Value,
    text: Option<&str>,
    notes: &mut Vec<&'static str>,
) -> Result<Region, Refusal> {
    let Value::Object(entries) = span else {
        return Err(Refusal::new(format!("{span} is no span")));
    };
    let class = entries
        .get("label")
        .filter(|label| !label.is_null())
        .cloned();
    let side = |key: &str| entries.get(key).and_then(Value::as_f64);
    let whole = |key: &str| entries.get(key).and_then(Value::as_number).cloned();
    let is_polygon = entries.get("type").and_then(Value::as_str) == Some("polygon");
    let outline = if let (Some(start), Some(end)) = (whole("start"), whole("end")) {
        stretch(
            start,
            end,
            entries.get("text").and_then(Value::as_str),
            text,
            notes,
        )
    } else if let (false, Some(x), Some(y), Some(width), Some(height)) = (
        is_polygon,
        side("x"),
        side("y"),
        side("width"),
        side("height"),
    ) {
        Outline::Rectangle(Rectangle {
            x,
            y,
            width,
            height,
            rotation: 0.0,
        })
    } else if let Some(points) = entries.get("points").and_then(Value::as_array) {
        let corner = |point: &Value| Some([point.get(0)?.as_f64()?, point.get(1)?.as_f64()?]);
        let corners: Option<Vec<_>> = points.iter().map(corner).collect();
        Outline::Polygon(corners.ok_or_else(|| Refusal::new("a corner is no [x, y]"))?)
    } else {
        return Err(Refusal::new(format!(
            "{span} has neither `start` and `end` nor `points`"
        )));
    };
    let own = [
        "start",
        "end",
        "label",
        "type",
        "points",
        "x",
        "y",
        "width",
        "height",
        "center",
        "color",
        "token_start",
        "token_end",
        "id",
        "input_hash",
    ];
    let others = entries
        .iter()
        .filter(|(key, _)| !own.contains(&key.as_str()));
    Ok(Region {
        outline,
        class,
        attributes: others
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    })
}

fn stretch(
    start: Number,
    end: Number,
    quoted: Option<&str>,
    text: Option<&str>,
    notes: &mut Vec<&'static str>,
) -> Outline {
    if let (Some(quoted), Some(text), Some(from), Some(to)) =
        (quoted, text, start.as_u64(), end.as_u64())
    {
        match code_points(text, from, to, quoted) {
            Some((start, end)) => {
                let (start, end) = (Number::from(start), Number::from(end));
                return Outline::Stretch { start, end };
            }
            None => notes.push(MISQUOTED),
        }
    }
    Outline::Stretch { start, end }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operations::import::question::StepQuestion;

    fn line(more: &Value) -> Map<String, Value> {
        let mut row = json!({
            "text": "Ann met Bob", "meta": {"source": "s"}, "_input_hash": -12, "_task_hash": 7,
            "_annotator_id": "set-ann", "_session_id": "set-ann", "_timestamp": 1_700_000_000,
            "_view_id": "ner_manual", "answer": "accept",
        });
        for (key, value) in more.as_object().unwrap() {
            row[key] = value.clone();
        }
        row.as_object().unwrap().clone()
    }

    fn read(more: &Value) -> Record {
        record(&line(more), &Mapping::default()).unwrap()
    }

    fn data(step: &Value, more: &Value) -> Value {
        StepQuestion::of_answer(step.clone())
            .data(&read(more).judgements[0].parts)
            .unwrap()
    }

    #[test]
    fn spans_choices_and_labels_are_answers() {
        let spans = json!({"spans": [{"start": 0, "end": 3, "token_start": 0, "token_end": 0, "label": "PER"}]});
        let found = data(
            &json!({"field": "e", "kind": "spans", "tag": "label"}),
            &spans,
        );
        assert_eq!(
            found,
            json!({"e": [{"start": 0, "end": 3, "label": "PER"}]})
        );
        let accept = json!({"options": [{"id": "a", "text": "A"}], "accept": ["a"]});
        let category = json!({"field": "label", "kind": "category"});
        assert_eq!(data(&category, &accept), json!({"label": "a"}));
        assert_eq!(
            data(&category, &json!({"label": "POSITIVE"})),
            json!({"label": "POSITIVE"})
        );
        assert_eq!(data(&category, &json!({})), json!({"label": "accept"}));
        let shape = json!({"spans": [{"type": "rect", "label": "CAR", "x": 1, "y": 2, "width": 3, "height": 4,
            "center": [2.5, 4], "points": [[1, 2], [1, 6], [4, 6], [4, 2]]}]});
        let corners = json!([{"x1": 1, "y1": 2, "x2": 4, "y2": 6, "tag": "CAR"}]);
        assert_eq!(data(&json!({"kind": "boxes"}), &shape), corners);
    }

    #[test]
    fn who_and_when_are_read_and_the_item_is_what_was_shown() {
        let record = read(&json!({"label": "A", "options": []}));
        assert_eq!(record.key, "-12");
        let judgement = &record.judgements[0];
        assert_eq!(judgement.user.as_deref(), Some("set-ann"));
        assert_eq!(
            judgement.submitted_at.as_deref(),
            Some("2023-11-14T22:13:20Z")
        );
        let input = json!({"text": "Ann met Bob", "meta": {"source": "s"}, "options": []});
        assert_eq!(Value::Object(record.input), input);
    }

    #[test]
    fn what_was_not_accepted_is_no_answer_unless_the_decision_is_asked_for() {
        let skipped = |more: Value| (read(&more).skipped, read(&more).judgements.len());
        assert_eq!(
            skipped(json!({"answer": "ignore", "label": "A"})),
            (vec!["ignored"], 0)
        );
        assert_eq!(
            skipped(json!({"answer": "reject", "label": "A"})),
            (vec!["rejected"], 0)
        );
        let decision = Mapping {
            answer_fields: vec!["answer".to_owned()],
            ..Mapping::default()
        };
        let row = line(&json!({"answer": "reject", "label": "A"}));
        let parts = &record(&row, &decision).unwrap().judgements[0].parts;
        assert_eq!(
            parts.by_name.get("answer"),
            Some(&Part::Json(json!("reject")))
        );
        assert!(record(&line(&json!({"answer": "maybe"})), &Mapping::default()).is_err());
        let mut bare = line(&json!({"label": "A"}));
        bare.remove("_input_hash");
        let refusal = record(&bare, &Mapping::default()).unwrap_err();
        assert!(refusal.hint.unwrap().contains("--id-field"));
    }
}
