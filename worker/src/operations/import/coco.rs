//! COCO, as CVAT and others export it: one document with images, annotations and categories.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, Read as _},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    mapping::Mapping,
    plain::key,
    record::{
        Judgement, Outline, Part, Parts, Record, Rectangle, Refusal, Region, key_text, lookup,
    },
    rows::{Row, RowFault, Rows},
};

/// Bytes of a document, which is read as a whole.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

#[derive(Deserialize)]
struct Document {
    images: Vec<Map<String, Value>>,
    #[serde(default)]
    annotations: Vec<Map<String, Value>>,
    #[serde(default)]
    categories: Vec<Map<String, Value>>,
}

/// The images of a document as rows: `image`, and `annotations` with the name of their category.
pub(super) fn rows(reader: Box<dyn BufRead + Send>) -> Result<Rows, String> {
    let mut bytes = Vec::new();
    let mut bounded = reader.take(DOCUMENT_BYTES_MAX + 1);
    bounded
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(format!(
            "more than {} MiB, and COCO must be read as a whole; export it in parts, or write one \
             image per line and import it as jsonl",
            DOCUMENT_BYTES_MAX >> 20
        ));
    }
    let document: Document =
        serde_json::from_slice(&bytes).map_err(|error| format!("not COCO: {error}"))?;
    drop(bytes);
    let names: HashMap<String, Value> = document
        .categories
        .into_iter()
        .filter_map(|mut category| {
            let id = key_text(category.get("id")?)?;
            Some((id, category.remove("name")?))
        })
        .collect();
    let mut images: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    let ids = document.images.iter().enumerate();
    let places: HashMap<String, usize> = ids
        .filter_map(|(at, image)| Some((key_text(image.get("id")?)?, at)))
        .collect();
    let mut faults = Vec::new();
    for annotation in document.annotations {
        match of_image(annotation, &places, &names) {
            Ok((at, annotation)) => images.entry(at).or_default().push(annotation),
            Err(refusal) => faults.push(refusal),
        }
    }
    let rows = document
        .images
        .into_iter()
        .enumerate()
        .map(move |(at, image)| {
            let annotations = images.remove(&at).unwrap_or_default();
            let mut fields = Map::new();
            fields.insert("image".to_owned(), Value::Object(image));
            fields.insert("annotations".to_owned(), Value::Array(annotations));
            Ok(Row { line: None, fields })
        });
    let faults = faults
        .into_iter()
        .map(|refusal| Err(RowFault::Row(refusal)));
    Ok(Box::new(faults.chain(rows)))
}

/// The place of an annotation's image, and the annotation with its category by name.
fn of_image(
    mut annotation: Map<String, Value>,
    places: &HashMap<String, usize>,
    names: &HashMap<String, Value>,
) -> Result<(usize, Value), Refusal> {
    let text = |name: &str| annotation.get(name).and_then(key_text);
    let place = format!("annotation {}", text("id").unwrap_or_default());
    let image = text("image_id").unwrap_or_default();
    let at = places.get(&image).copied().ok_or_else(|| {
        Refusal::new(format!(
            "`image_id` is {image:?}, and there is no such image"
        ))
        .at(&place)
    })?;
    if let Some(category) = text("category_id") {
        // The image is refused where it is null: without this region its answer would be another.
        let name = names.get(&category).cloned().unwrap_or(Value::Null);
        annotation.insert("category".to_owned(), name);
    }
    Ok((at, Value::Object(annotation)))
}

/// What an image says. Polygons are read where the step asks for polygons, else boxes.
pub(super) fn record(
    row: &Map<String, Value>,
    mapping: &Mapping,
    wants_polygons: bool,
) -> Result<Record, Refusal> {
    let Some(Value::Object(image)) = row.get("image") else {
        return Err(Refusal::new("there is no image"));
    };
    let mut record = Record {
        key: key(image, mapping.id_field.as_deref().unwrap_or("id"))?,
        input: image.clone(),
        ..Record::default()
    };
    let annotations = row.get("annotations").and_then(Value::as_array);
    let mut regions = Vec::new();
    for annotation in annotations.map_or(&[][..], Vec::as_slice) {
        let Value::Object(annotation) = annotation else {
            continue;
        };
        let id = annotation.get("id").and_then(key_text).unwrap_or_default();
        match regions_of(annotation, wants_polygons) {
            Ok(found) => regions.extend(found),
            Err(refusal) => {
                let place = format!("image {}, annotation {id}", record.key);
                record.refused.push(refusal.at(&place));
            }
        }
    }
    if !record.refused.is_empty() {
        return Ok(record);
    }
    let user = mapping
        .user_field
        .as_deref()
        .and_then(|name| lookup(image, name));
    record.judgements.push(Judgement {
        user: user.and_then(key_text),
        parts: Parts::one("objects", Part::Regions(regions)),
        submitted_at: None,
        place: Some(format!("image {}", record.key)),
    });
    Ok(record)
}

fn regions_of(
    annotation: &Map<String, Value>,
    wants_polygons: bool,
) -> Result<Vec<Region>, Refusal> {
    let mut attributes = Map::new();
    let own = annotation.get("attributes").and_then(Value::as_object);
    for (key, value) in own
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "rotation")
    {
        attributes.insert(key.clone(), value.clone());
    }
    if annotation
        .get("iscrowd")
        .is_some_and(|crowd| crowd == 1 || crowd == true)
    {
        attributes.insert("iscrowd".to_owned(), true.into());
    }
    if annotation.get("category").is_some_and(Value::is_null) {
        let id = annotation.get("category_id").unwrap_or(&Value::Null);
        return Err(Refusal::new(format!(
            "`category_id` is {id}, and there is no such category"
        )));
    }
    let region = |outline: Outline| Region {
        outline,
        class: annotation.get("category").cloned(),
        attributes: attributes.clone(),
    };
    if wants_polygons {
        return Ok(polygons(annotation)?.into_iter().map(region).collect());
    }
    let rotation = own
        .and_then(|own| own.get("rotation"))
        .and_then(Value::as_f64)
        .unwrap_or(0.0);
    let bbox = annotation.get("bbox").and_then(Value::as_array);
    let sides: Option<Vec<f64>> = bbox.and_then(|bbox| bbox.iter().map(Value::as_f64).collect());
    match sides.as_deref() {
        Some(&[x, y, width, height]) => Ok(vec![region(Outline::Rectangle(Rectangle {
            x,
            y,
            width,
            height,
            rotation,
        }))]),
        _ => Err(Refusal::new("`bbox` is no [x, y, width, height]")),
    }
}

/// The parts of a segmentation, each a list of coordinates in turn.
fn polygons(annotation: &Map<String, Value>) -> Result<Vec<Outline>, Refusal> {
    let list = match annotation.get("segmentation") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(Value::Object(_)) => {
            let refusal =
                Refusal::new("`segmentation` is a mask (RLE), and the step asks for polygons");
            return Err(refusal.hint("export polygons"));
        }
        _ => {
            return Err(Refusal::new(
                "there is no `segmentation`, and the step asks for polygons",
            ));
        }
    };
    let polygon = |ring: &Value| {
        let numbers = ring.as_array()?.iter().map(Value::as_f64);
        let numbers: Vec<f64> = numbers.collect::<Option<_>>()?;
        let (pairs, rest) = numbers.as_chunks::<2>();
        rest.is_empty().then(|| Outline::Polygon(pairs.to_vec()))
    };
    let polygons: Option<Vec<Outline>> = list.iter().map(polygon).collect();
    polygons.ok_or_else(|| Refusal::new("`segmentation` is no list of [x, y, x, y, …]"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use serde_json::json;

    use super::*;
    use crate::operations::import::question::StepQuestion;

    fn document() -> Value {
        json!({
            "info": {}, "licenses": [], "categories": [{"id": 3, "name": "cat"}],
            "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}, {"id": 2, "file_name": "b.png"}],
            "annotations": [
                {"id": 10, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4.5], "iscrowd": 0, "area": 13.5,
                    "segmentation": [[1, 2, 4, 2, 4, 6.5, 1, 6.5]],
                    "attributes": {"occluded": true, "rotation": 0.0}},
            ],
        })
    }

    fn read(document: &Value, polygons: bool) -> Vec<Result<Record, Refusal>> {
        let reader = Box::new(Cursor::new(document.to_string().into_bytes()));
        let rows = rows(reader).ok().unwrap();
        rows.map(|row| match row {
            Ok(row) => {
                let mut record = record(&row.fields, &Mapping::default(), polygons)?;
                record.refused.pop().map_or(Ok(record), Err)
            }
            Err(RowFault::Row(refusal)) => Err(refusal),
            Err(RowFault::File(fault)) => panic!("{fault}"),
        })
        .collect()
    }

    #[test]
    fn an_image_is_a_task_and_its_boxes_are_the_answer() {
        let records: Vec<Record> = read(&document(), false)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let step = StepQuestion::of_answer(json!({"field": "boxes", "kind": "boxes"}));
        let data = |at: usize| step.data(&records[at].judgements[0].parts).unwrap();
        let found = json!({"boxes": [
            {"x1": 1, "y1": 2, "x2": 4, "y2": 6.5, "tag": "cat", "occluded": true},
        ]});
        assert_eq!(data(0), found);
        assert_eq!(data(1), json!({"boxes": []}), "nothing was marked");
        assert_eq!(records[0].input.get("file_name"), Some(&json!("a.png")));
    }

    #[test]
    fn polygons_are_read_where_they_are_asked_for() {
        let records = read(&document(), true);
        let step = StepQuestion::of_answer(json!({"kind": "polygons"}));
        let data = step
            .data(&records[0].as_ref().unwrap().judgements[0].parts)
            .unwrap();
        assert_eq!(
            data[0]["points"],
            json!([[1, 2], [4, 2], [4, 6.5], [1, 6.5]])
        );
        let mut mask = document();
        mask["annotations"][0]["segmentation"] = json!({"counts": "x", "size": [9, 9]});
        assert!(
            read(&mask, true)[0]
                .as_ref()
                .unwrap_err()
                .reason
                .contains("RLE")
        );
    }

    #[test]
    fn what_points_nowhere_is_refused_by_its_id() {
        let mut lost = document();
        lost["annotations"][0]["category_id"] = json!(4);
        let refusal = read(&lost, false).remove(0).unwrap_err();
        assert_eq!(refusal.place.as_deref(), Some("image 1, annotation 10"));
        assert!(refusal.reason.contains("no such category"), "{refusal:?}");
        lost["annotations"][0]["image_id"] = json!(9);
        assert!(
            read(&lost, false)[0]
                .as_ref()
                .unwrap_err()
                .reason
                .contains("no such image")
        );
        let mut odd = document();
        odd["annotations"][0]["bbox"] = json!([1, 2, 3]);
        let refusal = read(&odd, false)[0].clone().unwrap_err();
        assert_eq!(refusal.place.as_deref(), Some("image 1, annotation 10"));
    }
}
