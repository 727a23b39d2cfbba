//! The JSON export of Label Studio: tasks with `data` and `annotations`, whose `result` is a list of
//! what each control of the interface recorded.

use std::collections::BTreeMap;

use glyph_workflow_engine::answer::value_at;
use serde_json::{Map, Number, Value};

use super::{
    mapping::Mapping,
    offsets::{MISQUOTED, code_points, marked},
    plain::key,
    record::{
        Judgement, Outline, Part, Parts, Record, Rectangle, Refusal, Region, key_text, required,
    },
    time::rfc3339,
};

/// What a task says.
pub(super) fn record(row: &Map<String, Value>, mapping: &Mapping) -> Result<Record, Refusal> {
    let Value::Object(item) = required(row, "data")? else {
        return Err(Refusal::new("`data` is no object"));
    };
    let mut record = Record {
        key: key(row, mapping.id_field.as_deref().unwrap_or("id"))?,
        input: item.clone(),
        ..Record::default()
    };
    let annotations = ["annotations", "completions"]
        .into_iter()
        .find_map(|key| row.get(key));
    let annotations = annotations
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    for (index, annotation) in annotations.iter().enumerate() {
        let id = annotation.get("id").and_then(key_text);
        let place = format!(
            "annotation {}",
            id.unwrap_or_else(|| (index + 1).to_string())
        );
        let flag = |name: &str| {
            annotation
                .get(name)
                .and_then(Value::as_bool)
                .unwrap_or(false)
        };
        if flag("was_cancelled") {
            record.skipped.push("was_cancelled");
            continue;
        }
        let parts = match parts(annotation, item, mapping, &mut record.notes) {
            Ok(parts) => parts,
            Err(refusal) => {
                record.refused.push(refusal.at(&place));
                continue;
            }
        };
        if flag("ground_truth") {
            record.expected = Some(parts);
            continue;
        }
        let field = mapping.user_field.as_deref().unwrap_or("completed_by");
        let written = value_at(annotation, Some(field));
        let time = annotation.get(mapping.time_field.as_deref().unwrap_or("created_at"));
        match rfc3339(time.unwrap_or(&Value::Null), mapping.utc_offset) {
            Ok(submitted_at) => record.judgements.push(Judgement {
                user: written.and_then(person),
                parts,
                submitted_at,
                place: Some(place),
            }),
            Err(refusal) => record.refused.push(refusal.at(&place)),
        }
    }
    Ok(record)
}

/// A person is a number in one kind of export, and an object with that number in another.
fn person(value: &Value) -> Option<String> {
    key_text(value).or_else(|| key_text(value.get("id")?))
}

/// One entry of `result`.
struct Entry<'a> {
    id: Option<&'a str>,
    kind: &'a str,
    from: &'a str,
    to: &'a str,
    value: &'a Map<String, Value>,
    whole: &'a Value,
}

fn entries(annotation: &Value) -> Result<Vec<Entry<'_>>, Refusal> {
    let result = annotation.get("result").and_then(Value::as_array);
    let result = result.map_or(&[][..], Vec::as_slice);
    let mut entries = Vec::with_capacity(result.len());
    for whole in result {
        let text = |key: &str| whole.get(key).and_then(Value::as_str);
        let kind = text("type").unwrap_or_default();
        // A relation has no control and no value of its own.
        if kind == "relation" {
            continue;
        }
        let Some(value) = whole.get("value").and_then(Value::as_object) else {
            return Err(Refusal::new(format!(
                "a result of type `{kind}` has no `value`"
            )));
        };
        entries.push(Entry {
            id: text("id"),
            kind,
            from: text("from_name").unwrap_or(kind),
            to: text("to_name").unwrap_or_default(),
            value,
            whole,
        });
    }
    Ok(entries)
}

fn parts(
    annotation: &Value,
    item: &Map<String, Value>,
    mapping: &Mapping,
    notes: &mut Vec<&'static str>,
) -> Result<Parts, Refusal> {
    let entries = entries(annotation)?;
    let mut parts = Parts::of_tool();
    // Regions by control, and where the region of an id is.
    let mut regions: BTreeMap<&str, Vec<(Option<&str>, Region)>> = BTreeMap::new();
    let mut outlines: BTreeMap<&str, &Entry<'_>> = BTreeMap::new();
    let named = mapping.answer_names();
    let is_wanted = |entry: &Entry<'_>| named.is_empty() || named.contains(&entry.from);
    for entry in &entries {
        if is_bare_outline(entry)
            && let Some(id) = entry.id
        {
            outlines.insert(id, entry);
        }
    }
    let labelled: Vec<&str> = entries
        .iter()
        .filter(|e| !is_bare_outline(e) && is_region(e))
        .filter_map(|e| e.id)
        .collect();
    for entry in &entries {
        let is_labelled = entry.id.is_some_and(|id| labelled.contains(&id));
        if !is_region(entry) || (is_bare_outline(entry) && is_labelled) {
            continue;
        }
        let Some(outline) = outline(entry, item, mapping, notes)? else {
            if is_wanted(entry) {
                return Err(unsupported(entry));
            }
            continue;
        };
        let list = regions.entry(entry.from).or_default();
        let mut add = |class: Option<Value>| {
            let attributes = attributes(entry, item, &outline);
            let outline = outline.clone();
            list.push((
                entry.id,
                Region {
                    outline,
                    class,
                    attributes,
                },
            ));
        };
        match classes(entry) {
            [] => add(None),
            // What has two classes is two regions.
            several => several.iter().for_each(|class| add(Some(class.clone()))),
        }
    }
    for entry in entries.iter().filter(|entry| !is_region(entry)) {
        let Some(part) = choice(entry) else {
            if is_wanted(entry) {
                return Err(unsupported(entry));
            }
            continue;
        };
        // A question asked of a region has the region's id.
        let mut of_region = regions.values_mut().flatten();
        let region = of_region.find(|(id, _)| id.is_some() && *id == entry.id);
        match region {
            Some((_, region)) => {
                region.attributes.insert(entry.from.to_owned(), plain(part));
            }
            None => parts.add(entry.from, part),
        }
    }
    for (name, list) in regions {
        let list = list.into_iter().map(|(_, region)| region).collect();
        parts.add(name, Part::Regions(list));
    }
    Ok(parts)
}

fn unsupported(entry: &Entry<'_>) -> Refusal {
    let refusal = Refusal::new(format!(
        "the control `{}` recorded `{}`, for which there is no kind of answer",
        entry.from, entry.kind
    ));
    refusal.hint("import the controls that have one: --map answer.KEY=CONTROL, or --only-tasks")
}

/// Controls that mark nothing. What they record of a region has its coordinates, too.
const CHOICES: [&str; 8] = [
    "choices", "taxonomy", "textarea", "pairwise", "rating", "number", "datetime", "ranker",
];

fn is_region(entry: &Entry<'_>) -> bool {
    if CHOICES.contains(&entry.kind) {
        return false;
    }
    let has = |key: &str| entry.value.contains_key(key);
    let is_typed = entry.kind.ends_with("labels") || is_bare_outline(entry);
    is_typed || (has("start") && has("end")) || has("points") || (has("x") && has("y"))
}

/// A shape whose class is recorded by another control under the same id.
fn is_bare_outline(entry: &Entry<'_>) -> bool {
    matches!(
        entry.kind,
        "rectangle" | "polygon" | "ellipse" | "keypoint" | "brush" | "vector"
    )
}

/// Where a region is; none where no kind of answer has such regions.
fn outline(
    entry: &Entry<'_>,
    item: &Map<String, Value>,
    mapping: &Mapping,
    notes: &mut Vec<&'static str>,
) -> Result<Option<Outline>, Refusal> {
    let value = entry.value;
    let has = |key: &str| value.contains_key(key);
    if has("radiusX") || has("rle") || has("sequence") || has("vertices") {
        return Ok(None);
    }
    if has("points") {
        return polygon(entry, mapping).map(Some);
    }
    if has("x") && has("y") && has("height") {
        return rectangle(entry, mapping).map(Some);
    }
    if has("start") && has("end") {
        return stretch(entry, item, notes);
    }
    Ok(None)
}

fn coordinate(value: &Map<String, Value>, key: &str) -> Result<f64, Refusal> {
    let number = value.get(key).and_then(Value::as_f64);
    number.ok_or_else(|| Refusal::new(format!("a region has no number under `{key}`")))
}

/// Width and height of the image in pixels.
fn size(entry: &Entry<'_>) -> Result<(f64, f64), Refusal> {
    let side = |key: &str| {
        entry
            .whole
            .get(key)
            .and_then(Value::as_f64)
            .filter(|side| *side > 0.0)
    };
    let both = side("original_width").zip(side("original_height"));
    both.ok_or_else(|| {
        let reason = "a region has no `original_width` and `original_height`";
        Refusal::new(reason).hint("percent can be kept: leave out --pixels")
    })
}

/// A rectangle is written in percent of the image; its rotation is one of pixels.
fn rectangle(entry: &Entry<'_>, mapping: &Mapping) -> Result<Outline, Refusal> {
    let side = |key: &str| coordinate(entry.value, key);
    let rotation = entry
        .value
        .get("rotation")
        .and_then(Value::as_f64)
        .unwrap_or(0.0);
    let percent = Rectangle {
        x: side("x")?,
        y: side("y")?,
        width: side("width")?,
        height: side("height")?,
        rotation,
    };
    if !mapping.pixels {
        return Ok(Outline::Rectangle(percent));
    }
    let (width, height) = size(entry)?;
    Ok(Outline::Rectangle(Rectangle {
        x: percent.x * width / 100.0,
        y: percent.y * height / 100.0,
        width: percent.width * width / 100.0,
        height: percent.height * height / 100.0,
        rotation,
    }))
}

fn polygon(entry: &Entry<'_>, mapping: &Mapping) -> Result<Outline, Refusal> {
    let scale = if mapping.pixels {
        let (width, height) = size(entry)?;
        [width / 100.0, height / 100.0]
    } else {
        [1.0, 1.0]
    };
    let points = entry.value.get("points").and_then(Value::as_array);
    let corner = |point: &Value| {
        let at = |axis: usize| point.get(axis).and_then(Value::as_f64);
        Some([at(0)? * scale[0], at(1)? * scale[1]])
    };
    let corners = points.map_or(&[][..], Vec::as_slice).iter().map(corner);
    let corners: Option<Vec<_>> = corners.collect();
    let corners =
        corners.ok_or_else(|| Refusal::new("a polygon has a corner that is no [x, y]"))?;
    Ok(Outline::Polygon(corners))
}

/// A stretch of a text or recording. Hypertext has the offsets in the whole text beside those in a tag.
fn stretch(
    entry: &Entry<'_>,
    item: &Map<String, Value>,
    notes: &mut Vec<&'static str>,
) -> Result<Option<Outline>, Refusal> {
    let at = |holder: &Map<String, Value>, key: &str| match holder.get(key)? {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => text.parse::<u64>().ok().map(Number::from),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let global = entry.value.get("globalOffsets").and_then(Value::as_object);
    if global.is_none() && entry.value.contains_key("startOffset") {
        return Ok(None);
    }
    let holder = global.unwrap_or(entry.value);
    let (Some(start), Some(end)) = (at(holder, "start"), at(holder, "end")) else {
        return Err(Refusal::new(
            "a span has no numbers under `start` and `end`",
        ));
    };
    let quoted = entry.value.get("text").and_then(Value::as_str);
    let text = source_text(entry, item);
    let offsets = (start.as_u64(), end.as_u64());
    if let (Some(quoted), Some(text), (Some(from), Some(to))) = (quoted, text, offsets) {
        match code_points(text, from, to, quoted) {
            Some((start, end)) => {
                let (start, end) = (Number::from(start), Number::from(end));
                return Ok(Some(Outline::Stretch { start, end }));
            }
            None => notes.push(MISQUOTED),
        }
    }
    Ok(Some(Outline::Stretch { start, end }))
}

/// The text that a control marks: the one it is named after, or the only one.
fn source_text<'i>(entry: &Entry<'_>, item: &'i Map<String, Value>) -> Option<&'i str> {
    if let Some(text) = item.get(entry.to).and_then(Value::as_str) {
        return Some(text);
    }
    let mut texts = item.values().filter_map(Value::as_str);
    let only = texts.next()?;
    texts.next().is_none().then_some(only)
}

/// The classes of a region: under the name of the type, or `labels`.
fn classes<'e>(entry: &Entry<'e>) -> &'e [Value] {
    let list = entry
        .value
        .get(entry.kind)
        .or_else(|| entry.value.get("labels"));
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What a region has beside its place and class. What is quoted is given as it stands in the text:
/// a quotation has no line breaks.
fn attributes(
    entry: &Entry<'_>,
    item: &Map<String, Value>,
    outline: &Outline,
) -> Map<String, Value> {
    let kept = ["text", "channel", "score"].into_iter();
    let kept = kept.filter_map(|key| Some((key.to_owned(), entry.value.get(key)?.clone())));
    let mut kept: Map<String, Value> = kept.collect();
    if let Outline::Stretch { start, end } = outline
        && let (Some(start), Some(end)) = (start.as_u64(), end.as_u64())
        && let (Some(text), Some(quoted)) = (source_text(entry, item), kept.get_mut("text"))
        && let Some(marked) = quoted.as_str().and_then(|q| marked(text, start, end, q))
    {
        *quoted = marked.into();
    }
    kept
}

/// What a control that marks nothing recorded.
fn choice(entry: &Entry<'_>) -> Option<Part> {
    let list = |key: &str| entry.value.get(key)?.as_array().cloned();
    let json = |key: &str| Some(Part::Json(entry.value.get(key)?.clone()));
    match entry.kind {
        "choices" => list("choices").map(Part::Choices),
        // A path in a tree of choices.
        "taxonomy" => {
            let path = |path: &Value| {
                let keys = path.as_array()?.iter().map(|key| key.as_str());
                Some(Value::from(keys.collect::<Option<Vec<_>>>()?.join("/")))
            };
            let paths = list("taxonomy")?;
            paths
                .iter()
                .map(path)
                .collect::<Option<Vec<_>>>()
                .map(Part::Choices)
        }
        "textarea" => match entry.value.get("text")? {
            Value::Array(texts) => Some(Part::Choices(texts.clone())),
            text => Some(Part::Json(text.clone())),
        },
        "pairwise" => json("selected"),
        kind @ ("rating" | "number" | "datetime" | "ranker") => json(kind),
        _ => None,
    }
}

/// A part as an attribute of a region.
fn plain(part: Part) -> Value {
    match part {
        Part::Json(value) => value,
        Part::Cell(text) => text.into(),
        Part::Choices(mut chosen) if chosen.len() == 1 => chosen.remove(0),
        Part::Choices(chosen) => Value::Array(chosen),
        Part::Regions(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operations::import::question::StepQuestion;

    fn task(results: &Value) -> Value {
        json!({
            "id": 12, "data": {"image": "a.png"}, "project": 1, "meta": {},
            "annotations": [{
                "id": 31, "completed_by": {"id": 4, "email": "ann@example.org"},
                "created_at": "2024-05-01T10:00:00.123456Z", "was_cancelled": false,
                "ground_truth": false, "result": results,
            }],
        })
    }

    fn read(task: &Value, mapping: &Mapping) -> Result<Record, Refusal> {
        record(task.as_object().unwrap(), mapping)
    }

    fn data(step: &Value, results: &Value, mapping: &Mapping) -> Result<Value, Refusal> {
        let mut record = read(&task(results), mapping)?;
        if let Some(refusal) = record.refused.pop() {
            return Err(refusal);
        }
        StepQuestion::of_answer(step.clone()).data(&record.judgements[0].parts)
    }

    fn rectangle(id: &str, rotation: f64) -> Value {
        json!({
            "id": id, "type": "rectanglelabels", "from_name": "label", "to_name": "image",
            "original_width": 200, "original_height": 50,
            "value": {"x": 10, "y": 20, "width": 5, "height": 40, "rotation": rotation,
                "rectanglelabels": ["car"]},
        })
    }

    #[test]
    fn people_times_and_items_are_read() {
        let mut given = task(&json!([]));
        let mut second = given["annotations"][0].clone();
        second["completed_by"] = json!(7);
        let mut third = second.clone();
        third["was_cancelled"] = json!(true);
        let mut gold = second.clone();
        gold["ground_truth"] = json!(true);
        given["annotations"]
            .as_array_mut()
            .unwrap()
            .extend([second, third, gold]);
        let record = read(&given, &Mapping::default()).unwrap();
        assert_eq!(
            (record.key.as_str(), record.skipped.as_slice()),
            ("12", &["was_cancelled"][..])
        );
        let users: Vec<_> = record
            .judgements
            .iter()
            .map(|j| j.user.as_deref())
            .collect();
        assert_eq!(users, [Some("4"), Some("7")]);
        let at = record.judgements[0].submitted_at.as_deref();
        assert_eq!(at, Some("2024-05-01T10:00:00.123456Z"));
        assert!(record.expected.is_some());
        assert_eq!(Value::Object(record.input), json!({"image": "a.png"}));
        let by_mail = Mapping {
            user_field: Some("completed_by.email".to_owned()),
            id_field: Some("data.image".to_owned()),
            ..Mapping::default()
        };
        let record = read(&task(&json!([])), &by_mail).unwrap();
        assert_eq!(record.key, "a.png");
        assert_eq!(
            record.judgements[0].user.as_deref(),
            Some("ann@example.org")
        );
    }

    #[test]
    fn rectangles_keep_percent_or_become_pixels() {
        let step = json!({"field": "boxes", "kind": "boxes", "tag": "label", "format": "xywh"});
        let results = json!([rectangle("a", 0.0)]);
        let kept = data(&step, &results, &Mapping::default());
        let wanted =
            json!({"boxes": [{"x": 10, "y": 20, "width": 5, "height": 40, "label": "car"}]});
        assert_eq!(kept, Ok(wanted));
        let pixels = Mapping {
            pixels: true,
            ..Mapping::default()
        };
        let corners = json!({"kind": "boxes"});
        let wanted = json!([{"x1": 20, "y1": 10, "x2": 30, "y2": 30, "tag": "car"}]);
        assert_eq!(data(&corners, &results, &pixels), Ok(wanted));
        let turned = json!([rectangle("a", 45.0)]);
        assert!(
            data(&corners, &turned, &pixels)
                .unwrap_err()
                .reason
                .contains("rotated by 45")
        );
        let polygons = json!({"kind": "polygons"});
        let points = data(&polygons, &turned, &pixels).unwrap();
        assert_eq!(points[0]["points"].as_array().unwrap().len(), 4);
    }

    #[test]
    fn polygons_spans_and_segments_are_read() {
        let polygon = json!([{
            "id": "p", "type": "polygonlabels", "from_name": "label", "to_name": "image",
            "value": {"points": [[0, 0], [10, 0], [10.5, 10]], "polygonlabels": ["roof"], "closed": true},
        }]);
        let wanted = json!([{"points": [[0, 0], [10, 0], [10.5, 10]], "tag": "roof"}]);
        assert_eq!(
            data(&json!({"kind": "polygons"}), &polygon, &Mapping::default()),
            Ok(wanted)
        );
        let segment = json!([{
            "id": "s", "type": "labels", "from_name": "label", "to_name": "audio",
            "value": {"start": 0.5, "end": 2.25, "channel": 0, "labels": ["speech"]},
        }]);
        let wanted = json!([{"start": 0.5, "end": 2.25, "channel": 0, "tag": "speech"}]);
        assert_eq!(
            data(&json!({"kind": "segments"}), &segment, &Mapping::default()),
            Ok(wanted)
        );
        let two = json!([{
            "id": "t", "type": "labels", "from_name": "label", "to_name": "text",
            "value": {"start": "0", "end": "3", "text": "abc", "labels": ["A", "B"]},
        }]);
        let spans = data(&json!({"kind": "spans"}), &two, &Mapping::default()).unwrap();
        assert_eq!(
            (&spans[0]["tag"], &spans[1]["tag"]),
            (&json!("A"), &json!("B"))
        );
    }

    #[test]
    fn offsets_of_browsers_become_code_points_where_the_quotation_tells_it() {
        let text = "🙂 Ann met 🙂 Bob";
        let mut given = task(&json!([{
            "id": "t", "type": "labels", "from_name": "ner", "to_name": "text",
            "value": {"start": 14, "end": 17, "text": "Bob", "labels": ["PER"]},
        }]));
        given["data"] = json!({"text": text, "source": "x"});
        let record = read(&given, &Mapping::default()).unwrap();
        let spans = StepQuestion::of_answer(json!({"field": "ner", "kind": "spans"}))
            .data(&record.judgements[0].parts);
        let wanted = json!({"ner": [{"start": 12, "end": 15, "text": "Bob", "tag": "PER"}]});
        assert_eq!(spans, Ok(wanted));
        given["data"]["text"] = json!("🙂 Ann met\n🙂 Bob");
        let quoted = json!({"start": 7, "end": 17, "text": "met\\n🙂 Bob", "labels": ["PER"]});
        given["annotations"][0]["result"][0]["value"] = quoted;
        let record = read(&given, &Mapping::default()).unwrap();
        let spans = StepQuestion::of_answer(json!({"field": "ner", "kind": "spans"}))
            .data(&record.judgements[0].parts);
        let wanted = json!({"ner": [{"start": 6, "end": 15, "text": "met\n🙂 Bob", "tag": "PER"}]});
        assert_eq!(spans, Ok(wanted));
        given["data"]["text"] = json!("something else");
        assert_eq!(
            read(&given, &Mapping::default()).unwrap().notes,
            [MISQUOTED]
        );
    }

    #[test]
    fn controls_are_answers_by_name_and_questions_about_a_region_are_its_attributes() {
        let choices = |id: &str, from: &str, value: &str| {
            json!({"id": id, "type": "choices", "from_name": from, "to_name": "image",
                "value": {"choices": [value], "x": 10, "y": 20, "width": 5, "height": 40}})
        };
        let results = json!([rectangle("a", 0.0), choices("a", "blurred", "yes"),
            choices("b", "scene", "street"),
            {"id": "c", "type": "rating", "from_name": "stars", "to_name": "image", "value": {"rating": 4}},
            {"id": "d", "type": "textarea", "from_name": "why", "to_name": "image", "value": {"text": ["so"]}},
            {"id": "e", "type": "taxonomy", "from_name": "tree", "to_name": "image",
                "value": {"taxonomy": [["animal", "cat"]]}},
            {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        ]);
        let step = json!({"kind": "record", "fields": {
            "scene": {"kind": "category"}, "stars": {"kind": "ordinal", "values": [1, 2, 3, 4, 5]},
            "label": {"kind": "boxes"}, "why": {"kind": "text"},
        }});
        let found = data(&step, &results, &Mapping::default()).unwrap();
        assert_eq!(found["scene"], "street");
        assert_eq!((&found["stars"], &found["why"]), (&json!(4), &json!("so")));
        assert_eq!(found["tree"], "animal/cat");
        assert_eq!(found["label"][0]["blurred"], "yes");
    }

    #[test]
    fn a_class_of_another_control_is_that_of_the_outline_with_its_id() {
        let results = json!([
            {"id": "a", "type": "rectangle", "from_name": "box", "to_name": "image",
                "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 0}},
            {"id": "a", "type": "labels", "from_name": "label", "to_name": "image",
                "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 0, "labels": ["car"]}},
            {"id": "b", "type": "rectangle", "from_name": "box", "to_name": "image",
                "value": {"x": 5, "y": 5, "width": 3, "height": 4, "rotation": 0}},
        ]);
        let record = read(&task(&results), &Mapping::default()).unwrap();
        let parts = &record.judgements[0].parts.by_name;
        let count = |name: &str| match &parts[name] {
            Part::Regions(list) => list.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!((count("label"), count("box")), (1, 1));
    }

    #[test]
    fn what_has_no_kind_of_answer_is_refused_unless_other_controls_are_named() {
        let brush = json!([
            {"id": "a", "type": "brushlabels", "from_name": "mask", "to_name": "image",
                "value": {"format": "rle", "rle": [0, 1], "brushlabels": ["car"]}},
            {"id": "b", "type": "choices", "from_name": "scene", "to_name": "image",
                "value": {"choices": ["street"]}},
        ]);
        let refusal = read(&task(&brush), &Mapping::default())
            .unwrap()
            .refused
            .remove(0);
        assert_eq!(refusal.place.as_deref(), Some("annotation 31"));
        assert!(refusal.reason.contains("brushlabels"), "{refusal:?}");
        let named = Mapping {
            answer_fields: vec!["scene".to_owned()],
            ..Mapping::default()
        };
        assert_eq!(read(&task(&brush), &named).unwrap().refused, []);
        assert!(read(&json!({"id": 1, "text": "x"}), &Mapping::default()).is_err());
    }
}
